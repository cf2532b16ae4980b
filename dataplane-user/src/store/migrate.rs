//! From older versions of the schema to ours. Records are changed as JSON: what read them is no longer there.

use redb::{ReadableTable, Table};
use serde_json::Value;

/// Version 1 to 2: gives each published port of a container a number of its own, from 1 on.
pub(super) fn number_ports(containers: &mut Table<'_, &'static str, &'static [u8]>) -> Result<(), redb::Error> {
    let mut records = Vec::new();
    for entry in containers.iter()? {
        let (id, record) = entry?;
        records.push((id.value().to_string(), serde_json::from_slice::<Value>(record.value())));
    }
    let mut slots = 1u32..;
    for (id, record) in records {
        // One that does not read is told of when it is loaded.
        let Ok(mut record) = record else { continue };
        for port in record["ports"].as_array_mut().into_iter().flatten() {
            port["slot"] = slots.next().into();
        }
        containers.insert(id.as_str(), record.to_string().as_bytes())?;
    }
    Ok(())
}
