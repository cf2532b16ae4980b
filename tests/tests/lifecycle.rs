//! A container's life beyond its first run (SEMANTICS §2 and §5): started again, renamed, moved while it is stopped, and
//! what it has said.

use std::net::IpAddr;

use spandrel_tests::*;

/// §2: what was asked for comes back at the next start (name, host name, static addresses of both families, MAC address, host ports), and what
/// was chosen may be another one then.
#[test]
fn a_container_starts_again_as_it_was() {
    let mut site = Site::new();
    site.host.create_network("--ipv6 --subnet 172.30.1.0/24 --subnet fd00:a::/64 red");
    let line = "--name web --hostname www --network red --ip 172.30.1.100 --ip6 fd00:a::100 --mac-address 02:00:00:00:00:99 -p 8080:80";
    let id = site.host.run_container(line).id.clone();
    site.host.run_container("--name db --network red");
    site.host.spandrel("stop -t 0 web db").ok();
    assert_eq!(site.host.spandrel("port web").ok(), "");
    // Both have their places on record, the one with its addresses; an agent that was not there yet knows them, too.
    site.restart_agent();
    let stopped = site.host.spandrel("inspect web").json();
    let red = &stopped[0]["NetworkSettings"]["Networks"]["red"];
    assert_eq!((&red["IPAMConfig"]["IPv4Address"], &red["IPAddress"]), (&"172.30.1.100".into(), &"".into()));
    // The address that was chosen is free meanwhile.
    let other = site.host.run_container("--name other --network red");
    assert_eq!(other.ip(V4), "172.30.1.2".parse::<IpAddr>().unwrap());

    assert_eq!(site.host.spandrel("start web db").ok(), "web\ndb");
    let (web, db) = (site.host.container("web"), site.host.container("db"));
    assert_eq!(web.id, id);
    assert_eq!(web.ip(V4), "172.30.1.100".parse::<IpAddr>().unwrap());
    assert_eq!(web.ip(V6), "fd00:a::100".parse::<IpAddr>().unwrap());
    assert_eq!(web.mac_on("red"), [2, 0, 0, 0, 0, 0x99]);
    assert_eq!(web.exec("hostname").ok(), "www");
    assert_eq!(db.ip(V4), "172.30.1.3".parse::<IpAddr>().unwrap());
    for family in Family::BOTH {
        let _server = web.tcp_listen(family.any(), 80);
        site.internet.tcp_connect(site.public(family), 8080).expect("the published port is there again");
        db.tcp_connect(web.ip(family), 80).expect("neighbours reach each other again");
        db.ping(Site::far(family)).expect("the way out is there again");
    }
    // One that runs already is no error.
    assert_eq!(site.host.spandrel("start web").ok(), "web");
    // What was started again is found again.
    let before = site.host.state();
    site.restart_agent();
    site.host.state().assert_same_as(&before);
}

/// §2: an address that a stopped container asked for is given to nobody by chance; who asks for it gets it, and then the other does not start.
#[test]
fn a_stopped_containers_address_is_kept_for_it() {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 172.30.1.0/29 --subnet fd00:a::/64 red");
    site.host.run_container("--name web --network red --ip 172.30.1.2 --ip6 fd00:a::2");
    site.host.spandrel("stop -t 0 web").ok();
    let chosen = site.host.run_container("--name other --network red");
    assert_eq!(chosen.ip(V4), "172.30.1.3".parse::<IpAddr>().unwrap());
    assert_eq!(chosen.ip(V6), "fd00:a::3".parse::<IpAddr>().unwrap());
    site.host.run_container("--name thief --network red --ip 172.30.1.2");
    site.host.assert_refused("start web", &["172.30.1.2", "thief"]);
    site.host.spandrel("rm -f thief").ok();
    site.host.spandrel("start web").ok();
}

