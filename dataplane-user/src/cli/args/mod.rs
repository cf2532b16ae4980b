//! The grammar of the command line: Docker's commands and flags, and the agent's own.

pub(super) mod agent;
pub(super) mod apply;
pub(super) mod attach;
pub(super) mod container;
pub(super) mod doctor;
pub(super) mod netavark;
pub(super) mod network;
pub(super) mod plugin;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::template::Template;

/// Where the agent listens unless it is told otherwise.
pub(super) const DEFAULT_SOCKET: &str = "/run/spandrel/spandrel.sock";
/// The environment variable that names another socket to client commands.
pub(super) const SOCKET_VARIABLE: &str = "SPANDREL_SOCKET";

/// Container networks on eBPF alone.
#[derive(Debug, Parser)]
#[command(
    name = "spandrel",
    version,
    about = "Container networks on eBPF alone",
    long_about = "Container networks on eBPF alone: bridge networks, isolation, masquerade and published ports, \
                  without a single iptables rule.\n\nStart the agent once as root, then create networks and \
                  containers as you would with docker.",
    after_long_help = "Examples:
  sudo spandrel agent                                      start the agent
  sudo spandrel network create --subnet 10.0.0.0/24 front  create a network
  sudo spandrel run -d --name web --network front -p 8080:80 python3 -m http.server 80
  sudo spandrel ps                                         see what runs
  docker -H unix:///run/spandrel/spandrel.sock network ls  the docker command works, too",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 120
)]
pub(super) struct Cli {
    /// The agent's socket [default: $SPANDREL_SOCKET, else /run/spandrel/spandrel.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the agent that owns the networks
    Agent(agent::Agent),
    /// Manage networks
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_long_help = "Examples:
  spandrel network create --subnet 10.0.0.0/24 front
  spandrel network ls
  spandrel network connect front web"
    )]
    Network(network::Network),
    /// Create and start a container
    Run(Box<container::Run>),
    /// Execute a command in a running container
    Exec(container::Exec),
    /// List containers
    Ps(container::Ps),
    /// Return low-level information on containers and networks
    Inspect(Inspect),
    /// List port mappings or a specific mapping for the container
    Port(container::Port),
    /// Publish ports of a running container
    Publish(container::Publish),
    /// Take back published ports of a running container
    Unpublish(container::Unpublish),
    /// Attach a network namespace that somebody else made to a network
    Attach(Box<attach::Attach>),
    /// Detach network namespaces from their networks
    Detach(attach::Detach),
    /// Start one or more stopped containers
    Start(container::Start),
    /// Stop one or more running containers
    Stop(container::Stop),
    /// Restart one or more containers
    Restart(container::Restart),
    /// Rename a container
    Rename(container::Rename),
    /// Fetch the logs of a container
    Logs(container::Logs),
    /// Remove one or more containers
    Rm(container::Rm),
    /// Make networks and containers as a file declares them
    Apply(apply::Apply),
    /// Remove the networks and containers that a file has made
    Down(apply::Down),
    /// Show the packets that were dropped, and why
    Drops(Drops),
    /// Get real time events from the agent
    Events(Events),
    /// Let engines find this binary as their network plugin
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_long_help = "Examples:
  sudo spandrel plugin install cni
  spandrel plugin ls"
    )]
    Plugin(plugin::Plugin),
    /// Find what is wrong with this host, or left over on it
    Doctor(doctor::Doctor),
    /// Print completions for a shell
    Completion(Completion),
    /// Write manual pages
    Man(Manual),
    /// Be a CNI plugin, as runtimes call one
    #[command(
        after_long_help = "The same as a binary of the name `spandrel-cni`: the call is in the environment, the network configuration on \
                           standard input. Runtimes call it, people do not.

Examples:
  ln -s /usr/bin/spandrel /opt/cni/bin/spandrel-cni
  echo '{\"cniVersion\": \"1.1.0\"}' | CNI_COMMAND=VERSION spandrel cni"
    )]
    Cni,
    /// Be a network plugin of Podman, as netavark calls one
    #[command(
        subcommand,
        arg_required_else_help = true,
        after_long_help = "The same as this binary under a driver's name in a folder called netavark: the call's object is on standard input. Podman \
                           and netavark call it, people do not.

