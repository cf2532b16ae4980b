//! From what a user asks for to a network's subnets.

use std::net::IpAddr;

use ipnet::IpNet;

use super::pool::unusable;
use super::pools::{Pool, Surroundings, special};
use super::{RangeSet, address, bits, overlap};
use crate::model::{AddressRange, Error, IpamConfig, Result, Subnet};

/// The subnets for a new network, and what the user should know about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One subnet for each enabled family.
    pub subnets: Vec<Subnet>,
    /// Things that were asked for and have no effect.
    pub warnings: Vec<String>,
}

/// What a network wants of an address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// No subnet.
    Nothing,
    /// A subnet.
    Subnet {
        /// With an address for a gateway in it, even if none is asked for by name.
        gateway: bool,
    },
}

/// Checks what was asked for and chooses the rest.
pub fn plan_subnets(
    configs: &[IpamConfig],
    ipv4: Wish,
    ipv6: Wish,
    surroundings: &Surroundings,
    pools: &[Pool],
) -> Result<Plan> {
    if [ipv4, ipv6] == [Wish::Nothing; 2] {
        return Err(Error::Invalid("IPv4 or IPv6 must be enabled".into()));
    }
    let mut plan = Plan { subnets: Vec::new(), warnings: Vec::new() };
    let mut wanted: [Option<(IpNet, &IpamConfig)>; 2] = [None, None];
    for config in configs {
        let Some(text) = config.subnet.as_deref().filter(|text| !text.is_empty()) else {
            need_no_subnet(config)?;
            continue;
        };
        let subnet = parse_net("subnet", text)?;
        let v6 = matches!(subnet, IpNet::V6(_));
        if (if v6 { ipv6 } else { ipv4 }) == Wish::Nothing {
            let family = if v6 { "IPv6" } else { "IPv4" };
            plan.warnings.push(format!("subnet {subnet} is not used because {family} is not enabled on this network"));
            continue;
        }
        if let Some((other, _)) = &wanted[usize::from(v6)] {
            let family = if v6 { "IPv6" } else { "IPv4" };
            return Err(Error::Invalid(match overlap(other, &subnet) {
                true => format!("subnet {subnet} overlaps {other}, which the same network asks for"),
                false => format!(
                    "bridge driver doesn't support multiple subnets: {other} and {subnet} are both {family}, one is allowed"
                ),
            }));
        }
        wanted[usize::from(v6)] = Some((subnet, config));
    }
    for (v6, wish) in [(false, ipv4), (true, ipv6)] {
        let Wish::Subnet { gateway } = wish else { continue };
        let (net, config) = match wanted[usize::from(v6)] {
            // An unspecified address asks for any free subnet of that size.
            Some((net, config)) if net.addr().is_unspecified() => {
                (choose(v6, Some(net.prefix_len()), surroundings, pools)?, config)
            }
            Some((net, config)) => {
                check_subnet(net, gateway, surroundings)?;
                (net, config)
            }
            None => (choose(v6, None, surroundings, pools)?, &NO_WISHES),
        };
        plan.subnets.push(subnet(net, config, gateway)?);
    }
    Ok(plan)
}

const NO_WISHES: IpamConfig =
    IpamConfig { subnet: None, ip_range: None, gateway: None, aux: std::collections::BTreeMap::new() };

fn need_no_subnet(config: &IpamConfig) -> Result<()> {
    let alone = |what: &str, value: &str| {
        Err(Error::Invalid(format!("{what} {value} needs the subnet that it belongs to: give --subnet")))
    };
    match (&config.ip_range, &config.gateway, config.aux.values().next()) {
        (Some(range), _, _) => alone("ip-range", range),
        (_, Some(gateway), _) => alone("gateway", gateway),
        (_, _, Some(address)) => alone("auxiliary address", address),
        (None, None, None) => Ok(()),
    }
}

fn parse_net(what: &str, text: &str) -> Result<IpNet> {
    let net: IpNet = text.parse().map_err(|_| {
        Error::Invalid(format!("invalid {what} {text:?}: a CIDR such as 10.0.0.0/24 or fd00:1::/64 is expected"))
    })?;
    if net != net.trunc() {
        return Err(Error::Invalid(format!("invalid {what} {net}: it should be {}", net.trunc())));
    }
    Ok(net)
}

