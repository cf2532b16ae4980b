//! Subnets and addresses (SEMANTICS §2): pools that can be configured, subnets by size alone, and how full they are.

use spandrel_tests::*;

/// The subnets of a network, as `network inspect` shows them.
#[track_caller]
fn subnets(site: &Site, network: &str) -> Vec<String> {
    let details = site.host.spandrel(&["network", "inspect", network]).json();
    let configs = details[0]["IPAM"]["Config"].as_array().cloned().unwrap_or_default();
    configs.iter().filter_map(|config| Some(config["Subnet"].as_str()?.to_owned())).collect()
}

/// Two containers of a network reach each other and the outside.
#[track_caller]
fn assert_works(site: &Site, network: &str) {
    let [a, b] =
        ["a", "b"].map(|name| site.host.run_container(&format!("--name {name}-{network} --network {network}")));
    for family in Family::BOTH {
        a.ping(b.ip(family)).expect("a neighbour");
        a.ping(Site::far(family)).expect("the way out");
    }
}

/// §2: `agent --default-address-pool` says where subnets come from, in order and for each family; when they run out, the error says how to
/// add others, and with these it goes on.
#[test]
fn pools_can_be_configured() {
    let v4 = "--default-address-pool base=10.201.0.0/24,size=26 --default-address-pool base=10.202.0.0/24,size=24";
    let mut site = Site::with_agent(&format!("{v4} --default-address-pool size=64,base=fd00:201::/63"));
    assert_eq!(subnets(&site, "bridge"), ["10.201.0.0/26"]);
    site.host.create_network("--ipv6 red");
    assert_eq!(subnets(&site, "red"), ["10.201.0.64/26", "fd00:201::/64"]);
    assert_works(&site, "red");
    site.host.create_network("--ipv6 green");
    site.host.create_network("blue");
    site.host.assert_refused(
        "network create --ipv6 --ipv4=false more",
        &["fully subnetted", "--default-address-pool", "size=64"],
    );
    site.host.create_network("last");
    assert_eq!(subnets(&site, "last"), ["10.202.0.0/24"]);
    site.host.assert_refused(
        "network create more",
        &["fully subnetted", "--subnet", "--default-address-pool base=10.201.0.0/16,size=24"],
    );
    // Networks keep their subnets, whatever the pools.
    let before = site.host.state();
    site.agent.kill();
    site.agent = site.host.agent_with("--default-address-pool base=10.203.0.0/16,size=24");
    assert_eq!(site.host.state().lines("network "), before.lines("network "));
    site.host.create_network("--ipv6 more");
    assert_eq!(subnets(&site, "more")[0], "10.203.0.0/24");
}

/// Pools that make no sense are refused, with what is wrong.
#[test]
fn pools_that_make_no_sense_are_refused() {
    let lab = Lab::new();
    let host = lab.host("host");
    let before = host.traces();
    for (pools, word) in [
        ("--default-address-pool 10.0.0.0/8", "base=CIDR"),
        ("--default-address-pool base=10.0.0.7/8,size=24", "should be 10.0.0.0/8"),
        ("--default-address-pool base=10.0.0.0/16,size=12", "from 16 to 30"),
        ("--default-address-pool base=127.0.0.0/8,size=24", "loopback"),
        ("--default-address-pool base=10.0.0.0/8,size=24 --default-address-pool base=10.1.0.0/16,size=24", "overlap"),
    ] {
        let output = host.spandrel(&format!("agent --state-dir /run/other-state --run-dir /run/other {pools}"));
        assert!(matches!(output.code, Some(1 | 2)) && output.stderr.contains(word), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    assert_eq!(host.traces(), before);
}

/// §2: a subnet by its size alone is any free one of that size, in both families.
#[test]
fn a_size_is_enough_for_a_subnet() {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 0.0.0.0/24 --subnet ::/80 red");
    site.host.create_network("--subnet 0.0.0.0/24 blue");
    site.host.create_network("green");
    let red = subnets(&site, "red");
    assert!(red[0] == "172.18.0.0/24" && red[1].starts_with("fd") && red[1].ends_with("/80"), "{red:?}");
    assert_eq!(
        (subnets(&site, "blue"), subnets(&site, "green")),
        (vec!["172.18.1.0/24".into()], vec!["172.19.0.0/16".into()])
    );
    assert_works(&site, "red");
    site.host.assert_refused("network create --subnet 0.0.0.0/8 more", &["0.0.0.0/8", "no subnets of that size"]);
    site.host.assert_refused("network create --subnet 0.0.0.0/32 more", &["0.0.0.0/32", "no subnets of that size"]);
    site.host.assert_refused("network create --ipv6 --subnet ::/40 more", &["::/40", "no subnets of that size"]);
}

/// §2: `network inspect` tells how full each subnet is; what is reserved counts as in use.
#[test]
fn inspect_tells_how_full_a_network_is() {
    let site = Site::new();
    let options =
        "--subnet 10.0.0.0/24 --ip-range 10.0.0.128/25 --aux-address nas=10.0.0.200 --ipv6 --subnet fd00:a::/120";
    site.host.create_network(&format!("{options} red"));
    let used = |subnet: &str| {
        let status = &site.host.spandrel("network inspect red").json()[0]["Status"]["IPAM"]["Subnets"][subnet];
        (status["IPsInUse"].as_u64(), status["DynamicIPsAvailable"].as_u64())
    };
    let empty = [(Some(4), Some(126)), (Some(2), Some(254))];
    assert_eq!(["10.0.0.0/24", "fd00:a::/120"].map(used), empty);
    site.host.run_container("--name web --network red");
    site.host.run_container("--name db --network red --ip 10.0.0.9");
    assert_eq!(["10.0.0.0/24", "fd00:a::/120"].map(used), [(Some(6), Some(125)), (Some(4), Some(252))]);
    site.host.spandrel("rm -f web db").ok();
    assert_eq!(["10.0.0.0/24", "fd00:a::/120"].map(used), empty);
}
