//! Where subnets come from when none is asked for.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{address, bits, overlap};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A block of addresses, cut into subnets of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// The block.
    pub base: IpNet,
    /// The prefix length of the subnets.
    pub size: u8,
}

const fn pool(a: u8, b: u8, prefix: u8, size: u8) -> Pool {
    Pool { base: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix)), size }
}

/// Docker's default IPv4 pools, in its order.
pub const DEFAULT_POOLS: [Pool; 7] = [
    pool(172, 17, 16, 16),
    pool(172, 18, 16, 16),
    pool(172, 19, 16, 16),
    pool(172, 20, 14, 16),
    pool(172, 24, 14, 16),
    pool(172, 28, 14, 16),
    pool(192, 168, 16, 20),
];

/// Prefix length of IPv6 subnets from the host's own block.
pub(super) const ULA_SUBNET: u8 = 64;

/// The host's own block of unique local IPv6 addresses (RFC 4193): 40 bits of its random identifier.
pub fn ula_prefix(host_id: [u8; 5]) -> Ipv6Net {
    let [a, b, c, d, e] = host_id;
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Net::new_assert(Ipv6Addr::new(pair(0xfd, a), pair(b, c), pair(d, e), 0, 0, 0, 0, 0), 48)
}

/// What a new subnet must keep clear of.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Subnets of existing networks, with the networks' names. Overlaps are refused.
    pub networks: Vec<(IpNet, String)>,
    /// Routes and resolvers of the host. Subnets that we choose ourselves avoid them.
    pub host: Vec<IpNet>,
}

impl Surroundings {
    /// The lowest subnet of the pool that overlaps nothing.
    pub fn first_free(&self, pool: &Pool) -> Option<IpNet> {
        let width = pool.base.max_prefix_len().checked_sub(pool.size)?;
        if pool.size < pool.base.prefix_len() || width == 128 {
            return None;
        }
        // A default route is everywhere and claims nothing.
        let host = self.host.iter().filter(|net| net.prefix_len() > 0);
        let obstacles: Vec<&IpNet> = self.networks.iter().map(|(net, _)| net).chain(host).collect();
        let end = bits(pool.base.broadcast());
        let mut at = bits(pool.base.network());
        loop {
            let candidate = IpNet::new(address(at, pool.base), pool.size).ok()?;
            let in_the_way = obstacles.iter().filter(|net| overlap(net, &candidate));
            let Some(last) = in_the_way.map(|net| bits(net.broadcast())).max() else { return Some(candidate) };
            if last >= end {
                return None;
            }
            at = ((last >> width) + 1) << width;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    /// All subnets that a fresh host hands out, one after the other.
    fn all(mut surroundings: Surroundings, pools: &[Pool]) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(subnet) = pools.iter().find_map(|pool| surroundings.first_free(pool)) {
            surroundings.networks.push((subnet, "n".into()));
            found.push(subnet.to_string());
        }
        found
    }

    #[test]
    fn dockers_order() {
        let found = all(Surroundings::default(), &DEFAULT_POOLS);
        let mut expected: Vec<_> = (17..=31).map(|n| format!("172.{n}.0.0/16")).collect();
        expected.extend((0..16).map(|n| format!("192.168.{}.0/20", n * 16)));
        assert_eq!(found, expected);
    }

    #[test]
    fn routes_and_resolvers_are_avoided() {
        let host = ["0.0.0.0/0", "172.17.5.0/24", "172.19.0.2/32", "172.20.0.0/15", "192.168.0.0/17", "fd00::/8"];
        let found = all(Surroundings { networks: vec![], host: host.map(net).to_vec() }, &DEFAULT_POOLS);
        assert_eq!(found[..2], ["172.18.0.0/16", "172.22.0.0/16"]);
        assert!(found.contains(&"192.168.128.0/20".to_string()));
        assert_eq!(found.len(), 31 - 4 - 8);
        let nothing = Surroundings { networks: vec![], host: vec![net("172.16.0.0/12"), net("192.168.0.0/16")] };
        assert!(all(nothing, &DEFAULT_POOLS).is_empty());
    }

    #[test]
    fn ipv6_from_the_hosts_own_block() {
        let block = ula_prefix([0x12, 0x34, 0x56, 0x78, 0x9a]);
        assert_eq!(block.to_string(), "fd12:3456:789a::/48");
        let pool = Pool { base: block.into(), size: ULA_SUBNET };
        let mut surroundings = Surroundings::default();
        assert_eq!(surroundings.first_free(&pool), Some(net("fd12:3456:789a::/64")));
        surroundings.networks.push((net("fd12:3456:789a::/63"), "n".into()));
        assert_eq!(surroundings.first_free(&pool), Some(net("fd12:3456:789a:2::/64")));
        surroundings.host.push(net("fd00::/8"));
        assert_eq!(surroundings.first_free(&pool), None);
    }

    #[test]
    fn impossible_sizes() {
        let pool = |base, size| Surroundings::default().first_free(&Pool { base: net(base), size });
        assert_eq!(pool("10.0.0.0/16", 8), None);
        assert_eq!(pool("10.0.0.0/16", 33), None);
        assert_eq!(pool("::/0", 0), None);
        assert_eq!(pool("10.0.0.0/32", 32), Some(net("10.0.0.0/32")));
    }
}