Examples:
  ln -s /usr/bin/spandrel /usr/lib/netavark/spandrel
  spandrel netavark info"
    )]
    Netavark(netavark::Netavark),
    /// Watches one container's command; the agent starts it
    #[command(hide = true)]
    Shim {
        /// What the agent tells it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// `spandrel inspect`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel inspect web           a container
  spandrel inspect front web     a network and a container
  spandrel inspect -f '{{.NetworkSettings.Networks.front.IPAddress}}' web
  spandrel inspect -f '{{range .NetworkSettings.Networks}}{{.MacAddress}} {{end}}' web
  spandrel inspect --type network -f json web")]
pub(super) struct Inspect {
    #[command(flatten)]
    pub(super) format: ObjectFormat,
    /// Only look for objects of this kind
    #[arg(long = "type", value_name = "KIND", value_enum)]
    pub(super) kind: Option<Kind>,
    /// Names or ids of containers or networks
    #[arg(required = true, value_name = "CONTAINER|NETWORK", value_parser = reference())]
    pub(super) objects: Vec<String>,
}

/// The kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// A container.
    Container,
    /// A network.
    Network,
}

/// `spandrel drops`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel drops                 a table
  spandrel drops --format json   one JSON object per line
  spandrel drops --format '{{.Reason}} {{.Packets}}'")]
pub(super) struct Drops {
    #[command(flatten)]
    pub(super) format: Format,
}

/// `spandrel events`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "What happens to networks and containers, until the command is interrupted or the time of --until has come. The last \
                             256 events are kept. Filters: container, event, label, network, scope, type.

Examples:
  spandrel events
  spandrel events --filter type=network --filter event=connect
  spandrel events --since 10m --until 0s              the last ten minutes, and no more
  spandrel events --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'
  spandrel events --format json                       one JSON object per line"
)]
pub(super) struct Events {
    /// Filter output based on conditions provided, such as `type=network`; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = condition)]
    pub(super) filter: Vec<(String, String)>,
    /// Also show what happened since a moment (2026-01-02T13:23:37Z) or for a while (42m)
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(super) since: Option<String>,
    /// Stream events until a moment (2026-01-02T13:23:37Z) or up to a while ago (0s)
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(super) until: Option<String>,
    /// `json` (one object per line), or a Go template such as `{{.Action}}`
    #[arg(long, value_name = "FORMAT", value_parser = object_format)]
    pub(super) format: Option<ListFormat>,
}

/// `spandrel completion`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel completion bash > /etc/bash_completion.d/spandrel
  spandrel completion zsh > /usr/local/share/zsh/site-functions/_spandrel
  spandrel completion fish > /etc/fish/completions/spandrel.fish")]
pub(super) struct Completion {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

/// The shells that we have completions for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    /// GNU's.
    Bash,
    /// The friendly interactive one.
    Fish,
    /// Z.
    Zsh,
}

/// `spandrel man`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  spandrel man /usr/local/share/man/man1
  spandrel man /tmp/man && man /tmp/man/spandrel-network-create.1")]
pub(super) struct Manual {
    /// Where to write them, one for each command
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
}

/// How a list is printed.
#[derive(Clone, Debug, Args)]
pub(super) struct Format {
    /// `table`, `table TEMPLATE`, `json` (one object per line), or a Go template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(super) format: ListFormat,
}

/// Which objects with ids are listed, and how they are printed.
#[derive(Clone, Debug, Args)]
pub(super) struct Listing {
    /// Filter output based on conditions provided, such as `name=web`; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = condition)]
    pub(super) filter: Vec<(String, String)>,
    /// Only display IDs
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Do not truncate the output
    #[arg(long)]
    pub(super) no_trunc: bool,
    #[command(flatten)]
    pub(super) format: Format,
}

/// The ways to print a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListFormat {
    /// Columns for people, those that the command has by itself.
    Table,
    /// Columns for people, by a template in which a tab ends a column.
    Columns(String),
    /// One JSON object per line.
    Json,
    /// Each object by a template.
    Template(String),
}

impl FromStr for ListFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As a shell hands them over from between single quotes.
        let unescaped = text.replace("\\t", "\t").replace("\\n", "\n");
        match unescaped.trim() {
            "" | "table" => Ok(ListFormat::Table),
            "json" => Ok(ListFormat::Json),
            _ => match unescaped.strip_prefix("table ") {
                Some(columns) => template(columns).map(ListFormat::Columns),
                None => template(&unescaped).map(ListFormat::Template),
            },
        }
    }
}

