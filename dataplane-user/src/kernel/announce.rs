//! Tells the neighbours of a new container where its addresses are now, so that no cache stays stale.
//!
//! IPv4: a gratuitous ARP request (RFC 5227 §3); IPv6: an unsolicited neighbour advertisement (RFC 4861 §7.2.6).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::error::{Context, Result};
use super::netns::NetNs;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;

/// Announces `addresses` at `mac` on the interface `ifindex` of `netns`, once each. The interface must be up.
pub fn announce(netns: &NetNs, ifindex: u32, mac: [u8; 6], addresses: &[IpAddr]) -> Result<()> {
    let send_all = || {
        let socket = packet_socket()?;
        addresses.iter().try_for_each(|address| match address {
            IpAddr::V4(address) => send(&socket, ifindex, ETHERTYPE_ARP, &gratuitous_arp(mac, *address)),
            IpAddr::V6(address) => send(&socket, ifindex, ETHERTYPE_IPV6, &unsolicited_advertisement(mac, *address)),
        })
    };
    netns.run(send_all)?.to(|| "announce the container's addresses to its neighbours")
}

/// A socket that sends frames and receives none (protocol 0).
fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes three integers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn send(socket: &OwnedFd, ifindex: u32, ethertype: u16, frame: &[u8]) -> io::Result<()> {
    // SAFETY: sockaddr_ll consists of integers, for which zero is a value.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = ethertype.to_be();
    to.sll_ifindex = ifindex as i32;
    let length = size_of_val(&to) as libc::socklen_t;
    // SAFETY: `frame` and `to` are readable for the lengths given.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), length)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// "Who has `address`? Tell `address`", to everybody.
fn gratuitous_arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
    const REQUEST: [u8; 2] = [0, 1];
    let mut frame = ethernet([0xff; 6], mac, ETHERTYPE_ARP);
    frame.extend(ETHERNET_IPV4);
    frame.extend(REQUEST);
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// "`address` is at `mac`, forget what you knew", to all nodes of the link.
fn unsolicited_advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];

    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    message.extend(TARGET_LINK_LAYER_ADDRESS);
    message.extend(mac);
    let checksum = icmpv6_checksum(address, ALL_NODES, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    // Neighbour discovery demands a hop limit that no router has lowered.
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    frame.extend(destination);
    frame.extend(source);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// The checksum over pseudo header and message (RFC 4443 §2.3).
fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = source.segments().into_iter().chain(destination.segments()).map(u32::from);
    let body =
        message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum = words.chain(body).sum::<u32>() + message.len() as u32 + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x02, 0x42, 0xac, 0x11, 0x00, 0x02];

    #[test]
    fn gratuitous_arp_bytes() {
        let frame = gratuitous_arp(MAC, Ipv4Addr::new(172, 17, 0, 2));
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 172, 17, 0, 2,
            0, 0, 0, 0, 0, 0, 172, 17, 0, 2,
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn advertisement_has_a_right_checksum() {
        let address: Ipv6Addr = "fd00::2".parse().unwrap();
        let frame = unsolicited_advertisement(MAC, address);
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[54..58], [136, 0, frame[56], frame[57]]);
        // Summed with its checksum in place, a right message gives zero.
        assert_eq!(icmpv6_checksum(address, "ff02::1".parse().unwrap(), &frame[54..]), 0);
    }
}
