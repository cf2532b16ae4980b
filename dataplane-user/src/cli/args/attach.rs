//! The grammar of `attach` and `detach`.

use clap::Args;

use super::container::{Access, PORT_SPEC};
use super::{ObjectFormat, reference};

/// `spandrel attach`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "NETNS is a network namespace that somebody else made: a path, a name of `ip netns`, or the id of a process \
                       in it. It gets an interface with addresses and a default route, published ports, and a name on the \
                       network, and is listed as a container; its processes and files are not touched. A default route that \
                       it has already stays. Attach it again for a further network. The name server is 127.0.0.11.

Examples:
  ip netns add web && spandrel attach web --network front
  spandrel attach web --network back --ifname back0        one more interface
  spandrel attach /proc/4711/ns/net --network front --name db --ip 10.0.0.100
  spandrel attach 4711 --network front -p 8080:80 --alias www
  spandrel attach web --network front --ingress-rate 10mbit --egress-rate 1gbit
  spandrel attach web --network front --format json         everything about the new interface"
)]
pub(in crate::cli) struct Attach {
    /// The network's name or id
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = reference())]
    pub(in crate::cli) network: String,
    /// Assign a name to the container that stands for the namespace
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(in crate::cli) name: String,
    /// Name of the new interface [default: eth0, or the next that is free]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(in crate::cli) ifname: String,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "IP", default_value = "", hide_default_value = true)]
    pub(in crate::cli) ip: String,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "IP", default_value = "", hide_default_value = true)]
    pub(in crate::cli) ip6: String,
    /// MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "MAC", default_value = "", hide_default_value = true)]
    pub(in crate::cli) mac_address: String,
    /// Add network-scoped alias for the container
    #[arg(long)]
    pub(in crate::cli) alias: Vec<String>,
    /// Publish port(s) to the host
    #[arg(short, long, value_name = PORT_SPEC)]
    pub(in crate::cli) publish: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) access: Access,
    /// Limit what it receives, in bits per second (e.g., 10mbit)
    #[arg(long, value_name = "RATE")]
    pub(in crate::cli) ingress_rate: Option<String>,
    /// Limit what it sends, in bits per second (e.g., 500kbit)
    #[arg(long, value_name = "RATE")]
    pub(in crate::cli) egress_rate: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) format: ObjectFormat,
    /// The network namespace
    #[arg(value_parser = reference())]
    pub(in crate::cli) netns: String,
}

/// `spandrel detach`.
#[derive(Debug, Args)]
#[command(after_long_help = "Its interfaces and published ports go; the namespace stays, or may be gone already.

Examples:
  spandrel detach web
  spandrel detach --ifname back0 web      this interface alone
  spandrel detach /proc/4711/ns/net")]
pub(in crate::cli) struct Detach {
    /// Only this interface
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(in crate::cli) ifname: String,
    /// Network namespaces as they were attached, or the names or ids of their containers
    #[arg(required = true, value_name = "NETNS|CONTAINER", value_parser = reference())]
    pub(in crate::cli) containers: Vec<String>,
}
