//! What the agent takes: memory, and wake-ups while nothing happens.

use std::thread::sleep;
use std::time::Duration;

use spandrel_tests::*;

/// Kibibytes: what the agent may need with thousands of ports and endpoints.
const MEMORY: u64 = 40 << 10;

/// How long nobody is woken up while nothing happens: longer than any of the agent's timers.
const QUIET: Duration = Duration::from_secs(15);

/// Whether the agent sleeps all that time.
fn sleeps(agent: &Agent) -> bool {
    let before = agent.wakeups();
    sleep(QUIET);
    agent.wakeups() == before
}

/// Waits until the agent sleeps: things are still looked after for a while when they have changed.
#[track_caller]
fn assert_falls_asleep(agent: &Agent) {
    assert!((0..6).any(|_| sleeps(agent)), "the agent is woken up although nothing happens:\n{}", agent.log());
}

/// Ten thousand ports and some tens of namespaces with names take little: what a command needs on the way is given back.
#[test]
fn the_agent_needs_little_memory() {
    let site = Site::with_networks(["front"]);
    site.host.run_container("--name server --network front");
    site.host.spandrel("publish server 20000-29999:20000-29999").ok();
    for number in 0..40 {
        site.host.add_netns(&format!("box{number}"));
        site.host.spandrel(&format!("attach --network front box{number}")).ok();
    }
    assert_eq!(site.host.map_entries("published"), 20_000);
    let resident = site.agent.status("VmRSS");
    assert!(resident <= MEMORY, "{resident} KiB, of these {} KiB not of files", site.agent.status("RssAnon"));
}

/// Counters of ports take no memory before there are ports, and then as much as the ports that there are.
#[test]
fn counters_are_there_for_ports_that_are() {
    let site = Site::with_networks(["front"]);
    site.host.run_container("--name server --network front");
    let counters = || site.host.pinned_maps().into_iter().find(|map| map.name == "PORT_COUNTERS").expect("the map");
    let nothing = counters();
    assert!(nothing.inner == 0 && nothing.bytes <= 4096, "{nothing:?}");
    site.host.spandrel("publish server 8080:80 5353:53/udp").ok();
    assert_eq!(counters().inner, 1);
    site.host.spandrel("publish server 20000-22999:20000-22999").ok();
    assert_eq!(counters().inner, 3);
    site.host.tcp_connect(V4.loopback(), 8080).expect_err("nobody listens");
    assert!(site.host.spandrel("port --stats server").ok().lines().count() > 3000);
    site.host.spandrel("stop -t 0 server").ok();
    assert_eq!(counters().inner, 0);
}

/// With containers, a namespace of somebody else's, published ports and names, nothing wakes the agent up while nothing changes; it sees
/// flows begin and end all the same, and a namespace vanish.
#[test]
fn an_agent_with_nothing_to_do_sleeps() {
    let site = Site::with_agent("--idle-timeout udp-unanswered=1");
    site.host.create_network("--ipv6 front");
    let web = site.host.run_container("--name web --network front -p 8080:80");
    site.host.run_container("--name other --network front");
    site.host.add_netns("box");
    site.host.spandrel("attach --network front box").ok();
    let pid = attach_process(&site.host, "sleeper");
    assert_falls_asleep(&site.agent);
    let before = site.agent.wakeups();
    site.host.spandrel("ps").ok();
    assert_ne!(site.agent.wakeups(), before, "a wake-up is counted");

    // Nobody answers, so this flow lives for a second.
    let flows = || site.host.map_entries("flows4");
    assert_eq!(flows(), 0);
    web.briefly().udp_ask(Site::far(V4), 9, "anybody there?").expect_err("nobody answers");
    assert_ne!(flows(), 0, "a flow");
    within(PATIENCE * 3, || (flows() == 0).then_some(())).expect("it is swept");

    // One that was mounted, and one that is a process's.
    let attached = || site.host.spandrel("ps --format {{.Names}}").ok();
    assert!(attached().contains("box") && attached().contains("sleeper"), "{}", attached());
    site.host.command(&["kill", &pid]).ok();
    within(PATIENCE, || (!attached().contains("sleeper")).then_some(())).expect("the process's is forgotten");
    site.host.delete_netns("box");
    within(PATIENCE * 3, || (!attached().contains("box")).then_some(())).expect("the other, too");
    assert_falls_asleep(&site.agent);
}

/// Starts a process in a namespace of its own, and attaches that by the process's number.
#[track_caller]
fn attach_process(host: &Host, name: &str) -> String {
    let pid = host.command(&["sh", "-c", "unshare --net sleep 1000 >/dev/null 2>&1 & echo $!"]).ok();
    let attach = format!("attach --network front --name {name} {pid}");
    // Until it has a namespace of its own, it is the host's, which is refused.
    within(PATIENCE, || (host.spandrel(&attach).code == Some(0)).then_some(())).expect("it is attached");
    pid
}

/// The host's end of a container is made again when somebody has deleted it, and put back into its bridge when it was taken out.
#[test]
fn what_somebody_touched_is_mended() {
    let site = Site::with_networks(["front"]);
    let web = site.host.run_container("--name web --network front");
    let gateway = site.host.gateway("front", V4);
    let index = web.link("eth0").peer.expect("it has a host's end");
    let end = site.host.links().into_iter().find(|link| link.index == index).expect("which is there").name;
    let bridge = site.host.links().into_iter().find(|link| link.name == end).and_then(|link| link.master);
    site.host.delete_link(&end);
    web.briefly().ping(gateway).expect_err("it is cut off");
    within(PATIENCE, || web.briefly().ping(gateway).ok()).expect("it is mended");
    site.host.command(&["ip", "link", "set", &end, "nomaster"]).ok();
    let port = || site.host.links().into_iter().any(|link| link.name == end && link.master == bridge);
    assert!(!port());
    within(PATIENCE, || port().then_some(())).expect("it is a port again");
}
