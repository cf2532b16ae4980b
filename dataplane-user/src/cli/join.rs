//! What `run --network` takes: a network's name, or Docker's long form with what the container wishes there.

use crate::api::types::endpoint::{EndpointIpamConfig, EndpointSettings};
use crate::api::types::spandrel::Join;

/// The networks of `--network`, the first apart; the flags that ask for addresses are for that one.
pub(super) fn all(networks: &[String], flags: EndpointSettings) -> Result<(Join, Vec<Join>), String> {
    let mut joins = networks.iter().map(|text| parse(text));
    let first = joins.next().transpose()?.unwrap_or_default();
    let first = Join { endpoint: merge(first.endpoint, flags)?, ..first };
    Ok((first, joins.collect::<Result<_, _>>()?))
}

fn parse(text: &str) -> Result<Join, String> {
    if !text.contains('=') {
        return Ok(Join { network: text.to_owned(), ..Default::default() });
    }
    let invalid = |why: String| format!("invalid --network {text:?}: {why}");
    let mut join = Join::default();
    let mut ipam = EndpointIpamConfig::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| invalid(format!("{field:?} has no value")))?;
        let (endpoint, owned) = (&mut join.endpoint, value.to_owned());
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => join.network = owned,
            "alias" => endpoint.aliases.get_or_insert_default().push(owned),
            "ip" => ipam.ipv4_address = owned,
            "ip6" => ipam.ipv6_address = owned,
            "mac-address" => endpoint.mac_address = owned,
            "link-local-ip" => ipam.link_local_ips.push(owned),
            "driver-opt" => {
                let (key, value) =
                    value.split_once('=').ok_or_else(|| invalid(format!("{value:?} is no KEY=VALUE")))?;
                endpoint.driver_opts.get_or_insert_default().insert(key.to_owned(), value.to_owned());
            }
            "gw-priority" => {
                let number = value.parse();
                endpoint.gw_priority =
                    number.map_err(|_| invalid(format!("gw-priority ({value}) should be an integer")))?;
            }
            other => {
                let known = "name, alias, ip, ip6, mac-address and gw-priority can be given";
                return Err(invalid(format!("invalid field {other}: {known}")));
            }
        }
    }
    if join.network.is_empty() {
        return Err(invalid("network name/id is not specified, give name=NETWORK".into()));
    }
    join.endpoint.ipam_config = Some(ipam);
    Ok(join)
}

/// What was said in the one place and in the other; the same thing in both is one too many.
fn merge(long: EndpointSettings, flags: EndpointSettings) -> Result<EndpointSettings, String> {
    let either = |what: &str, long: String, flag: String| match (long.is_empty(), flag.is_empty()) {
        (false, false) => Err(format!("conflicting options: cannot specify both --{what} and per-network {what}")),
        (true, _) => Ok(flag),
        (_, true) => Ok(long),
    };
    let given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if given(&long.aliases) && given(&flags.aliases) {
        return Err("conflicting options: cannot specify both --network-alias and per-network alias".into());
    }
    let (ours, theirs) = (long.ipam_config.unwrap_or_default(), flags.ipam_config.unwrap_or_default());
    Ok(EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: either("ip", ours.ipv4_address, theirs.ipv4_address)?,
            ipv6_address: either("ip6", ours.ipv6_address, theirs.ipv6_address)?,
            link_local_ips: [ours.link_local_ips, theirs.link_local_ips].concat(),
        }),
        mac_address: either("mac-address", long.mac_address, flags.mac_address)?,
        aliases: if given(&long.aliases) { long.aliases } else { flags.aliases },
        links: flags.links,
        ..long
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(ip: &str) -> EndpointSettings {
        let ipam = EndpointIpamConfig { ipv4_address: ip.into(), ..Default::default() };
        EndpointSettings { ipam_config: Some(ipam), ..Default::default() }
    }

    fn read(networks: &[&str], ip: &str) -> Result<(Join, Vec<Join>), String> {
        all(&networks.iter().map(|text| text.to_string()).collect::<Vec<_>>(), flags(ip))
    }

    #[test]
    fn short_and_long_forms() {
        assert_eq!(read(&[], "").unwrap().0.network, "");
        let long = "name=blue,alias=db,alias=sql,ip=10.0.0.9,ip6=fd00::9,mac-address=02::9,gw-priority=-3";
        let (red, further) = read(&["red", long], "10.1.0.9").unwrap();
        assert_eq!((red.network.as_str(), further.len()), ("red", 1));
        assert_eq!(red.endpoint.ipam_config.unwrap().ipv4_address, "10.1.0.9");
        let blue = &further[0].endpoint;
        assert_eq!(further[0].network, "blue");
        assert_eq!(blue.aliases.as_deref(), Some(["db".to_owned(), "sql".into()].as_slice()));
        assert_eq!((blue.gw_priority, blue.mac_address.as_str()), (-3, "02::9"));
        assert_eq!(blue.ipam_config.as_ref().unwrap().ipv6_address, "fd00::9");
        assert_eq!(read(&["container:web"], "").unwrap().0.network, "container:web");
    }

    #[test]
    fn refusals_say_why() {
        for (network, why) in [
            ("alias=x", "name/id is not specified"),
            ("name=red,gw-priority=high", "gw-priority (high) should be an integer"),
            ("name=red,colour=blue", "invalid field colour"),
            ("name=red,alias", "\"alias\" has no value"),
            ("name=red,driver-opt=x", "\"x\" is no KEY=VALUE"),
        ] {
            let error = read(&[network], "").unwrap_err();
            assert!(error.contains(why) && error.contains(network), "{error}");
        }
        let error = read(&["name=red,ip=10.0.0.9"], "10.0.0.8").unwrap_err();
        assert_eq!(error, "conflicting options: cannot specify both --ip and per-network ip");
    }
}
