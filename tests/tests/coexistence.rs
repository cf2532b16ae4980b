//! Spandrel is not alone on its host: firewalls that forward nothing, their rules and Docker's, other people's programs on the same
//! uplink, a running dockerd. Everything works as without them, and they work as without us.
//!
//! Their programs are the real ones, from Debian's packages.

use std::net::IpAddr;

use spandrel_tests::*;

/// A site with the usual containers: one that publishes its ports, a friend on its network, a stranger on another one.
struct Scene<'s> {
    site: &'s Site,
    web: Container<'s>,
    friend: Container<'s>,
    stranger: Container<'s>,
}

impl<'s> Scene<'s> {
    fn new(site: &'s Site) -> Self {
        let run = |options: &str| site.host.run_container(options);
        Self {
            site,
            web: run(&format!("--name web --network red {PUBLISH}")),
            friend: run("--name friend --network red"),
            stranger: run("--name stranger --network blue"),
        }
    }

    /// Demands rows 1, 2, 4 to 9, 11 and 14 of SEMANTICS §1, by TCP, UDP and ICMP. Row 3 is for the host's own firewall to say.
    #[track_caller]
    fn assert_all_works(&self) {
        let Self { site, web, friend, stranger } = self;
        for family in Family::BOTH {
            let (far, public, gateway) = (Site::far(family), site.public(family), site.host.gateway("red", family));
            let services = web.serve(family.any());
            services.assert_reached(friend, web.ip(family), friend.ip(family));
            services.assert_reached(&site.host, web.ip(family), gateway);
            for client in [friend, stranger] {
                services.assert_reached_at(client, public, PUBLISHED, client.ip(family));
            }
            services.assert_reached_at(web, public, PUBLISHED, gateway);
            services.assert_reached_at(&site.internet, public, PUBLISHED, site.uplink.outside(family));
            for address in [public, family.loopback()] {
                services.assert_reached_at(&site.host, address, PUBLISHED, gateway);
            }
            let outside = site.internet.serve(far);
            for container in [web, friend, stranger] {
                outside.assert_reached(container, far, public);
            }
            at_once([&|| services.assert_out_of_reach(stranger, web.ip(family)), &|| {
                services.assert_out_of_reach(&site.internet, web.ip(family));
            }]);
        }
    }

    /// Demands what the fast path leaves to the host's stack: errors about packets that end here, and transfers that learn from them.
    #[track_caller]
    fn assert_the_stack_helps(&self) {
        let Self { site, web, friend, .. } = self;
        site.host.set_mtu(&site.uplink.name, 1300);
        site.internet.set_mtu(&site.uplink.outside_name, 1300);
        for family in Family::BOTH {
            let (far, gateway) = (Site::far(family), site.host.gateway("red", family));
            assert_eq!(friend.hop(far, 1).expect("an answer"), gateway);
            let error = friend.udp_error((far, 9), 64, 1400).expect("an ICMP error");
            assert!(error.is_too_big() && error.from == gateway && error.mtu == 1300, "{error:?}");
            for transfer in [
                Transfer::start(friend, (far, 9000), &site.internet, 9000),
                Transfer::start(&site.internet, (site.public(family), PUBLISHED.0), web, TCP_PORT),
            ] {
                transfer.assert_moves();
                transfer.finish();
            }
        }
    }

    /// Lets the internet send what is for the containers' subnets to the host, as row 11 has it.
    fn route_to_containers(self) -> Self {
        for (subnet, prefix, family) in [("10.1.0.0", 24, V4), ("fd00:1::", 64, V6)] {
            self.site.internet.add_route(subnet.parse().unwrap(), prefix, self.site.public(family));
        }
        self
    }
}

/// A site whose host has Debian's programs, and two networks.
fn site() -> Site {
    let site = Site::new();
    site.host.install_debian();
    site.host.create_network("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 red");
    site.host.create_network("--ipv6 blue");
    site
}

