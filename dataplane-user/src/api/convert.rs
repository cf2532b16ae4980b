//! Requests into the model's types: here text becomes meaning, or a sentence about what is wrong with it.

use super::types::attachment::AttachRequest;
use super::types::container::Naming;
use super::types::endpoint::EndpointSettings;
use super::types::network::{CreateRequest, Ipam, IpamConfig};
use super::types::spandrel;
use crate::model::{self, Bandwidth, EndpointRequest, Error, NetworkCreate, Result, StaticRoute};

/// An empty string is "not given".
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl TryFrom<CreateRequest> for NetworkCreate {
    type Error = Error;

    fn try_from(request: CreateRequest) -> Result<Self> {
        let unsupported = |what: &str| Err(Error::Invalid(format!("{what} are not supported")));
        if request.ingress {
            return unsupported("ingress networks");
        }
        if request.config_only || request.config_from.is_some_and(|from| !from.network.is_empty()) {
            return unsupported("networks that are only a configuration for others");
        }
        if !matches!(request.scope.as_str(), "" | "local") {
            return unsupported(&format!("networks of scope {:?}", request.scope));
        }
        Ok(NetworkCreate {
            name: request.name,
            driver: request.driver,
            ipam: subnets(request.ipam.unwrap_or_default())?,
            internal: request.internal,
            enable_ipv4: request.enable_ipv4,
            enable_ipv6: request.enable_ipv6,
            options: request.options,
            labels: request.labels,
            engine: None,
        })
    }
}

fn subnets(ipam: Ipam) -> Result<Vec<model::IpamConfig>> {
    if !matches!(ipam.driver.as_str(), "" | "default") {
        return Err(Error::Invalid(format!("unknown IPAM driver {:?}: only \"default\" is there", ipam.driver)));
    }
    if let Some(option) = ipam.options.as_ref().and_then(|options| options.keys().next()) {
        return Err(Error::Invalid(format!("unknown IPAM option {option:?}: the driver \"default\" has none")));
    }
    let subnet = |config: IpamConfig| model::IpamConfig {
        subnet: given(config.subnet),
        ip_range: given(config.ip_range),
        gateway: given(config.gateway),
        aux: config.auxiliary_addresses,
    };
    Ok(ipam.config.into_iter().map(subnet).collect())
}

/// What an endpoint wishes. A wish that we would not fulfil is refused, not forgotten.
pub(super) fn endpoint(settings: EndpointSettings) -> Result<EndpointRequest> {
    let ipam = settings.ipam_config.unwrap_or_default();
    if !ipam.link_local_ips.is_empty() {
        return Err(Error::Invalid("link-local addresses are not supported".into()));
    }
    let wishes = EndpointRequest::parse(&ipam.ipv4_address, &ipam.ipv6_address, &settings.mac_address)?
        .with_names(&settings.aliases.unwrap_or_default(), &settings.links.unwrap_or_default())?;
    let bandwidth = Bandwidth::from_options(&settings.driver_opts.unwrap_or_default())?;
    Ok(EndpointRequest { gw_priority: settings.gw_priority, bandwidth, ..wishes })
}

impl TryFrom<spandrel::RunRequest> for model::RunRequest {
    type Error = Error;

    fn try_from(request: spandrel::RunRequest) -> Result<Self> {
        Ok(model::RunRequest {
            name: given(request.name),
            hostname: given(request.config.hostname),
            command: request.config.cmd,
            env: request.config.env,
            labels: request.config.labels,
            working_dir: request.config.working_dir,
            auto_remove: request.auto_remove,
            network: given(request.network),
            endpoint: endpoint(request.endpoint)?,
            further: request
                .further
                .into_iter()
                .map(|join| Ok((join.network, endpoint(join.endpoint)?)))
                .collect::<Result<_>>()?,
            publish: request.publish.into(),
            publish_all: request.publish_all,
            expose: request.expose,
            naming: naming(&request.naming)?,
        })
    }
}

/// A namespace that is to be attached.
pub(super) fn attach(request: AttachRequest) -> Result<model::AttachRequest> {
    let unsupported = [
        ("links", request.endpoint.links.as_ref().is_some_and(|links| !links.is_empty())),
        ("a gateway priority", request.endpoint.gw_priority != 0),
    ];
    if let Some((what, _)) = unsupported.iter().find(|(_, asked)| *asked) {
        return Err(Error::Invalid(format!("{what} cannot be given for a namespace that somebody else made")));
    }
    let routes = request.routes.iter().map(|route| StaticRoute::parse(&route.destination, &route.gateway));
    let routes = routes.collect::<Result<_>>()?;
    Ok(model::AttachRequest {
        netns: request.netns,
        key: given(request.id),
        name: given(request.name),
        preferred_name: given(request.preferred_name),
        network: request.network,
        interface: given(request.interface),
        endpoint: EndpointRequest { routes, ..endpoint(request.endpoint)? },
        publish: request.publish.into(),
        owner: request.owner,
        labels: request.labels,
    })
}

