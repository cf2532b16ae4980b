//! The grammar of `spandrel network`.

use clap::{Args, Subcommand};

use super::{Listing, ObjectFormat, condition, pair, reference};

/// What to do with networks.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Network {
    /// Create a network
    Create(Create),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Display detailed information on one or more networks
    Inspect(Inspect),
    /// Remove one or more networks
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Connect a container to a network
    Connect(Connect),
    /// Disconnect a container from a network
    Disconnect(Disconnect),
    /// Remove all unused networks
    Prune(Prune),
}

/// `spandrel network create`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel network create front                                        the next free subnet
  spandrel network create --subnet 10.0.0.0/24 --gateway 10.0.0.1 front
  spandrel network create --ipv6 --subnet 10.0.0.0/24 --subnet fd00:1::/64 front
  spandrel network create --internal back                              no way out, no way in
  spandrel network create -d macvlan -o parent=eth1 --subnet 192.0.2.0/24 --gateway 192.0.2.1 --ip-range 192.0.2.128/25 lan
  spandrel network create -o com.docker.network.driver.mtu=1400 front")]
pub(in crate::cli) struct Create {
    /// Driver to manage the network
    #[arg(short, long, default_value = "bridge")]
    pub(in crate::cli) driver: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(in crate::cli) subnet: Vec<String>,
    /// IPv4 or IPv6 gateway for the subnet
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub(in crate::cli) gateway: Vec<String>,
    /// Allocate container addresses from a sub-range: a CIDR, or FIRST-LAST
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(in crate::cli) ip_range: Vec<String>,
    /// Address that no container gets
    #[arg(long, value_name = "NAME=IP", value_parser = pair)]
    pub(in crate::cli) aux_address: Vec<(String, String)>,
    /// Restrict external access to the network
    #[arg(long)]
    pub(in crate::cli) internal: bool,
    /// Enable or disable IPv4 address assignment [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(in crate::cli) ipv6: Option<bool>,
    /// Set driver specific options
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(in crate::cli) opt: Vec<(String, String)>,
    /// Taken for docker's sake: containers may always be attached
    #[arg(long)]
    pub(in crate::cli) attachable: bool,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "NETWORK", default_value = "", hide_default_value = true, hide = true)]
    pub(in crate::cli) config_from: String,
    /// Create a configuration only network
    #[arg(long, hide = true)]
    pub(in crate::cli) config_only: bool,
    /// Create swarm routing-mesh network
    #[arg(long, hide = true)]
    pub(in crate::cli) ingress: bool,
    /// IP Address Management Driver
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    pub(in crate::cli) ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(in crate::cli) ipam_opt: Vec<(String, String)>,
    /// Control the network's scope
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) scope: String,
    /// Set metadata on a network
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(in crate::cli) label: Vec<(String, String)>,
    /// The new network's name
    #[arg(value_name = "NETWORK")]
    pub(in crate::cli) name: String,
}

/// `spandrel network ls`.
#[derive(Debug, Args)]
#[command(after_long_help = "Filters: dangling, driver, id, label, name, scope, type.

Examples:
  spandrel network ls
  spandrel network ls --filter driver=bridge --filter label=tier=front
  spandrel network ls --format 'table {{.Name}}\\t{{.Driver}}'
  spandrel network ls -q --filter type=custom")]
pub(in crate::cli) struct Ls {
    #[command(flatten)]
    pub(in crate::cli) listing: Listing,
}

/// `spandrel network inspect`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel network inspect front
  spandrel network inspect -f '{{range .IPAM.Config}}{{.Subnet}} {{end}}' front
  spandrel network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{println}}{{end}}' front")]
pub(in crate::cli) struct Inspect {
    #[command(flatten)]
    pub(in crate::cli) format: ObjectFormat,
    /// Taken for docker's sake: there is nothing more to show
    #[arg(short, long)]
    verbose: bool,
    /// Names or ids of networks
    #[arg(required = true, value_name = "NETWORK", value_parser = reference())]
    pub(in crate::cli) networks: Vec<String>,
}

/// `spandrel network prune`.
#[derive(Debug, Args)]
#[command(after_long_help = "A network is unused that no container is on. The predefined ones stay.

Examples:
  spandrel network prune
  spandrel network prune -f --filter label=tier=front")]
pub(in crate::cli) struct Prune {
    /// Remove only networks that meet these conditions, such as `label=tier=front`; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = condition)]
    pub(in crate::cli) filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub(in crate::cli) force: bool,
}

/// `spandrel network rm`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel network rm front back
  spandrel network rm -f front      no error if it is gone already")]
pub(in crate::cli) struct Rm {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    pub(in crate::cli) force: bool,
    /// Names or ids of networks
    #[arg(required = true, value_name = "NETWORK", value_parser = reference())]
    pub(in crate::cli) networks: Vec<String>,
}

/// Addresses that a container wishes on a network.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct Endpoint {
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "IP", default_value = "", hide_default_value = true)]
    pub(in crate::cli) ip: String,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "IP", default_value = "", hide_default_value = true)]
    pub(in crate::cli) ip6: String,
    /// MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "MAC", default_value = "", hide_default_value = true)]
    pub(in crate::cli) mac_address: String,
    /// Add a link-local address for the container
    #[arg(long, value_name = "IP", hide = true)]
    pub(in crate::cli) link_local_ip: Vec<String>,
    /// Add a link to another container: its name or id, and what it is called here
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub(in crate::cli) link: Vec<String>,
}

/// `spandrel network connect`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel network connect back web
  spandrel network connect --ip 10.0.0.100 back web
  spandrel network connect --gw-priority 1 back web            the default route goes there now
  spandrel network connect --alias database back db")]
pub(in crate::cli) struct Connect {
    #[command(flatten)]
    pub(in crate::cli) endpoint: Endpoint,
    /// The default route goes through the network with the highest one; 0 unless told otherwise
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true, allow_negative_numbers = true)]
    pub(in crate::cli) gw_priority: i64,
    /// Driver options for the endpoint: spandrel.ingress_rate, spandrel.ingress_burst and the same of egress
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(in crate::cli) driver_opt: Vec<(String, String)>,
    /// Add network-scoped alias for the container
    #[arg(long)]
    pub(in crate::cli) alias: Vec<String>,
    /// The network's name or id
    #[arg(value_parser = reference())]
    pub(in crate::cli) network: String,
    /// The container's name or id
    #[arg(value_parser = reference())]
    pub(in crate::cli) container: String,
}

/// `spandrel network disconnect`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel network disconnect back web")]
pub(in crate::cli) struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    pub(in crate::cli) force: bool,
    /// The network's name or id
    #[arg(value_parser = reference())]
    pub(in crate::cli) network: String,
    /// The container's name or id
    #[arg(value_parser = reference())]
    pub(in crate::cli) container: String,
}
