//! The lab itself: machines talk over cables, probes tell the truth, and nothing is left behind. No Spandrel is needed
//! here.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, send, socket};
use spandrel_tests::*;

/// Two machines on one cable reach each other by ICMP, TCP and UDP, and see each other's own addresses.
#[test]
fn machines_talk_over_a_cable() {
    let lab = Lab::new();
    let (host, outside) = (lab.machine("host"), lab.machine("outside"));
    let cable = lab.uplink(&host, &outside);
    for family in Family::BOTH {
        let (ours, theirs) = (cable.host(family), cable.outside(family));
        host.ping(theirs).expect("an echo reply");
        outside.ping(ours).expect("an echo reply");
        host.ping(family.loopback()).expect("loopback is up");

        let server = outside.tcp_listen(family.any(), 80);
        let mut link = host.tcp_connect(theirs, server.port()).expect("a connection");
        assert_eq!(link.seen_as, link.local().unwrap());
        link.echo("hello").expect("an echo");

        let server = outside.udp_listen(family.any(), 53);
        assert_eq!(host.udp_ask(theirs, server.port(), "who am I?").expect("an answer").ip(), ours);
        host.udp_send(theirs, server.port(), "one way").unwrap();
        assert_eq!(server.sender_of("one way").expect("arrival").ip(), ours);
    }
}

/// Refusal, unreachability and silence are three different answers.
#[test]
fn probes_tell_refusal_from_silence() {
    let lab = Lab::new();
    let (host, outside) = (lab.machine("host"), lab.machine("outside"));
    let cable = lab.uplink(&host, &outside);
    for family in Family::BOTH {
        let theirs = cable.outside(family);
        let refused = host.tcp_connect(theirs, 81).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

        // A router without a way to there says so.
        let nowhere: IpAddr = if family == V4 { "192.0.2.1" } else { "2001:db8:dead::1" }.parse().unwrap();
        outside.set_sysctl(if family == V4 { "ipv4/ip_forward" } else { "ipv6/conf/all/forwarding" }, "1");
        assert_eq!(host.ping(nowhere).unwrap_err().kind(), ErrorKind::HostUnreachable);

        // A neighbour that does not exist says nothing.
        let nobody: IpAddr = if family == V4 { "198.18.1.77" } else { "2001:db8:1::77" }.parse().unwrap();
        assert_silent(host.briefly().ping(nobody));
        assert_silent(host.briefly().tcp_connect(nobody, 80));
        outside.udp_listen(family.any(), 53).assert_never_gets("nothing was sent");
    }
    assert_eq!(host.packet_filters(), Vec::<String>::new());
}

/// A host with two uplinks uses the first one for the world and each for its own neighbours.
#[test]
fn a_host_may_have_several_uplinks() {
    let lab = Lab::new();
    let host = lab.machine("host");
    let (first, second) = (lab.machine("first"), lab.machine("second"));
    let cables = [lab.uplink(&host, &first), lab.uplink(&host, &second)];
    assert_ne!(cables[0].name, cables[1].name);
    for family in Family::BOTH {
        for (cable, machine) in cables.iter().zip([&first, &second]) {
            let server = machine.tcp_listen(family.any(), 80);
            let link = host.tcp_connect(cable.outside(family), server.port()).expect("a connection");
            assert_eq!(link.seen_as.ip(), cable.host(family));
        }
        let far: IpAddr = if family == V4 { "203.0.113.1" } else { "2001:db8:ffff::1" }.parse().unwrap();
        first.add_address("lo", far, if family == V4 { 32 } else { 128 });
        host.ping(far).expect("the default route leads to the first");
    }
}

/// Whole frames go out as they are: an ARP request by hand is answered by the neighbour.
#[test]
fn frames_are_sent_as_they_are() {
    let lab = Lab::new();
    let (host, outside) = (lab.machine("host"), lab.machine("outside"));
    let cable = lab.uplink(&host, &outside);
    let (IpAddr::V4(ours), IpAddr::V4(theirs)) = (cable.host(V4), cable.outside(V4)) else { unreachable!() };
    let (mac, other) = (host.link(&cable.name).mac, outside.link(&cable.outside_name).mac);

    let frames = host.frames(&cable.name);
    let mut request = [BROADCAST.as_slice(), &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac].concat();
    request.extend_from_slice(&ours.octets());
    request.extend_from_slice(&[0; 6]);
    request.extend_from_slice(&theirs.octets());
    frames.send(&request);
    let reply = frames.next(|frame| frame[..6] == mac && frame[12..14] == [8, 6]).expect("an ARP reply");
    assert_eq!(reply[22..28], other);

    host.ping(theirs.into()).unwrap();
    assert_eq!(host.neighbour(theirs.into()), Some(other));
}

