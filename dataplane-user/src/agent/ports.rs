//! The table of host ports that containers have: none is given out twice, and all but SCTP's are held by a socket, so that
//! no other process gets them either.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;

use crate::kernel::ports::{self, HeldPort, HostPort};
use crate::model::{Error, Protocol, Result};

/// How often the kernel is asked for a free port before giving up: one that it binds may be one that nobody can listen on.
const TRIES: u32 = 16;

/// Who has which host port. A claim belongs to a published port, which is named by its slot.
#[derive(Debug, Default)]
pub(super) struct HostPorts {
    claims: HashMap<(Protocol, u16), Vec<Claim>>,
    /// What was prepared for claims that are about to come.
    prepared: HashMap<HostPort, io::Result<HeldPort>>,
}

/// A published port's hold on some addresses under one number.
#[derive(Debug)]
struct Claim {
    owner: u32,
    addresses: Vec<IpAddr>,
    /// For as long as the claim lasts; SCTP has none.
    socket: Option<HeldPort>,
}

/// Why a host port cannot be had.
#[derive(Debug)]
pub(super) enum Busy {
    /// The published port in this slot has it.
    Published {
        /// The address on which they meet.
        address: IpAddr,
        /// The number.
        port: u16,
        /// The slot.
        owner: u32,
    },
    /// The kernel does not let us have it.
    Refused(HostPort, io::Error),
    /// Every port of the ephemeral range is taken, or that range is unknown.
    NoneLeft(Error),
}

impl Busy {
    /// Whether somebody has it, so that another number may be free.
    pub(super) fn is_taken(&self) -> bool {
        match self {
            Busy::Published { .. } => true,
            Busy::Refused(_, error) => error.kind() == io::ErrorKind::AddrInUse,
            Busy::NoneLeft(_) => false,
        }
    }
}

/// From how many ports on their sockets are opened together.
const MANY: usize = 64;

impl HostPorts {
    /// Opens the sockets of many claims at once, which come next: each a protocol, a number and addresses. Whether they can be had is still
    /// for [`HostPorts::claim`] to say.
    pub(super) fn prepare(&mut self, claims: impl Iterator<Item = (Protocol, u16, Vec<IpAddr>)>) {
        let sockets =
            claims.filter(|(protocol, ..)| *protocol != Protocol::Sctp).flat_map(|(protocol, number, all)| {
                by_socket(&all).into_iter().map(move |addresses| host_port(protocol, number, &addresses))
            });
        let sockets: HashSet<HostPort> = sockets.collect();
        if sockets.len() >= MANY {
            self.prepared = HeldPort::hold_all(sockets.into_iter().collect()).into_iter().collect();
        }
    }

    /// Gives up what was prepared and not claimed.
    pub(super) fn end_preparation(&mut self) {
        ports::release_all(std::mem::take(&mut self.prepared).into_values().filter_map(Result::ok).collect());
    }

    /// Takes a number for a published port on all these addresses, if nobody has it. Those that it has already are its own.
    pub(super) fn claim(
        &mut self,
        owner: u32,
        protocol: Protocol,
        number: u16,
        addresses: &[IpAddr],
    ) -> Result<(), Busy> {
        let claims = self.claims.get(&(protocol, number)).map(Vec::as_slice).unwrap_or_default();
        let has =
            |address: &IpAddr| claims.iter().any(|claim| claim.owner == owner && claim.addresses.contains(address));
        let missing: Vec<IpAddr> = addresses.iter().copied().filter(|address| !has(address)).collect();
        for &address in &missing {
            let others = claims.iter().filter(|claim| claim.owner != owner);
            if let Some(claim) = others.into_iter().find(|claim| claim.addresses.iter().any(|a| overlap(*a, address))) {
                return Err(Busy::Published { address, port: number, owner: claim.owner });
            }
        }
        let mut fresh = Vec::new();
        for addresses in by_socket(&missing) {
            let socket = self.hold(protocol, number, &addresses)?;
            fresh.push(Claim { owner, addresses, socket });
        }
        if !fresh.is_empty() {
            let claims = self.claims.entry((protocol, number)).or_default();
            // Hardly any number has more than one claim, and a list would make room for four.
            claims.reserve_exact(fresh.len());
            claims.extend(fresh);
        }
        Ok(())
    }

