//! The grammar of the commands about containers.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::network::Endpoint;
use super::{ListFormat, Listing, pair, reference};

/// What `-p` takes.
pub(super) const PORT_SPEC: &str = "[IP:][PORT:]PORT[/PROTOCOL]";

/// Who may use published ports.
#[derive(Debug, Args)]
pub(in crate::cli) struct Access {
    /// Let only these clients use the published ports
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(in crate::cli) allow_from: Vec<String>,
    /// Let one client open at most so many connections a second to a published port
    #[arg(long, value_name = "N[/s]", default_value = "", hide_default_value = true)]
    pub(in crate::cli) rate_limit: String,
}

/// What a command finds when it starts.
#[derive(Debug, Args)]
pub(in crate::cli) struct Surroundings {
    /// Set environment variables; a NAME alone takes the caller's value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(in crate::cli) env: Vec<String>,
    /// Read in a file of environment variables, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) env_file: Vec<PathBuf>,
    /// Working directory inside the container [default: the caller's]
    #[arg(short, long, value_name = "DIR")]
    pub(in crate::cli) workdir: Option<String>,
}

/// `spandrel run`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_long_help = "COMMAND is one of the host's own, there is no image. It runs in a network namespace of its own, \
                       with /etc/hosts, /etc/hostname and /etc/resolv.conf of its own, on the caller's terminal, or with \
                       -d in the background. Everything after COMMAND belongs to it.

Examples:
  spandrel run bash                                          a shell on the network `bridge`
  spandrel run --rm --network front ping -c 1 10.0.0.1
  spandrel run -d --name web -p 8080:80 python3 -m http.server 80
  spandrel run -d -p 127.0.0.1:5353:53/udp -p 9000-9010:9000-9010 server --verbose
  spandrel run -d -p 5432:5432 --allow-from 10.0.0.0/8 postgres    only for those clients
  spandrel run -d --network front --ip 10.0.0.100 sleep infinity
  spandrel run -d --network name=front,gw-priority=1 --network name=back,ip=10.0.1.100 sleep infinity
  spandrel run --network container:web tcpdump -ni eth0            in web's network namespace
  spandrel run -d --network front --network-alias db --add-host host:host-gateway postgres
  spandrel run --network front --dns 192.0.2.53 --dns-search example.org bash"
)]
pub(in crate::cli) struct Run {
    /// Print help
    #[arg(long, action = ArgAction::HelpLong)]
    help: Option<bool>,
    /// Run container in background and print container ID
    #[arg(short, long)]
    pub(in crate::cli) detach: bool,
    /// Taken for docker's sake: a command in the foreground always has the caller's input
    #[arg(short, long, conflicts_with = "detach")]
    interactive: bool,
    /// Taken for docker's sake: a command in the foreground always has the caller's terminal
    #[arg(short, long, conflicts_with = "detach")]
    tty: bool,
    /// Assign a name to the container
    #[arg(long)]
    pub(in crate::cli) name: Option<String>,
    /// Connect a container to a network; may be given several times, such as `name=front,ip=10.0.0.9,gw-priority=1`
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub(in crate::cli) network: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) endpoint: Endpoint,
    /// Add network-scoped alias for the container
    #[arg(long, visible_alias = "net-alias", value_name = "ALIAS")]
    pub(in crate::cli) network_alias: Vec<String>,
    /// Ask this server for names from outside, from the container's network
    #[arg(long, value_name = "IP")]
    pub(in crate::cli) dns: Vec<String>,
    /// Look for names in this domain; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    pub(in crate::cli) dns_search: Vec<String>,
    /// Set an option of the resolver, as in resolv.conf
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub(in crate::cli) dns_option: Vec<String>,
    /// Add a line to the container's /etc/hosts; `host-gateway` is the host
    #[arg(long, value_name = "NAME:IP")]
    pub(in crate::cli) add_host: Vec<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = PORT_SPEC)]
    pub(in crate::cli) publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    pub(in crate::cli) publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT[-PORT][/PROTOCOL]")]
    pub(in crate::cli) expose: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) access: Access,
    /// Container host name
    #[arg(short = 'h', long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) hostname: String,
    /// Automatically remove the container when it exits
    #[arg(long)]
    pub(in crate::cli) rm: bool,
    /// Write the container ID to a file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) cidfile: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) surroundings: Surroundings,
    /// Set metadata on a container
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = pair)]
    pub(in crate::cli) label: Vec<(String, String)>,
    /// Read in a file of labels, one KEY=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) label_file: Vec<PathBuf>,
    /// The command to run, with its arguments
    #[arg(required = true, trailing_var_arg = true)]
    pub(in crate::cli) command: Vec<String>,
}

