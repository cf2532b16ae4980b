//! A container's life: the shim is this test program itself, called again.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::*;
use crate::kernel::process::{
    ContainerSpec, Launcher, ProcessSpec, Running, Stdio, client_stdio, kill_leftovers, recorded_exit,
};
use crate::kernel::shim;

/// Not a test but what [`launcher`] starts: then the last two arguments are those of `spandrel shim`, a folder and a number.
#[test]
fn shim_process() {
    let mut arguments = std::env::args().rev();
    let Some(status) = arguments.next().and_then(|status| status.parse().ok()) else { return };
    let Some(directory) = arguments.next() else { return };
    let code = shim::main(Path::new(&directory), status);
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

fn launcher() -> Launcher {
    let arguments = ["kernel::tests::processes::shim_process", "--exact", "--nocapture", "--test-threads=1"];
    Launcher { program: std::env::current_exe().unwrap(), arguments: arguments.iter().map(Into::into).collect() }
}

fn spec(host: &Host, command: &[&str]) -> ContainerSpec {
    if !netns::is_alive(&host.path("box")) {
        host.namespace("box");
    }
    let directory = host.path("container");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("hosts"), "10.9.0.2 laika\n").unwrap();
    fs::write(directory.join("hostname"), "laika\n").unwrap();
    ContainerSpec { directory, netns: host.path("box"), hostname: "laika".into(), process: process(command) }
}

fn process(command: &[&str]) -> ProcessSpec {
    ProcessSpec {
        argv: command.iter().map(|part| (*part).to_owned()).collect(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("GREETING".into(), "hello".into())],
        directory: "/tmp".into(),
    }
}

/// Descriptors of a process, and the end from which its output can be read.
fn terminal() -> ([OwnedFd; 3], std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let null = fs::File::open("/dev/null").unwrap();
    ([null.into(), writer.try_clone().unwrap().into(), writer.into()], reader)
}

fn log(spec: &ContainerSpec) -> String {
    fs::read_to_string(spec.directory.join("log")).unwrap()
}

/// Whether any process has `marker` among its arguments.
fn runs(marker: &str) -> bool {
    let processes = procfs::process::all_processes().unwrap().flatten();
    processes
        .into_iter()
        .any(|process| process.cmdline().is_ok_and(|arguments| arguments.iter().any(|argument| argument == marker)))
}

#[test]
fn a_command_runs_in_its_own_surroundings() {
    let host = Host::new();
    let script = "hostname; cat /etc/hosts /etc/hostname; echo $GREETING $PWD; readlink /proc/self/ns/net; exit 7";
    let spec = spec(&host, &["sh", "-c", script]);
    let before = (fs::read("/etc/hosts").unwrap(), nix::unistd::gethostname().unwrap());
    host.run(async |_| {
        let (stdio, mut output) = terminal();
        let running = launcher().spawn(&spec, Stdio::Terminal(stdio)).await.unwrap();
        assert_ne!(running.pid(), 0);
        assert_eq!(running.wait().await.unwrap().code, 7);
        assert_eq!(running.wait().await.unwrap().code, 7);
        assert!(!running.is_alive() && !running.kill(libc::SIGTERM).unwrap());
        // The pipe has ended, so nobody holds the other end any more.
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        let netns = fs::metadata(&spec.netns).map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata)).unwrap();
        assert!(text.contains(&format!("laika\n10.9.0.2 laika\nlaika\nhello /tmp\nnet:[{netns}]\n")), "{text}");
        assert_eq!(recorded_exit(&spec.directory).unwrap().unwrap().code, 7);
        assert!(Running::reattach(&spec.directory).unwrap().is_none());
    });
    assert_eq!(before, (fs::read("/etc/hosts").unwrap(), nix::unistd::gethostname().unwrap()));
}

#[test]
fn what_cannot_be_started_says_why_and_leaves_nothing() {
    let host = Host::new();
    host.run(async |_| {
        let failure = async |command: &str, directory: &str| {
            let mut spec = spec(&host, &[command]);
            spec.process.directory = directory.into();
            let error = launcher().spawn(&spec, Stdio::Log).await.unwrap_err();
            assert!(!spec.directory.join("process.json").exists() && !spec.directory.join("pid").exists());
            error
        };
        let error = failure("no-such-command", "/").await;
        assert_eq!(error.to_string(), "exec: \"no-such-command\": executable file not found in $PATH");
        assert!(matches!(failure("/etc/passwd", "/").await, Error::CommandNotExecutable { .. }));
        let error = failure("/no/such/command", "/").await;
        assert_eq!(error.to_string(), "exec: \"/no/such/command\": no such file or directory");
        assert!(matches!(failure("true", "/no/such/directory").await, Error::NoSuchDirectory(_)));
        let mut spec = spec(&host, &["true"]);
        spec.netns = "/no/such/namespace".into();
        let error = launcher().spawn(&spec, Stdio::Log).await.unwrap_err();
        assert!(error.to_string().contains("/no/such/namespace"), "{error}");
    });
}

