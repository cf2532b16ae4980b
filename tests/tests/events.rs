//! What happens, as events tell it: in the words of the real Docker daemon, and as `spandrel events` prints it.

use spandrel_tests::*;

/// The events of networks and of further commands, each in short, as one of the two command lines told them.
fn short(events: &str) -> Vec<&str> {
    let wanted = |line: &&str| line.starts_with("network") || line.contains(" exec_");
    let mut told: Vec<_> = events.lines().map(str::trim_end).filter(wanted).collect();
    // The real one tells twice that a running container has left a network.
    told.dedup();
    told
}

/// Containers that are stopped join and leave networks, and further commands come and go, as the real daemon tells it.
#[test]
fn events_are_those_of_the_real_daemon() {
    let site = Site::new();
    site.host.install_debian();
    let docker = site.host.docker("");
    docker.run("web", "");
    site.host.run_container("--name web");
    let [theirs, ours] =
        [&|line: &str| docker.client(line), &|line: &str| site.host.spandrel(line)] as [&dyn Fn(&str) -> Output; 2];
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}";
    let told = |client: &dyn Fn(&str) -> Output, past: &dyn Fn(&[&str]) -> Output| {
        client("network create front").ok();
        client("network connect front web").ok();
        client("network disconnect front web").ok();
        assert_eq!(client("exec web /bin/busybox true").code, Some(0));
        assert_eq!(client("exec web /bin/busybox sh -c false").code, Some(1));
        client("exec -d web /bin/busybox true").ok();
        let line = ["events", "--since", "1h", "--until", "-1s", "--filter", "event=exec_die"];
        let ended = within(PATIENCE, || (past(&line).ok().lines().count() == 3).then_some(()));
        assert!(ended.is_some(), "{:?}", past(&line));
        client("stop -t 0 web").ok();
        client("network connect front web").ok();
        client("network disconnect front web").ok();
        client("network connect front web").ok();
        client("start web").ok();
        past(&["events", "--since", "1h", "--until", "-1s", "--format", format]).ok()
    };
    let theirs = told(theirs, &|line| docker.client(line));
    let ours = told(ours, &|line| site.host.docker_cli(line));
    assert!(short(&theirs).contains(&"network disconnect front <no value>"), "{theirs}");
    assert_eq!(short(&ours), short(&theirs));
}

/// The past, by every filter and format: `spandrel events` prints what the real `docker` prints of the same agent.
#[test]
fn the_past_is_printed_as_docker_prints_it() {
    let site = Site::new();
    let host = &site.host;
    host.create_network("front");
    host.run_container("--name web --network front --label tier=front");
    host.spandrel("exec web true").ok();
    host.spandrel("stop -t 0 web").ok();
    let past = ["events", "--since", "1h", "--until", "-1s"];
    for options in [
        [].as_slice(),
        &["--format", "json"],
        &["--format", "{{json .}}"],
        &[
            "--format",
            "{{.Type}} {{.Action}} {{.Actor.ID}} {{.Time}} {{.TimeNano}} {{.Status}} {{.ID}}[{{.From}}] {{.Scope}}",
        ],
        &["--format", "{{range $key, $value := .Actor.Attributes}}{{$key}}={{$value}};{{end}}"],
        &["--format", "{{json .Actor.Attributes}}", "--filter", "event=exec_start"],
        &["--filter", "type=network"],
        &["-f", "event=exec_create", "-f", "event=die"],
        &["-f", "container=web", "-f", "label=tier=front"],
        &["-f", "network=front"],
    ] {
        let line = [past.as_slice(), options].concat();
        let (docker, ours) = (host.docker_cli(&line[..]).ok(), host.spandrel(&line[..]).ok());
        assert!(!docker.is_empty(), "{options:?}");
        assert_eq!(ours, docker, "{options:?}");
    }
    assert_eq!(host.spandrel("events --since 2000-01-01 --until 2000-01-02T12:00:00").ok(), "");
}

/// What happens is printed as it happens, until the reader has seen enough, the listener is interrupted, or the agent is gone.
#[test]
fn events_are_printed_as_they_happen() {
    let mut site = Site::new();
    let listener = |line: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", line]).env("SPANDREL", site.host.program("").get_program());
        site.host.spawn(command).expect("a shell")
    };
    let mut two = listener(
        "$SPANDREL events --filter type=network --format '{{.Action}} {{.Actor.Attributes.name}}' | head -n 2",
    );
    let mut all = listener("$SPANDREL events --filter type=network --format json");
    let mut number = 0;
    // Until both are known to listen: the one that wants two has them, and has ended.
    let ended = within(PATIENCE * 5, || {
        number += 1;
        site.host.create_network(&format!("net{number}"));
        two.ended().filter(|_| !all.stdout().is_empty())
    });
    assert!(ended.is_some_and(|status| status.success()), "{} {}", two.stderr(), all.stderr());
    let said = two.stdout();
    let words: Vec<_> = said.split_whitespace().collect();
    assert!(words.len() == 4 && words[0] == "create" && words[1].starts_with("net"), "{said}");
    assert_eq!(all.ended(), None);
    site.agent.kill();
    let lost = all.output_within(PATIENCE * 5);
    assert_eq!(lost.code, Some(1), "{lost:?}");
    assert!(lost.stderr.starts_with("spandrel: lost the connection to the agent"), "{lost:?}");
}