/// Row coexistence: a host whose FORWARD policy is DROP, also for what its bridges switch (`br_netfilter`). The control: the host does
/// not forward for others any more.
#[test]
fn a_host_that_forwards_nothing() {
    let site = site();
    let scene = Scene::new(&site).route_to_containers();
    let lab = Lab::new();
    let neighbour = lab.machine("neighbour");
    site.host.cable("lan", &neighbour, "eth0");
    let forwarded: IpAddr = "198.51.100.2".parse().unwrap();
    site.host.add_address("lan", "198.51.100.1".parse().unwrap(), 24);
    neighbour.add_address("eth0", forwarded, 24);
    neighbour.add_default_route("198.51.100.1".parse().unwrap());
    site.internet.add_route("198.51.100.0".parse().unwrap(), 24, site.public(V4));
    neighbour.ping(Site::far(V4)).expect("the control");

    for program in ["iptables", "ip6tables"] {
        site.host.command(&format!("{program} -P FORWARD DROP")).ok();
    }
    for setting in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
        site.host.set_sysctl(setting, "1");
    }
    assert_silent(neighbour.briefly().ping(Site::far(V4)));
    scene.assert_all_works();
    scene.assert_the_stack_helps();
}

/// Row coexistence: ufw, as `ufw enable` loads it: incoming and forwarded traffic is denied. Published ports are open all the same, as
/// Docker's are; the host's own services are not.
#[test]
fn ufw() {
    let site = site();
    let scene = Scene::new(&site).route_to_containers();
    let _own = site.host.tcp_listen(V4.any(), 8000);
    site.internet.tcp_connect(site.public(V4), 8000).expect("the control");
    // As the package's installation and `ufw enable` would leave them.
    let configure = "cp /usr/share/ufw/iptables/*.rules /usr/share/ufw/ufw.conf /etc/ufw && sed -i s/ENABLED=no/ENABLED=yes/ /etc/ufw/ufw.conf";
    site.host.command(&["sh", "-c", configure]).ok();
    site.host.command("/usr/lib/ufw/ufw-init start").ok();
    assert_silent(site.internet.briefly().tcp_connect(site.public(V4), 8000));
    scene.assert_all_works();
    scene.assert_the_stack_helps();
}

/// Docker 29's rules (its iptables backend) for `docker0` and a container 172.30.0.2 on it that publishes 8000:80.
const DOCKER_RULES: &str = "\
*raw
-A PREROUTING -d 172.30.0.2/32 ! -i docker0 -j DROP
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.30.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8000 -j DNAT --to-destination 172.30.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-INTERNAL - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-INTERNAL
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER -d 172.30.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
COMMIT
";

/// Row coexistence: Docker's rules, of the release that the distribution does not have yet, and a firewall in nftables beside them.
/// Whoever flushes all rules takes nothing from us.
#[test]
fn docker_rules_and_nftables() {
    let site = site();
    let scene = Scene::new(&site).route_to_containers();
    site.host.write("/run/docker.rules", DOCKER_RULES);
    site.host.command("iptables-restore /run/docker.rules").ok();
    let firewall = "table inet guard {
        chain input { type filter hook input priority filter; policy drop; ct state established,related accept; iif lo accept;
                      meta l4proto { icmp, icmpv6 } accept; }
        chain forward { type filter hook forward priority filter; policy drop; }
    }";
    site.host.write("/run/guard.nft", firewall);
    site.host.command("nft -f /run/guard.nft").ok();
    assert!(site.host.packet_filters().iter().any(|table| table.contains("guard")), "the rules are loaded");
    scene.assert_all_works();
    scene.assert_the_stack_helps();
    site.host.command("nft flush ruleset").ok();
    scene.assert_all_works();
}

/// A Docker daemon beside the scene, with a container that publishes 8000:80 and 5300:53/udp.
const DOCKER_BRIDGE: &str = "172.30.0.1";
const DOCKER_PUBLISHED: (u16, u16) = (8000, 5300);

