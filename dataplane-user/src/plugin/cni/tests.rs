use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::types::attachment;

fn call(variables: &[(&str, &str)]) -> Result<Option<Call>, Error> {
    let map: HashMap<_, _> = variables.iter().copied().collect();
    Call::parse(|name| map.get(name).map(|value| value.to_string()))
}

fn add(args: &str) -> Call {
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "pod-1"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
        ("CNI_ARGS", args),
    ];
    call(&variables).unwrap().unwrap()
}

fn parse(config: &Value) -> Result<Config, Error> {
    Config::parse(config.to_string().as_bytes())
}

fn config(further: Value) -> Config {
    let mut config = json!({"cniVersion": "1.1.0", "name": "web", "type": "spandrel-cni"});
    config.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    parse(&config).unwrap()
}

#[test]
fn the_environment() {
    let add = add("IgnoreUnknown=1;K8S_POD_NAME=shop;IP=10.0.0.5,fd00::5;MAC=02:00:00:00:00:05;OTHER=x");
    assert_eq!((add.verb, add.container.as_str(), add.interface.as_str()), (Verb::Add, "pod-1", "eth0"));
    assert_eq!(add.path.len(), 2);
    assert_eq!(add.args.ips, ["10.0.0.5", "fd00::5"]);
    assert_eq!((add.args.mac.as_deref(), add.args.name.as_deref()), (Some("02:00:00:00:00:05"), Some("shop")));
    assert_eq!(call(&[]).unwrap(), None);
    let del = call(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "eth0"), ("CNI_PATH", "/x")]);
    assert_eq!(del.unwrap().unwrap().netns, "");
    for (variables, why) in [
        (&[("CNI_COMMAND", "FLY")][..], "unknown CNI_COMMAND \"FLY\""),
        (&[("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "e")], "[CNI_CONTAINERID,CNI_NETNS,CNI_PATH] missing"),
        (&[("CNI_COMMAND", "GC")], "[CNI_PATH] missing"),
        (
            &[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a/b"), ("CNI_IFNAME", "e"), ("CNI_PATH", "/x")],
            "CNI_CONTAINERID is wrong",
        ),
        (
            &[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "a b"), ("CNI_PATH", "/x")],
            "CNI_IFNAME is wrong",
        ),
        (&[("CNI_COMMAND", "VERSION"), ("CNI_ARGS", "x")], "CNI_ARGS: invalid pair \"x\""),
    ] {
        let error = call(variables).unwrap_err();
        assert!(error.code == Code::Environment && error.message.contains(why), "{error:?}");
    }
}

#[test]
fn both_spellings_of_port_mappings() {
    for mapping in [
        json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}),
        json!({"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": "127.0.0.1"}),
    ] {
        let config = config(json!({"runtimeConfig": {"portMappings": [mapping]}}));
        let request = attach(&add(""), &config, &Endpoint::default());
        assert_eq!(request.publish.publish, ["127.0.0.1:8080:80/tcp"]);
    }
    let mappings = json!([
        {"hostPort": 53, "containerPort": 53, "protocol": "udp"},
        {"hostPort": 0, "containerPort": 81},
        {"hostPort": 82, "containerPort": 82, "hostIP": "::1"},
    ]);
    let config = config(json!({"runtimeConfig": {"portMappings": mappings}}));
    assert_eq!(attach(&add(""), &config, &Endpoint::default()).publish.publish, ["53:53/udp", "[::1]:82:82/tcp"]);
}

