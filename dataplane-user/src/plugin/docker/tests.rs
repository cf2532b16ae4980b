//! What dockerd 20.10 was seen to send, translated.

use serde_json::{Value, json};

use super::options;
use super::types::Options;
use crate::model::{Engine, HostPort, Protocol};

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn options_of(value: Value) -> Options {
    value.as_object().expect("an object").clone()
}

#[test]
fn a_network() {
    let call = json!({
        "NetworkID": id('a'),
        "Options": {
            "com.docker.network.enable_ipv6": true,
            "com.docker.network.internal": true,
            "com.docker.network.generic": {"com.docker.network.bridge.enable_icc": "false", "com.docker.network.driver.mtu": 1400},
        },
        "IPv4Data": [{"AddressSpace": "local", "Pool": "10.7.0.0/24", "Gateway": "10.7.0.1/24", "AuxAddresses": {"printer": "10.7.0.9/24"}}],
        "IPv6Data": [{"AddressSpace": "local", "Pool": "fd07::/64", "Gateway": "fd07::1/64"}],
    });
    let network = options::network(serde_json::from_value(call).unwrap()).unwrap();
    assert_eq!(network.name, "docker-aaaaaaaaaaaa");
    assert_eq!(network.engine, Some((Engine::Docker, id('a').parse().unwrap())));
    assert_eq!((network.internal, network.enable_ipv4, network.enable_ipv6), (true, None, Some(true)));
    assert_eq!(network.options["com.docker.network.bridge.enable_icc"], "false");
    assert_eq!(network.options["com.docker.network.driver.mtu"], "1400");
    assert_eq!(network.ipam[0].subnet.as_deref(), Some("10.7.0.0/24"));
    assert_eq!(network.ipam[0].gateway.as_deref(), Some("10.7.0.1"));
    assert_eq!(network.ipam[0].aux["printer"], "10.7.0.9");
    assert_eq!(network.ipam[1].gateway.as_deref(), Some("fd07::1"));
}

#[test]
fn a_network_without_a_subnet_is_refused() {
    let call = json!({"NetworkID": id('a'), "IPv4Data": [{"Pool": "0.0.0.0/0"}]});
    let error = options::network(serde_json::from_value(call).unwrap()).unwrap_err().to_string();
    assert!(error.contains("--ipam-driver spandrel"), "{error}");
}

#[test]
fn an_endpoint() {
    let call = json!({
        "NetworkID": id('a'),
        "EndpointID": id('e'),
        "Interface": {"Address": "10.7.0.2/24", "AddressIPv6": "fd07::2/64", "MacAddress": "02:00:00:00:00:07"},
        "Options": {
            "com.docker.network.endpoint.exposedports": [{"Proto": 17, "Port": 53}, {"Proto": 6, "Port": 80}],
        },
    });
    let request = options::endpoint(&serde_json::from_value(call).unwrap()).unwrap();
    assert_eq!(request.id.to_string(), id('e'));
    assert_eq!(request.endpoint.ipv4, Some("10.7.0.2".parse().unwrap()));
    assert_eq!(request.endpoint.ipv6, Some("fd07::2".parse().unwrap()));
    assert_eq!(request.endpoint.mac.unwrap().to_string(), "02:00:00:00:00:07");
    let exposed: Vec<_> = request.exposed.iter().map(ToString::to_string).collect();
    assert_eq!(exposed, ["53/udp", "80/tcp"]);
}

#[test]
fn published_ports() {
    let portmap = json!({"com.docker.network.portmap": [
        {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080},
        {"Proto": 17, "IP": "", "Port": 53, "HostIP": "127.0.0.1", "HostPort": 0, "HostPortEnd": 0},
        {"Proto": 132, "IP": "", "Port": 90, "HostIP": "::1", "HostPort": 9000, "HostPortEnd": 9010},
    ]});
    let ports = options::ports(&options_of(portmap)).unwrap();
    let seen: Vec<_> = ports.iter().map(|port| (port.protocol, port.container_port, port.host_port)).collect();
    let expected = [
        (Protocol::Tcp, 80, HostPort::Fixed(8080)),
        (Protocol::Udp, 53, HostPort::Any),
        (Protocol::Sctp, 90, HostPort::Range(9000, 9010)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(ports[0].host_ip, None);
    assert_eq!(ports[1].host_ip, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(options::ports(&options_of(json!({"com.docker.network.portmap": null}))).unwrap(), []);
    let wrong = json!({"com.docker.network.portmap": [{"Proto": 1, "Port": 80}]});
    assert!(options::ports(&options_of(wrong)).unwrap_err().to_string().contains("protocol 1"));
}