/// `spandrel exec`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel exec web ip address
  spandrel exec -e LANG=C web bash
  spandrel exec -d web tcpdump -ni eth0 -w /tmp/web.pcap      in the background, without input and output")]
pub(in crate::cli) struct Exec {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    pub(in crate::cli) detach: bool,
    /// Taken for docker's sake: a command in the foreground always has the caller's input
    #[arg(short, long, conflicts_with = "detach")]
    interactive: bool,
    /// Taken for docker's sake: a command in the foreground always has the caller's terminal
    #[arg(short, long, conflicts_with = "detach")]
    tty: bool,
    #[command(flatten)]
    pub(in crate::cli) surroundings: Surroundings,
    /// The container's name or id
    #[arg(value_parser = reference())]
    pub(in crate::cli) container: String,
    /// The command to run, with its arguments
    #[arg(required = true, trailing_var_arg = true)]
    pub(in crate::cli) command: Vec<String>,
}

/// `spandrel ps`.
#[derive(Debug, Args)]
#[command(after_long_help = "Filters: before, exited, expose, id, label, name, network, publish, since, status.

Examples:
  spandrel ps -a
  spandrel ps --filter network=front --filter status=running
  spandrel ps -a --filter exited=0 --filter since=web
  spandrel ps --filter publish=80 --filter expose=7000-7010/udp
  spandrel ps --format 'table {{.Names}}\\t{{.Ports}}'
  spandrel rm -f $(spandrel ps -aq)")]
pub(in crate::cli) struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub(in crate::cli) all: bool,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub(in crate::cli) last: Option<usize>,
    /// Show the latest created container (includes all states)
    #[arg(short, long, conflicts_with = "last")]
    pub(in crate::cli) latest: bool,
    #[command(flatten)]
    pub(in crate::cli) listing: Listing,
}

/// `spandrel port`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel port web              80/tcp -> 0.0.0.0:8080
  spandrel port web 80           0.0.0.0:8080
  spandrel port --stats          what went through the published ports of all containers
  spandrel port --stats --format json web")]
pub(in crate::cli) struct Port {
    /// The container's name or id
    #[arg(value_parser = reference(), required_unless_present = "stats")]
    pub(in crate::cli) container: Option<String>,
    /// Show only this port of the container, TCP unless told otherwise
    #[arg(value_name = "PRIVATE_PORT[/PROTO]", conflicts_with = "stats")]
    pub(in crate::cli) port: Option<String>,
    /// Show connections, packets and bytes of each published port
    #[arg(long)]
    pub(in crate::cli) stats: bool,
    /// Print them as `table`, `table TEMPLATE`, `json`, or by a Go template
    #[arg(long, value_name = "FORMAT", requires = "stats")]
    pub(in crate::cli) format: Option<ListFormat>,
}

/// `spandrel publish`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "All ports are published, or none. A host port that leads there already is not published again, but \
                             --allow-from and --rate-limit change who may use it.

Examples:
  spandrel publish web 8080:80
  spandrel publish --allow-from 192.0.2.0/24 --allow-from 2001:db8::/32 web 8443:443 53:53/udp
  spandrel publish --allow-from 0.0.0.0/0,::/0 web 8443:443      open to everybody again"
)]
pub(in crate::cli) struct Publish {
    #[command(flatten)]
    pub(in crate::cli) access: Access,
    /// The container's name or id
    #[arg(value_parser = reference())]
    pub(in crate::cli) container: String,
    /// Ports, as `run -p` takes them
    #[arg(required = true, value_name = PORT_SPEC)]
    pub(in crate::cli) ports: Vec<String>,
}