#[test]
fn what_a_runtime_wishes() {
    let runtime =
        json!({"ips": ["10.0.0.5/24", "fd00::5"], "mac": "02:00:00:00:00:05", "aliases": {"web": ["a", "b"]}});
    let config = config(json!({"runtimeConfig": runtime, "network": "front"}));
    let call = add("K8S_POD_NAME=shop");
    let request = attach(&call, &config, &Endpoint::wished(&call, &config).unwrap());
    let ipam = request.endpoint.ipam_config.unwrap();
    assert_eq!((ipam.ipv4_address.as_str(), ipam.ipv6_address.as_str()), ("10.0.0.5", "fd00::5"));
    assert_eq!(request.endpoint.mac_address, "02:00:00:00:00:05");
    assert_eq!(request.endpoint.aliases.unwrap(), ["a", "b"]);
    assert_eq!((request.id.as_str(), request.network.as_str(), request.interface.as_str()), ("pod-1", "front", "eth0"));
    assert_eq!((request.preferred_name.as_str(), request.owner.as_str()), ("shop", "cni web"));
    let error = Endpoint::wished(&add("IP=10.0.0.6"), &config).unwrap_err();
    assert_eq!((error.code, error.message.contains("both 10.0.0.5 and 10.0.0.6")), (Code::Config, true));
}

#[test]
fn the_network_that_is_made() {
    let ipam = json!({"ranges": [[{"subnet": "10.4.0.0/24", "gateway": "10.4.0.1"}], [{"subnet": "fd04::/64"}]]});
    let request = create_network(&config(json!({"ipam": ipam, "internal": true, "mtu": 1400})), None).unwrap();
    let subnets: Vec<_> = request.ipam.unwrap().config.into_iter().map(|config| config.subnet).collect();
    assert_eq!(subnets, ["10.4.0.0/24", "fd04::/64"]);
    assert_eq!((request.enable_ipv4, request.enable_ipv6, request.internal), (Some(true), Some(true), true));
    assert_eq!(request.options["com.docker.network.driver.mtu"], "1400");
    let request =
        create_network(&config(json!({"ipam": {"type": "spandrel-cni", "subnet": "fd04::/64"}})), None).unwrap();
    assert_eq!((request.enable_ipv4, request.enable_ipv6), (Some(false), Some(true)));
    let request = create_network(&config(json!({"ipv6": true})), None).unwrap();
    assert_eq!((request.enable_ipv4, request.enable_ipv6), (Some(true), Some(true)));
}

#[test]
fn ranges_as_host_local_writes_them() {
    let range = |subnet: Value| {
        let request = create_network(&config(json!({"ipam": {"ranges": [[subnet]]}})), None)?;
        Ok::<_, Error>(request.ipam.unwrap().config[0].ip_range.clone())
    };
    for (start, end, expected) in [
        ("10.4.0.50", "10.4.0.99", "10.4.0.50-10.4.0.99"),
        ("10.4.0.50", "", "10.4.0.50-10.4.0.255"),
        ("", "10.4.0.99", "10.4.0.0-10.4.0.99"),
        ("10.4.0.128", "10.4.0.255", "10.4.0.128/25"),
        ("", "", ""),
    ] {
        assert_eq!(range(json!({"subnet": "10.4.0.0/24", "rangeStart": start, "rangeEnd": end})).unwrap(), expected);
    }
    for (subnet, why) in [
        (json!({"subnet": "10.4.0.0/24", "rangeStart": "10.4.0.9", "rangeEnd": "10.4.0.8"}), "in this order"),
        (json!({"subnet": "10.4.0.0/24", "rangeStart": "10.5.0.9"}), "not two addresses of 10.4.0.0/24"),
        (json!({"subnet": "10.4.0.0/24", "rangeStart": "nine"}), "invalid rangeStart \"nine\""),
        (json!({"subnet": "ten", "rangeStart": "10.4.0.9"}), "invalid subnet \"ten\""),
        (json!({"subnet": "10.4.0.0/24", "rangeEnd": "10.4.0.9", "ipRange": "10.4.0.0/28"}), "as well as"),
    ] {
        let error = range(subnet).unwrap_err();
        assert!(error.code == Code::Config && error.message.contains(why), "{error:?}");
    }
}