fn docker_container(docker: &Docker) -> (Net, IpAddr) {
    (docker.run("theirs", "-p 8000:80 -p 5300:53/udp"), "172.30.0.2".parse().unwrap())
}

/// Row coexistence: a running dockerd on the same host. Containers of both reach the outside and publish ports, at one time.
#[test]
fn dockerd() {
    let site = site();
    let scene = Scene::new(&site).route_to_containers();
    let docker = site.host.docker(&format!("--bip {DOCKER_BRIDGE}/24"));
    let (theirs, theirs_at) = docker_container(&docker);
    scene.assert_all_works();

    let (public, far) = (site.public(V4), Site::far(V4));
    let services = theirs.serve(V4.any());
    services.assert_reached_at(&site.internet, public, DOCKER_PUBLISHED, site.uplink.outside(V4));
    services.assert_reached(&site.host, theirs_at, DOCKER_BRIDGE.parse().unwrap());
    site.internet.serve(far).assert_reached(&theirs, far, public);

    // Row 4: theirs reach ours by the host's address, and row 2: not directly.
    let services = scene.web.serve(V4.any());
    services.assert_reached_at(&theirs, public, PUBLISHED, theirs_at);
    services.assert_out_of_reach(&theirs, scene.web.ip(V4));
}

/// Row coexistence: dockerd may end, and so may the agent, with all that it has made: what flows for the other one flows on.
#[test]
fn dockerd_and_the_agent_end_on_their_own() {
    let mut site = site();
    let ours = (*site.host.run_container("--name ours --network red -p 8080:80")).clone();
    let far = Site::far(V4);
    let start = |net: &Net, port| Transfer::start(net, (far, port), &site.internet, port);
    let mut docker = site.host.docker(&format!("--bip {DOCKER_BRIDGE}/24"));
    docker_container(&docker);
    let out = start(&ours, 9000);
    let into = Transfer::start(&site.internet, (site.public(V4), 8080), &ours, 80);
    docker.stop();
    drop(docker);
    out.assert_moves();
    into.assert_moves();
    out.finish();
    into.finish();

    let docker = site.host.docker(&format!("--bip {DOCKER_BRIDGE}/24"));
    docker.client("rm -f theirs").ok();
    let (theirs, _) = docker_container(&docker);
    let out = start(&theirs, 9001);
    let into = Transfer::start(&site.internet, (site.public(V4), DOCKER_PUBLISHED.0), &theirs, TCP_PORT);
    site.agent.stop();
    site.host.agent_with("--teardown").stop();
    assert_eq!(site.host.links().iter().filter(|link| link.kind == "bridge").count(), 1, "docker0 is what is left");
    out.assert_moves();
    into.assert_moves();
    out.finish();
    into.finish();
    start(&theirs, 9002).finish();
}

/// Row coexistence: other people's programs at the uplink, by TCX before and after ours and by clsact, see the packets that go by, and
/// ours do their work. Ours leave theirs in place when they go.
#[test]
fn other_programs_at_the_uplink() {
    let mut site = site();
    let uplink = site.uplink.name.clone();
    let scene = Scene::new(&site).route_to_containers();
    let attach = |order| {
        [Direction::Ingress, Direction::Egress].map(|direction| site.host.attach_tcx(&uplink, direction, order))
    };
    let (first, last) = (attach(Order::First), attach(Order::Last));
    let filters =
        [Direction::Ingress, Direction::Egress].map(|direction| site.host.attach_clsact(&uplink, direction, 5));
    scene.assert_all_works();
    scene.assert_the_stack_helps();

    let counts = || {
        let count = |programs: &[Passerby; 2]| programs.each_ref().map(Passerby::packets);
        [count(&first), count(&last), count(&filters)]
    };
    let ping = |net: &Net| net.ping(Site::far(V4)).expect("the way out");
    let before = counts();
    ping(&scene.friend);
    let after = counts();
    let seen = |n: usize, direction: usize| after[n][direction] - before[n][direction];
    // What comes for a container goes there from our program, so that only who runs before it sees that.
    assert!(seen(0, 0) > 0, "{before:?} {after:?}");
    for n in 0..3 {
        assert!(seen(n, 1) > 0, "what leaves is seen by all: {before:?} {after:?}");
    }
    let before = counts();
    ping(&site.host);
    let after = counts();
    assert!(
        before.iter().zip(after).all(|(before, after)| after[0] > before[0] && after[1] > before[1]),
        "the host's own"
    );

    site.agent.stop();
    site.host.agent_with("--teardown").stop();
    let before = counts();
    ping(&site.host);
    let after = counts();
    assert!(before.iter().zip(after).all(|(before, after)| after[0] > before[0] && after[1] > before[1]), "without us");
}