/// `spandrel unpublish`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "All that is named is unpublished, or nothing if some of it is not published. Connections end.

Examples:
  spandrel unpublish web 8080:80       this host port
  spandrel unpublish web 80            every host port of the container's port 80"
)]
pub(in crate::cli) struct Unpublish {
    /// The container's name or id
    #[arg(value_parser = reference())]
    pub(in crate::cli) container: String,
    /// Ports, as `run -p` takes them
    #[arg(required = true, value_name = PORT_SPEC)]
    pub(in crate::cli) ports: Vec<String>,
}

/// `spandrel start`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "A container starts again as it was: the same command, name, networks and published ports, and the same addresses \
                             where they were asked for.

Examples:
  spandrel start web db
  spandrel start -a job           on the caller's terminal"
)]
pub(in crate::cli) struct Start {
    /// Give the command the caller's terminal, pass signals on and wait for its end
    #[arg(short, long)]
    pub(in crate::cli) attach: bool,
    /// Taken for docker's sake: an attached command always has the caller's input
    #[arg(short, long, requires = "attach")]
    interactive: bool,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = reference())]
    pub(in crate::cli) containers: Vec<String>,
}

/// How containers are to end, and which.
#[derive(Debug, Args)]
pub(in crate::cli) struct Ending {
    /// Signal to send to the container, by name or number [default: SIGTERM]
    #[arg(short, long, value_name = "SIGNAL")]
    pub(in crate::cli) signal: Option<String>,
    /// Seconds to wait before killing the container, -1 for ever [default: 10]
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS", allow_negative_numbers = true)]
    pub(in crate::cli) timeout: Option<i64>,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = reference())]
    pub(in crate::cli) containers: Vec<String>,
}

/// `spandrel restart`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel restart web
  spandrel restart -t 0 web db      without waiting for their ends
  spandrel restart --signal INT web")]
pub(in crate::cli) struct Restart {
    #[command(flatten)]
    pub(in crate::cli) ending: Ending,
}

/// `spandrel rename`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel rename web old-web")]
pub(in crate::cli) struct Rename {
    /// The container's name or id
    #[arg(value_parser = reference())]
    pub(in crate::cli) container: String,
    /// Its new name
    #[arg(value_name = "NEW_NAME", value_parser = reference())]
    pub(in crate::cli) name: String,
}

/// `spandrel logs`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "What a container in the background has written, over all its runs. The last 5 MB are kept, and never more \
                             than 10 MB.

Examples:
  spandrel logs web
  spandrel logs -f -n 10 web                what comes, too, until the container ends
  spandrel logs -t --since 10m web          the last ten minutes, with times"
)]
pub(in crate::cli) struct Logs {
    /// Follow log output
    #[arg(short, long)]
    pub(in crate::cli) follow: bool,
    /// Show logs since a moment (2026-01-02T13:23:37Z) or for a while (42m)
    #[arg(long, value_name = "WHEN")]
    pub(in crate::cli) since: Option<String>,
    /// Show logs before a moment (2026-01-02T13:23:37Z) or up to a while ago (42m)
    #[arg(long, value_name = "WHEN")]
    pub(in crate::cli) until: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", value_parser = line_count)]
    pub(in crate::cli) tail: String,
    /// Show timestamps
    #[arg(short, long)]
    pub(in crate::cli) timestamps: bool,
    /// The container's name or id
    #[arg(value_parser = reference())]
    pub(in crate::cli) container: String,
}

/// `all`, or how many.
fn line_count(text: &str) -> Result<String, String> {
    match text == "all" || text.parse::<usize>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err("a number of lines or `all` is expected".into()),
    }
}

/// `spandrel stop`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel stop web db
  spandrel stop -t 60 db      a minute to end by itself
  spandrel stop --signal INT web")]
pub(in crate::cli) struct Stop {
    #[command(flatten)]
    pub(in crate::cli) ending: Ending,
}

/// `spandrel rm`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel rm job
  spandrel rm -f web db      whether they run or not")]
pub(in crate::cli) struct Rm {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    pub(in crate::cli) force: bool,
    /// Taken for docker's sake: containers have no volumes
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = reference())]
    pub(in crate::cli) containers: Vec<String>,
}