fn parse_address(what: &str, text: &str, subnet: IpNet) -> Result<IpAddr> {
    let invalid = |why: String| Error::Invalid(format!("invalid {what} {text}: {why}"));
    let address: IpAddr = text.parse().map_err(|_| invalid("it is not an IP address".into()))?;
    if !subnet.contains(&address) {
        return Err(invalid(format!("parent subnet {subnet} doesn't contain this address")));
    }
    let (network, broadcast) = unusable(subnet);
    if network == Some(address) {
        return Err(invalid(format!("it is the network address of {subnet}")));
    }
    if broadcast == Some(address) {
        return Err(invalid(format!("it is the broadcast address of {subnet}")));
    }
    Ok(address)
}

/// A subnet that was asked for by name: it must be fit for containers and nobody else's.
fn check_subnet(net: IpNet, gateway: bool, surroundings: &Surroundings) -> Result<()> {
    let invalid = |why: &str| Err(Error::Invalid(format!("invalid subnet {net}: {why}")));
    if gateway && net.prefix_len() == net.max_prefix_len() {
        return invalid("its only address is needed for the gateway");
    }
    if let Some(why) = special(&net) {
        return invalid(why);
    }
    match surroundings.networks.iter().find(|(other, _)| overlap(other, &net)) {
        None => Ok(()),
        Some((other, name)) => Err(Error::Forbidden(format!(
            "invalid pool request: Pool overlaps with other one on this address space: {net} overlaps {other} of {name}"
        ))),
    }
}

/// A free subnet of the pools, or of another size inside them.
fn choose(v6: bool, size: Option<u8>, surroundings: &Surroundings, pools: &[Pool]) -> Result<IpNet> {
    let family = pools.iter().filter(|pool| pool.base.addr().is_ipv6() == v6);
    let sized: Vec<Pool> = family.map(|pool| Pool { size: size.unwrap_or(pool.size), ..*pool }).collect();
    let fits = |pool: &Pool| (pool.base.prefix_len()..pool.base.max_prefix_len()).contains(&pool.size);
    if let Some(size) = size
        && !sized.iter().any(fits)
    {
        let any = if v6 { "::" } else { "0.0.0.0" };
        return Err(Error::Invalid(format!(
            "invalid subnet {any}/{size}: the default pools have no subnets of that size"
        )));
    }
    let example = if v6 { "base=fd00:201::/48,size=64" } else { "base=10.201.0.0/16,size=24" };
    sized.iter().find_map(|pool| surroundings.first_free(pool)).ok_or_else(|| {
        Error::Invalid(format!(
            "all predefined address pools have been fully subnetted: give a subnet of your own with --subnet, remove networks that are not needed, or start the agent with pools of your own, such as --default-address-pool {example}"
        ))
    })
}

/// Range, auxiliary addresses and gateway within a subnet that is settled.
fn subnet(net: IpNet, config: &IpamConfig, needs_gateway: bool) -> Result<Subnet> {
    let ip_range = match config.ip_range.as_deref().filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            let range = text.parse::<AddressRange>();
            let range = range.map_err(|why| Error::Invalid(format!("invalid ip-range {text}: {why}")))?;
            if !range.is_within(&net) {
                return Err(Error::Invalid(format!(
                    "invalid ip-range {range}: parent subnet {net} doesn't contain ip-range"
                )));
            }
            Some(range)
        }
    };
    let mut aux = std::collections::BTreeMap::new();
    for (name, text) in &config.aux {
        let address = parse_address(&format!("auxiliary address {name}="), text, net)?;
        if let Some((other, _)) = aux.iter().find(|(_, other)| **other == address) {
            return Err(Error::Invalid(format!(
                "invalid auxiliary address {name}={address}: {other} has the same address"
            )));
        }
        aux.insert(name.clone(), address);
    }
    let gateway = match config.gateway.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => {
            let gateway = parse_address("gateway", text, net)?;
            if let Some((name, _)) = aux.iter().find(|(_, address)| **address == gateway) {
                return Err(Error::Invalid(format!(
                    "invalid gateway {gateway}: it is also the auxiliary address {name}"
                )));
            }
            Some(gateway)
        }
        None if !needs_gateway => None,
        None => {
            let (network, broadcast) = unusable(net);
            let taken: RangeSet =
                [network, broadcast].into_iter().flatten().chain(aux.values().copied()).map(bits).collect();
            let lowest = taken.lowest_absent(bits(net.network()), bits(net.broadcast())).ok_or_else(|| {
                Error::Invalid(format!("invalid subnet {net}: the auxiliary addresses leave none for the gateway"))
            })?;
            Some(address(lowest, net))
        }
    };
    Ok(Subnet { subnet: net, ip_range, gateway, aux })
}

