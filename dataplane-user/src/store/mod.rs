//! What must survive the agent: networks, containers, blocks of addresses and the host's identifier, in one redb file.
//!
//! Every change is one transaction, on disk when the call returns. Values are JSON, so that fields can
//! be added; the schema's version stands in the file. An older one is brought up to ours, a newer one is refused.

mod migrate;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::{AddressBlock, Container, Error, Id, Network, Result};

/// Version of what this file's tables hold. Raise it with a migration when old values no longer read.
///
/// 2: published ports have slots. 3: a container that has ended has the networks of its next start. 4: engines have networks, containers
/// and blocks of addresses, of which an earlier agent would know nothing.
const SCHEMA: u64 = 4;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const HOST: TableDefinition<&str, &[u8]> = TableDefinition::new("host");
const NETWORKS: TableDefinition<&str, &[u8]> = TableDefinition::new("networks");
const CONTAINERS: TableDefinition<&str, &[u8]> = TableDefinition::new("containers");
const BLOCKS: TableDefinition<&str, &[u8]> = TableDefinition::new("address_blocks");

/// Bytes of the file that are kept in memory; all of it is read at start and only written later.
const CACHE: usize = 1 << 20;

/// One change of a transaction.
#[derive(Debug, Clone)]
pub enum Change<'a> {
    /// Adds or replaces a network.
    PutNetwork(&'a Network),
    /// Forgets a network.
    RemoveNetwork(Id),
    /// Adds or replaces a container.
    PutContainer(&'a Container),
    /// Forgets a container.
    RemoveContainer(Id),
    /// Adds or replaces a block of addresses.
    PutBlock(&'a AddressBlock),
    /// Forgets a block of addresses.
    RemoveBlock(IpNet),
}

/// Everything on record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    /// All networks, by identifier.
    pub networks: Vec<Network>,
    /// All containers, by identifier.
    pub containers: Vec<Container>,
    /// All blocks of addresses that engines have, by subnet.
    pub blocks: Vec<AddressBlock>,
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

impl Store {
    /// Opens the file, or makes it (readable by its owner only).
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::Internal(format!("cannot open the store {}: {error}", path.display()))
        };
        let file = open_file(path).map_err(|error| failed(&error))?;
        let database = redb::Builder::new().set_cache_size(CACHE).create_file(file).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                failed(&"another agent has it open, give this one another --state-dir")
            }
            other => failed(&other),
        })?;
        let store = Store { path: path.to_path_buf(), database };
        store.check_schema()?;
        Ok(store)
    }

    /// Reads what is on record without opening the file, which an agent may have left open or as an older version: from a copy in memory.
    /// None if there is no file.
    pub fn peek(path: &Path) -> Result<Option<Contents>> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::Internal(format!("cannot read the store {}: {error}", path.display()))
        };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let memory = InMemoryBackend::new();
        memory.set_len(bytes.len() as u64).and_then(|()| memory.write(0, &bytes)).map_err(|error| failed(&error))?;
        let database = redb::Builder::new().create_with_backend(memory).map_err(|error| failed(&error))?;
        let store = Store { path: path.to_path_buf(), database };
        store.check_schema()?;
        store.load().map(Some)
    }

    /// Makes the tables, or brings those of an older version up to ours, all in one transaction.
    fn check_schema(&self) -> Result<()> {
        let refused = self.attempt("read", || {
            let write = self.database.begin_write()?;
            // Made now, so that reading need not care whether they exist.
            write.open_table(HOST)?;
            write.open_table(BLOCKS)?;
            let found = write.open_table(META)?.get("schema")?.map(|value| value.value());
            let version = found.unwrap_or(SCHEMA);
            if !(1..=SCHEMA).contains(&version) {
                write.abort()?;
                return Ok(Some(version));
            }
            {
                let (networks, mut containers) = (write.open_table(NETWORKS)?, write.open_table(CONTAINERS)?);
                if version < 2 {
                    migrate::number_ports(&mut containers)?;
                }
                if version < 3 {
                    migrate::keep_networks(&mut containers, &networks)?;
                }
            }
            if found == Some(SCHEMA) {
                write.abort()?;
            } else {
                write.open_table(META)?.insert("schema", SCHEMA)?;
                write.commit()?;
            }
            Ok(None)
        })?;
        match refused {
            None => Ok(()),
            Some(other) => Err(Error::Internal(format!(
                "the store {} has schema version {other}, this agent knows version {SCHEMA}: start the agent that wrote it, or a newer one",
                self.path.display()
            ))),
        }
    }

    /// Reads everything on record.
    pub fn load(&self) -> Result<Contents> {
        let (networks, containers, blocks) = self.attempt("read", || {
            let read = self.database.begin_read()?;
            let all = |table: TableDefinition<&str, &[u8]>| -> std::result::Result<Vec<Vec<u8>>, redb::Error> {
                let table = read.open_table(table)?;
                let mut values = Vec::new();
                for entry in table.iter()? {
                    values.push(entry?.1.value().to_vec());
                }
                Ok(values)
            };
            Ok((all(NETWORKS)?, all(CONTAINERS)?, all(BLOCKS)?))
        })?;
        Ok(Contents {
            networks: self.decode(&networks)?,
            containers: self.decode(&containers)?,
            blocks: self.decode(&blocks)?,
        })
    }

    /// Makes all the changes or none, and returns when they are on disk.
    pub fn apply(&self, changes: &[Change<'_>]) -> Result<()> {
        let mut encoded = Vec::with_capacity(changes.len());
        for change in changes {
            encoded.push(match change {
                Change::PutNetwork(network) => (NETWORKS, network.id.to_string(), Some(self.encode(network)?)),
                Change::RemoveNetwork(id) => (NETWORKS, id.to_string(), None),
                Change::PutContainer(container) => {
                    (CONTAINERS, container.id.to_string(), Some(self.encode(container)?))
                }
                Change::RemoveContainer(id) => (CONTAINERS, id.to_string(), None),
                Change::PutBlock(block) => (BLOCKS, block.subnet.to_string(), Some(self.encode(block)?)),
                Change::RemoveBlock(subnet) => (BLOCKS, subnet.to_string(), None),
            });
        }
        self.attempt("write", || {
            let write = self.database.begin_write()?;
            for (table, id, value) in &encoded {
                let mut table = write.open_table(*table)?;
                match value {
                    Some(value) => table.insert(id.as_str(), value.as_slice())?,
                    None => table.remove(id.as_str())?,
                };
            }
            write.commit()?;
            Ok(())
        })
    }

    /// This host's random identifier, made on the first call.
    pub fn host_id(&self) -> Result<Id> {
        let found = self.attempt("read", || {
            let read = self.database.begin_read()?;
            Ok(read.open_table(HOST)?.get("id")?.map(|value| value.value().to_vec()))
        })?;
        if let Some(found) = found {
            return self.decode_one(&found);
        }
        let id = Id::random();
        let encoded = self.encode(&id)?;
        self.attempt("write", || {
            let write = self.database.begin_write()?;
            write.open_table(HOST)?.insert("id", encoded.as_slice())?;
            write.commit()?;
            Ok(())
        })?;
        Ok(id)
    }

    fn attempt<T>(&self, doing: &str, work: impl FnOnce() -> std::result::Result<T, redb::Error>) -> Result<T> {
        work().map_err(|error| Error::Internal(format!("cannot {doing} the store {}: {error}", self.path.display())))
    }

    fn encode(&self, value: &impl Serialize) -> Result<Vec<u8>> {
        serde_json::to_vec(value)
            .map_err(|error| Error::Internal(format!("cannot write the store {}: {error}", self.path.display())))
    }

    fn decode<T: DeserializeOwned>(&self, values: &[Vec<u8>]) -> Result<Vec<T>> {
        values.iter().map(|value| self.decode_one(value)).collect()
    }

    fn decode_one<T: DeserializeOwned>(&self, value: &[u8]) -> Result<T> {
        serde_json::from_slice(value).map_err(|error| {
            Error::Internal(format!("the store {} holds a record that does not read: {error}", self.path.display()))
        })
    }
}

fn open_file(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // The mode above counts only for a new file.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
