//! Where subnets come from when none is asked for.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{address, bits, overlap};
use crate::model::{Error, Result};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A block of addresses, cut into subnets of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// The block.
    pub base: IpNet,
    /// The prefix length of the subnets.
    pub size: u8,
}

impl FromStr for Pool {
    type Err = String;

    /// Reads `base=10.201.0.0/16,size=24`, as dockerd does.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "base=CIDR and size=PREFIX-LENGTH are expected, such as base=10.201.0.0/16,size=24";
        let (mut base, mut size) = (None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("base", value)) => base = Some(value),
                Some(("size", value)) => size = Some(value),
                _ => return Err(wanted.into()),
            }
        }
        let (Some(base), Some(size)) = (base, size) else { return Err(wanted.into()) };
        let base: IpNet = base.parse().map_err(|_| format!("base {base:?} is no prefix such as 10.201.0.0/16"))?;
        if base != base.trunc() {
            return Err(format!("base {base} should be {}", base.trunc()));
        }
        if let Some(why) = special(&base) {
            return Err(format!("base {base} cannot be used: {why}"));
        }
        // A network needs an address for itself, a gateway, a container, and in IPv4 one for broadcasts.
        let sizes = base.prefix_len()..=base.max_prefix_len() - 2;
        match size.parse() {
            Ok(size) if sizes.contains(&size) => Ok(Pool { base, size }),
            _ => Err(format!("size {size:?} should be a prefix length from {} to {}", sizes.start(), sizes.end())),
        }
    }
}

/// The pools that subnets come from: for each family those that are configured, or the defaults if there are none.
pub fn pools(configured: &[Pool], ula: Ipv6Net) -> Result<Vec<Pool>> {
    for (index, pool) in configured.iter().enumerate() {
        if let Some(other) = configured[..index].iter().find(|other| overlap(&other.base, &pool.base)) {
            return Err(Error::Invalid(format!("the default address pools {} and {} overlap", other.base, pool.base)));
        }
    }
    let defaults = DEFAULT_POOLS.into_iter().chain([Pool { base: ula.into(), size: ULA_SUBNET }]);
    let is_v6 = |pool: &Pool| pool.base.addr().is_ipv6();
    let missing = defaults.filter(|pool| !configured.iter().any(|other| is_v6(other) == is_v6(pool)));
    Ok(configured.iter().copied().chain(missing).collect())
}

/// Why no network can have addresses of this prefix, if so.
pub(super) fn special(net: &IpNet) -> Option<&'static str> {
    let known = [
        ("0.0.0.0/8", "addresses of \"this network\" cannot be used"),
        ("127.0.0.0/8", "loopback addresses cannot be used"),
        ("224.0.0.0/3", "multicast and reserved addresses cannot be used"),
        ("::/8", "addresses that IPv6 reserves cannot be used"),
        ("fe80::/10", "link-local addresses cannot be used"),
        ("ff00::/8", "multicast addresses cannot be used"),
    ];
    let found = known.into_iter().find(|(special, _)| special.parse().is_ok_and(|special| overlap(net, &special)));
    found.map(|(_, why)| why)
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
    /// Subnets that somebody has, with what is to be said of whom, such as `network web`. Overlaps are refused.
    pub networks: Vec<(IpNet, String)>,
    /// Routes and resolvers of the host. Subnets that we choose ourselves avoid them.
    pub host: Vec<IpNet>,
}

