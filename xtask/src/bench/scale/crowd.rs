//! A host that grows: networks, endpoints, published ports and live flows are added to it until there are as many as a measurement wants.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use spandrel_tests::{Flood, Lab, Net, SOCKET, Site, V4};

use super::client::Client;

/// Requests that are in flight at once while a crowd is made.
const IN_FLIGHT: usize = 4;

/// The network that the measured containers are on, with room for all endpoints that there can be.
pub(in crate::bench) const NETWORK: &str = "bench";
const SUBNET: &str = "172.20.0.0/16";

/// The measured containers.
const CLIENT: &str = "client";
pub(in crate::bench) const SERVER: &str = "server";

/// The measured server's port, which is published under the same number, over TCP and UDP.
pub(in crate::bench) const PORT: u16 = 5000;

/// Endpoints of a crowded host, of one that a quick run takes for crowded, and the further networks that they are spread over.
const ENDPOINTS: usize = 2000;
const QUICK_ENDPOINTS: usize = 100;
const NETWORKS: usize = 10;

/// Where further networks are.
const POOL: &str = "--default-address-pool base=10.0.0.0/8,size=24";

/// How many containers share the flows between them: one may own an eighth of the table.
const OWNERS: usize = 16;

/// The first of the ports that nobody uses.
pub(super) const FIRST_PORT: usize = 40_000;

/// How much there is of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(in crate::bench) struct Size {
    pub(in crate::bench) ports: usize,
    pub(in crate::bench) networks: usize,
    pub(in crate::bench) endpoints: usize,
    pub(in crate::bench) flows: usize,
}

/// A host with two containers, and what is besides them.
pub(in crate::bench) struct Crowd {
    pub(in crate::bench) site: Site,
    pub(in crate::bench) client: Net,
    pub(in crate::bench) server: Net,
    pub(in crate::bench) server_address: IpAddr,
    /// What has been made besides the two containers, their network, and what is published of them.
    more: Size,
    /// Those containers whose flows the live ones are.
    owners: Vec<Net>,
}

impl Crowd {
    /// A host with the measured containers alone, its agent started with further options.
    pub(in crate::bench) fn new(spandrel: &Path, options: &str) -> Result<Self> {
        let site = Site::in_lab(&Lab::with(spandrel.to_path_buf()), &format!("{POOL} {options}"));
        let mut api = Client::connect(&site.host.path(SOCKET))?;
        api.create_network(NETWORK, Some(SUBNET))?;
        let [client, server] = [CLIENT, SERVER].map(|name| site.host.add_netns(name));
        api.attach(CLIENT, NETWORK)?;
        let attached = api.attach(SERVER, NETWORK)?;
        api.publish(SERVER, &["tcp", "udp"].map(|protocol| format!("{PORT}:{PORT}/{protocol}")))?;
        let address = attached["Addresses"][0]["Address"].as_str().and_then(|text| text.split('/').next());
        let server_address = address.context("the server has no address")?.parse()?;
        let more = Size { ports: 0, networks: 0, endpoints: 0, flows: 0 };
        Ok(Self { site, client, server, server_address, more, owners: Vec::new() })
    }

    /// A crowded host, or what is one in a quick run.
    pub(in crate::bench) fn crowded(spandrel: &Path, quick: bool) -> Result<Self> {
        let mut host = Self::new(spandrel, "")?;
        host.add_networks(NETWORKS)?;
        let endpoints = if quick { QUICK_ENDPOINTS } else { ENDPOINTS };
        host.add_endpoints(endpoints - host.size().endpoints)?;
        Ok(host)
    }

    /// How much there is of everything.
    pub(in crate::bench) fn size(&self) -> Size {
        let Size { ports, networks, endpoints, flows } = self.more;
        Size { ports: ports + 1, networks: networks + 1, endpoints: endpoints + 2 + self.owners.len(), flows }
    }

