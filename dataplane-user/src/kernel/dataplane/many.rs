//! Many published ports at a time: their map entries in a few calls instead of one or more for each. Only for ports without a list of
//! clients; what is left, and what cannot be done in one piece, is `publish`'s, port by port.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use dataplane_common::layout::{MAX_PUBLISHED, Published, PublishedKey};

use super::{
    Dataplane, PortConfig,
    error::DataplaneError,
    publish::{Port, check_slot, taken},
    sys,
};

/// From how many ports on it is worth it.
const MANY: usize = 32;

impl Dataplane {
    /// Opens those of these ports that are new and for everybody, if there are many: all of them or none. Returns their slots.
    pub(super) fn open_many(&mut self, ports: &[PortConfig]) -> Result<Vec<u32>, DataplaneError> {
        let fresh = ports.iter().filter(|port| !self.ports.contains_key(&port.slot) && port.allow_from.is_empty());
        let fresh: BTreeMap<u32, Port> = fresh.map(|port| (port.slot, Port::new(port))).collect();
        if fresh.len() < MANY {
            return Ok(Vec::new());
        }
        fresh.keys().try_for_each(|slot| check_slot(*slot))?;
        let (keys, values): (Vec<PublishedKey>, Vec<Published>) =
            fresh.values().flat_map(|port| &port.entries).copied().unzip();
        self.check_absent(&keys)?;

        let slots: Vec<u32> = fresh.keys().copied().collect();
        self.reset_counters(&slots)?;
        // The endpoints must be known to publish before the first packet comes.
        for (&endpoint, &entries) in &by_endpoint(&values) {
            self.mark_endpoint(endpoint, entries)?;
        }
        let published = self.open_map("PUBLISHED")?;
        if let (done, Err(source)) = sys::update_batch(published.as_fd(), &keys, &values) {
            // Nobody else has any of them, so what is removed was put there just now.
            let (_, undone) = sys::delete_batch(published.as_fd(), &keys[..done]);
            for (endpoint, entries) in by_endpoint(&values) {
                self.mark_endpoint(endpoint, -entries)?;
            }
            undone.map_err(|source| failed("published ports cannot be taken back", source))?;
            return Err(match source.raw_os_error() {
                Some(libc::E2BIG) => DataplaneError::Full(MAX_PUBLISHED, "addresses of published ports"),
                _ => failed("ports cannot be published", source),
            });
        }
        self.ports.extend(fresh);
        Ok(slots)
    }

    /// Closes those of these ports that are there and for everybody, if there are many, and ends their flows. Where the kernel refuses,
    /// none is closed as far as we know.
    pub(super) fn close_many(&mut self, slots: &[u32]) -> Result<(), DataplaneError> {
        let known = slots.iter().filter_map(|slot| Some((*slot, self.ports.get(slot)?)));
        let known: BTreeMap<u32, &Port> = known.filter(|(_, port)| port.clients.is_empty()).collect();
        if known.len() < MANY {
            return Ok(());
        }
        let (keys, values): (Vec<PublishedKey>, Vec<Published>) =
            known.values().flat_map(|port| &port.entries).copied().unzip();
        let gone: Vec<u32> = known.into_keys().collect();
        let published = self.open_map("PUBLISHED")?;
        let mut rest = keys.as_slice();
        self.unpublished = true;
        while !rest.is_empty() {
            let (done, result) = sys::delete_batch(published.as_fd(), rest);
            match result {
                // One that is gone already is fine.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => rest = &rest[(done + 1).min(rest.len())..],
                Err(source) => return Err(failed("published ports cannot be taken back", source)),
                Ok(()) => break,
            }
        }
        // In order, and mostly one after the other: the lowest free slots are taken. To read all that there can be takes milliseconds.
        let (first, end) = (gone[0], gone[gone.len() - 1] + 1);
        let generations = self.array::<u32>("PORT_GENERATIONS", first..end)?;
        let raised: Vec<u32> = gone.iter().map(|slot| generations[(slot - first) as usize].wrapping_add(1)).collect();
        let ended = sys::update_batch(self.open_map("PORT_GENERATIONS")?.as_fd(), &gone, &raised).1;
        ended.map_err(|source| failed("flows of published ports cannot be ended", source))?;
        for slot in gone {
            self.ports.remove(&slot);
        }
        by_endpoint(&values).into_iter().try_for_each(|(endpoint, entries)| self.mark_endpoint(endpoint, -entries))
    }

    /// Refuses addresses that are another port's, or one another's: a batch would overwrite them.
    fn check_absent(&self, keys: &[PublishedKey]) -> Result<(), DataplaneError> {
        let mut seen: HashSet<&PublishedKey> =
            self.ports.values().flat_map(|port| &port.entries).map(|(key, _)| key).collect();
        match keys.iter().find(|key| !seen.insert(key)) {
            Some(key) => Err(taken(key)),
            None => Ok(()),
        }
    }

    pub(super) fn open_map(&self, name: &str) -> Result<OwnedFd, DataplaneError> {
        let map = sys::open_pin(&self.root.join("maps").join(name));
        map.map_err(|source| DataplaneError::Host { what: format!("the map {name} cannot be opened"), source })
    }
}

/// How many of these entries each endpoint has.
fn by_endpoint(values: &[Published]) -> BTreeMap<u32, isize> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value.endpoint).or_default() += 1;
    }
    counts
}

fn failed(what: &str, source: io::Error) -> DataplaneError {
    DataplaneError::Host { what: what.into(), source }
}
