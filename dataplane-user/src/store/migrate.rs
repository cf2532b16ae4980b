//! From older versions of the schema to ours. Records are changed as JSON: what read them is no longer there.

use std::collections::HashMap;

use redb::{ReadableTable, Table};
use serde_json::{Value, json};

use crate::model::SHARED;

type Records<'t> = Table<'t, &'static str, &'static [u8]>;

/// The records that read, by id. One that does not is told of when it is loaded.
fn records(table: &Records<'_>) -> Result<Vec<(String, Value)>, redb::Error> {
    let mut records = Vec::new();
    for entry in table.iter()? {
        let (id, record) = entry?;
        if let Ok(value) = serde_json::from_slice(record.value()) {
            records.push((id.value().to_owned(), value));
        }
    }
    Ok(records)
}

/// Version 1 to 2: gives each published port of a container a number of its own, from 1 on.
pub(super) fn number_ports(containers: &mut Records<'_>) -> Result<(), redb::Error> {
    let mut slots = 1u32..;
    for (id, mut record) in records(containers)? {
        for port in record["ports"].as_array_mut().into_iter().flatten() {
            port["slot"] = slots.next().into();
        }
        containers.insert(id.as_str(), record.to_string().as_bytes())?;
    }
    Ok(())
}

/// Version 2 to 3: lets a container that has ended join the network again that it was started on. That is all that is known.
pub(super) fn keep_networks(containers: &mut Records<'_>, networks: &Records<'_>) -> Result<(), redb::Error> {
    let networks = records(networks)?.into_iter();
    let ids: HashMap<_, _> =
        networks.filter_map(|(id, record)| Some((record["name"].as_str()?.to_owned(), id))).collect();
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    for (id, mut record) in records(containers)? {
        let mode = record["network_mode"].as_str().unwrap_or_default().to_owned();
        let joins = !["", "host", "none"].contains(&mode.as_str()) && !mode.starts_with(SHARED);
        let ended = record["state"]["status"] == "exited";
        if ended && joins && empty(&record["endpoints"]) && empty(&record["attachments"]) {
            // A network that is gone is looked for by its name, and told of when the container starts.
            let network = ids.get(&mode).cloned().unwrap_or_else(|| "0".repeat(64));
            let requested = json!({"ipv4": null, "ipv6": null, "mac": null});
            record["attachments"] = json!([{"network": network, "network_name": mode, "requested": requested}]);
            containers.insert(id.as_str(), record.to_string().as_bytes())?;
        }
    }
    Ok(())
}