/// `restart` is stop and start: with a new address if none was asked for, and also for one that goes away when it ends.
#[test]
fn a_container_is_restarted() {
    let site = Site::with_networks(["red"]);
    let web = site.host.run_container("--rm --name web --network red -p 8080:80 -p 81");
    let pid = |name: &str| site.host.spandrel(&["inspect", name]).json()[0]["State"]["Pid"].as_i64().unwrap();
    let first = pid("web");
    assert_eq!(site.host.spandrel("restart -t 0 web").ok(), "web");
    assert_ne!(pid("web"), first);
    let again = site.host.container("web");
    assert_eq!(again.id, web.id);
    for family in Family::BOTH {
        let _server = again.tcp_listen(family.any(), 80);
        site.internet.tcp_connect(site.public(family), 8080).expect("the published port is there again");
    }
    assert!(site.host.spandrel("port web 81").ok().contains(':'));
    // One that has ended is only started.
    site.host.run_container("--name job");
    site.host.spandrel("stop -t 0 job").ok();
    site.host.spandrel("restart job").ok();
    assert!(pid("job") > 0);
    // Stopped for good, it goes as it was told to.
    site.host.spandrel("stop -t 0 web").ok();
    assert!(!site.host.spandrel("ps -a").ok().contains("web"));
}

/// A start that fails says why, and leaves the container as it was: a host port that somebody took meanwhile.
#[test]
fn a_start_that_fails_changes_nothing() {
    let mut site = Site::with_networks(["red"]);
    site.host.run_container("--name web --network red -p 8080:80 -p 9000-9001:90");
    site.host.spandrel("stop -t 0 web").ok();
    site.host.run_container("--name thief -p 8080:80 -p 9000:90");
    let before = site.host.state();
    site.host.assert_refused("start web", &["8080", "thief"]);
    site.restart_agent();
    site.host.state().assert_same_as(&before);
    site.host.spandrel("unpublish thief 8080:80").ok();
    site.host.spandrel("start web").ok();
    // What was chosen from a range is chosen anew.
    assert_eq!(site.host.spandrel("port web 90").ok(), "0.0.0.0:9001\n[::]:9001");
}

