//! Published ports.

use std::collections::HashMap;

use dataplane_common::{
    layout::{Endpoint, Published, PublishedKey},
    wire::Be16,
};

use super::{Dataplane, PortConfig, configure::absent_is_fine, error::DataplaneError};

impl Dataplane {
    /// Opens ports: all or none. A port that is open already for the same container stays so.
    ///
    /// # Errors
    ///
    /// A port is another container's, or the kernel refuses; then none of these ports is open that was not before.
    pub fn publish(&mut self, ports: &[PortConfig]) -> Result<(), DataplaneError> {
        let mut opened = Vec::new();
        for port in ports {
            match self.open_port(port) {
                Ok(true) => opened.push(*port),
                Ok(false) => {}
                Err(error) => {
                    self.unpublish(&opened)?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// False: it is open already.
    fn open_port(&mut self, port: &PortConfig) -> Result<bool, DataplaneError> {
        let (key, value) = (key(port), value(port));
        match self.maps.published.get(&key, 0) {
            Ok(old) if old == value => {
                // After a restart the count is not known yet.
                if !self.published.contains_key(&port.endpoint) {
                    self.mark_endpoint(port.endpoint, 1)?;
                }
                return Ok(false);
            }
            Ok(_) => return Err(DataplaneError::Published(format!("{}:{}", port.host, port.host_port))),
            Err(_) => {}
        }
        // The endpoint must be known to publish before the first packet comes, or a neighbour's answer misses its flow.
        self.mark_endpoint(port.endpoint, 1)?;
        self.maps.published.insert(key, value, 0)?;
        Ok(true)
    }

    /// Closes ports; absent ones are fine.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn unpublish(&mut self, ports: &[PortConfig]) -> Result<(), DataplaneError> {
        for port in ports {
            if self.maps.published.get(&key(port), 0).is_ok_and(|old| old == value(port)) {
                absent_is_fine(self.maps.published.remove(&key(port)))?;
                self.mark_endpoint(port.endpoint, -1)?;
            }
        }
        Ok(())
    }

    /// Closes every port that is not one of these.
    pub(super) fn retain_ports(&mut self, ports: &[PortConfig]) -> Result<(), DataplaneError> {
        let wanted: HashMap<_, _> = ports.iter().map(|port| (key(port), value(port))).collect();
        let strangers: Vec<PublishedKey> = self
            .maps
            .published
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, value)| wanted.get(key) != Some(value))
            .map(|(key, _)| key)
            .collect();
        for stranger in strangers {
            absent_is_fine(self.maps.published.remove(&stranger))?;
        }
        Ok(())
    }

    /// Counts an endpoint's ports, and tells the programs whether it has any.
    fn mark_endpoint(&mut self, slot: u32, change: isize) -> Result<(), DataplaneError> {
        let count = self.published.entry(slot).or_default();
        *count = count.saturating_add_signed(change);
        let publishes = *count > 0;
        let mut endpoint = self.maps.endpoints.get(&slot, 0)?;
        let flags =
            if publishes { endpoint.flags | Endpoint::PUBLISHES } else { endpoint.flags & !Endpoint::PUBLISHES };
        if flags != endpoint.flags {
            endpoint.flags = flags;
            self.maps.endpoints.set(slot, endpoint, 0)?;
        }
        Ok(())
    }
}

fn key(port: &PortConfig) -> PublishedKey {
    PublishedKey { address: port.host.into(), port: Be16::new(port.host_port), protocol: port.protocol, reserved: 0 }
}

fn value(port: &PortConfig) -> Published {
    Published {
        container: port.container.into(),
        endpoint: port.endpoint,
        port: Be16::new(port.container_port),
        flags: 0,
        slot: 0,
        rate: 0,
    }
}
