//! What is removed is gone: links, namespaces, processes, mounts, held ports, map entries, files.

use spandrel_tests::*;

/// `stop` ends the processes and frees what the container held; `rm` forgets it.
#[test]
fn a_stopped_container_holds_nothing() {
    let site = Site::new();
    let before = site.host.traces();
    // A shell whose children ignore the polite signal: all of them have to go.
    let script = "trap '' TERM; (trap '' TERM; sleep 1000) & sleep 1000";
    site.host.spandrel(&["run", "-d", "--name", "stubborn", "-p", "8080:80", "sh", "-c", script]).ok();
    site.host.spandrel("stop -t 1 stubborn").ok();
    assert_eq!(site.host.spandrel("ps -q").ok(), "");
    assert!(site.host.spandrel("ps -a").ok().contains("stubborn"));
    for kind in ["link", "listening", "process", "pin", "netns"] {
        assert_eq!(site.host.traces().lines(kind), before.lines(kind));
    }
    assert_eq!(site.host.spandrel("rm stubborn").ok(), "stubborn");
    site.host.traces().assert_same_as(&before);
}

/// `run --rm` leaves nothing when its command ends, and gives its exit code and output.
#[test]
fn run_rm_leaves_nothing() {
    let site = Site::new();
    let before = site.host.state();
    let output = site.host.spandrel(&["run", "--rm", "--name", "brief", "sh", "-c", "echo hello; hostname; exit 3"]);
    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.stdout.starts_with("hello\n"), "{output:?}");
    let same = within(PATIENCE, || (site.host.state() == before).then_some(()));
    if same.is_none() {
        site.host.state().assert_same_as(&before);
    }
}

/// `network disconnect` takes the interface away from the running container, and `connect` brings one.
#[test]
fn a_disconnected_network_leaves_nothing_in_the_container() {
    let site = Site::with_networks(["front", "back"]);
    let web = site.host.run_container("--name web --network front");
    let database = site.host.run_container("--name db --network back");
    let before = site.host.state();
    let links = web.links().len();
    let _server = database.tcp_listen(V6.any(), 5432);

    site.host.spandrel("network connect back web").ok();
    assert_eq!(web.links().len(), links + 1);
    for family in Family::BOTH {
        web.tcp_connect(database.ip(family), 5432).expect("both are on the network");
    }
    site.host.spandrel("network disconnect back web").ok();
    assert_eq!(web.links().len(), links);
    for family in Family::BOTH {
        assert_silent(web.briefly().tcp_connect(database.ip(family), 5432));
    }
    site.host.state().assert_same_as(&before);
}

/// An agent that was told so removes everything when it ends: networks, containers, programs, mounts.
#[test]
fn teardown_leaves_nothing() {
    let lab = Lab::new();
    let (host, internet) = (lab.host("host"), lab.machine("internet"));
    lab.uplink(&host, &internet);
    let before = host.traces();
    let mut agent = host.agent_with("--teardown");
    host.create_network("--ipv6 red");
    host.run_container("--name web --network red -p 8080:80");
    host.run_container("--name db");
    assert_ne!(host.traces(), before);
    agent.stop();
    host.traces().assert_same_as(&before);
    assert_eq!(host.packet_filters(), Vec::<String>::new());
}

/// Without `--teardown` an agent that ends leaves networks and containers as they are.
#[test]
fn a_stopped_agent_leaves_everything_up() {
    let mut site = Site::with_networks(["red"]);
    let web = site.host.run_container("--name web --network red -p 8080:80");
    let net = (*web).clone();
    site.agent.stop();
    for family in Family::BOTH {
        let _server = net.tcp_listen(family.any(), 80);
        site.internet.tcp_connect(site.public(family), 8080).expect("the published port");
        net.ping(Site::far(family)).expect("the way out");
    }
}

/// Nothing is ever put into the kernel's packet filter: not at start, not with containers, not after them.
#[test]
fn there_is_no_packet_filter() {
    let site = Site::new();
    let none = Vec::<String>::new();
    assert_eq!(site.host.packet_filters(), none);
    site.host.create_network("--ipv6 red");
    let web = site.host.run_container("--name web --network red -p 8080:80");
    assert_eq!(site.host.packet_filters(), none);
    assert_eq!(web.packet_filters(), none);
}