    /// A new connection to the agent.
    pub(in crate::bench) fn api(&self) -> Result<Client> {
        Client::connect(&self.site.host.path(SOCKET))
    }

    /// Adds networks.
    pub(in crate::bench) fn add_networks(&mut self, count: usize) -> Result<()> {
        let first = self.more.networks;
        self.more.networks += count;
        self.together(first..first + count, |api, number| api.create_network(&format!("net{number}"), None))
    }

    /// Adds namespaces that are not attached yet; gives their names.
    pub(in crate::bench) fn add_namespaces(&self, prefix: &str, count: usize) -> Result<Vec<String>> {
        let names: Vec<_> = (0..count).map(|number| format!("{prefix}{number}")).collect();
        let lines: String = names.iter().map(|name| format!("netns add {name}\n")).collect();
        self.site.host.write("/run/namespaces", &lines);
        self.site.host.command("ip -batch /run/namespaces").ok();
        Ok(names)
    }

    /// Adds endpoints, each a namespace of its own, to the further networks by turns; without any, to that of the measured containers.
    pub(in crate::bench) fn add_endpoints(&mut self, count: usize) -> Result<()> {
        let first = self.more.endpoints;
        let names = self.add_namespaces(&format!("end{first}-"), count)?;
        self.more.endpoints += count;
        let networks = self.more.networks;
        self.together(0..count, |api, number| {
            let network = match (first + number).checked_rem(networks) {
                None => NETWORK.to_owned(),
                Some(network) => format!("net{network}"),
            };
            api.attach(&names[number], &network).map(drop)
        })
    }

    /// Publishes further ports of the measured server.
    pub(in crate::bench) fn add_ports(&mut self, count: usize) -> Result<()> {
        let first = FIRST_PORT + self.more.ports;
        self.more.ports += count;
        let last = first + count - 1;
        self.api()?.publish(SERVER, &[format!("{first}-{last}:{first}-{last}")])
    }

    /// Opens flows to the outside, which stay as long as nothing has answered may stay.
    pub(in crate::bench) fn add_flows(&mut self, count: usize) -> Result<()> {
        let host = &self.site.host;
        if self.owners.is_empty() {
            let names = self.add_namespaces("owner", OWNERS)?;
            let mut api = self.api()?;
            for name in &names {
                api.attach(name, NETWORK)?;
                self.owners.push(Net::open(name, &host.path(format!("/run/netns/{name}")))?);
            }
        }
        self.more.flows += count;
        let gateway = host.gateway(NETWORK, V4);
        let floods: Vec<_> = self
            .owners
            .iter()
            .map(|owner| {
                let own =
                    owner.addresses().into_iter().find(|(_, address, _)| address.is_ipv4() && !address.is_loopback());
                let (_, own, _) = own.context("a container has no address")?;
                owner.ping(gateway).context("the gateway does not answer")?;
                let mac = owner.neighbour(gateway).context("the gateway has no MAC address")?;
                Ok((owner, mac, own))
            })
            .collect::<Result<_>>()?;
        // One after the other: together they would lose packets.
        for (owner, mac, own) in floods {
            owner.flood("eth0", mac, Flood::Outbound(own), (count / OWNERS) as u64).finish();
        }
        Ok(())
    }

    /// Does something for each number, with several requests in flight.
    fn together(
        &self,
        numbers: std::ops::Range<usize>,
        work: impl Fn(&mut Client, usize) -> Result<()> + Sync,
    ) -> Result<()> {
        let next = AtomicUsize::new(numbers.start);
        thread::scope(|scope| {
            let worker = || -> Result<()> {
                let mut api = self.api()?;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return Ok(());
                    }
                    work(&mut api, number)?;
                }
            };
            let workers: Vec<_> = (0..IN_FLIGHT).map(|_| scope.spawn(worker)).collect();
            for worker in workers {
                match worker.join() {
                    Ok(done) => done?,
                    Err(_) => bail!("a thread that makes a crowd has panicked"),
                }
            }
            Ok(())
        })
    }
}
