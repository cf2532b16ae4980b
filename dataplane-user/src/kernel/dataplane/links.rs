//! Links: the ports that one container may use of another one where the network keeps them apart.

use std::collections::BTreeSet;

use dataplane_common::{
    layout::{LinkKey, MAX_LINKS},
    wire::Be16,
};

use super::{Dataplane, LinkConfig, configure::absent_is_fine, error::DataplaneError, maps::Maps, publish::room};

impl Dataplane {
    /// Makes these links, and no others, open. They go with either endpoint, and are to be told anew when it comes back.
    ///
    /// # Errors
    ///
    /// There is no room, or the kernel refuses; then none is open that should not be.
    pub fn set_links(&mut self, links: &BTreeSet<LinkConfig>) -> Result<(), DataplaneError> {
        self.retain_links_that(|link| links.contains(link))?;
        for &link in links {
            if !self.links.contains(&link) {
                room(self.maps.links.insert(key(link), 1, 0), libc::E2BIG, MAX_LINKS, "ports open between containers")?;
                self.links.insert(link);
            }
        }
        Ok(())
    }

    /// Closes what leads to or from an endpoint.
    pub(super) fn remove_links_of(&mut self, endpoint: u32) -> Result<(), DataplaneError> {
        self.retain_links_that(|link| link.from != endpoint && link.to != endpoint)
    }

    fn retain_links_that(&mut self, stays: impl Fn(&LinkConfig) -> bool) -> Result<(), DataplaneError> {
        let gone: Vec<_> = self.links.iter().copied().filter(|link| !stays(link)).collect();
        for link in gone {
            absent_is_fine(self.maps.links.remove(&key(link)))?;
            self.links.remove(&link);
        }
        Ok(())
    }
}

/// The links that the maps hold: those of an earlier agent.
pub(super) fn found(maps: &Maps) -> BTreeSet<LinkConfig> {
    let links = maps.links.keys().filter_map(Result::ok);
    links.map(|LinkKey { from, to, port, protocol, .. }| LinkConfig { from, to, protocol, port: port.get() }).collect()
}

fn key(link: LinkConfig) -> LinkKey {
    let LinkConfig { from, to, protocol, port } = link;
    LinkKey { from, to, port: Be16::new(port), protocol, reserved: 0 }
}