fn naming(naming: &Naming) -> Result<model::Naming> {
    model::Naming::parse(&naming.dns, &naming.dns_search, &naming.dns_options, &naming.extra_hosts)
}

impl From<spandrel::PublishRequest> for model::PublishRequest {
    fn from(request: spandrel::PublishRequest) -> Self {
        model::PublishRequest {
            specs: request.publish,
            allow_from: request.allow_from,
            rate_limit: given(request.rate_limit),
        }
    }
}

impl From<spandrel::ExecRequest> for model::ExecRequest {
    fn from(request: spandrel::ExecRequest) -> Self {
        model::ExecRequest { command: request.cmd, env: request.env, working_dir: request.working_dir }
    }
}

/// A signal by name, with or without `SIG`, or by number.
pub(super) fn signal(text: &str) -> Result<i32> {
    use nix::sys::signal::Signal;

    let name = text.trim().to_ascii_uppercase();
    if name.is_empty() {
        return Ok(Signal::SIGKILL as i32);
    }
    if let Ok(number) = name.parse::<i32>() {
        // Real-time signals have numbers only.
        return match number {
            1..=64 => Ok(number),
            _ => Err(Error::Invalid(format!("invalid signal {text:?}: signals are 1 to 64"))),
        };
    }
    let full = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    full.parse::<Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| Error::Invalid(format!("invalid signal {text:?}: a name like TERM or a number is expected")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What docker 28's `network create` sends.
    #[test]
    fn dockers_own_request() {
        let request: CreateRequest = serde_json::from_value(json!({
            "Name": "second-bridge", "CheckDuplicate": true, "Driver": "bridge", "Scope": "", "EnableIPv6": true,
            "IPAM": {"Driver": "default", "Options": {}, "Config": [
                {"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1", "AuxiliaryAddresses": {"host": "10.0.0.5"}},
                {"Subnet": "fd00::/64"}]},
            "Internal": false, "Attachable": false, "Ingress": false, "ConfigOnly": false, "ConfigFrom": null,
            "Options": {"com.docker.network.driver.mtu": "1400"}, "Labels": null
        }))
        .unwrap();
        let create = NetworkCreate::try_from(request).unwrap();
        assert_eq!(create.name, "second-bridge");
        assert_eq!((create.enable_ipv4, create.enable_ipv6), (None, Some(true)));
        assert_eq!(create.ipam.len(), 2);
        assert_eq!(create.ipam[0].gateway.as_deref(), Some("10.0.0.1"));
        assert_eq!(create.ipam[0].aux["host"], "10.0.0.5");
        assert_eq!(create.ipam[1].gateway, None);
        assert_eq!(create.options["com.docker.network.driver.mtu"], "1400");
    }

    #[test]
    fn what_we_lack_is_refused() {
        for (request, why) in [
            (json!({"Name": "n", "Ingress": true}), "ingress"),
            (json!({"Name": "n", "ConfigOnly": true}), "configuration"),
            (json!({"Name": "n", "ConfigFrom": {"Network": "m"}}), "configuration"),
            (json!({"Name": "n", "Scope": "swarm"}), "\"swarm\""),
            (json!({"Name": "n", "IPAM": {"Driver": "dhcp"}}), "IPAM driver \"dhcp\""),
            (json!({"Name": "n", "IPAM": {"Options": {"a": "b"}}}), "IPAM option \"a\""),
        ] {
            let parsed: CreateRequest = serde_json::from_value(request.clone()).unwrap();
            let error = NetworkCreate::try_from(parsed).unwrap_err().to_string();
            assert!(error.contains(why), "{request}: {error}");
        }
        let driver_opts = Some([("a".to_string(), "b".to_string())].into());
        let settings = EndpointSettings { driver_opts, ..Default::default() };
        assert!(endpoint(settings).unwrap_err().to_string().contains("unknown driver option"));
        let settings: EndpointSettings =
            serde_json::from_value(json!({"DriverOpts": {"spandrel.egress_rate": "1mbit"}})).unwrap();
        let limit = Some(model::Rate { rate: 1_000_000, burst: 0 });
        assert_eq!(endpoint(settings).unwrap().bandwidth.egress, limit);
    }

    #[test]
    fn names_of_an_endpoint() {
        let (aliases, links) = (Some(vec!["db".into()]), Some(vec!["web:www".into()]));
        let request = endpoint(EndpointSettings { aliases, links, ..Default::default() }).unwrap();
        assert_eq!(request.aliases, ["db"]);
        assert_eq!((request.links[0].target.as_str(), request.links[0].alias.as_str()), ("web", "www"));
        let settings = EndpointSettings { aliases: Some(vec!["a b".into()]), ..Default::default() };
        assert!(endpoint(settings).unwrap_err().to_string().contains("invalid alias"));
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("", 9), ("TERM", 15), ("SIGTERM", 15), ("sigint", 2), ("9", 9), ("34", 34)] {
            assert_eq!(signal(text).unwrap(), number, "{text:?}");
        }
        for text in ["0", "65", "-9", "TERMINATE", "SIG"] {
            assert!(signal(text).is_err(), "{text:?}");
        }
    }
}