/// Row coexistence: the same where our own programs are filters of a clsact qdisc, which both share.
#[test]
fn other_filters_of_our_qdisc() {
    let lab = Lab::new();
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    let uplink = lab.uplink(&host, &internet);
    for (family, prefix) in [(V4, 32), (V6, 128)] {
        internet.add_address("lo", Site::far(family), prefix);
    }
    host.install_debian();
    let theirs =
        [Direction::Ingress, Direction::Egress].map(|direction| host.attach_clsact(&uplink.name, direction, 5));
    let mut agent = host.agent_with("--attach clsact");
    host.create_network("--ipv6 red");
    let web = host.run_container(&format!("--name web --network red {PUBLISH}"));
    for family in Family::BOTH {
        let (inside, outside) = (web.serve(family.any()), internet.serve(Site::far(family)));
        inside.assert_reached_at(&internet, uplink.host(family), PUBLISHED, uplink.outside(family));
        inside.assert_reached_at(&host, family.loopback(), PUBLISHED, host.gateway("red", family));
        outside.assert_reached(&web, Site::far(family), uplink.host(family));
    }
    let see_the_host = || {
        let before = theirs.each_ref().map(Passerby::packets);
        host.ping(Site::far(V4)).expect("the way out");
        let after = theirs.each_ref().map(Passerby::packets);
        assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
    };
    see_the_host();
    agent.stop();
    host.agent_with("--attach clsact --teardown").stop();
    see_the_host();
}

/// Row coexistence, as row 4: our containers reach ports that Docker's containers publish by the host's address, and are answered by
/// that address.
#[test]
fn containers_reach_ports_that_docker_publishes() {
    let site = site();
    let client = site.host.run_container("--name client --network red");
    let docker = site.host.docker(&format!("--bip {DOCKER_BRIDGE}/24"));
    let (theirs, _) = docker_container(&docker);
    let _services = theirs.serve(V4.any());
    let public = site.public(V4);
    site.internet.tcp_connect(public, DOCKER_PUBLISHED.0).expect("the control");
    client.tcp_connect(public, DOCKER_PUBLISHED.0).expect("TCP").echo("hello").unwrap();
    client.udp_ask(public, DOCKER_PUBLISHED.1, "hello").expect("UDP");
}

/// Row coexistence, as row 2: whether our containers reach Docker's by their own addresses is for the host's rules to say. Its
/// FORWARD policy is what Docker sets where it makes a host a router.
#[test]
fn the_hosts_rules_keep_containers_from_dockers_containers() {
    let site = site();
    let client = site.host.run_container("--name client --network red");
    let docker = site.host.docker(&format!("--bip {DOCKER_BRIDGE}/24"));
    let (theirs, _) = docker_container(&docker);
    // Docker's rules let in what is for a port that is published.
    let (private, private_at) = (docker.run("private", ""), "172.30.0.3".parse().unwrap());
    let services = private.serve(V4.any());
    services.assert_reached(&client, private_at, client.ip(V4));
    site.host.command("iptables -P FORWARD DROP").ok();
    services.assert_out_of_reach(&client, private_at);
    theirs.serve(V4.any()).assert_reached_at(&client, site.public(V4), DOCKER_PUBLISHED, client.ip(V4));
}