/// How an object is printed: all of it for people, or by a template.
#[derive(Clone, Debug, Args)]
pub(super) struct ObjectFormat {
    /// `json` (one object per line), or a Go template such as `{{.Name}}`
    #[arg(short, long, value_name = "FORMAT", value_parser = object_format)]
    pub(super) format: Option<ListFormat>,
}

fn object_format(text: &str) -> Result<ListFormat, String> {
    match text {
        "json" | "{{json .}}" => Ok(ListFormat::Json),
        text => template(text).map(ListFormat::Template),
    }
}

/// A template that can be read.
fn template(text: &str) -> Result<String, String> {
    if !text.contains("{{") {
        return Err("it is neither a name of a format nor a template such as {{.Name}}".into());
    }
    Template::parse(text).map(|_| text.to_owned())
}

/// Names and ids are never empty.
fn reference() -> clap::builder::NonEmptyStringValueParser {
    clap::builder::NonEmptyStringValueParser::new()
}

/// Reads a filter's `key=value`.
fn condition(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    match key.trim() {
        "" => Err("KEY=VALUE is expected".into()),
        key => Ok((key.to_ascii_lowercase(), value.trim().to_owned())),
    }
}

/// Reads `key=value`; a lone `key` has an empty value, as for Docker.
fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    match key {
        "" => Err("KEY=VALUE is expected".into()),
        key => Ok((key.to_string(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_is_taken_verbatim() {
        for (line, command) in [
            ("spandrel run sleep 60", "sleep 60"),
            ("spandrel run -- sleep 60", "sleep 60"),
            ("spandrel run --name a sleep -d --name b", "sleep -d --name b"),
            ("spandrel run -d nc -l -p 80 -- x", "nc -l -p 80 -- x"),
            ("spandrel run env --help", "env --help"),
            ("spandrel run sh -h --socket s", "sh -h --socket s"),
            ("spandrel run -- nc -- x", "nc -- x"),
            ("spandrel run -p8080:80 nginx -p8081:81", "nginx -p8081:81"),
        ] {
            let Command::Run(run) = parse(line).unwrap() else { panic!("{line}") };
            assert_eq!(run.command.join(" "), command, "{line}");
        }
        for (line, command) in [
            ("spandrel exec web ip -4 address", "ip -4 address"),
            ("spandrel exec web -- ls -l", "ls -l"),
            ("spandrel exec -e A=1 web env -i", "env -i"),
        ] {
            let Command::Exec(exec) = parse(line).unwrap() else { panic!("{line}") };
            assert_eq!((exec.container.as_str(), exec.command.join(" ").as_str()), ("web", command), "{line}");
        }
    }

    #[test]
    fn dockers_flags_of_run() {
        let line = "spandrel run -dp 8080:80 -p 53:53/udp --network=front --ip 10.0.0.9 --ip6 fd00::9 \
                    --mac-address 02:00:00:00:00:09 --rm -e A=1 -eB -w / -h host --name web true";
        let Command::Run(run) = parse(line).unwrap() else { panic!() };
        assert!(run.detach && run.rm);
        assert_eq!(run.publish, ["8080:80", "53:53/udp"]);
        assert!(!run.publish_all);
        assert_eq!(run.surroundings.env, ["A=1", "B"]);
        assert_eq!(run.hostname, "host");
        assert_eq!(run.network, ["front"]);
        assert_eq!(run.endpoint.ip, "10.0.0.9");
        assert_eq!(run.endpoint.ip6, "fd00::9");
        assert_eq!(run.endpoint.mac_address, "02:00:00:00:00:09");
    }

    #[test]
    fn ports_and_who_may_use_them() {
        let line = "spandrel run -P --expose 80 --expose 7000-7010/udp -p published=8080,target=80 --allow-from 10.0.0.0/8,fd00::/8 \
                    --allow-from 192.0.2.7 --rate-limit 100/s true";
        let Command::Run(run) = parse(line).unwrap() else { panic!() };
        assert!(run.publish_all);
        assert_eq!(run.expose, ["80", "7000-7010/udp"]);
        assert_eq!(run.publish, ["published=8080,target=80"]);
        assert_eq!(run.access.allow_from, ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]);
        assert_eq!(run.access.rate_limit, "100/s");

        let Command::Publish(publish) = parse("spandrel publish --rate-limit 5 web 80 81:81/udp").unwrap() else {
            panic!()
        };
        assert_eq!((publish.container.as_str(), publish.ports.join(" ")), ("web", "80 81:81/udp".into()));
        assert_eq!(publish.access.rate_limit, "5");
        let Command::Unpublish(unpublish) = parse("spandrel unpublish web 80").unwrap() else { panic!() };
        assert_eq!((unpublish.container.as_str(), unpublish.ports.join(" ")), ("web", "80".into()));

        let Command::Port(port) = parse("spandrel port --stats --format json").unwrap() else { panic!() };
        assert_eq!((port.container, port.stats, port.format), (None, true, Some(ListFormat::Json)));
        let Command::Port(port) = parse("spandrel port web 80/udp").unwrap() else { panic!() };
        assert_eq!((port.container.as_deref(), port.port.as_deref(), port.stats), (Some("web"), Some("80/udp"), false));
    }

    #[test]
    fn dockers_flags_of_logs() {
        let Command::Logs(logs) = parse("spandrel logs -ft --since 10m -n 5 web").unwrap() else { panic!() };
        assert!(logs.follow && logs.timestamps);
        assert_eq!((logs.since.as_deref(), logs.tail.as_str(), logs.container.as_str()), (Some("10m"), "5", "web"));
        let Command::Logs(logs) = parse("spandrel logs --tail all web").unwrap() else { panic!() };
        assert_eq!(logs.tail, "all");
    }

    #[test]
    fn dockers_flags_of_network_create() {
        let line = "spandrel network create -d bridge --subnet 10.0.0.0/24,fd00::/64 --subnet 10.1.0.0/24 --gateway 10.0.0.1 \
                    --aux-address host=10.0.0.5 --internal --ipv6 -o com.docker.network.driver.mtu=1400 --label a=b --label c n";
        let Command::Network(network::Network::Create(create)) = parse(line).unwrap() else { panic!() };
        assert_eq!(create.subnet, ["10.0.0.0/24", "fd00::/64", "10.1.0.0/24"]);
        assert_eq!(create.aux_address, [("host".to_string(), "10.0.0.5".to_string())]);
        assert_eq!((create.ipv4, create.ipv6, create.internal), (None, Some(true), true));
        assert_eq!(create.label, [("a".to_string(), "b".to_string()), ("c".to_string(), String::new())]);

        let line = "spandrel network create --ipv4=false --ipv6=true n";
        let Command::Network(network::Network::Create(create)) = parse(line).unwrap() else { panic!() };
        assert_eq!((create.ipv4, create.ipv6), (Some(false), Some(true)));
    }

    #[test]
    fn the_socket_may_stand_anywhere_before_the_command() {
        for line in ["spandrel --socket s ps", "spandrel ps --socket s", "spandrel network --socket s ls"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.socket.as_deref(), Some(std::path::Path::new("s")), "{line}");
        }
    }

    #[test]
    fn the_agents_socket_is_its_own() {
        for (line, socket) in [("spandrel agent", None), ("spandrel agent --socket s", Some("s"))] {
            let Command::Agent(agent) = parse(line).unwrap() else { panic!("{line}") };
            assert_eq!(agent.socket, socket.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn usage_errors() {
        for line in [
            "spandrel",
            "spandrel fly",
            "spandrel run",
            "spandrel run -d",
            "spandrel run -d -i sh",
            "spandrel run --unknown sh",
            "spandrel run -x sh",
            "spandrel exec web -x sh",
            "spandrel exec web",
            "spandrel network create",
            "spandrel network create a b",
            "spandrel network create --opt =x a",
            "spandrel network rm",
            "spandrel stop",
            "spandrel stop -t soon web",
            "spandrel start",
            "spandrel restart",
            "spandrel restart -t soon web",
            "spandrel rename web",
            "spandrel logs",
            "spandrel logs web db",
            "spandrel logs -n some web",
            "spandrel ps --format yaml",
            "spandrel port",
            "spandrel port web --format json",
            "spandrel port --stats web 80",
            "spandrel publish web",
            "spandrel unpublish web",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(Cli::try_parse_from(["spandrel", "inspect", ""]).is_err());
    }
}
