//! The table of host ports that containers have: none is given out twice, and all but SCTP's are held by a socket, so that
//! no other process gets them either.

use std::collections::HashMap;
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
}

/// A published port's hold on some addresses under one number.
#[derive(Debug)]
struct Claim {
    owner: u32,
    addresses: Vec<IpAddr>,
    /// For as long as the claim lasts.
    _socket: Option<HeldPort>,
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

impl HostPorts {
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
            let _socket = hold(protocol, number, &addresses)?;
            fresh.push(Claim { owner, addresses, _socket });
        }
        if !fresh.is_empty() {
            self.claims.entry((protocol, number)).or_default().extend(fresh);
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
            match hold(protocol, 0, addresses) {
                Ok(socket) => {
                    let number = socket.as_ref().map_or(0, HeldPort::port);
                    let claim = Claim { owner, addresses: addresses.to_vec(), _socket: socket };
                    self.claims.entry((protocol, number)).or_default().push(claim);
                    return Ok(number);
                }
                Err(busy) if busy.is_taken() => {}
                Err(busy) => return Err(busy),
            }
        }
        Err(none_left())
    }

    /// Gives up what a published port has on other addresses than these.
    pub(super) fn trim(&mut self, owner: u32, protocol: Protocol, number: u16, wanted: &[IpAddr]) {
        let Some(claims) = self.claims.get_mut(&(protocol, number)) else { return };
        claims.retain(|claim| claim.owner != owner || claim.addresses.iter().any(|address| wanted.contains(address)));
        if claims.is_empty() {
            self.claims.remove(&(protocol, number));
        }
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

fn hold(protocol: Protocol, port: u16, addresses: &[IpAddr]) -> Result<Option<HeldPort>, Busy> {
    let address = match addresses {
        _ if protocol == Protocol::Sctp => return Ok(None),
        [one] => Some(*one),
        _ => None,
    };
    let port = HostPort { protocol: protocol.into(), address, port };
    HeldPort::hold(port).map(Some).map_err(|error| Busy::Refused(port, error))
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
        ports.trim(1, Protocol::Sctp, 80, &[ip("::")]);
        assert_eq!(claim(&mut ports, 2, 80, &["10.0.0.1"]), None);
        assert_eq!(claim(&mut ports, 2, 80, &["10.0.0.1", "::1"]), Some(1));
        ports.trim(1, Protocol::Sctp, 80, &[]);
        ports.trim(2, Protocol::Sctp, 80, &[]);
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
}
