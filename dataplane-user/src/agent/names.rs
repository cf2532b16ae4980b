//! Which containers have names, which names, and who may ask for them; the service itself is `dns`.

use std::fmt::Write;

use super::state::Agent;
use crate::dns::Place;
use crate::model::{Container, Endpoint, EndpointRequest, Error, Id, Network, Result};

impl Agent {
    /// Makes the name service know a running container as it is on record now, and serve it while it is on a network with names.
    pub(super) async fn update_names(&mut self, id: &Id) -> Result<()> {
        let Some(container) = self.containers.get(id) else { return Ok(()) };
        if self.places(container).is_empty() {
            self.names.remove(id).await;
            return Ok(());
        }
        // Known before it can ask.
        self.put_names(container);
        // An engine's containers ask the engine.
        if container.engine().is_none() && !self.names.serves(id) {
            let netns = self.open_netns(container)?;
            self.names.serve(*id, netns, &container.naming.servers)?;
        }
        Ok(())
    }

    /// Puts a container's names in the place of those that it had.
    fn put_names(&self, container: &Container) {
        let outside = container.endpoints.iter().any(|endpoint| !endpoint.internal);
        self.names.put(container.id, self.places(container), outside);
    }

    /// A container's places on networks with names: all but the predefined ones.
    pub(super) fn places(&self, container: &Container) -> Vec<Place> {
        let endpoints = container.endpoints.iter().filter(|endpoint| self.has_names(&endpoint.network));
        let places = endpoints.map(|endpoint| Place {
            network: endpoint.network,
            network_name: endpoint.network_name.clone(),
            names: container.names_on(endpoint),
            addresses: endpoint.addresses().collect(),
            links: endpoint.requested.links.iter().map(|link| (link.alias.clone(), link.target.clone())).collect(),
        });
        places.collect()
    }

    /// Judges the names that are asked for on a network. Links get the names of their targets, by which they find them again when
    /// those have been started anew.
    pub(super) fn resolve_links(&self, network: &Network, request: &EndpointRequest) -> Result<EndpointRequest> {
        let mut request = request.clone();
        if network.is_predefined() && !request.aliases.is_empty() {
            return Err(Error::Invalid(format!(
                "network-scoped aliases are supported on user defined networks only, not on {}",
                network.name
            )));
        }
        for link in &mut request.links {
            let target = self.container(&link.target)?;
            if network.is_predefined() && target.endpoint_on(&network.id).is_none() {
                return Err(Error::Invalid(format!(
                    "Cannot link to {}, as it does not run on the network {}",
                    target.name, network.name
                )));
            }
            link.target = target.name.clone();
        }
        Ok(request)
    }

    /// The lines of a container's `/etc/hosts` for those that it is linked to on a network without names.
    pub(super) fn linked_hosts(&self, container: &Container) -> String {
        let mut text = String::new();
        for endpoint in container.endpoints.iter().filter(|endpoint| !self.has_names(&endpoint.network)) {
            for link in &endpoint.requested.links {
                let target = self.containers.values().find(|other| other.name == link.target);
                let place = target.and_then(|target| Some((target, target.endpoint_on(&endpoint.network)?)));
                let Some((target, place)) = place else { continue };
                let mut names = vec![link.alias.clone(), target.hostname.clone(), target.name.clone()];
                names.dedup();
                for address in place.addresses() {
                    // Writing to a string cannot fail.
                    let _ = writeln!(text, "{address}\t{}", names.join(" "));
                }
            }
        }
        text
    }

    /// Brings what others know of a container up to date: those that are linked to it on a network without names.
    pub(super) fn tell_linked(&self, target: &str) -> Result<()> {
        let links = |endpoint: &Endpoint| endpoint.requested.links.iter().any(|link| link.target == target);
        for container in self.containers.values().filter(|container| container.endpoints.iter().any(links)) {
            self.write_files(container)?;
        }
        Ok(())
    }

    /// Whether containers of a network have names: not those of the predefined ones.
    fn has_names(&self, network: &Id) -> bool {
        self.networks.get(network).is_some_and(|network| !network.is_predefined())
    }
}
