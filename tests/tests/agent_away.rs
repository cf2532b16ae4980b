//! DESIGN invariant 3: no agent in the packet path. What flows goes on while the agent is dead, and a new one takes
//! over.

use spandrel_tests::*;

/// A transfer from a container out through NAT goes on, byte by byte, while the agent is killed and started again.
#[test]
fn a_transfer_out_survives_the_agent() {
    let mut site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name box --network red");
    let container = (*container).clone();
    let transfers =
        Family::BOTH.map(|family| Transfer::start(&container, (Site::far(family), 9000), &site.internet, 9000));
    survive(&mut site, transfers);
}

/// A transfer from outside through a published port goes on, byte by byte, while the agent is killed and started again.
#[test]
fn a_transfer_in_survives_the_agent() {
    let mut site = Site::with_networks(["red"]);
    let container = site.host.run_container("--name web --network red -p 9000:80");
    let container = (*container).clone();
    let transfers =
        Family::BOTH.map(|family| Transfer::start(&site.internet, (site.public(family), 9000), &container, 80));
    survive(&mut site, transfers);
}

/// Takes the agent away and brings it back under running transfers.
fn survive(site: &mut Site, transfers: [Transfer; 2]) {
    let all_move = || transfers.iter().for_each(Transfer::assert_moves);
    all_move();
    site.agent.kill();
    all_move();
    site.agent = site.host.agent();
    all_move();
    // A second time, for what the new agent has made itself.
    site.restart_agent();
    all_move();
    for transfer in transfers {
        for bytes in transfer.finish() {
            assert!(bytes > 0);
        }
    }
}

/// With no agent there, new connections are made all the same: out, in, between containers, and not across networks.
#[test]
fn new_connections_need_no_agent() {
    let mut site = Site::with_networks(["red", "blue"]);
    let nets =
        ["--name a --network red -p 8080:80", "--name b --network red", "--name c --network blue"].map(|options| {
            let container = site.host.run_container(options);
            let addresses = Family::BOTH.map(|family| container.ip(family));
            ((*container).clone(), addresses)
        });
    site.agent.kill();
    let [(a, a_at), (b, _), (c, _)] = &nets;
    for (family, address) in Family::BOTH.into_iter().zip(a_at) {
        let _inside = a.tcp_listen(family.any(), 80);
        let _outside = site.internet.tcp_listen(Site::far(family), 80);
        b.tcp_connect(*address, 80).expect("a neighbour");
        b.tcp_connect(Site::far(family), 80).expect("the way out");
        site.internet.tcp_connect(site.public(family), 8080).expect("the published port");
        site.host.tcp_connect(family.loopback(), 8080).expect("the published port on loopback");
        assert_silent(c.briefly().tcp_connect(*address, 80));
    }
    site.agent = site.host.agent();
}

/// After kill -9 and a new start everything is as before: networks, containers, addresses, ports, links, maps.
#[test]
fn everything_is_as_before_after_a_crash() {
    let mut site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.9.0.0/24 --subnet fd00:9::/64 --label keep=me red");
    site.host.run_container("--name web --network red --ip 10.9.0.77 --ip6 fd00:9::77 -p 8080:80 -p 53:53/udp");
    site.host.run_container("--name db");
    site.host.spandrel("network connect red db").ok();
    let before = site.host.state();
    site.restart_agent();
    site.host.state().assert_same_as(&before);
    site.agent.stop();
    site.agent = site.host.agent();
    site.host.state().assert_same_as(&before);

    // What was taken before is taken still.
    let refused = site.host.spandrel("run -d --network red --ip 10.9.0.77 sleep infinity");
    assert!(refused.code == Some(1) && refused.stderr.contains("web"), "{refused:?}");
    let refused = site.host.spandrel("run -d --network red -p 8080:80 sleep infinity");
    assert!(refused.code == Some(1) && refused.stderr.contains("8080"), "{refused:?}");
    site.host.state().assert_same_as(&before);
}

/// A container whose command ends while no agent is there is found as ended, with its exit code, and nothing of it is
/// left.
#[test]
fn a_container_may_end_while_no_agent_is_there() {
    let mut site = Site::new();
    let before = site.host.traces();
    site.host.command("mkfifo /run/go").ok();
    let script = "read line < /run/go; exit 7";
    site.host.spandrel(&["run", "-d", "--name", "brief", "-p", "8080:80", "sh", "-c", script]).ok();
    site.agent.kill();
    site.host.command(&["sh", "-c", "echo now > /run/go"]).ok();
    let ended =
        within(PATIENCE, || (!site.host.processes().iter().any(|line| line.contains("read line"))).then_some(()));
    assert!(ended.is_some(), "the command has not ended: {:?}", site.host.processes());
    site.agent = site.host.agent();

    let state = site.host.spandrel("inspect brief").json()[0]["State"].take();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &7.into()), "{state}");
    site.host.run_container("--name next -p 8080:80");
    site.host.spandrel("rm -f brief next").ok();
    site.host.traces().assert_same_as(&before);
}

/// What a foreign hand has taken away while no agent was there, the next agent makes again, by the code that makes it
/// at first.
#[test]
fn what_is_missing_is_made_again() {
    let mut site = Site::with_networks(["red"]);
    let web = site.host.run_container("--name web --network red -p 8080:80");
    let friend = site.host.run_container("--name friend --network red");
    let nets = [&web, &friend].map(|container| (**container).clone());
    let addresses = Family::BOTH.map(|family| web.ip(family));
    let before = site.host.state();
    site.agent.kill();
    for link in site.host.links() {
        // The one container's veth, and the bridge under the other one's.
        let is_web = link.kind == "veth" && link.name.starts_with("veth") && nets[0].links().len() > 1;
        if is_web || link.name.starts_with("br-") {
            site.host.delete_link(&link.name);
        }
    }
    assert_ne!(site.host.traces().lines("link"), before.lines("link"));
    site.agent = site.host.agent();
    site.host.state().assert_same_as(&before);
    for (family, address) in Family::BOTH.into_iter().zip(addresses) {
        let _server = nets[0].tcp_listen(family.any(), 80);
        nets[1].tcp_connect(address, 80).expect("a neighbour");
        site.internet.tcp_connect(site.public(family), 8080).expect("the published port");
        nets[0].ping(Site::far(family)).expect("the way out");
    }
}
