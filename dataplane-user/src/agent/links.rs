//! What `--link` opens where a network does not let its containers talk to each other: the ports that the other container serves.
//! What links are called is the business of `names`.

use std::collections::BTreeSet;

use super::state::Agent;
use crate::kernel::dataplane::LinkConfig;
use crate::model::{Container, Id, Protocol, Result};

impl Agent {
    /// Makes the data plane hold the links that are on record now. Those of an endpoint that goes, go with it.
    pub(super) fn update_links(&mut self) -> Result<()> {
        let mut links = BTreeSet::new();
        // Mostly there is no such network, and no container need be looked at.
        let apart = self.networks.values().any(|network| self.is_apart(&network.id));
        let present = apart.then(|| self.present()).into_iter().flatten();
        for from in present.flat_map(|container| &container.endpoints).filter(|from| self.is_apart(&from.network)) {
            for link in &from.requested.links {
                let target = self.present().find(|container| container.name == link.target);
                let place = target.and_then(|target| Some((target, target.endpoint_on(&from.network)?)));
                let Some((target, to)) = place else { continue };
                let open = |(port, protocol): (u16, Protocol)| LinkConfig {
                    from: from.slot,
                    to: to.slot,
                    protocol: protocol.into(),
                    port,
                };
                links.extend(target.serves().map(open));
            }
        }
        Ok(self.dataplane.set_links(&links)?)
    }

    /// The containers that run or are about to; what others have on record of endpoints is none of theirs any more.
    fn present(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().filter(|container| self.live.contains_key(&container.id))
    }

    /// Whether a network does not let its containers talk to each other.
    fn is_apart(&self, network: &Id) -> bool {
        self.networks.get(network).is_some_and(|network| !network.bridge_options.icc)
    }
}