#[test]
fn routes_of_either_ipam() {
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.4.0.7"}, {"dst": "fd09::/32"}]);
    let config = config(json!({"ipam": {"routes": routes}}));
    let own = Endpoint::wished(&add(""), &config).unwrap();
    let outcome = Outcome::from_json(json!({"ips": [{"address": "10.4.0.9/24"}], "routes": routes})).unwrap();
    for endpoint in [own, from_ipam(&outcome).unwrap()] {
        let asked = attach(&add(""), &config, &endpoint).routes;
        let asked: Vec<_> = asked.iter().map(|route| (route.destination.as_str(), route.gateway.as_str())).collect();
        assert_eq!(asked, [("10.9.0.0/16", "10.4.0.7"), ("fd09::/32", "")]);
    }
}

#[test]
fn another_plugin_gives_addresses() {
    let config = config(
        json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.9"}]]}}),
    );
    assert_eq!(config.ipam, Ipam::Plugin("host-local".into()));
    let given = |value| from_ipam(&Outcome::from_json(value).unwrap());
    let endpoint = given(json!({
        "cniVersion": "1.1.0", "ips": [{"address": "10.5.0.9/24", "gateway": "10.5.0.1"}], "routes": [{"dst": "0.0.0.0/0"}], "dns": {}
    }));
    let endpoint = endpoint.unwrap();
    assert_eq!(endpoint.ipv4, "10.5.0.9".parse().ok());
    let request = create_network(&config, Some(&endpoint)).unwrap();
    let subnet = &request.ipam.unwrap().config[0];
    assert_eq!((subnet.subnet.as_str(), subnet.gateway.as_str()), ("10.5.0.0/24", "10.5.0.1"));
    assert_eq!((request.enable_ipv4, request.enable_ipv6), (Some(true), Some(false)));
    for (value, why) in [
        (json!({"ips": []}), "gave no address"),
        (json!({"ips": [{"address": "10.5.0.9/24"}, {"address": "10.5.0.10/24"}]}), "one address of a family"),
        (json!({"ips": [{"address": "ten"}]}), "invalid address"),
    ] {
        assert!(given(value.clone()).unwrap_err().message.contains(why), "{value}");
    }
}