impl Surroundings {
    /// The lowest subnet of the pool that overlaps nothing: O(n log n) for n networks and routes.
    pub fn first_free(&self, pool: &Pool) -> Option<IpNet> {
        let width = pool.base.max_prefix_len().checked_sub(pool.size)?;
        if pool.size < pool.base.prefix_len() || width == 128 {
            return None;
        }
        // A default route is everywhere and claims nothing.
        let host = self.host.iter().filter(|net| net.prefix_len() > 0);
        let obstacles = self.networks.iter().map(|(net, _)| net).chain(host);
        let mut taken: Vec<(u128, u128)> = obstacles
            .filter(|net| overlap(net, &pool.base))
            .map(|net| (bits(net.network()), bits(net.broadcast())))
            .collect();
        taken.sort_unstable();
        // The first and the last address of the lowest subnet that nothing looked at so far is in.
        let subnet_from = |first: u128| (first, first | ((1 << width) - 1));
        let end = bits(pool.base.broadcast());
        let (mut first, mut last) = subnet_from(bits(pool.base.network()));
        for (from, to) in taken {
            if from > last {
                break;
            }
            if to < first {
                continue;
            }
            let (_, filled) = subnet_from((to >> width) << width);
            if filled >= end {
                return None;
            }
            (first, last) = subnet_from(filled + 1);
        }
        IpNet::new(address(first, pool.base), pool.size).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn pools_are_configured_for_each_family() {
        let ula = ula_prefix([1, 2, 3, 4, 5]);
        let read = |texts: &[&str]| {
            let configured: Vec<Pool> = texts.iter().map(|text| text.parse().unwrap()).collect();
            pools(&configured, ula).map(|pools| pools.iter().map(|pool| pool.base.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(read(&[]).unwrap().len(), DEFAULT_POOLS.len() + 1);
        assert_eq!(read(&["base=10.201.0.0/16,size=24"]).unwrap(), ["10.201.0.0/16", "fd01:203:405::/48"]);
        let v6 = read(&["size=64,base=fd00:201::/48"]).unwrap();
        assert_eq!((v6[0].as_str(), v6.len()), ("fd00:201::/48", DEFAULT_POOLS.len() + 1));
        let error = read(&["base=10.0.0.0/8,size=24", "base=10.1.0.0/16,size=24"]).unwrap_err().to_string();
        assert_eq!(error, "the default address pools 10.0.0.0/8 and 10.1.0.0/16 overlap");
    }

    #[test]
    fn pools_that_are_none() {
        for (text, why) in [
            ("10.0.0.0/8", "base=CIDR"),
            ("base=10.0.0.0/8", "base=CIDR"),
            ("base=10.0.0.0/8,size=24,colour=red", "base=CIDR"),
            ("base=banana,size=24", "\"banana\""),
            ("base=10.0.0.1/8,size=24", "should be 10.0.0.0/8"),
            ("base=127.0.0.0/8,size=24", "loopback"),
            ("base=10.0.0.0/16,size=8", "from 16 to 30"),
            ("base=10.0.0.0/16,size=31", "from 16 to 30"),
            ("base=fd00::/48,size=127", "from 48 to 126"),
            ("base=10.0.0.0/16,size=big", "\"big\""),
        ] {
            let error = text.parse::<Pool>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn impossible_sizes() {
        let pool = |base, size| Surroundings::default().first_free(&Pool { base: net(base), size });
        assert_eq!(pool("10.0.0.0/16", 8), None);
        assert_eq!(pool("10.0.0.0/16", 33), None);
        assert_eq!(pool("::/0", 0), None);
        assert_eq!(pool("10.0.0.0/32", 32), Some(net("10.0.0.0/32")));
    }
    #[test]
    fn nothing_is_found_beyond_the_pool() {
        let full = |obstacle| Surroundings { networks: vec![], host: vec![net(obstacle)] };
        let pool = Pool { base: net("10.0.0.0/24"), size: 24 };
        // It does not reach the pool's end, but no subnet of the pool is free.
        assert_eq!(full("10.0.0.0/25").first_free(&pool), None);
        let pool = Pool { base: net("255.255.255.0/24"), size: 25 };
        assert_eq!(full("255.255.255.0/26").first_free(&pool), Some(net("255.255.255.128/25")));
        let last = Surroundings { networks: vec![], host: vec![net("255.255.255.0/26"), net("255.255.255.128/26")] };
        assert_eq!(last.first_free(&pool), None);
        let pool = Pool { base: net("ffff::/16"), size: 17 };
        assert_eq!(full("ffff::/18").first_free(&pool), Some(net("ffff:8000::/17")));
        assert_eq!(full("ffff::/16").first_free(&pool), None);
    }

    /// Prefixes of one family that are close to each other.
    fn nets(v6: bool) -> impl Strategy<Value = Vec<IpNet>> {
        let prefix = move |(host, length): (u8, u8)| match v6 {
            true => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(0xfd << 120 | u128::from(host)), 128 - length)),
            false => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, host), 32 - length)),
        };
        let some = prop::collection::vec((any::<u8>(), prop_oneof![9 => 0..4_u8, 1 => 4..10_u8]), 0..40);
        some.prop_map(move |all| all.into_iter().map(prefix).map(|net| net.trunc()).collect())
    }

    proptest! {
        /// It is the first of all subnets of the pool, one after the other, that is in nobody's way.
        #[test]
        fn the_first_that_is_free(
            (v6, networks, host) in any::<bool>().prop_flat_map(|v6| (Just(v6), nets(v6), nets(v6))),
            base in 2..8_u8,
            size in 0..8_u8,
        ) {
            let (base, size) = match v6 {
                true => (net(&format!("fd00::40/{}", 128 - base)).trunc(), 128 - size.min(base)),
                false => (net(&format!("10.0.0.64/{}", 32 - base)).trunc(), 32 - size.min(base)),
            };
            let free = |subnet: &IpNet| networks.iter().chain(&host).all(|net| !overlap(net, subnet));
            let naive = base.subnets(size).unwrap().find(free);
            let networks = networks.iter().map(|net| (*net, String::new())).collect();
            prop_assert_eq!(Surroundings { networks, host: host.clone() }.first_free(&Pool { base, size }), naive);
        }
    }
}
