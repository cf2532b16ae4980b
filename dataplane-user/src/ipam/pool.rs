//! The addresses of one subnet.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{RangeSet, Subnet, address, bits};
use crate::model::{AddressRange, Error};

/// Why an address cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It lies elsewhere.
    Outside(IpAddr, IpNet),
    /// It is never handed out; the text says what it is.
    Reserved(IpAddr, String),
    /// Somebody has it.
    Taken(IpAddr),
    /// Nothing is free in the range that addresses come from.
    Exhausted(AddressRange),
}

impl Refusal {
    /// The sentence for the user.
    pub fn on(self, network: &str) -> Error {
        match self {
            Refusal::Outside(address, subnet) => Error::Invalid(format!(
                "invalid address {address}: it is outside the subnet {subnet} of network {network}"
            )),
            Refusal::Reserved(address, what) => {
                Error::Invalid(format!("invalid address {address}: it is {what} of network {network}"))
            }
            Refusal::Taken(address) => {
                Error::Conflict(format!("Address already in use: {address} on network {network}"))
            }
            Refusal::Exhausted(range) => Error::Conflict(format!(
                "no available {} addresses on network {network}: all of {range} is in use, remove containers or use a network with a larger subnet",
                if range.first().is_ipv4() { "IPv4" } else { "IPv6" }
            )),
        }
    }
}

/// How full a subnet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The subnet.
    pub subnet: IpNet,
    /// Addresses that somebody has, or that are never handed out.
    pub in_use: u128,
    /// Addresses that can still be handed out to whoever asks for none in particular.
    pub available: u128,
}

/// The addresses of one subnet: which are reserved, taken and free.
#[derive(Debug, Clone)]
pub struct AddressPool {
    subnet: Subnet,
    taken: RangeSet,
}

impl AddressPool {
    /// A pool in which only the reserved addresses are taken.
    pub fn new(subnet: &Subnet) -> Self {
        let (network, broadcast) = unusable(subnet.subnet);
        let reserved = [network, broadcast, subnet.gateway].into_iter().flatten();
        let taken = reserved.chain(subnet.aux.values().copied()).map(bits).collect();
        AddressPool { subnet: subnet.clone(), taken }
    }

    /// Whether its addresses are IPv6.
    pub fn is_v6(&self) -> bool {
        matches!(self.subnet.subnet, IpNet::V6(_))
    }

    /// The address with the subnet's prefix length.
    pub fn with_prefix(&self, address: IpAddr) -> IpNet {
        // The pool's own addresses are of the subnet's family, for which its prefix length is valid.
        IpNet::new_assert(address, self.subnet.subnet.prefix_len())
    }

    /// Hands out the lowest free address of the range that dynamic addresses come from; none of `kept`.
    pub fn allocate(&mut self, kept: &[IpAddr]) -> Result<IpAddr, Refusal> {
        let range = self.range();
        let mut from = bits(range.first());
        loop {
            let lowest = self.taken.lowest_absent(from, bits(range.last())).ok_or(Refusal::Exhausted(range))?;
            let found = address(lowest, self.subnet.subnet);
            if !kept.contains(&found) {
                self.taken.insert(lowest);
                return Ok(found);
            }
            from = lowest.checked_add(1).ok_or(Refusal::Exhausted(range))?;
        }
    }

    /// Takes a particular address of the subnet.
    pub fn claim(&mut self, address: IpAddr) -> Result<(), Refusal> {
        if !self.subnet.subnet.contains(&address) {
            return Err(Refusal::Outside(address, self.subnet.subnet));
        }
        if let Some(what) = self.reserved_as(address) {
            return Err(Refusal::Reserved(address, what));
        }
        if !self.taken.insert(bits(address)) {
            return Err(Refusal::Taken(address));
        }
        Ok(())
    }

    /// Gives an address back; reserved ones stay reserved.
    pub fn release(&mut self, address: IpAddr) {
        if self.subnet.subnet.contains(&address) && self.reserved_as(address).is_none() {
            self.taken.remove(bits(address));
        }
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        let subnet = self.subnet.subnet;
        let range = self.range();
        let taken = |range: AddressRange| self.taken.count(bits(range.first()), bits(range.last()));
        let size = (bits(range.last()) - bits(range.first())).saturating_add(1);
        Usage { subnet, in_use: taken(subnet.into()), available: size.saturating_sub(taken(range)) }
    }