#[test]
fn bandwidth_as_runtimes_spell_it() {
    let options = |bandwidth: Value| {
        let config = json!({"cniVersion": "1.0.0", "name": "web", "runtimeConfig": {"bandwidth": bandwidth}});
        let request = attach(&add(""), &parse(&config).unwrap(), &Endpoint::default());
        json!(request.endpoint.driver_opts.unwrap())
    };
    let expected =
        json!({"spandrel.ingress_rate": "1000", "spandrel.ingress_burst": "2000", "spandrel.egress_rate": "3000"});
    let spelled =
        json!({"ingressRate": 1000, "ingressBurst": 2000, "egressRate": 3000, "egressBurst": 4_294_967_295_u32});
    assert_eq!(options(spelled), expected);
    let as_go_does = json!({"IngressRate": 1000, "IngressBurst": 2000, "EgressRate": 3000, "EgressBurst": i32::MAX});
    assert_eq!(options(as_go_does), expected);
    for none in
        [Value::Null, json!({}), json!({"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0})]
    {
        assert_eq!(options(none), json!({}));
    }
}

#[test]
fn what_is_refused() {
    let base = |further: Value| {
        let mut config = json!({"cniVersion": "1.0.0", "name": "web", "type": "spandrel-cni"});
        config.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        config
    };
    for (config, code, why) in [
        (base(json!({"cniVersion": "0.2.0"})), Code::IncompatibleVersion, "plugin supports 0.3.1, 0.4.0, 1.0.0, 1.1.0"),
        (base(json!({"cniVersion": "9"})), Code::IncompatibleVersion, "config is \"9\""),
        (base(json!({"name": ""})), Code::Config, "Invalid network name"),
        (base(json!({"name": "a b"})), Code::Config, "Invalid network name"),
        (base(json!({"name": 1})), Code::Decode, "cannot read"),
        (base(json!({"runtimeConfig": {"bandwidth": {"ingressRate": "fast"}}})), Code::Decode, "\"fast\""),
        (base(json!({"runtimeConfig": {"portMappings": [{"hostPort": 80}]}})), Code::Config, "container port"),
        (base(json!({"runtimeConfig": {"portMappings": [{"hostPort": 70000}]}})), Code::Decode, "70000"),
    ] {
        let error = parse(&config).unwrap_err();
        assert!(error.code == code && error.message.contains(why), "{config}: {error:?}");
    }
    assert_eq!(Config::parse(b"{").unwrap_err().code, Code::Decode);
    // GC's older key is read, too.
    let config = parse(&base(json!({"cni.dev/attachments": [{"containerID": "a", "ifname": "eth0"}]}))).unwrap();
    assert_eq!(config.valid, [Attachment { container: "a".into(), interface: "eth0".into() }]);
}

fn attached() -> attachment::Attachment {
    attachment::Attachment {
        interface: "eth0".into(),
        mac_address: "02:00:00:00:00:02".into(),
        mtu: 1400,
        host_interface: "veth1".into(),
        host_mac_address: "02:00:00:00:00:01".into(),
        bridge: "br-1".into(),
        bridge_mac_address: "02:00:00:00:00:ff".into(),
        addresses: vec![
            attachment::AttachedAddress { address: "10.0.0.2/24".into(), gateway: "10.0.0.1".into() },
            attachment::AttachedAddress { address: "fd00::2/64".into(), gateway: String::new() },
        ],
        routes: vec![attachment::AttachedRoute { destination: "0.0.0.0/0".into(), gateway: "10.0.0.1".into() }],
        dns: attachment::AttachedResolver { servers: vec!["127.0.0.11".into()], ..Default::default() },
        ..Default::default()
    }
}

#[test]
fn results_in_each_version() {
    let outcome = of_attachment(&attached(), "/run/netns/x");
    for version in Version::ALL {
        let json = outcome.to_json(version);
        assert_eq!(json["cniVersion"], version.as_str());
        assert_eq!(json["interfaces"][2]["sandbox"], "/run/netns/x");
        assert_eq!(json["interfaces"][0].get("sandbox"), None);
        assert_eq!(json["ips"][0]["interface"], 2);
        assert_eq!(json["ips"][1].get("gateway"), None);
        let families = [&json["ips"][0], &json["ips"][1]].map(|ip| ip.get("version").cloned());
        let old = version < Version::V1_0_0;
        assert_eq!(families, if old { [Some(json!("4")), Some(json!("6"))] } else { [None, None] });
        assert_eq!(json["interfaces"][2].get("mtu").is_some(), version == Version::V1_1_0);
        assert_eq!(json["dns"], json!({"nameservers": ["127.0.0.11"]}));
        let back = Outcome::from_json(json).unwrap();
        assert_eq!(back.addresses_of("eth0", "/run/netns/x").unwrap(), ["10.0.0.2/24", "fd00::2/64"]);
        assert_eq!(back.addresses_of("eth0", ""), None);
    }
}

#[test]
fn after_another_plugin() {
    let before = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "lo", "sandbox": "/run/netns/x", "socketPath": "/s"}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
        "dns": {"nameservers": ["192.0.2.1"]},
    });
    let both = of_attachment(&attached(), "/run/netns/x").after(Outcome::from_json(before).unwrap());
    let json = both.to_json(Version::V1_0_0);
    assert_eq!((&json["interfaces"][0]["socketPath"], &json["interfaces"][3]["name"]), (&json!("/s"), &json!("eth0")));
    assert_eq!((&json["ips"][0]["interface"], &json["ips"][1]["interface"]), (&json!(0), &json!(3)));
    assert_eq!(json["dns"]["nameservers"], json!(["127.0.0.11"]));
}

