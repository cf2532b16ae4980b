//! Walls: hosts that drop the same packets, each by other means.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use spandrel_tests::{Agent, Host, Lab, Machine, Uplink, V4};

use super::flood::{Flood, datagram};
use crate::bench::load::bind;

/// What drops the packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Means {
    /// The shield in the driver.
    Native,
    /// The shield in the stack.
    Generic,
    /// `from_uplink`, no shield.
    Tc,
    /// One nftables rule on the interface itself (hook ingress).
    NftablesIngress,
    /// One nftables rule before connection tracking (hook prerouting, priority raw).
    NftablesRaw,
}

impl Means {
    /// All, the quickest first.
    pub(super) const ALL: [Means; 5] =
        [Means::Native, Means::Generic, Means::Tc, Means::NftablesIngress, Means::NftablesRaw];

    /// Those that are ours.
    pub(super) const OURS: [Means; 3] = [Means::Tc, Means::Generic, Means::Native];

    /// The name in a table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Means::Native => "shield, native",
            Means::Generic => "shield, generic",
            Means::Tc => "no shield, TC",
            Means::NftablesIngress => "nftables, ingress",
            Means::NftablesRaw => "nftables, prerouting",
        }
    }

    /// What the agent is told; none where there is no agent.
    fn xdp(self) -> Option<&'static str> {
        match self {
            Means::Native => Some("--xdp native"),
            Means::Generic => Some("--xdp generic"),
            Means::Tc => Some("--xdp off"),
            Means::NftablesIngress | Means::NftablesRaw => None,
        }
    }
}

/// A host with a wall, and a machine before it.
pub(super) struct Wall {
    /// Before its host, which cannot end while a process of it is still to be waited for.
    _agent: Option<Agent>,
    pub(super) means: Means,
    pub(super) host: Host,
    pub(super) outside: Machine,
    pub(super) uplink: Uplink,
    target: Ipv4Addr,
}

/// What a flood came to.
pub(super) struct Toll {
    /// Packets dropped.
    pub(super) packets: u64,
    /// What that took the CPU.
    pub(super) time: Duration,
}

/// The network whose addresses nobody outside may reach, where there is no agent that makes one.
const NETWORK: &str = "172.17.0.0/16";

impl Wall {
    pub(super) fn new(lab: &Lab, means: Means) -> Result<Self> {
        let (host, outside) = (lab.host("host"), lab.machine("outside"));
        let uplink = lab.uplink(&host, &outside);
        let mut wall = Self { means, host, outside, uplink, _agent: None, target: Ipv4Addr::new(172, 17, 0, 2) };
        match means.xdp() {
            Some(option) => {
                wall._agent = Some(wall.host.agent_with(option));
                let IpAddr::V4(target) = wall.host.run_container("--name target").ip(V4) else {
                    bail!("the container has no IPv4 address");
                };
                wall.target = target;
            }
            None => wall.make_rule(),
        }
        Ok(wall)
    }

    /// The one rule of nftables that drops and counts the same.
    fn make_rule(&self) {
        let (family, chain) = match self.means {
            Means::NftablesIngress => {
                ("netdev", format!("type filter hook ingress device {} priority 0", self.uplink.name))
            }
            _ => ("ip", "type filter hook prerouting priority raw".to_owned()),
        };
        let rules = format!(
            "table {family} wall {{\nchain wall {{\n{chain};\nip saddr {NETWORK} drop\nip daddr {NETWORK} counter drop\n}}\n}}"
        );
        self.host.install_debian();
        self.host.command(&["nft", &rules]).ok();
    }