#[cfg(test)]
mod tests {
    use super::super::{pools, ula_prefix};
    use super::*;

    fn config(subnet: &str, range: &str, gateway: &str, aux: &[(&str, &str)]) -> IpamConfig {
        let given = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        IpamConfig {
            subnet: given(subnet),
            ip_range: given(range),
            gateway: given(gateway),
            aux: aux.iter().map(|(name, address)| (name.to_string(), address.to_string())).collect(),
        }
    }

    fn surroundings() -> Surroundings {
        Surroundings {
            networks: vec![("172.17.0.0/16".parse().unwrap(), "network bridge".into())],
            host: vec!["10.1.0.0/16".parse().unwrap()],
        }
    }

    fn plan(configs: &[IpamConfig], ipv4: bool, ipv6: bool) -> Result<Plan> {
        let wish = |enabled| if enabled { Wish::Subnet { gateway: true } } else { Wish::Nothing };
        plan_subnets(
            configs,
            wish(ipv4),
            wish(ipv6),
            &surroundings(),
            &pools(&[], ula_prefix([1, 2, 3, 4, 5])).unwrap(),
        )
    }

    fn text(configs: &[IpamConfig], ipv4: bool, ipv6: bool) -> Vec<String> {
        let subnets = plan(configs, ipv4, ipv6).unwrap().subnets;
        subnets.iter().map(|subnet| format!("{} {}", subnet.subnet, subnet.gateway.unwrap())).collect()
    }

    #[test]
    fn defaults() {
        assert_eq!(text(&[], true, false), ["172.18.0.0/16 172.18.0.1"]);
        assert_eq!(text(&[], true, true), ["172.18.0.0/16 172.18.0.1", "fd01:203:405::/64 fd01:203:405::1"]);
        assert_eq!(text(&[], false, true), ["fd01:203:405::/64 fd01:203:405::1"]);
        assert!(plan(&[], false, false).is_err());
    }

    #[test]
    fn asked_for() {
        let asked = [config("10.0.0.0/24", "10.0.0.128/25", "10.0.0.254", &[("nas", "10.0.0.2")])];
        let plan = plan(&asked, true, false).unwrap();
        assert_eq!(plan.subnets[0].gateway.unwrap().to_string(), "10.0.0.254");
        assert_eq!(plan.subnets[0].ip_range.unwrap().to_string(), "10.0.0.128/25");
        assert_eq!(plan.subnets[0].aux["nas"].to_string(), "10.0.0.2");
        // A subnet on a host route is the user's own decision; only our own choices avoid it.
        assert_eq!(text(&[config("10.1.0.0/24", "", "", &[])], true, false), ["10.1.0.0/24 10.1.0.1"]);
        assert_eq!(text(&[config("10.0.0.0/31", "", "", &[])], true, false), ["10.0.0.0/31 10.0.0.0"]);
        let aux = config("10.0.0.0/24", "", "", &[("a", "10.0.0.1")]);
        assert_eq!(text(&[aux], true, false), ["10.0.0.0/24 10.0.0.2"]);
        let both = [config("fd00:9::/64", "", "", &[]), config("10.0.0.0/24", "", "", &[])];
        assert_eq!(text(&both, true, true), ["10.0.0.0/24 10.0.0.1", "fd00:9::/64 fd00:9::1"]);
        assert_eq!(text(&[config("0.0.0.0/24", "", "", &[])], true, false), ["172.18.0.0/24 172.18.0.1"]);
        assert_eq!(text(&[config("::/56", "", "", &[])], false, true), ["fd01:203:405::/56 fd01:203:405::1"]);
    }

    #[test]
    fn a_gateway_is_only_set_aside_where_one_is_needed_or_asked_for() {
        let gatewayless = |config| {
            let wish = Wish::Subnet { gateway: false };
            let plan =
                plan_subnets(&[config], wish, Wish::Nothing, &surroundings(), &pools(&[], ula_prefix([0; 5])).unwrap());
            plan.unwrap().subnets[0].gateway.map(|gateway| gateway.to_string())
        };
        assert_eq!(gatewayless(config("10.0.0.0/31", "", "", &[])), None);
        assert_eq!(gatewayless(config("10.0.0.0/32", "", "", &[])), None);
        assert_eq!(gatewayless(config("10.0.0.0/24", "", "10.0.0.9", &[])), Some("10.0.0.9".into()));
    }

