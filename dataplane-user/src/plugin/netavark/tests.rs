use ipnet::IpNet;
use serde_json::{Value, json};

use super::*;
use crate::api::types::attachment::{self, AttachedAddress, AttachedResolver};
use crate::api::types::network as api;

/// What Podman 5.4 sends to `create`.
fn created() -> Value {
    json!({
        "name": "web", "id": "44c261ae4e7d", "driver": "spandrel", "created": "0001-01-01T00:00:00Z",
        "subnets": [{"subnet": "10.1.2.0/24", "lease_range": {"start_ip": "10.1.2.129", "end_ip": "10.1.2.254"}}],
        "ipv6_enabled": false, "internal": false, "dns_enabled": true, "labels": {"a": "b"}, "options": {"mtu": "1400"},
    })
}

/// What netavark 1.14 sends to `setup` and `teardown`.
fn joined() -> Value {
    json!({
        "container_id": "979179f88301c016", "container_name": "x",
        "port_mappings": [
            {"container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 3},
            {"container_port": 53, "host_ip": "127.0.0.1", "host_port": 5353, "protocol": "udp,tcp", "range": 1},
            {"container_port": 53, "host_ip": "fd00::1", "host_port": 53, "protocol": "", "range": 0},
        ],
        "network": {
            "dns_enabled": true, "driver": "spandrel", "id": "44c261ae4e7d", "internal": false, "ipv6_enabled": false,
            "name": "web", "network_interface": null, "options": null, "ipam_options": null,
            "subnets": [{"gateway": "10.1.2.1", "lease_range": null, "subnet": "10.1.2.0/24"}],
            "routes": null, "network_dns_servers": null,
        },
        "network_options": {
            "aliases": ["foo", "979179f88301"], "interface_name": "eth0", "static_ips": ["10.1.2.9", "fd00::9"],
            "static_mac": "02:00:00:00:00:01", "options": null,
        },
    })
}

fn network(value: Value) -> Network {
    serde_json::from_value(value).unwrap()
}

fn with(changes: Value) -> Network {
    let mut value = created();
    value.as_object_mut().unwrap().extend(changes.as_object().cloned().unwrap());
    network(value)
}

/// The agent's network with these subnets and gateways.
fn made(subnets: &[(&str, &str)]) -> api::Network {
    let config: Vec<_> =
        subnets.iter().map(|(subnet, gateway)| json!({"Subnet": subnet, "Gateway": gateway})).collect();
    serde_json::from_value(json!({
        "Name": "web", "Id": "0a", "Created": "2026-01-01T00:00:00Z", "Scope": "local", "Driver": "bridge", "EnableIPv4": true,
        "EnableIPv6": subnets.iter().any(|(subnet, _)| subnet.contains(':')), "IPAM": {"Config": config},
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
    }))
    .unwrap()
}

#[test]
fn a_network_is_asked_for_as_podman_describes_it() {
    let request = create_network(&network(created())).unwrap();
    assert_eq!((request.name.as_str(), request.internal), ("web", false));
    assert_eq!((request.enable_ipv4, request.enable_ipv6), (Some(true), Some(false)));
    let config = request.ipam.unwrap().config;
    assert_eq!((config.len(), config[0].subnet.as_str(), config[0].ip_range.as_str()), (1, "10.1.2.0/24", ""));
    assert_eq!(request.options["com.docker.network.driver.mtu"], "1400");
    assert_eq!((request.labels["a"].as_str(), request.labels[LABEL].as_str()), ("b", "44c261ae4e7d"));

    let families = |changes| {
        let request = create_network(&with(changes)).unwrap();
        (request.enable_ipv4, request.enable_ipv6)
    };
    assert_eq!(families(json!({"subnets": null})), (Some(true), Some(false)));
    assert_eq!(families(json!({"subnets": null, "ipv6_enabled": true})), (Some(true), Some(true)));
    assert_eq!(families(json!({"ipv6_enabled": true})), (Some(true), Some(true)));
    assert_eq!(families(json!({"subnets": [{"subnet": "fd00::/64"}]})), (Some(false), Some(true)));
}

#[test]
fn options_have_other_names_here() {
    let options = |given: Value| create_network(&with(json!({"options": given}))).map(|request| request.options);
    let translated = options(json!({
        "isolate": "strict", "mtu": "0", "outbound_addr4": "192.0.2.1", "outbound_addr6": "2001:db8::1",
        "com.docker.network.bridge.enable_icc": "false", "spandrel.endpoint_independent_mapping": "true",
    }));
    let expected = [
        ("com.docker.network.bridge.enable_icc", "false"),
        ("com.docker.network.host_ipv4", "192.0.2.1"),
        ("com.docker.network.host_ipv6", "2001:db8::1"),
        ("spandrel.endpoint_independent_mapping", "true"),
    ];
    assert_eq!(translated.unwrap(), expected.map(|(key, value)| (key.into(), value.into())).into());
    let named = create_network(&with(json!({"network_interface": "br7"}))).unwrap();
    assert_eq!(named.options["com.docker.network.bridge.name"], "br7");
    for (given, why) in [
        (json!({"isolate": "false"}), "isolate=false"),
        (json!({"vlan": "7"}), "the option vlan is not supported"),
        (json!({"no_default_route": "true"}), "no_default_route"),
    ] {
        assert!(options(given).unwrap_err().to_string().contains(why), "{why}");
    }
}

#[test]
fn what_no_agent_could_do_is_refused() {
    for (changes, why) in [
        (json!({"routes": [{"destination": "10.9.0.0/16", "gateway": "10.1.2.3"}]}), "--route"),
        (json!({"network_dns_servers": ["192.0.2.53"]}), "--dns"),
        (json!({"ipam_options": {"driver": "dhcp"}}), "dhcp"),
    ] {
        assert!(create_network(&with(changes)).unwrap_err().to_string().contains(why), "{why}");
    }
}

#[test]
fn podman_gets_its_network_back_with_what_was_left_open() {
    let filled = fill(network(created()), &made(&[("10.1.2.0/24", "10.1.2.1")]));
    let mut expected = created();
    expected["subnets"][0]["gateway"] = "10.1.2.1".into();
    assert_eq!(serde_json::to_value(&filled).unwrap(), expected);

    let filled =
        fill(with(json!({"subnets": null})), &made(&[("172.18.0.0/16", "172.18.0.1"), ("fd01::/64", "fd01::1")]));
    let value = serde_json::to_value(&filled).unwrap();
    let subnets = json!([
        {"subnet": "172.18.0.0/16", "gateway": "172.18.0.1"}, {"subnet": "fd01::/64", "gateway": "fd01::1"},
    ]);
    assert_eq!((&value["subnets"], &value["ipv6_enabled"]), (&subnets, &json!(true)));

    // Podman refuses subnets where it gives no addresses.
    let without = with(json!({"subnets": null, "ipam_options": {"driver": "none"}}));
    assert_eq!(fill(without, &made(&[("172.18.0.0/16", "172.18.0.1")])).subnets, []);
}

#[test]
fn another_network_of_the_same_name_is_noticed() {
    let there = made(&[("10.1.2.0/24", "10.1.2.1")]);
    check_same(&network(created()), &there).unwrap();
    check_same(&with(json!({"subnets": null})), &there).unwrap();
    for (changes, why) in [
        (json!({"internal": true}), "is not internal"),
        (json!({"subnets": [{"subnet": "10.9.0.0/24"}]}), "has not the subnet 10.9.0.0/24"),
        (
            json!({"subnets": [{"subnet": "10.1.2.0/24", "gateway": "10.1.2.7"}]}),
            "its gateway is 10.1.2.1, not 10.1.2.7",
        ),
    ] {
        let error = check_same(&with(changes), &there).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let host = api::Network { driver: "host".into(), ..there };
    assert!(check_same(&network(created()), &host).unwrap_err().to_string().contains("its driver is host"));
}

#[test]
fn a_container_joins_as_podman_wishes() {
    let setup: Setup = serde_json::from_value(joined()).unwrap();
    let request = attach(&setup, "/run/netns/n", publishes(&setup.port_mappings)).unwrap();
    assert_eq!((request.netns.as_str(), request.id.as_str()), ("/run/netns/n", "979179f88301c016"));
    assert_eq!((request.preferred_name.as_str(), request.name.as_str()), ("x", ""));
    assert_eq!((request.network.as_str(), request.interface.as_str()), ("web", "eth0"));
    assert_eq!(request.owner, "podman web");
    let addresses = request.endpoint.ipam_config.unwrap();
    assert_eq!((addresses.ipv4_address.as_str(), addresses.ipv6_address.as_str()), ("10.1.2.9", "fd00::9"));
    assert_eq!(request.endpoint.mac_address, "02:00:00:00:00:01");
    assert_eq!(request.endpoint.aliases.unwrap(), ["foo", "979179f88301", "x"]);
    let ports = ["8080-8082:80-82/tcp", "127.0.0.1:5353:53/udp", "127.0.0.1:5353:53/tcp", "[fd00::1]:53:53/tcp"];
    assert_eq!(request.publish.publish, ports);

    let mut two = setup.clone();
    two.network_options.static_ips = vec!["10.1.2.9".into(), "10.1.2.10".into()];
    let error = attach(&two, "/n", Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "an interface has one address of a family, not both 10.1.2.9 and 10.1.2.10");
    let mut named = setup;
    named.network_options.options.insert("host_interface_name".into(), "veth7".into());
    assert!(attach(&named, "/n", Vec::new()).unwrap_err().to_string().contains("host_interface_name"));
}

#[test]
fn the_status_says_addresses_and_name_servers() {
    let address = |address: &str, gateway: &str| {
        address.parse::<IpNet>().unwrap();
        AttachedAddress { address: address.into(), gateway: gateway.into() }
    };
    let attached = attachment::Attachment {
        interface: "eth0".into(),
        mac_address: "02:00:00:00:00:01".into(),
        addresses: vec![address("10.1.2.9/24", "10.1.2.1"), address("fd00::9/64", "")],
        dns: AttachedResolver { servers: vec!["127.0.0.11".into()], search: vec!["lan".into()], options: Vec::new() },
        ..Default::default()
    };
    let setup: Setup = serde_json::from_value(joined()).unwrap();
    let said = serde_json::to_value(status(&setup.network, &attached)).unwrap();
    let subnets = json!([{"ipnet": "10.1.2.9/24", "gateway": "10.1.2.1"}, {"ipnet": "fd00::9/64"}]);
    let expected = json!({
        "dns_server_ips": ["127.0.0.11"], "dns_search_domains": ["lan"],
        "interfaces": {"eth0": {"mac_address": "02:00:00:00:00:01", "subnets": subnets}},
    });
    assert_eq!(said, expected);
    let servers = |network: Network| status(&network, &attached).dns_server_ips;
    assert_eq!(servers(with(json!({"dns_enabled": false}))), Vec::<String>::new());
    assert_eq!(servers(with(json!({"dns_enabled": false, "ipam_options": {"driver": "none"}}))), ["127.0.0.11"]);
}