#[test]
fn errors() {
    let error = Error::new(Code::TryAgain, "no agent");
    assert_eq!(error.to_json(Version::V1_0_0), json!({"cniVersion": "1.0.0", "code": 11, "msg": "no agent"}));
    let other = Error::from_json(br#"{"cniVersion":"1.0.0","code":7,"msg":"bad","details":"very"}"#).unwrap();
    assert_eq!((other.code.number(), other.message.as_str()), (7, "bad: very"));
    assert_eq!(Error::from_json(b"Segmentation fault"), None);
}

/// Any JSON at all.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9:./]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(known_key(), inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

/// Keys that mean something somewhere, so that arbitrary objects get past the surface.
fn known_key() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 22] = [
        "cniVersion",
        "name",
        "ipam",
        "type",
        "ranges",
        "subnet",
        "routes",
        "dst",
        "runtimeConfig",
        "portMappings",
        "hostPort",
        "HostPort",
        "containerPort",
        "ips",
        "address",
        "interface",
        "interfaces",
        "aliases",
        "dns",
        "prevResult",
        "sandbox",
        "nameservers",
    ];
    prop::sample::select(KNOWN.as_slice()).prop_map(String::from)
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let interface = ("[a-z]{1,8}", "[0-9a-f:]{0,17}", prop::option::of(68u32..65536), "(/[a-z]{1,8}){0,2}");
    let interface =
        interface.prop_map(|(name, mac, mtu, sandbox)| Interface { name, mac, mtu, sandbox, ..Default::default() });
    let ip = ("[0-9a-f:.]{1,20}/[0-9]{1,3}", "[0-9a-f:.]{0,20}", prop::option::of(0usize..4));
    let ip = ip.prop_map(|(address, gateway, interface)| Ip { address, gateway, interface });
    let dns =
        prop::collection::vec("[0-9.]{1,12}", 0..3).prop_map(|nameservers| Dns { nameservers, ..Default::default() });
    let lists = (prop::collection::vec(interface, 0..4), prop::collection::vec(ip, 0..4), dns);
    lists.prop_map(|(interfaces, ips, dns)| Outcome { interfaces, ips, dns, ..Default::default() })
}

proptest! {
    /// Whatever a runtime sends is read or refused with a sentence.
    #[test]
    fn any_configuration_is_judged(mut value in any_json(), version in prop::sample::select(Version::ALL.as_slice())) {
        if let Some(object) = value.as_object_mut() {
            object.insert("cniVersion".into(), version.as_str().into());
            object.insert("name".into(), "web".into());
        }
        match parse(&value) {
            Ok(config) => {
                let _ = create_network(&config, None).unwrap();
                let call = add("");
                if let Ok(endpoint) = Endpoint::wished(&call, &config) {
                    prop_assert_eq!(attach(&call, &config, &endpoint).network, config.network);
                }
            }
            Err(error) => prop_assert!(!error.message.is_empty()),
        }
    }

    /// A result is the same after it was printed and read, but for what a version does not know.
    #[test]
    fn results_survive(outcome in outcome(), version in prop::sample::select(Version::ALL.as_slice())) {
        let back = Outcome::from_json(outcome.to_json(version)).unwrap();
        let mut expected = outcome;
        if version < Version::V1_1_0 {
            expected.interfaces.iter_mut().for_each(|interface| interface.mtu = None);
        }
        prop_assert_eq!(back, expected);
    }

    /// Behind other plugins' addresses, ours still point to our interfaces.
    #[test]
    fn places_are_kept(before in outcome(), ours in outcome()) {
        let name = |all: &Outcome, ip: &Ip| ip.interface.and_then(|index| Some(all.interfaces.get(index)?.name.clone()));
        let both = ours.clone().after(before.clone());
        for (index, ip) in ours.ips.iter().enumerate() {
            let place = &both.ips[before.ips.len() + index];
            prop_assert_eq!(name(&both, place), name(&ours, ip));
        }
    }

    /// Arguments never do worse than being refused.
    #[test]
    fn any_arguments(text in "[A-Z0-9=;,.: ]{0,40}") {
        let _ = Args::parse(&text);
    }
}