    /// Where dynamic addresses come from.
    fn range(&self) -> AddressRange {
        self.subnet.ip_range.unwrap_or(self.subnet.subnet.into())
    }

    fn reserved_as(&self, address: IpAddr) -> Option<String> {
        let (network, broadcast) = unusable(self.subnet.subnet);
        if network == Some(address) {
            Some("the network address".into())
        } else if broadcast == Some(address) {
            Some("the broadcast address".into())
        } else if self.subnet.gateway == Some(address) {
            Some("the gateway".into())
        } else {
            let (name, _) = self.subnet.aux.iter().find(|(_, aux)| **aux == address)?;
            Some(format!("the auxiliary address {name}"))
        }
    }
}

/// Network and broadcast address, where the subnet has them: point-to-point subnets (/31, /127) use
/// both their addresses, and IPv6 knows no broadcast.
pub(super) fn unusable(subnet: IpNet) -> (Option<IpAddr>, Option<IpAddr>) {
    let roomy = subnet.max_prefix_len() - subnet.prefix_len() >= 2;
    let network = roomy.then(|| subnet.network());
    let broadcast = (roomy && matches!(subnet, IpNet::V4(_))).then(|| subnet.broadcast());
    (network, broadcast)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pool(subnet: &str, range: Option<&str>, gateway: &str, aux: &[(&str, &str)]) -> AddressPool {
        AddressPool::new(&Subnet {
            subnet: subnet.parse().unwrap(),
            ip_range: range.map(|range| range.parse().unwrap()),
            gateway: Some(ip(gateway)),
            aux: aux.iter().map(|(name, address)| (name.to_string(), ip(address))).collect(),
        })
    }

    #[test]
    fn lowest_free_first_and_reuse() {
        let mut pool = pool("10.0.0.0/29", None, "10.0.0.1", &[("router", "10.0.0.3")]);
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate(&[]).ok()).map(|ip| ip.to_string()).collect();
        assert_eq!(all, ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(pool.allocate(&[]), Err(Refusal::Exhausted("10.0.0.0/29".parse().unwrap())));
        pool.release(ip("10.0.0.5"));
        pool.release(ip("10.0.0.3"));
        assert_eq!(pool.allocate(&[]), Ok(ip("10.0.0.5")));
        assert!(pool.allocate(&[]).is_err());
    }

    #[test]
    fn ranges_limit_only_dynamic_addresses() {
        let mut pool = pool("172.30.1.0/24", Some("172.30.1.128/30"), "172.30.1.1", &[]);
        pool.claim(ip("172.30.1.100")).unwrap();
        assert_eq!(pool.claim(ip("172.30.1.100")), Err(Refusal::Taken(ip("172.30.1.100"))));
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate(&[]).ok()).map(|ip| ip.to_string()).collect();
        assert_eq!(all, ["172.30.1.128", "172.30.1.129", "172.30.1.130", "172.30.1.131"]);
    }

    #[test]
    fn ranges_need_be_no_prefixes() {
        let mut pool = pool("172.30.1.0/24", Some("172.30.1.254-172.30.1.255"), "172.30.1.1", &[]);
        assert_eq!((pool.usage().available, pool.allocate(&[])), (1, Ok(ip("172.30.1.254"))));
        let refused = pool.allocate(&[]).unwrap_err().on("n").to_string();
        assert!(refused.contains("IPv4") && refused.contains("172.30.1.254/31"), "{refused}");
    }

    #[test]
    fn reserved_addresses_have_reasons() {
        let mut v4 = pool("10.0.0.0/24", None, "10.0.0.1", &[("nas", "10.0.0.9")]);
        let mut reason = |address: &str| v4.claim(ip(address)).unwrap_err().on("n").to_string();
        assert_eq!(reason("10.0.0.0"), "invalid address 10.0.0.0: it is the network address of network n");
        assert!(reason("10.0.0.255").contains("the broadcast address"));
        assert!(reason("10.0.0.1").contains("the gateway"));
        assert!(reason("10.0.0.9").contains("the auxiliary address nas"));
        assert!(reason("10.0.1.5").contains("outside the subnet 10.0.0.0/24"));
        assert!(reason("fd00::1").contains("outside the subnet"));
        let mut v6 = pool("fd00:0:0:1::/64", None, "fd00:0:0:1::1", &[]);
        assert!(v6.claim(ip("fd00:0:0:1::")).is_err());
        assert_eq!(v6.allocate(&[]), Ok(ip("fd00:0:0:1::2")));
        v6.claim(ip("fd00::1:ffff:ffff:ffff:ffff")).unwrap();
    }

    #[test]
    fn what_is_kept_for_others_is_only_given_by_name() {
        let mut pool = pool("10.0.0.0/29", None, "10.0.0.1", &[]);
        let kept = [ip("10.0.0.2"), ip("10.0.0.6")];
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate(&kept).ok()).map(|ip| ip.to_string()).collect();
        assert_eq!(all, ["10.0.0.3", "10.0.0.4", "10.0.0.5"]);
        pool.claim(kept[0]).unwrap();
    }

    #[test]
    fn usage_is_counted() {
        let mut v4 = pool("10.0.0.0/24", Some("10.0.0.128/25"), "10.0.0.1", &[("nas", "10.0.0.200")]);
        let usage = |pool: &AddressPool| (pool.usage().in_use, pool.usage().available);
        // Network, gateway, nas and broadcast; of the range, all but the last two.
        assert_eq!(usage(&v4), (4, 126));
        v4.allocate(&[]).unwrap();
        v4.claim(ip("10.0.0.9")).unwrap();
        assert_eq!(usage(&v4), (6, 125));
        assert_eq!(usage(&pool("fd00::/64", None, "fd00::1", &[])), (2, (1 << 64) - 2));
    }

    #[test]
    fn small_subnets() {
        let mut two = pool("10.0.0.0/31", None, "10.0.0.0", &[]);
        assert_eq!(two.allocate(&[]), Ok(ip("10.0.0.1")));
        assert!(two.allocate(&[]).is_err());
        let mut two = pool("fd00::/127", None, "fd00::", &[]);
        assert_eq!(two.allocate(&[]), Ok(ip("fd00::1")));
    }

    #[test]
    fn the_whole_of_ipv6() {
        let mut pool = pool("fd00::/8", None, "fd00::1", &[]);
        assert_eq!(pool.allocate(&[]), Ok(ip("fd00::2")));
        pool.claim(ip("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")).unwrap();
    }

    #[derive(Debug, Clone)]
    enum Step {
        Allocate,
        Claim(u128),
        Release(u128),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Allocate),
            1 => (0u128..80).prop_map(Step::Claim),
            2 => (0u128..80).prop_map(Step::Release),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// No address twice, none that is reserved, none outside, always the lowest free one.
        #[test]
        fn never_twice(
            steps in steps(), v6 in any::<bool>(), prefix in 2u8..8, range in prop::option::of((0u128..64, 0u8..6)),
            gateway in 0u128..64, aux in prop::collection::vec(0u128..64, 0..4),
        ) {
            let base = if v6 { ip("fd00::1:0") } else { ip("10.9.8.0") };
            let size = 1u128 << prefix;
            let subnet = IpNet::new(base, if v6 { 128 - prefix } else { 32 - prefix }).unwrap();
            let at = |offset: u128| address(bits(base) + offset % size, subnet);
            let range = range
                .map(|(offset, bits)| IpNet::new(at(offset), subnet.max_prefix_len() - bits.min(prefix)).unwrap().trunc());
            let aux: BTreeMap<_, _> = aux.iter().map(|offset| (offset.to_string(), at(*offset))).collect();
            let mut pool = AddressPool::new(&Subnet { subnet, ip_range: range.map(Into::into), gateway: Some(at(gateway)), aux: aux.clone() });

            let mut reserved: BTreeSet<_> = aux.values().copied().chain([at(gateway), subnet.network()]).collect();
            if !v6 {
                reserved.insert(subnet.broadcast());
            }
            let range = range.unwrap_or(subnet);
            let mut taken = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Allocate => {
                        let lowest = (bits(range.network())..=bits(range.broadcast()))
                            .map(|bits| address(bits, subnet))
                            .find(|address| !taken.contains(address) && !reserved.contains(address));
                        let got = pool.allocate(&[]).ok();
                        prop_assert_eq!(got, lowest);
                        taken.extend(got);
                    }
                    Step::Claim(offset) => {
                        let wanted = address(bits(base) + offset, subnet);
                        let free = subnet.contains(&wanted) && !taken.contains(&wanted) && !reserved.contains(&wanted);
                        prop_assert_eq!(pool.claim(wanted).is_ok(), free);
                        if free {
                            taken.insert(wanted);
                        }
                    }
                    Step::Release(offset) => {
                        let address = address(bits(base) + offset, subnet);
                        pool.release(address);
                        taken.remove(&address);
                    }
                }
            }
        }
    }
}
