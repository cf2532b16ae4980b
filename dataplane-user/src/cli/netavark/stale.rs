//! Networks that Podman has removed. It tells plugins nothing then, so they stay with the agent until somebody looks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::super::client::{Client, filters};
use super::super::error::Error;
use crate::api::types::network::Network;
use crate::plugin::netavark::LABEL;

/// Where Podman, as root, has its networks on record.
const RECORD: &str = "/etc/containers/networks";

#[derive(Deserialize)]
struct Recorded {
    id: String,
}

/// Those that Podman has made, and does not have on record any more.
pub(in crate::cli) async fn find(client: &Client) -> Result<Vec<Network>, Error> {
    let query = filters(&[("label".into(), LABEL.into())]);
    let mut made: Vec<Network> = client.get(&format!("/networks?{query}")).await?;
    let Some(known) = recorded(Path::new(RECORD)) else { return Ok(Vec::new()) };
    made.retain(|network| network.labels.get(LABEL).is_some_and(|id| !known.contains(id)));
    Ok(made)
}

/// Removes those that no container has. Podman holds its lock meanwhile, so none is about to be put on record.
pub(super) async fn remove(client: &Client) -> Result<(), Error> {
    for network in find(client).await? {
        match client.delete(&format!("/networks/{}", network.id)).await {
            // Somebody has it, or was quicker.
            Err(Error::Refused { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The ids of the networks that Podman has; none if that cannot be known.
fn recorded(folder: &Path) -> Option<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            ids.insert(serde_json::from_slice::<Recorded>(&fs::read(path).ok()?).ok()?.id);
        }
    }
    Some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_podman_has_on_record() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(recorded(&dir.path().join("none")), None);
        fs::write(dir.path().join("web.json"), r#"{"name": "web", "id": "0a", "driver": "spandrel"}"#).unwrap();
        fs::write(dir.path().join("netavark.lock"), "").unwrap();
        assert_eq!(recorded(dir.path()), Some(BTreeSet::from(["0a".to_owned()])));
        // In doubt nothing is removed.
        fs::write(dir.path().join("half.json"), "{").unwrap();
        assert_eq!(recorded(dir.path()), None);
    }
}
