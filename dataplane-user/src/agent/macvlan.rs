//! Networks on an interface of the host: planned, and their containers' interfaces made and taken away. The data plane knows nothing of them.

use super::endpoint::{Announcement, default_routes, prefixes, static_routes};
use super::error::Troubles;
use super::handle::Created;
use super::network::IPV6_MIN_MTU;
use super::state::Agent;
use crate::ipam::Wish;
use crate::kernel::{MacVlanMode, MacvlanSpec};
use crate::model::{Container, Driver, Endpoint, Error, MacvlanMode, MacvlanOptions, Network, NetworkCreate, Result};

impl Agent {
    /// Chooses everything about a macvlan network.
    pub(super) async fn plan_macvlan(&mut self, request: NetworkCreate) -> Result<Created<Network>> {
        let options = MacvlanOptions::parse(&request.options)?;
        let parent = options.parent.as_str();
        let invalid = |why: String| Error::Invalid(format!("invalid network option parent={parent}: {why}"));
        if self.own_interfaces.contains(parent) {
            return Err(invalid("it belongs to one of our own networks".into()));
        }
        let link = self.netlink.macvlan_parent(parent).await.map_err(|error| invalid(error.to_string()))?;
        let uses = |network: &&Network| network.macvlan.as_ref().is_some_and(|other| other.parent == parent);
        if let Some(other) = self.networks.values().find(uses) {
            return Err(Error::Conflict(format!("network {} is already using parent interface {parent}", other.name)));
        }
        if let Some(mtu) = options.mtu.filter(|mtu| *mtu > link.mtu) {
            return Err(Error::Invalid(format!(
                "invalid network option com.docker.network.driver.mtu={mtu}: the parent interface {parent} carries {}",
                link.mtu
            )));
        }
        let mtu = options.mtu.unwrap_or(link.mtu);
        if request.enable_ipv6 == Some(true) && mtu < IPV6_MIN_MTU {
            return Err(Error::Invalid(format!("IPv6 needs an MTU of at least {IPV6_MIN_MTU}, not {mtu}")));
        }
        let gateway = Wish::Subnet { gateway: !request.internal };
        let network = self.plan(request, Driver::Macvlan, gateway, gateway)?;
        Ok(Created { value: Network { macvlan: Some(options), ..network.value }, ..network })
    }

    /// Refuses a second container on an interface that one has to itself.
    pub(super) fn check_passthru(&self, network: &Network) -> Result<()> {
        let alone = network.macvlan.as_ref().is_some_and(|options| options.mode == MacvlanMode::Passthru);
        match self.members(&network.id).next() {
            Some((owner, _)) if alone => Err(Error::Conflict(format!(
                "network {} is in passthru mode and has one container, which is {}",
                network.name, owner.name
            ))),
            _ => Ok(()),
        }
    }

    /// Makes an endpoint's interface in its container, or mends it; cheap when nothing is wrong.
    pub(super) async fn ensure_macvlan(&self, container: &Container, endpoint: &Endpoint) -> Result<()> {
        let network = self.networks.get(&endpoint.network);
        let options = network.and_then(|network| network.macvlan.clone());
        let options = options.ok_or_else(|| Error::Internal("the network is not on record".into()))?;
        let spec = MacvlanSpec {
            parent: options.parent,
            mode: match options.mode {
                MacvlanMode::Bridge => MacVlanMode::Bridge,
                MacvlanMode::Private => MacVlanMode::Private,
                MacvlanMode::Vepa => MacVlanMode::Vepa,
                MacvlanMode::Passthru => MacVlanMode::Passthrough,
            },
            name: endpoint.interface.clone(),
            mac: endpoint.mac.bytes(),
            mtu: options.mtu,
            addresses: prefixes(endpoint),
            gateways: default_routes(container, endpoint),
            routes: static_routes(endpoint),
        };
        let netns = self.open_netns(container)?;
        let made = self.netlink.ensure_macvlan(&spec, &netns).await?;
        if made.changed {
            Announcement {
                netns,
                ifindex: made.ifindex,
                mac: spec.mac,
                addresses: endpoint.addresses().collect(),
                interface: format!("{} on {}", spec.name, spec.parent),
            }
            .send();
        }
        Ok(())
    }

    /// Takes an endpoint's interface out of its container.
    pub(super) async fn clear_macvlan(&self, container: &Container, endpoint: &Endpoint) -> Troubles {
        let mut troubles = Troubles::default();
        // With the namespace goes what was in it.
        if let Ok(netns) = self.open_netns(container) {
            troubles.note(self.netlink.remove_macvlan(&endpoint.interface, &netns).await);
        }
        troubles
    }
}
