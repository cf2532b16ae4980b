//! Hosts, the machines around them, and the cables between.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::family::Family;
use crate::host::{Agent, Host, spandrel_program};
use crate::machine::Machine;

/// Makes machines and cables. Networks are numbered in the order they are made, so that a failure reads the same each
/// time.
pub struct Lab {
    program: Option<PathBuf>,
    cables: Cell<u8>,
}

/// A cable between a host and a machine outside, with a network of its own: 198.18.N.0/24 and 2001:db8:N::/64.
#[derive(Clone, Debug)]
pub struct Uplink {
    /// The host's interface.
    pub name: String,
    /// The outside machine's interface.
    pub outside_name: String,
    number: u8,
}

impl Lab {
    /// A lab for the `spandrel` binary of this workspace, or the one that `SPANDREL_BIN` names.
    #[expect(clippy::new_without_default, reason = "what it finds on the disk is no default")]
    pub fn new() -> Self {
        Self { program: spandrel_program(), cables: Cell::new(0) }
    }

    /// A lab for that `spandrel` binary.
    pub fn with(program: PathBuf) -> Self {
        Self { program: Some(program), cables: Cell::new(0) }
    }

    /// A host: a machine that can run the agent.
    #[track_caller]
    pub fn host(&self, name: &str) -> Host {
        Host::new(Machine::new(name), self.program.clone())
    }

    /// A machine that knows nothing of Spandrel.
    #[track_caller]
    pub fn machine(&self, name: &str) -> Machine {
        Machine::new(name)
    }

    /// Lays a cable from `host` to `outside`. The host reaches everything through it, unless an earlier uplink does
    /// that.
    #[track_caller]
    pub fn uplink(&self, host: &Machine, outside: &Machine) -> Uplink {
        let number = self.cables.get().checked_add(1).expect("a lab has at most 255 cables");
        self.cables.set(number);
        let uplink = Uplink { name: format!("eth{number}"), outside_name: format!("lan{number}"), number };
        host.cable(&uplink.name, outside, &uplink.outside_name);
        for (family, prefix) in [(Family::V4, 24), (Family::V6, 64)] {
            host.add_address(&uplink.name, uplink.host(family), prefix);
            outside.add_address(&uplink.outside_name, uplink.outside(family), prefix);
            host.add_default_route(uplink.outside(family));
        }
        uplink
    }
}

impl Uplink {
    /// The host's address on this cable.
    pub fn host(&self, family: Family) -> IpAddr {
        self.address(family, 2)
    }

    /// The outside machine's address on this cable.
    pub fn outside(&self, family: Family) -> IpAddr {
        self.address(family, 1)
    }

    fn address(&self, family: Family, last: u8) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(198, 18, self.number, last).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, self.number.into(), 0, 0, 0, 0, last.into()).into(),
        }
    }
}

/// A host with a running agent, and the internet behind its one uplink: where most scenarios begin.
pub struct Site {
    /// The running agent.
    pub agent: Agent,
    /// The host that it runs on.
    pub host: Host,
    /// The machine at the other end of the uplink, which also has the addresses [`Site::far`].
    pub internet: Machine,
    /// The cable between them.
    pub uplink: Uplink,
}

impl Site {
    /// Builds it all and waits for the agent.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "processes are started")]
    pub fn new() -> Self {
        Self::with_agent("")
    }

    /// The same, the agent started with further options.
    #[track_caller]
    pub fn with_agent(options: &str) -> Self {
        Self::in_lab(&Lab::new(), options)
    }

    /// The same in that lab.
    #[track_caller]
    pub fn in_lab(lab: &Lab, options: &str) -> Self {
        let (host, internet) = (lab.host("host"), lab.machine("internet"));
        let uplink = lab.uplink(&host, &internet);
        for (family, prefix) in [(Family::V4, 32), (Family::V6, 128)] {
            internet.add_address("lo", Self::far(family), prefix);
        }
        // So that no container asks the resolver of the real machine.
        host.write("/etc/resolv.conf", &format!("nameserver {}\n", Self::far(Family::V4)));
        Self { agent: host.agent_with(options), host, internet, uplink }
    }

    /// The same with these networks, which have both families.
    #[track_caller]
    pub fn with_networks<const N: usize>(names: [&str; N]) -> Self {
        let site = Self::new();
        for name in names {
            site.host.create_network(&format!("--ipv6 {name}"));
        }
        site
    }

    /// Kills the agent and starts it again.
    #[track_caller]
    pub fn restart_agent(&mut self) {
        self.agent.kill();
        self.agent = self.host.agent();
    }

    /// An address on the internet that the host has no route to but the default one.
    pub fn far(family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(203, 0, 113, 10).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x10).into(),
        }
    }

    /// The host's address that the internet knows it by.
    pub fn public(&self, family: Family) -> IpAddr {
        self.uplink.host(family)
    }
}

/// A host with a running agent, a router next to it, and a server behind that.
pub struct Way {
    /// The running agent.
    pub agent: Agent,
    /// The host that it runs on.
    pub host: Host,
    /// The machine at the other end of the host's uplink, which forwards.
    pub router: Machine,
    /// The machine behind it.
    pub server: Machine,
    /// From the host to the router, and from there to the server.
    pub cables: [Uplink; 2],
}

impl Way {
    /// Builds it all and waits for the agent.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "processes are started")]
    pub fn new() -> Self {
        let lab = Lab::new();
        let (host, router, server) = (lab.host("host"), lab.machine("router"), lab.machine("server"));
        let cables = [lab.uplink(&host, &router), lab.uplink(&router, &server)];
        router.set_sysctl("ipv4/ip_forward", "1");
        router.set_sysctl("ipv6/conf/all/forwarding", "1");
        for family in Family::BOTH {
            server.add_default_route(cables[1].host(family));
        }
        Self { agent: host.agent(), host, router, server, cables }
    }

    /// The server's address.
    pub fn server_at(&self, family: Family) -> IpAddr {
        self.cables[1].outside(family)
    }

    /// Makes a cable narrower, at both ends.
    #[track_caller]
    pub fn narrow(&self, cable: usize, mtu: u32) {
        let (near, far) = if cable == 0 { (&*self.host, &self.router) } else { (&self.router, &self.server) };
        near.set_mtu(&self.cables[cable].name, mtu);
        far.set_mtu(&self.cables[cable].outside_name, mtu);
    }
}