/// §5: `network connect` and `disconnect` of a stopped container take effect when it starts.
#[test]
fn networks_change_while_a_container_is_stopped() {
    let site = Site::with_networks(["front", "back", "gone"]);
    let db = site.host.run_container("--name db --network back");
    site.host.run_container("--name web --network front");
    site.host.spandrel("network connect gone web").ok();
    site.host.spandrel("stop -t 0 web").ok();
    site.host.spandrel("network connect back web").ok();
    site.host.spandrel("network disconnect front web").ok();
    for (line, word) in [
        ("network connect back web", "already exists in network back"),
        ("network disconnect front web", "not connected to network front"),
        ("network connect --ip 10.99.0.1 front web", "10.99.0.1"),
    ] {
        site.host.assert_refused(line, &[word]);
    }
    // A network that only stopped containers are to join can be removed; they say so when they start.
    site.host.spandrel("network rm gone").ok();
    site.host.assert_refused("start web", &["network gone not found"]);
    site.host.spandrel("network disconnect gone web").ok();
    site.host.spandrel("start web").ok();
    let web = site.host.container("web");
    let networks =
        web.inspect()["NetworkSettings"]["Networks"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(networks, ["back"]);
    for family in Family::BOTH {
        web.ping(db.ip(family)).expect("it is on the network now");
    }
}

/// A container keeps all it has when it gets another name, running or not; agents that come later know it by that.
#[test]
fn a_container_is_renamed() {
    let mut site = Site::with_networks(["red"]);
    let web = site.host.run_container("--name web --network red -p 8080:80");
    let other = site.host.run_container("--name other --network red");
    let server = web.tcp_listen(V6.any(), 80);
    let mut link = site.internet.tcp_connect(site.public(V6), 8080).expect("the published port");
    assert_eq!(site.host.spandrel("rename web www").ok(), "");
    link.echo("still there").expect("connections go on");
    drop(server);
    for line in ["rename www other", "rename www www", "rename www a/b", "rename web x"] {
        site.host.assert_refused(line, &[]);
    }
    assert_eq!(site.host.spandrel("inspect web").code, Some(1));
    assert_eq!(site.host.container("www").id, web.id);
    site.host.spandrel("stop -t 0 other").ok();
    site.host.spandrel(&["rename", &other.id[..12], "third"]).ok();
    let before = site.host.state();
    site.restart_agent();
    site.host.state().assert_same_as(&before);
    // What the old name kept is gone, and everything of the container ends with it.
    site.host.run_container("--name web --network red");
    site.host
        .spandrel(&[
            "run",
            "-d",
            "--name",
            "stubborn",
            "sh",
            "-c",
            "trap '' TERM; (trap '' TERM; sleep 61234) & sleep 61234",
        ])
        .ok();
    site.host.spandrel("rename stubborn calm").ok();
    site.host.spandrel("rm -f calm www third").ok();
    assert!(!site.host.processes().iter().any(|process| process.contains("61234")));
}

/// Demands that a command prints this, in the end.
#[track_caller]
fn said(site: &Site, line: &str, text: &str) -> Output {
    let output = within(PATIENCE, || Some(site.host.spandrel(line)).filter(|output| output.stdout == text));
    output.unwrap_or_else(|| panic!("{:?}", site.host.spandrel(line)))
}

/// What a container in the background writes is kept, over its runs, and shown by line, by time and as it comes.
#[test]
fn logs_show_what_was_said() {
    let mut site = Site::new();
    let script = "echo one; echo two; sleep infinity";
    site.host.spandrel(&["run", "-d", "--name", "talker", "sh", "-c", script]).ok();
    said(&site, "logs talker", "one\ntwo\n");
    said(&site, "logs -n 1 talker", "two\n");
    said(&site, "logs --tail 0 talker", "");
    said(&site, "logs --since 1h talker", "one\ntwo\n");
    said(&site, "logs --until 1h talker", "");
    let timed = site.host.spandrel("logs -t talker").ok();
    let first = timed.lines().next().unwrap_or_default();
    assert!(first.starts_with("20") && first.ends_with("Z one"), "{timed}");
    // The agent is not needed for it to be kept.
    site.restart_agent();
    site.host.spandrel("restart -t 0 talker").ok();
    let followed = std::thread::scope(|scope| {
        let follower = scope.spawn(|| site.host.spandrel("logs -f talker"));
        let all =
            within(PATIENCE, || (site.host.spandrel("logs talker").stdout == "one\ntwo\none\ntwo\n").then_some(()));
        assert!(all.is_some(), "{:?}", site.host.spandrel("logs talker"));
        site.host.spandrel("stop -t 0 talker").ok();
        follower.join().unwrap()
    });
    assert_eq!((followed.code, followed.stdout.as_str()), (Some(0), "one\ntwo\none\ntwo\n"));
    site.host.spandrel(&["run", "--name", "quick", "-d", "sh", "-c", "echo oh >&2; printf last"]).ok();
    // What was said before the end is there, newline or not; output goes to output, and errors to errors.
    assert_eq!(said(&site, "logs quick", "last").stderr, "oh\n");
    for (line, word) in [("logs nobody", "nobody"), ("logs --since soon talker", "--since")] {
        site.host.assert_refused(line, &[word]);
    }
}

/// However much a container says, its log has an end, and the last lines are there.
#[test]
fn a_log_is_bounded() {
    let site = Site::new();
    let script = "seq -f '%.0f-------------------------------------------------------------------' 1 200000";
    let id = site.host.spandrel(&["run", "-d", "--name", "talker", "sh", "-c", script]).ok();
    let ended = within(PATIENCE * 4, || site.host.spandrel("ps -q").ok().is_empty().then_some(()));
    assert!(ended.is_some(), "it does not end");
    let last = site.host.spandrel("logs -n 1 talker").ok();
    assert!(last.starts_with("200000---"), "{last}");
    let directory = site.host.path(RUN_DIR).join("containers").join(id);
    let sizes = ["log", "log.1"].map(|name| std::fs::metadata(directory.join(name)).map_or(0, |file| file.len()));
    assert!(sizes.iter().all(|size| *size <= 5 << 20) && sizes[1] > 4 << 20, "{sizes:?}");
}

/// `start -a` has the caller's terminal and gives the exit code.
#[test]
fn a_start_may_be_attached() {
    let site = Site::new();
    let script = "echo hello; exit 3";
    assert_eq!(site.host.spandrel(&["run", "--name", "job", "sh", "-c", script]).code, Some(3));
    let again = site.host.spandrel("start -a job");
    assert_eq!((again.code, again.stdout.as_str()), (Some(3), "hello\n"));
    site.host.run_container("--name busy");
    for (line, word) in
        [("start -a job busy", "multiple containers"), ("start -a busy", "already running"), ("start nobody", "nobody")]
    {
        site.host.assert_refused(line, &[word]);
    }
}

/// `stop` and `restart` with another signal; one that does not end by it is killed when the time is up.
#[test]
fn a_container_is_told_to_stop_by_a_signal() {
    let site = Site::new();
    let script = "trap 'echo int; exit 7' INT; trap '' USR1; echo ready; while :; do sleep 0.1; done";
    site.host.spandrel(&["run", "-d", "--name", "web", "sh", "-c", script]).ok();
    let code = || site.host.spandrel(&["inspect", "-f", "{{.State.ExitCode}}", "web"]).ok();
    said(&site, "logs web", "ready\n");
    site.host.spandrel("restart --signal SIGINT -t 60 web").ok();
    said(&site, "logs web", "ready\nint\nready\n");
    site.host.spandrel("stop -s 2 --timeout 60 web").ok();
    assert_eq!(code(), "7");
    site.host.spandrel("start web").ok();
    said(&site, "logs web", "ready\nint\nready\nint\nready\n");
    site.host.spandrel("stop --signal USR1 -t 1 web").ok();
    assert_eq!(code(), "137");
    // Docker's own client has the flag as well.
    site.host.spandrel("start web").ok();
    said(&site, "logs web", "ready\nint\nready\nint\nready\nready\n");
    site.host.docker_cli("stop --signal SIGINT -t 60 web").ok();
    assert_eq!(code(), "7");
}

/// `exec -d` returns at once, says nothing, and the command goes on without input and output.
#[test]
fn a_further_command_in_the_background() {
    let site = Site::new();
    site.host.run_container("--name web");
    let script = "cat; echo lost; sleep 0.2; out=$(readlink /proc/$$/fd/1); echo $out > /run/told; sleep 61235";
    let output = site.host.spandrel(&["exec", "--detach", "web", "sh", "-c", script]);
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(0), "", ""));
    let told = within(PATIENCE, || {
        Some(site.host.spandrel("exec web cat /run/told").stdout).filter(|text| text.ends_with('\n'))
    });
    assert_eq!(told.as_deref(), Some("/dev/null\n"));
    // It ends with its container.
    assert!(site.host.processes().iter().any(|process| process.contains("61235")));
    site.host.spandrel("rm -f web").ok();
    assert!(!site.host.processes().iter().any(|process| process.contains("61235")));
}

/// `run --cidfile` writes the id, in the background and in the foreground; no container, no file.
#[test]
fn the_id_of_a_container_in_a_file() {
    let site = Site::new();
    let file = site.host.path("/run/cid");
    let id = site.host.spandrel("run -d --name web --cidfile /run/cid sleep infinity").ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    let refused = site.host.spandrel("run -d --name db --cidfile /run/cid sleep infinity");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("container ID file found") && refused.stderr.contains("/run/cid"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    assert_eq!(site.host.spandrel("ps -q --no-trunc").ok(), id);
    std::fs::remove_file(&file).unwrap();
    for line in ["run --name web --cidfile /run/cid true", "run -d --cidfile /run/cid no-such-command"] {
        assert_ne!(site.host.spandrel(line).code, Some(0), "{line}");
        assert!(!file.exists(), "{line}");
    }
    assert_eq!(site.host.spandrel("run --name job --cidfile /run/cid false").code, Some(1));
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written, site.host.spandrel("inspect -f {{.Id}} job").ok());
}
