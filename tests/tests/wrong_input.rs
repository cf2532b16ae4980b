//! What wrong input gets: one sentence and exit code 1, or 2 for a command line that makes no sense. After each of
//! these the agent's state, the kernel and the store are exactly as before.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use spandrel_tests::*;

/// Runs a command that must be refused with a sentence that holds all of `words`, and must change nothing.
#[track_caller]
fn assert_refused(site: &mut Site, line: &(impl Words + ?Sized), words: &[&str]) {
    let before = site.host.state();
    site.host.assert_refused(line, words);
    // A new agent knows only what is in the store.
    site.restart_agent();
    site.host.state().assert_same_as(&before);
}

/// An agent that is not root says which capability it lacks, and touches nothing.
#[test]
fn an_agent_needs_root() {
    let lab = Lab::new();
    let host = lab.host("host");
    let before = host.traces();
    let mut command = host.program("agent --state-dir /run/other-state --run-dir /run/other");
    command.uid(65534).gid(65534);
    host.output(command).assert_sentence(1, &["CAP_NET_ADMIN", "root"]);
    host.traces().assert_same_as(&before);
}

/// An agent that lacks one capability says which.
#[test]
fn an_agent_names_the_missing_capability() {
    let lab = Lab::new();
    let host = lab.host("host");
    let before = host.traces();
    for (number, name) in [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (19, "CAP_SYS_PTRACE")] {
        let mut command = host.program("agent --state-dir /run/other-state --run-dir /run/other");
        let drop_it = move || {
            // SAFETY: prctl(2) with integers; what is not in the bounding set is not given by execve(2).
            match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: the closure makes one system call.
        unsafe { command.pre_exec(drop_it) };
        host.output(command).assert_sentence(1, &[name]);
    }
    host.traces().assert_same_as(&before);
}

/// An agent on a kernel that is too old says so, and which one is needed.
#[test]
fn an_agent_needs_a_recent_kernel() {
    let lab = Lab::new();
    let host = lab.host("host");
    host.write("/run/osrelease", "5.4.0-42-generic\n");
    let lie = || {
        Ok(mount(Some("/run/osrelease"), "/proc/sys/kernel/osrelease", None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
    };
    host.enter(lie).unwrap();
    let before = host.traces();
    let output = host.spandrel("agent --state-dir /run/other-state --run-dir /run/other");
    output.assert_sentence(1, &["5.4.0-42-generic", "too old", "6.1"]);
    host.traces().assert_same_as(&before);
}

/// A client without an agent says where it looked and how to start one.
#[test]
fn a_client_needs_an_agent() {
    let lab = Lab::new();
    let host = lab.host("host");
    for line in ["network ls", "ps", "run -d sleep 1"] {
        host.spandrel(line).assert_sentence(1, &["/run/spandrel/spandrel.sock", "spandrel agent"]);
    }
    host.spandrel("--socket /run/elsewhere ps").assert_sentence(1, &["/run/elsewhere"]);
}

/// A second agent on the same run directory is refused; the first goes on.
#[test]
fn a_run_directory_has_one_agent() {
    let site = Site::new();
    site.host.run_container("--name web -p 8080:80");
    let before = site.host.state();
    let output = site.host.spandrel(&format!("agent --run-dir {RUN_DIR} --state-dir /run/other-state"));
    output.assert_sentence(1, &["another agent", RUN_DIR]);
    site.host.state().assert_same_as(&before);
    // Neither may two agents share a store.
    let output = site.host.spandrel(&format!("agent --run-dir /run/other --state-dir {STATE_DIR}"));
    output.assert_sentence(1, &[STATE_DIR]);
    site.host.state().assert_same_as(&before);
}

/// A network that does not exist is named, with the one that was probably meant.
#[test]
fn unknown_networks() {
    let mut site = Site::new();
    site.host.create_network("front-net");
    site.host.run_container("--name web");
    assert_refused(&mut site, "network rm frnt-net", &["frnt-net", "not found", "did you mean front-net"]);
    let nearest = "did you mean front-net";
    for line in ["network inspect front-nett", "run -d --network front-nett sleep 1", "network connect front-nett web"]
    {
        let before = site.host.state();
        let output = site.host.spandrel(line);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains("front-nett") && output.stderr.contains(nearest), "{output:?}");
        site.host.state().assert_same_as(&before);
    }
}

/// A container that does not exist is named, with the one that was probably meant.
#[test]
fn unknown_containers() {
    let mut site = Site::new();
    site.host.run_container("--name database");
    assert_refused(&mut site, "rm databse", &["databse", "did you mean database"]);
    for line in ["stop databse", "exec databse true", "port databse", "network connect bridge databse"] {
        let before = site.host.state();
        site.host.spandrel(line).assert_sentence(1, &["databse", "did you mean database"]);
        site.host.state().assert_same_as(&before);
    }
}

/// A network's name can be had once.
#[test]
fn duplicate_network_names() {
    let mut site = Site::new();
    site.host.create_network("front");
    assert_refused(&mut site, "network create front", &["front", "already exists"]);
    assert_refused(&mut site, "network create bridge", &["bridge", "predefined"]);
}

/// A container's name can be had once, also while its owner is stopped.
#[test]
fn duplicate_container_names() {
    let mut site = Site::new();
    let id = site.host.run_container("--name web").id.clone();
    assert_refused(&mut site, "run -d --name web sleep 1", &["web", "already in use", &id[..12]]);
    site.host.spandrel("stop -t 0 web").ok();
    assert_refused(&mut site, "run -d --name web sleep 1", &["web", "already in use"]);
}

/// A subnet that overlaps another network's is refused by that network's name, and two in one command are, too.
#[test]
fn overlapping_subnets() {
    let mut site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.0.0.0/16 --subnet fd00:a::/48 wide");
    assert_refused(&mut site, "network create --subnet 10.0.3.0/24 narrow", &["10.0.3.0/24", "overlaps", "wide"]);
    let v6 = "network create --ipv6 --subnet 10.7.0.0/24 --subnet fd00:a:0:1::/64 narrow";
    assert_refused(&mut site, v6, &["fd00:a:0:1::/64", "overlaps", "wide"]);
    let two = "network create --subnet 10.8.0.0/16 --subnet 10.8.1.0/24 both";
    assert_refused(&mut site, two, &["10.8"]);
}

/// A subnet that is none is refused, with what one looks like or should be.
#[test]
fn malformed_subnets() {
    let mut site = Site::new();
    for (subnet, words) in [
        ("10.0.0.0", ["10.0.0.0", "10.0.0.0"]),
        ("10.0.0.0/33", ["10.0.0.0/33", "subnet"]),
        ("10.0.0/24", ["10.0.0/24", "subnet"]),
        ("10.0.0.7/24", ["10.0.0.7/24", "10.0.0.0/24"]),
        ("fd00::1/64", ["fd00::1/64", "fd00::/64"]),
        ("banana", ["banana", "subnet"]),
    ] {
        let before = site.host.state();
        site.host.spandrel(&["network", "create", "--ipv6", "--subnet", subnet, "n"]).assert_sentence(1, &words);
        site.host.state().assert_same_as(&before);
    }
    assert_refused(&mut site, "network create --subnet 224.0.0.0/24 n", &["224.0.0.0/24"]);
}

/// A gateway or an address range outside the subnet is refused.
#[test]
fn gateways_outside_the_subnet() {
    let mut site = Site::new();
    let line = "network create --subnet 10.0.0.0/24 --gateway 10.0.1.1 n";
    assert_refused(&mut site, line, &["10.0.1.1", "10.0.0.0/24"]);
    let line = "network create --ipv6 --subnet fd00:a::/64 --gateway fd00:b::1 n";
    assert_refused(&mut site, line, &["fd00:b::1"]);
    let line = "network create --subnet 10.0.0.0/24 --ip-range 10.0.1.0/28 n";
    assert_refused(&mut site, line, &["10.0.1.0/28"]);
}

/// An address outside the network's subnet is refused, with the subnet; so is one on the predefined network.
#[test]
fn addresses_outside_the_subnet() {
    let mut site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.0.0.0/24 --subnet fd00:a::/64 red");
    let words = ["10.0.1.7", "10.0.0.0/24", "red"];
    assert_refused(&mut site, "run -d --network red --ip 10.0.1.7 sleep 1", &words);
    let words = ["fd00:b::7", "fd00:a::/64", "red"];
    assert_refused(&mut site, "run -d --network red --ip6 fd00:b::7 sleep 1", &words);
    assert_refused(&mut site, "run -d --network red --ip 10.0.0.1 sleep 1", &["10.0.0.1", "gateway"]);
    assert_refused(&mut site, "run -d --ip 172.17.0.9 sleep 1", &["user defined networks only"]);
}

/// An address that is taken is refused, with the name of the container that has it.
#[test]
fn taken_addresses() {
    let mut site = Site::new();
    site.host.create_network("--ipv6 --subnet 172.30.1.0/24 --ip-range 172.30.1.128/25 --subnet fd00:a::/64 red");
    site.host.run_container("--name owner --network red --ip 172.30.1.100 --ip6 fd00:a::100");
    let line = "run -d --network red --ip 172.30.1.100 sleep 1";
    assert_refused(&mut site, line, &["172.30.1.100", "already in use", "owner"]);
    let line = "run -d --network red --ip6 fd00:a::100 sleep 1";
    assert_refused(&mut site, line, &["fd00:a::100", "already in use", "owner"]);
    site.host.run_container("--name other");
    let line = "network connect --ip 172.30.1.100 red other";
    assert_refused(&mut site, line, &["172.30.1.100", "already in use", "owner"]);
}

/// When all addresses of a network are in use, the sentence says so and what to do.
#[test]
fn exhausted_pools() {
    let mut site = Site::new();
    site.host.create_network("--subnet 10.0.0.0/30 tiny");
    site.host.run_container("--name first --network tiny");
    let words = ["no available", "10.0.0.0/30", "tiny"];
    assert_refused(&mut site, "run -d --name second --network tiny sleep 1", &words);
    site.host.run_container("--name elsewhere");
    assert_refused(&mut site, "network connect tiny elsewhere", &words);
}

/// A host port that another container has is refused, with that container's name; nothing is half published.
#[test]
fn host_ports_taken_by_a_container() {
    let mut site = Site::new();
    site.host.run_container("--name web -p 8080:80 -p 5353:53/udp");
    let line = "run -d --name other -p 8079:80 -p 8080:80 sleep 1";
    assert_refused(&mut site, line, &["8080", "port is already allocated", "web"]);
    let line = "run -d --name other -p 127.0.0.1:5353:53/udp sleep 1";
    assert_refused(&mut site, line, &["5353", "port is already allocated", "web"]);
    // The other protocol's port of that number is another port.
    site.host.run_container("--name third -p 8080:80/udp");
}

/// A host port that another process has is refused, with the process's name and number.
#[test]
fn host_ports_taken_by_a_process() {
    let mut site = Site::new();
    // A process of the host, so that it can be told by name: a shell that is handed the listening socket.
    let listener: TcpListener = site.host.tcp_bind(V4.any(), 8080).unwrap();
    let mut command = Command::new("sleep");
    command.arg("1000");
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&listener);
    // SAFETY: dup(2) and close-on-exec concern only the child that is about to become `sleep`.
    unsafe {
        command.pre_exec(move || match libc::dup2(descriptor, 9) {
            9 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    let _holder = site.host.spawn(command).unwrap();
    drop(listener);
    let words = ["0.0.0.0:8080/tcp", "address already in use", "sleep"];
    assert_refused(&mut site, "run -d --name web -p 8079:80 -p 8080:80 sleep 1", &words);
}

/// A network with members is not removed; they are named.
#[test]
fn networks_with_members() {
    let mut site = Site::new();
    site.host.create_network("red");
    site.host.run_container("--name web --network red");
    site.host.run_container("--name db --network red");
    assert_refused(&mut site, "network rm red", &["red", "active endpoints", "web", "db"]);
}

/// The predefined networks are not removed, nor left by their members' removal.
#[test]
fn predefined_networks() {
    let mut site = Site::new();
    for name in ["bridge", "host", "none"] {
        site.host.spandrel(&["network", "rm", name]).assert_sentence(1, &[name, "pre-defined", "cannot be removed"]);
    }
    assert_refused(&mut site, "network rm bridge", &["bridge"]);
}

/// Names with odd characters are refused, and shown so that a terminal survives them.
#[test]
fn odd_names() {
    let mut site = Site::new();
    for name in ["-front", "a b", "a/b", "../x", "ü", "a\u{1b}[31m", "a\nb", ""] {
        let before = site.host.state();
        for line in [["network", "create", "--", name].as_slice(), &["run", "-d", "--name", name, "sleep", "1"]] {
            // clap refuses some of them as a command line, which is as good.
            let output = site.host.spandrel(line);
            let empty_container_name = name.is_empty() && line[0] == "run";
            if empty_container_name && output.code == Some(0) {
                site.host.spandrel(&["rm", "-f", output.stdout.trim()]).ok();
                continue;
            }
            assert!(matches!(output.code, Some(1 | 2)), "{name:?}: {output:?}");
            assert!(!output.stderr.contains('\u{1b}'), "{name:?}: {output:?}");
        }
        site.host.state().assert_same_as(&before);
    }
    let words = ["Invalid container name", "a/b", "[a-zA-Z0-9]"];
    assert_refused(&mut site, "run -d --name a/b sleep 1", &words);
    assert_refused(&mut site, "network create a/b", &["Invalid network name", "a/b"]);
    let long = "x".repeat(300);
    assert_refused(&mut site, &format!("run -d --name {long} sleep 1"), &["Invalid container name"]);
}

/// A command that does not exist starts no container, and nothing of the attempt is left.
#[test]
fn commands_not_found() {
    let mut site = Site::new();
    let line = "run -d --name web -p 8080:80 no-such-command --flag";
    assert_refused(&mut site, line, &["no-such-command", "not found"]);
    assert_refused(&mut site, "run -d --name web /etc/passwd", &["/etc/passwd", "permission denied"]);
    site.host.run_container("--name web");
    assert_refused(&mut site, "exec web no-such-command", &["no-such-command", "not found"]);
    assert_refused(&mut site, "run -d -w /no/such/dir sleep 1", &["/no/such/dir", "does not exist"]);
}

/// Published ports that make no sense are refused by what is wrong with them.
#[test]
fn malformed_ports() {
    let mut site = Site::new();
    for (port, word) in
        [("80:", "no container port"), ("70000:80", "hostPort"), ("80/icmp", "proto"), ("82-80", "backwards")]
    {
        let before = site.host.state();
        site.host.spandrel(&["run", "-d", "-p", port, "sleep", "1"]).assert_sentence(1, &[port, word]);
        site.host.state().assert_same_as(&before);
    }
    assert_refused(&mut site, "run -d -p 192.0.2.77:80:80 sleep 1", &["192.0.2.77"]);
}

/// A command line that makes no sense is a usage error, with exit code 2, agent or not.
#[test]
fn usage_errors() {
    let lab = Lab::new();
    let host = lab.host("host");
    for line in [
        "",
        "fly",
        "network",
        "network create",
        "network create a b",
        "run",
        "run --banana sleep 1",
        "ps --format x",
        "rm",
    ] {
        let output = host.spandrel(line);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(!output.stderr.is_empty(), "{output:?}");
    }
}