/// A machine has a `/run` and an `/etc` of its own, and its own processes; the real ones are as they were.
#[test]
fn a_machine_has_files_and_processes_of_its_own() {
    let lab = Lab::new();
    let machine = lab.machine("box");
    machine.write("/etc/resolv.conf", "nameserver 192.0.2.53\n");
    machine.write("/run/note", "mine");
    assert_eq!(machine.command("cat /etc/resolv.conf").ok(), "nameserver 192.0.2.53");
    assert_eq!(machine.command("cat /run/note /proc/sys/kernel/hostname").ok(), "minebox");
    assert!(!fs::read_to_string("/etc/resolv.conf").is_ok_and(|text| text.contains("192.0.2.53")));

    let processes = machine.command(&["sh", "-c", "ls -d /proc/[0-9]*"]).ok();
    assert!(processes.contains("/proc/1") && processes.lines().count() <= 3, "{processes}");

    let failed = machine.command(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((failed.code, failed.stdout.as_str(), failed.stderr.as_str()), (Some(3), "out\n", "err\n"));
}

/// When a machine is dropped, every process on it is gone, whoever its parent is by then.
#[test]
fn nothing_is_left_of_a_dropped_machine() {
    let lab = Lab::new();
    let machine = lab.machine("box");
    // The shell ends, and leaves an orphan in a session of its own that ignores all it may.
    machine.command(&["sh", "-c", "trap '' TERM HUP INT; setsid sleep 1000 & echo $! > /run/orphan"]).ok();
    let init = machine.pid();
    let orphans = within(PATIENCE, || Some(children_of(init)).filter(|children| !children.is_empty()));
    let orphans = orphans.expect("an orphan");
    assert!(orphans.iter().all(|pid| process_exists(*pid)));
    drop(machine);
    assert!(!process_exists(init));
    let gone = within(PATIENCE, || orphans.iter().all(|pid| !process_exists(*pid)).then_some(()));
    assert!(gone.is_some(), "{orphans:?} are still there");
}

/// Set for the process that the next test kills.
const VICTIM: &str = "SPANDREL_LAB_VICTIM";

/// A test program that is killed, with no time to clean up, leaves no machine and no process behind.
#[test]
fn nothing_is_left_of_a_killed_test() {
    if env::var_os(VICTIM).is_some() {
        // The other half of this test: makes a machine, tells its number, and waits to be killed.
        let lab = Lab::new();
        let machine = lab.machine("victim");
        let _sleeper = machine.spawn(Command::new("sleep")).err();
        fs::write(env::var_os(VICTIM).unwrap(), machine.pid().to_string()).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let lab = Lab::new();
    let shelter = lab.machine("shelter");
    let note = shelter.path("/run/victim");
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_of_a_killed_test"])
        .env(VICTIM, &note)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let told = within(PATIENCE, || fs::read_to_string(&note).ok()?.parse::<u32>().ok());
    let init = told.expect("the victim's machine");
    assert!(process_exists(init));
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(within(PATIENCE, || (!process_exists(init)).then_some(())).is_some(), "machine {init} has survived");
}

/// Tables of nftables are seen, so that "no packet filter" means something.
#[test]
fn a_packet_filter_is_seen() {
    let lab = Lab::new();
    let machine = lab.machine("box");
    assert_eq!(machine.packet_filters(), Vec::<String>::new());
    machine.run(|| add_filter_table("guard")).expect("a kernel with nftables");
    assert_eq!(machine.packet_filters(), ["nftables: guard"]);
}

/// Adds an nftables table to the namespace of the calling thread: a batch of begin, NEWTABLE and end.
fn add_filter_table(name: &str) -> nix::Result<()> {
    let message = |kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]| {
        let length = (20 + attributes.len() as u32).to_ne_bytes();
        let header = [length.as_slice(), &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
        [header.as_slice(), &[family, 0], &resource.to_be_bytes(), attributes].concat()
    };
    let (request, create) = (libc::NLM_F_REQUEST as u16, libc::NLM_F_CREATE as u16);
    let mut attribute =
        [&(4 + name.len() as u16 + 1).to_ne_bytes()[..], &1_u16.to_ne_bytes(), name.as_bytes(), &[0]].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let nftables = 10_u16;
    let batch = [
        message(16, request, 0, nftables, &[]),
        message(nftables << 8, request | create, 1, 0, &attribute),
        message(17, request, 0, nftables, &[]),
    ];
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
    send(socket.as_raw_fd(), &batch.concat(), MsgFlags::empty()).map(drop)
}

/// The name server of a lab answers the resolver of the C library.
#[test]
fn names_resolve() {
    let lab = Lab::new();
    let (host, outside) = (lab.machine("host"), lab.machine("outside"));
    let cable = lab.uplink(&host, &outside);
    let far: IpAddr = "203.0.113.10".parse().unwrap();
    let _names = outside.name_server(cable.outside(V4), &[("www.example.test", far)]);
    host.write("/etc/resolv.conf", &format!("nameserver {}\n", cable.outside(V4)));
    let answer = host.command("getent ahostsv4 www.example.test").ok();
    assert!(answer.starts_with("203.0.113.10 "), "{answer}");
}

/// A transfer compares what arrives, and notices when nothing does.
#[test]
fn a_transfer_is_watched() {
    let lab = Lab::new();
    let (host, outside) = (lab.machine("host"), lab.machine("outside"));
    let cable = lab.uplink(&host, &outside);
    let transfer = Transfer::start(&host, (cable.outside(V6), 9000), &outside, 9000);
    transfer.assert_moves();
    transfer.assert_moves();
    assert!(transfer.finish().iter().all(|bytes| *bytes > 100_000));
}

/// The numbers of all processes whose parent has that number.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in brackets, may hold anything; then come the state and the parent.
        let parent_field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent_field.and_then(|field| field.parse::<u32>().ok()) == Some(parent)
    };
    numbers.filter(is_child).collect()
}