    /// How many packets the wall has dropped so far, as it counts itself.
    fn dropped(&self) -> Result<u64> {
        if self.means.xdp().is_some() {
            let drops = self.host.spandrel("drops --format json").json_lines();
            let counts = drops.iter().filter(|drop| drop["Reason"] == "DirectAccess");
            return Ok(counts.filter_map(|drop| drop["Packets"].as_u64()).sum());
        }
        let rules = self.host.command("nft --json list ruleset").json();
        let parts = rules["nftables"].as_array().into_iter().flatten();
        let expressions = parts.filter_map(|part| part["rule"]["expr"].as_array()).flatten();
        Ok(expressions.filter_map(|expression| expression["counter"]["packets"].as_u64()).sum())
    }

    /// Makes the uplink take its packets out of the ring in a thread of its own, on one CPU: what this thread spends is what
    /// dropping costs. All walls have offloads as network cards do, which without XDP only GRO brings about on a veth.
    pub(super) fn give_thread(&self, cpu: usize) -> Result<Pid> {
        let name = self.uplink.name.as_str();
        let prefix = format!("napi/{name}-");
        let before = threads(&prefix);
        self.host.run(|| switch_gro_on(name)).with_context(|| format!("cannot switch GRO on at {name}"))?;
        let switch = || {
            let sys = Path::new("/run/sys");
            fs::create_dir_all(sys)?;
            mount(Some("sysfs"), sys, Some("sysfs"), MsFlags::MS_NOSUID, None::<&str>)?;
            fs::write(sys.join("class/net").join(name).join("threaded"), "1")
        };
        self.host.enter(switch).with_context(|| format!("cannot give {name} a thread"))?;
        let new = threads(&prefix).into_iter().find(|thread| !before.contains(thread));
        let thread = new.with_context(|| format!("the kernel made no thread for {name}"))?;
        bind(thread, cpu).context("cannot choose the thread's CPU")?;
        Ok(thread)
    }

    /// Floods the wall from one CPU for `period`.
    pub(super) fn flood(&self, thread: Pid, cpu: usize, period: Duration) -> Result<Toll> {
        let (near, far) = (self.host.link(&self.uplink.name), self.outside.link(&self.uplink.outside_name));
        let IpAddr::V4(from) = self.uplink.outside(V4) else { bail!("the uplink has no IPv4 address") };
        let flood = Flood::new(far.index, datagram((far.mac, near.mac), from, self.target))?;
        let before = (self.dropped()?, time_of(thread)?);
        let stop = AtomicBool::new(false);
        let ended = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                self.outside.run(|| {
                    bind(Pid::from_raw(0), cpu)?;
                    flood.run(&stop)
                })
            });
            thread::sleep(period);
            stop.store(true, Ordering::Relaxed);
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        ended.context("cannot flood")?;
        // Until the ring is empty.
        thread::sleep(Duration::from_millis(50));
        let toll = Toll { packets: self.dropped()? - before.0, time: time_of(thread)? - before.1 };
        if toll.packets == 0 {
            bail!("nothing was dropped by \"{}\"", self.means.name());
        }
        Ok(toll)
    }
}

/// The kernel's threads whose name begins so.
fn threads(prefix: &str) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let named = processes
        .filter(|process| fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name.starts_with(prefix)));
    named.filter_map(|process| process.file_name().to_str()?.parse().ok()).map(Pid::from_raw).collect()
}

/// How long a thread has run so far.
fn time_of(thread: Pid) -> Result<Duration> {
    let path = format!("/proc/{thread}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Ok(Duration::from_nanos(nanoseconds.with_context(|| format!("{path} holds no time"))?))
}

/// Switches generic receive offload on, in the calling thread's namespace.
fn switch_gro_on(interface: &str) -> io::Result<()> {
    /// `SIOCETHTOOL` of `linux/sockios.h` and `ETHTOOL_SGRO` of `linux/ethtool.h`.
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    const ETHTOOL_SGRO: u32 = 0x2c;
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut order = [ETHTOOL_SGRO, 1];
    // SAFETY: all zeroes are an `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut order).cast();
    // SAFETY: the request names an interface and points to an `ethtool_value`, which both outlive the call.
    let result = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