    #[test]
    fn a_family_that_is_off_is_told() {
        let both = [config("fd00:9::/64", "", "", &[]), config("10.0.0.0/24", "", "", &[])];
        let plan = plan(&both, true, false).unwrap();
        assert_eq!(plan.subnets.len(), 1);
        assert_eq!(plan.warnings, ["subnet fd00:9::/64 is not used because IPv6 is not enabled on this network"]);
    }

    #[test]
    fn refusals_say_why() {
        for (configs, why) in [
            (vec![config("10.0.0", "", "", &[])], "a CIDR such as"),
            (vec![config("10.0.0.0/33", "", "", &[])], "a CIDR such as"),
            (vec![config("10.0.0.5/24", "", "", &[])], "invalid subnet 10.0.0.5/24: it should be 10.0.0.0/24"),
            (vec![config("10.0.0.1/32", "", "", &[])], "only address"),
            (vec![config("127.1.0.0/16", "", "", &[])], "loopback"),
            (vec![config("224.0.0.0/24", "", "", &[])], "multicast"),
            (vec![config("0.0.0.0/32", "", "", &[])], "no subnets of that size"),
            (vec![config("0.0.0.0/8", "", "", &[])], "no subnets of that size"),
            (vec![config("172.17.4.0/24", "", "", &[])], "172.17.4.0/24 overlaps 172.17.0.0/16 of network bridge"),
            (
                vec![config("10.0.0.0/8", "", "", &[]), config("10.1.0.0/16", "", "", &[])],
                "10.1.0.0/16 overlaps 10.0.0.0/8",
            ),
            (
                vec![config("10.0.0.0/24", "", "", &[]), config("10.1.0.0/24", "", "", &[])],
                "doesn't support multiple subnets",
            ),
            (
                vec![config("10.0.0.0/24", "", "10.1.0.1", &[])],
                "invalid gateway 10.1.0.1: parent subnet 10.0.0.0/24 doesn't contain this address",
            ),
            (vec![config("10.0.0.0/24", "", "10.0.0.0", &[])], "the network address"),
            (vec![config("10.0.0.0/24", "", "10.0.0.255", &[])], "the broadcast address"),
            (vec![config("10.0.0.0/24", "", "x", &[])], "not an IP address"),
            (vec![config("10.0.0.0/24", "10.1.0.0/25", "", &[])], "doesn't contain ip-range"),
            (vec![config("10.0.0.0/24", "10.0.0.0/16", "", &[])], "doesn't contain ip-range"),
            (
                vec![config("10.0.0.0/24", "10.0.0.9/25", "", &[])],
                "invalid ip-range 10.0.0.9/25: it should be 10.0.0.0/25",
            ),
            (vec![config("10.0.0.0/24", "", "", &[("a", "10.1.0.2")])], "doesn't contain this address"),
            (vec![config("10.0.0.0/24", "", "10.0.0.2", &[("a", "10.0.0.2")])], "also the auxiliary address a"),
            (vec![config("10.0.0.0/24", "", "", &[("a", "10.0.0.2"), ("b", "10.0.0.2")])], "a has the same address"),
            (vec![config("", "", "10.0.0.1", &[])], "needs the subnet"),
        ] {
            let error = plan(&configs, true, false).unwrap_err().to_string();
            assert!(error.contains(why), "{configs:?}: {error}");
        }
    }

    #[test]
    fn exhaustion_gives_advice() {
        let full = Surroundings {
            networks: vec![],
            host: vec!["172.16.0.0/12".parse().unwrap(), "192.168.0.0/16".parse().unwrap()],
        };
        let ipv4 = Wish::Subnet { gateway: true };
        let plan = |configured: &[Pool]| {
            plan_subnets(&[], ipv4, Wish::Nothing, &full, &pools(configured, ula_prefix([0; 5])).unwrap())
        };
        let error = plan(&[]).unwrap_err().to_string();
        assert!(error.starts_with("all predefined address pools have been fully subnetted: give a subnet"), "{error}");
        assert!(error.ends_with("--default-address-pool base=10.201.0.0/16,size=24"), "{error}");
        let further = "base=10.201.0.0/16,size=24".parse().unwrap();
        assert_eq!(plan(&[further]).unwrap().subnets[0].subnet.to_string(), "10.201.0.0/24");
    }
}