    /// Takes any free number of the ephemeral range, for one address or for the unspecified ones of both families.
    pub(super) fn claim_any(&mut self, owner: u32, protocol: Protocol, addresses: &[IpAddr]) -> Result<u16, Busy> {
        if protocol == Protocol::Sctp {
            // No socket to ask the kernel by.
            let mut range = ports::ephemeral().map_err(|error| Busy::NoneLeft(error.into()))?;
            let free = range.find(|number| self.claim(owner, protocol, *number, addresses).is_ok());
            return free.ok_or_else(none_left);
        }
        for _ in 0..TRIES {
            match self.hold(protocol, 0, addresses) {
                Ok(socket) => {
                    let number = socket.as_ref().map_or(0, HeldPort::port);
                    let claim = Claim { owner, addresses: addresses.to_vec(), socket };
                    self.claims.entry((protocol, number)).or_default().push(claim);
                    return Ok(number);
                }
                Err(busy) if busy.is_taken() => {}
                Err(busy) => return Err(busy),
            }
        }
        Err(none_left())
    }

    /// Gives up what a published port has on other addresses than these. It is the host's when what is returned is dropped.
    pub(super) fn trim(
        &mut self,
        owner: u32,
        protocol: Protocol,
        number: u16,
        wanted: &[IpAddr],
    ) -> impl Iterator<Item = HeldPort> + use<> {
        let mut gone = Vec::new();
        if let Some(claims) = self.claims.get_mut(&(protocol, number)) {
            let unwanted = |claim: &mut Claim| {
                claim.owner == owner && !claim.addresses.iter().any(|address| wanted.contains(address))
            };
            gone.extend(claims.extract_if(.., unwanted));
            if claims.is_empty() {
                self.claims.remove(&(protocol, number));
            }
        }
        gone.into_iter().filter_map(|claim| claim.socket)
    }

    fn hold(&mut self, protocol: Protocol, number: u16, addresses: &[IpAddr]) -> Result<Option<HeldPort>, Busy> {
        if protocol == Protocol::Sctp {
            return Ok(None);
        }
        let port = host_port(protocol, number, addresses);
        let held = self.prepared.remove(&port).unwrap_or_else(|| HeldPort::hold(port));
        held.map(Some).map_err(|error| Busy::Refused(port, error))
    }
}

fn none_left() -> Busy {
    Busy::NoneLeft(Error::Conflict("no port is free: all of net.ipv4.ip_local_port_range are allocated".into()))
}

/// The addresses in groups that one socket holds: both families' unspecified ones go together.
fn by_socket(addresses: &[IpAddr]) -> Vec<Vec<IpAddr>> {
    let (every, single): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|address| address.is_unspecified());
    let every = Some(every).filter(|every| !every.is_empty());
    single.into_iter().map(|address| vec![address]).chain(every).collect()
}

/// What one socket holds: one address, or those of both families.
fn host_port(protocol: Protocol, port: u16, addresses: &[IpAddr]) -> HostPort {
    let address = match addresses {
        [one] => Some(*one),
        _ => None,
    };
    HostPort { protocol: protocol.into(), address, port }
}

/// Whether a packet can be for both.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

