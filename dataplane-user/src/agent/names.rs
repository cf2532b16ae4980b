//! Which containers have names, which names, and who may ask for them; the service itself is `dns`.

use super::state::Agent;
use crate::dns::Place;
use crate::model::{Container, EndpointRequest, Error, Id, Network, Result};

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
        if !self.names.serves(id) {
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
        let named = |network: &Id| self.networks.get(network).is_some_and(|network| !network.is_predefined());
        let endpoints = container.endpoints.iter().filter(|endpoint| named(&endpoint.network));
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
        if network.is_predefined() && !(request.aliases.is_empty() && request.links.is_empty()) {
            return Err(Error::Invalid(format!(
                "network-scoped aliases and links are supported on user defined networks only, not on {}",
                network.name
            )));
        }
        for link in &mut request.links {
            link.target = self.container(&link.target)?.name.clone();
        }
        Ok(request)
    }
}
