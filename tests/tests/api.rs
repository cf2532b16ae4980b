//! The agent's HTTP API as its own document has it, and who may use it at all.

use std::fs;
use std::io::{self, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use spandrel_tests::*;

/// How long schemathesis asks; then it ends by itself.
const ASKING: Duration = Duration::from_secs(60);

/// What schemathesis looks at and what it does not. Docker's API takes more than it documents (`yes` for true, `null` for a list) and is
/// stricter than a schema can say (subnets, names), and a network may be called like a call, so that the same path has methods of another.
const LEFT_OUT: &str = "negative_data_rejection,positive_data_acceptance,allow_header_conformance";

/// The document is served, with and without a version in front, and names what there is.
#[test]
fn the_document_is_served() {
    let site = Site::new();
    let document = site.host.api("/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    for (path, method) in
        [("/networks/create", "post"), ("/containers/json", "get"), ("/spandrel/containers/run", "post")]
    {
        assert!(document["paths"][path][method].is_object(), "{method} {path} is missing");
    }
    assert_eq!(site.host.api("/v1.50/openapi.json"), document);
}

/// schemathesis asks what follows from the document, right and wrong, and the agent answers as the document says: no call fails inside the
/// agent, none gets a status, a content type or an object that is not documented. Afterwards the agent works as before.
#[test]
fn answers_are_as_documented() {
    let site = Site::new();
    let host = &site.host;
    host.create_network("--ipv6 front");
    host.create_network("back");
    host.run_container("--name web --network front -p 8080:80");
    host.spandrel("run -d --name done --network front true").ok();
    let _namespaces = ["box", "other"].map(|name| host.add_netns(name));
    host.spandrel("attach box --network front -p 8081:80").ok();
    let port = serve_by_tcp(host);

    // It leaves files where it starts.
    let mut command = Command::new("sh");
    command.args(["-c", "cd /run && exec \"$0\" \"$@\""]).arg(fetched("schemathesis").join("bin/schemathesis"));
    command.args(["run", &format!("http://127.0.0.1:{port}/openapi.json"), "--exclude-checks", LEFT_OUT, "--no-color"]);
    command.args(["--continue-on-failure", "--request-timeout", "30", "--max-time", &ASKING.as_secs().to_string()]);
    command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("SCHEMATHESIS_HOOKS", "hooks").env("HOME", "/run");
    let asking = host.spawn(command).expect("schemathesis is there: `cargo xtask test` fetches it");
    let output = asking.output_within(ASKING * 4);
    assert_eq!(output.code, Some(0), "{output:?}");
    let number = |line: &str| line.trim().split_once(" generated")?.0.parse::<usize>().ok();
    let asked = output.stdout.lines().find_map(number).unwrap_or_default();
    assert!(asked > 100, "hardly anything was asked: {output:?}");

    host.create_network("--ipv6 afterwards");
    let a = host.run_container("--name first-afterwards --network afterwards");
    let b = host.run_container("--name second-afterwards --network afterwards");
    for family in Family::BOTH {
        a.ping(b.ip(family)).expect("a network as before");
    }
}

/// Leads a TCP port of the host's loopback to the agent's socket, for clients that know no unix sockets.
fn serve_by_tcp(host: &Host) -> u16 {
    let listener = host.run(|| TcpListener::bind("127.0.0.1:0")).expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let socket = host.path(SOCKET);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(agent)) = (client, UnixStream::connect(&socket)) else { return };
            let (mut from_client, mut to_agent) = (client.try_clone().unwrap(), agent.try_clone().unwrap());
            let (mut from_agent, mut to_client) = (agent, client);
            thread::spawn(move || {
                // Who has gone is told of the end by the end of the stream.
                let _ = io::copy(&mut from_client, &mut to_agent).and_then(|_| to_agent.flush());
                let _ = to_agent.shutdown(Shutdown::Write);
            });
            thread::spawn(move || {
                let _ = io::copy(&mut from_agent, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

/// The number of the group `spandrel` on a host of a test.
const GROUP: u32 = 4242;

/// Somebody without any rights, and a group that means nothing.
const NOBODY: u32 = 65534;

/// Writes a host's `/etc/group`: as it is, but with or without the group `spandrel`.
#[track_caller]
fn with_group(host: &Host, there: bool) {
    let groups = fs::read_to_string(host.path("/etc/group")).expect("a host has groups");
    let mut lines: Vec<_> = groups.lines().filter(|line| !line.starts_with("spandrel:")).map(String::from).collect();
    lines.extend(there.then(|| format!("spandrel:x:{GROUP}:")));
    host.write("/etc/group", &(lines.join("\n") + "\n"));
}

/// Owner, group and mode of the agent's socket.
#[track_caller]
fn socket_rights(host: &Host) -> (u32, u32, u32) {
    let file = fs::metadata(host.path(SOCKET)).expect("the socket is there");
    (file.uid(), file.gid(), file.mode() & 0o7777)
}

/// Runs a command as somebody who is not root, in that group alone.
#[track_caller]
fn as_nobody(host: &Host, group: u32, mut command: Command) -> Output {
    command.uid(NOBODY).gid(group);
    host.output(command)
}

/// Demands one sentence that says what is denied and what helps.
#[track_caller]
fn assert_denied(output: &Output) {
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output:?}");
    let sentence = output.stderr.trim_end();
    assert!(!sentence.contains('\n') && sentence.starts_with("spandrel: permission denied"), "{output:?}");
    for word in [SOCKET, "sudo", "group spandrel"] {
        assert!(sentence.contains(word), "{word:?} is missing: {output:?}");
    }
}

/// The socket is root:spandrel 0660: a member of the group commands the agent with either command line, somebody else is refused with one
/// sentence, and nothing has happened.
#[test]
fn the_socket_is_for_a_group() {
    let host = Lab::new().host("host");
    with_group(&host, true);
    let _agent = host.agent();
    assert_eq!(socket_rights(&host), (0, GROUP, 0o660));
    let id = as_nobody(&host, GROUP, host.program("network create front")).ok();
    assert!(as_nobody(&host, GROUP, host.docker_program("network ls -q --no-trunc")).ok().contains(&id));

    let before = host.state();
    for line in ["network ls", "network rm front", "run -d sleep 1", "ps", "drops"] {
        assert_denied(&as_nobody(&host, NOBODY, host.program(line)));
    }
    let docker = as_nobody(&host, NOBODY, host.docker_program("network rm front"));
    assert!(docker.code == Some(1) && docker.stderr.contains("permission denied"), "{docker:?}");
    host.state().assert_same_as(&before);
}

/// On a host without the group the socket is for root alone.
#[test]
fn without_the_group_the_socket_is_for_root() {
    let host = Lab::new().host("host");
    with_group(&host, false);
    let _agent = host.agent();
    assert_eq!(socket_rights(&host), (0, 0, 0o660));
    host.spandrel("network ls").ok();
    assert_denied(&as_nobody(&host, NOBODY, host.program("network ls")));
}