impl From<Protocol> for dataplane_common::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => dataplane_common::Protocol::TCP,
            Protocol::Udp => dataplane_common::Protocol::UDP,
            Protocol::Sctp => dataplane_common::Protocol::SCTP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// SCTP, which needs no port of this machine.
    fn claim(ports: &mut HostPorts, owner: u32, number: u16, addresses: &[&str]) -> Option<u32> {
        let addresses: Vec<_> = addresses.iter().map(|text| ip(text)).collect();
        match ports.claim(owner, Protocol::Sctp, number, &addresses) {
            Ok(()) => None,
            Err(Busy::Published { owner, .. }) => Some(owner),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn addresses_that_overlap_are_in_each_others_way() {
        let mut ports = HostPorts::default();
        assert_eq!(claim(&mut ports, 1, 80, &["127.0.0.2"]), None);
        assert_eq!(claim(&mut ports, 2, 80, &["127.0.0.2"]), Some(1));
        assert_eq!(claim(&mut ports, 2, 80, &["0.0.0.0", "::"]), Some(1));
        assert_eq!(claim(&mut ports, 2, 80, &["127.0.0.1"]), None);
        assert_eq!(claim(&mut ports, 3, 80, &["::"]), None);
        assert_eq!(claim(&mut ports, 4, 80, &["::1"]), Some(3));
        assert_eq!(claim(&mut ports, 4, 81, &["0.0.0.0", "::"]), None);
        assert!(ports.claim(5, Protocol::Tcp, 81, &[]).is_ok(), "another protocol's port is another port");
    }

    #[test]
    fn a_published_port_may_spread_and_shrink() {
        let mut ports = HostPorts::default();
        assert_eq!(claim(&mut ports, 1, 80, &["::"]), None);
        assert_eq!(claim(&mut ports, 1, 80, &["0.0.0.0", "::"]), None);
        assert_eq!(claim(&mut ports, 2, 80, &["10.0.0.1"]), Some(1));
        drop(ports.trim(1, Protocol::Sctp, 80, &[ip("::")]));
        assert_eq!(claim(&mut ports, 2, 80, &["10.0.0.1"]), None);
        assert_eq!(claim(&mut ports, 2, 80, &["10.0.0.1", "::1"]), Some(1));
        drop(ports.trim(1, Protocol::Sctp, 80, &[]));
        drop(ports.trim(2, Protocol::Sctp, 80, &[]));
        assert!(ports.claims.is_empty());
    }

    #[test]
    fn any_port_is_a_free_one() {
        let mut ports = HostPorts::default();
        let both = [ip("0.0.0.0"), ip("::")];
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let numbers: Vec<_> =
                (1..=3).map(|owner| ports.claim_any(owner, protocol, &both).expect("a free port")).collect();
            let range = ports::ephemeral().expect("the ephemeral range");
            assert!(numbers.iter().all(|number| range.contains(number)), "{numbers:?}");
            assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2] && numbers[0] != numbers[2], "{numbers:?}");
        }
    }

    #[test]
    fn what_is_prepared_is_claimed_or_given_up() {
        let mut ports = HostPorts::default();
        let any = || vec![ip("127.0.0.1")];
        // Free ones, by way of the kernel.
        let numbers: Vec<u16> =
            (1..=100).map(|owner| ports.claim_any(owner, Protocol::Udp, &any()).expect("a free port")).collect();
        for (owner, number) in (1..).zip(&numbers) {
            drop(ports.trim(owner, Protocol::Udp, *number, &[]));
        }
        ports.prepare(numbers.iter().map(|number| (Protocol::Udp, *number, any())));
        assert_eq!(ports.prepared.len(), numbers.len());
        assert!(ports.prepared.values().all(Result::is_ok));
        let busy = std::net::UdpSocket::bind(("127.0.0.1", numbers[0])).expect_err("it is held");
        assert_eq!(busy.kind(), io::ErrorKind::AddrInUse);
        assert!(ports.claim(1, Protocol::Udp, numbers[0], &any()).is_ok());
        ports.end_preparation();
        assert!(ports.prepared.is_empty());
        std::net::UdpSocket::bind(("127.0.0.1", numbers[0])).expect_err("it is claimed");
        std::net::UdpSocket::bind(("127.0.0.1", numbers[1])).expect("it was given up");
    }
}