#[test]
fn nothing_remains_when_the_command_ends() {
    let host = Host::new();
    // Descendants that leave their session, ignore signals, or take a mount namespace of their own.
    let script =
        "setsid sleep 61001 & (trap '' TERM HUP; sleep 61001) & unshare -m sleep 61001 & sleep 0.2; kill -9 $$";
    let spec = spec(&host, &["sh", "-c", script]);
    host.run(async |_| {
        let running = launcher().spawn(&spec, Stdio::Log).await.unwrap();
        eventually("the descendants run", async || runs("61001")).await;
        assert_eq!(running.wait().await.unwrap().code, 137);
    });
    assert!(!runs("61001"));
}

#[test]
fn a_running_container_is_found_again_and_stopped() {
    let host = Host::new();
    let spec = spec(&host, &["sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"]);
    host.run(async |_| {
        let started = launcher().spawn(&spec, Stdio::Log).await.unwrap();
        eventually("the command is ready", async || log(&spec).contains("ready")).await;
        let found = Running::reattach(&spec.directory).unwrap().unwrap();
        assert_eq!(found.pid(), started.pid());
        assert_eq!(fs::read_to_string(spec.directory.join("pid")).unwrap(), format!("{}\n", found.pid()));
        drop(started);
        assert!(found.is_alive());
        assert!(recorded_exit(&spec.directory).unwrap().is_none());
        assert!(found.kill(libc::SIGTERM).unwrap());
        assert_eq!(found.wait().await.unwrap().code, 3);
        assert!(log(&spec).ends_with("bye\n"));
    });
}

#[test]
fn everything_dies_with_the_shim() {
    let host = Host::new();
    let spec = spec(&host, &["sh", "-c", "setsid sleep 61002 & echo ready; sleep 61002; true"]);
    host.run(async |_| {
        let running = launcher().spawn(&spec, Stdio::Log).await.unwrap();
        eventually("the command is ready", async || log(&spec).contains("ready") && runs("61002")).await;
        let shim = running.record().shim_pid;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
        // The command, by the kernel's hand alone; the rest, once the agent notices.
        let command = format!("/proc/{}/cmdline", running.pid());
        eventually("the command is gone", async || fs::read(&command).map_or(true, |arguments| arguments.is_empty()))
            .await;
        assert_eq!(running.wait().await.unwrap().code, 137);
        assert!(!runs("61002"));
        assert_eq!(recorded_exit(&spec.directory).unwrap().unwrap().code, 137);
        assert_eq!(kill_leftovers(&spec.directory).await.unwrap(), 0);
    });
}

#[test]
fn killing_all_ends_a_container_with_its_exit_recorded() {
    let host = Host::new();
    let spec = spec(&host, &["sh", "-c", "setsid sleep 61003 & echo ready; sleep 61003; true"]);
    host.run(async |_| {
        let running = launcher().spawn(&spec, Stdio::Log).await.unwrap();
        eventually("the command is ready", async || log(&spec).contains("ready") && runs("61003")).await;
        // The shim helps as soon as its command is gone, so that not all may be left for us.
        assert!(running.kill_all().await.unwrap() >= 1);
        assert_eq!(running.wait().await.unwrap().code, 137);
        assert!(!runs("61003"));
    });
}

#[test]
fn further_processes_see_what_the_container_sees() {
    let host = Host::new();
    let spec = spec(&host, &["sleep", "61004"]);
    host.run(async |_| {
        let running = launcher().spawn(&spec, Stdio::Log).await.unwrap();
        let (stdio, mut output) = terminal();
        let command = process(&["sh", "-c", "hostname; cat /etc/hosts; echo $GREETING $PWD; exit 9"]);
        let executed = running.exec(&command, Some(stdio)).await.unwrap();
        assert_eq!((executed.wait().await.unwrap(), executed.clone().wait().await.unwrap()), (9, 9));
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text, "laika\n10.9.0.2 laika\nhello /tmp\n");

        let killed = running.exec(&process(&["sleep", "61004"]), Some(terminal().0)).await.unwrap();
        assert!(killed.kill(libc::SIGTERM).unwrap());
        assert_eq!(killed.wait().await.unwrap(), 128 + libc::SIGTERM);
        assert!(!killed.kill(libc::SIGTERM).unwrap());

        assert!(matches!(
            running.exec(&process(&["no-such-command"]), Some(terminal().0)).await,
            Err(Error::CommandNotFound { .. })
        ));
        let nowhere = ProcessSpec { directory: "/no/such".into(), ..process(&["true"]) };
        assert!(matches!(running.exec(&nowhere, Some(terminal().0)).await, Err(Error::NoSuchDirectory(_))));

        // One that is still running ends with the container.
        let last = running.exec(&process(&["sleep", "61004"]), Some(terminal().0)).await.unwrap();
        running.kill(libc::SIGKILL).unwrap();
        assert_eq!(running.wait().await.unwrap().code, 137);
        assert_eq!(last.wait().await.unwrap(), 137);
        let error = running.exec(&process(&["true"]), Some(terminal().0)).await.unwrap_err();
        assert_eq!(error.to_string(), "the container is not running");
    });
}

#[test]
fn a_clients_terminal_is_taken_over() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut client = std::process::Command::new("sleep").arg("60").stdout(writer).spawn().unwrap();
    let [_, stdout, _] = client_stdio(client.id().cast_signed()).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    std::io::Write::write_all(&mut fs::File::from(stdout), b"still there").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still there");
    client_stdio(client.id().cast_signed()).unwrap_err();
}
