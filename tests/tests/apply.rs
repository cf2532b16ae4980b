//! `spandrel apply` and `down`: from a file to networks, containers and ports, a second time to nothing, from a changed file to the
//! difference, and from a wrong one to nothing at all.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use nix::pty::openpty;
use spandrel_tests::*;

const SHOP: &str = r#"
name = "shop"

[networks.front]
subnets = ["10.0.0.0/24", { subnet = "fd00:a::/64", gateway = "fd00:a::9" }]
labels = { tier = "front" }

[networks.back]
subnets = ["10.1.0.0/24"]
internal = true
icc = false

[containers.web]
command = ["sleep", "1000"]
networks = { front = { ip = "10.0.0.100", aliases = ["www"] }, back = {} }
ports = ["8080:80", { port = "8443:443", allow-from = ["10.0.0.0/8"], rate-limit = "100/s" }]
environment = { COLOUR = "red" }

[containers.db]
command = ["sleep", "1000"]
networks = ["back"]
"#;

/// The same in YAML.
const SHOP_YAML: &str = r#"
name: shop
networks:
  front:
    subnets:
      - 10.0.0.0/24
      - {subnet: "fd00:a::/64", gateway: "fd00:a::9"}
    labels: {tier: front}
  back:
    subnets: [10.1.0.0/24]
    internal: true
    icc: false
containers:
  web:
    command: [sleep, "1000"]
    networks:
      front: {ip: 10.0.0.100, aliases: [www]}
      back:
    ports:
      - "8080:80"
      - {port: "8443:443", allow-from: [10.0.0.0/8], rate-limit: 100/s}
    environment: {COLOUR: red}
  db:
    command: [sleep, "1000"]
    networks: [back]
"#;

const NOTHING_TO_DO: &str = "shop: nothing to do, 2 networks and 2 containers are as they are wanted";

/// Applies this text.
#[track_caller]
fn apply(site: &Site, text: &str) -> Output {
    site.host.write("/run/shop.toml", text);
    site.host.spandrel("apply -f /run/shop.toml --yes")
}

/// A template of `inspect`, filled in.
#[track_caller]
fn shown(site: &Site, template: &str, object: &str) -> String {
    site.host.spandrel(&["inspect", "-f", template, object]).ok()
}

/// What is declared is made, works, and is left alone by the next runs; `down` leaves nothing.
#[test]
fn made_kept_and_removed() {
    let site = Site::new();
    site.host.run_container("--name stranger");
    site.host.create_network("strange");
    let before = site.host.state();
    let plan = apply(&site, SHOP).ok();
    for line in [
        "+ network front",
        "+ network back",
        "+ container web",
        "+ container db",
        "4 to make, 0 to change, 0 to remove",
        "shop: done",
    ] {
        assert!(plan.lines().any(|found| found == line), "{line}: {plan}");
    }

    let web = site.host.container("web");
    assert_eq!(web.endpoint("front")["IPAddress"], "10.0.0.100");
    assert_eq!(site.host.gateway("front", V6), "fd00:a::9".parse::<std::net::IpAddr>().unwrap());
    assert_eq!(shown(&site, "{{json (index .NetworkSettings.Networks \"front\").Aliases}}", "web"), "[\"www\"]");
    assert_eq!(
        shown(&site, "{{.Internal}} {{index .Options \"com.docker.network.bridge.enable_icc\"}}", "back"),
        "true false"
    );
    assert!(shown(&site, "{{json .Config.Env}}", "web").contains("COLOUR=red"));
    // One port is for some alone.
    let stats = site.host.spandrel("port --stats --format json web").json_lines();
    let restricted = stats.iter().find(|port| port["PrivatePort"] == 443).expect("the other port");
    assert_eq!((&restricted["AllowFrom"][0], &restricted["RateLimit"]), (&"10.0.0.0/8".into(), &100.into()));

    let made = site.host.state();
    assert_eq!(apply(&site, SHOP).ok(), NOTHING_TO_DO);
    site.host.write("/run/shop.yaml", SHOP_YAML);
    assert_eq!(site.host.spandrel("apply -f /run/shop.yaml").ok(), NOTHING_TO_DO);
    site.host.state().assert_same_as(&made);

    let plan = site.host.spandrel("down -f /run/shop.toml --dry-run").ok();
    assert!(plan.ends_with("0 to make, 0 to change, 4 to remove"), "{plan}");
    site.host.state().assert_same_as(&made);
    let plan = site.host.spandrel("down -f /run/shop.toml --yes").ok();
    assert!(plan.contains("- container web\n") && plan.ends_with("shop: done"), "{plan}");
    site.host.state().assert_same_as(&before);
    assert_eq!(site.host.spandrel("down -f /run/shop.toml").ok(), "shop: nothing to do, nothing of it is there");
}

/// A changed file changes what differs, in place where that is possible: containers go on that need not be made anew.
#[test]
fn changed() {
    let site = Site::new();
    apply(&site, SHOP).ok();
    let id = |name: &str| shown(&site, "{{.Id}}", name);
    let (web, db, back) = (id("web"), id("db"), id("back"));

    // Ports and who may use them.
    let ports = SHOP
        .replace("\"8080:80\"", "\"8081:80\", \"127.0.0.1:5353:53/udp\"")
        .replace("10.0.0.0/8\"], rate-limit = \"100/s\"", "10.0.0.0/8\", \"fd00::/8\"]");
    let plan = apply(&site, &ports).ok();
    assert!(plan.starts_with("~ container web\n") && plan.contains("0 to make, 1 to change, 0 to remove"), "{plan}");
    let published = site.host.spandrel("port web").ok();
    assert_eq!(
        published,
        "53/udp -> 127.0.0.1:5353\n80/tcp -> 0.0.0.0:8081\n80/tcp -> [::]:8081\n443/tcp -> 0.0.0.0:8443\n443/tcp -> [::]:8443"
    );
    let stats = site
        .host
        .spandrel(&["port", "--stats", "--format", "{{.PrivatePort}} {{.AllowFrom}} {{.RateLimit}}", "web"])
        .ok();
    assert!(stats.lines().any(|line| line == "443 [10.0.0.0/8 fd00::/8] 0"), "{stats}");
    assert_eq!((id("web"), id("db")), (web.clone(), db.clone()));

    let web_now = site.host.container("web");
    let server = web_now.tcp_listen(V4.any(), 80);
    site.host.tcp_connect(V4.loopback(), 8081).expect("the published port").echo("hello").unwrap();
    drop(server);

    // Networks of a container, and what it wishes there.
    let moved =
        ports.replace("networks = [\"back\"]", "networks = [\"back\", \"front\"]").replace("10.0.0.100", "10.0.0.101");
    let plan = apply(&site, &moved).ok();
    assert!(plan.contains("joins network front (") || plan.contains("joins network front\n"), "{plan}");
    assert_eq!(shown(&site, "{{.NetworkSettings.Networks.front.IPAddress}}", "web"), "10.0.0.101");
    assert_eq!(shown(&site, "{{len .NetworkSettings.Networks}}", "db"), "2");
    assert_eq!((id("web"), id("db")), (web.clone(), db.clone()));

    // A network's own options: it is made anew, and its members stay.
    let open = moved.replace("icc = false", "icc = true");
    let plan = apply(&site, &open).ok();
    assert!(plan.contains("~ network back\n    icc: false → true\n    made anew\n"), "{plan}");
    assert_ne!(id("back"), back);
    assert_eq!((id("web"), id("db")), (web.clone(), db.clone()));
    let (a, b) = (site.host.container("web"), site.host.container("db"));
    b.ping(a.ip_on("back", V4)).expect("neighbours may talk now");

    // A command: the container is made anew. And one that is not named any more goes, with its network.
    let less = open.replace("environment = { COLOUR = \"red\" }", "environment = { COLOUR = \"blue\" }");
    let less = less.split("[containers.db]").next().unwrap();
    let plan = apply(&site, less).ok();
    assert!(plan.contains("- container db\n") && plan.contains("0 to make, 1 to change, 1 to remove"), "{plan}");
    assert_ne!(id("web"), web);
    assert_eq!(site.host.spandrel("inspect db").code, Some(1));
    assert_eq!(apply(&site, less).ok(), "shop: nothing to do, 2 networks and 1 container are as they are wanted");
}

/// Runs a command on a terminal of its own, where `typed` is typed; gives its exit code and what the terminal showed.
fn on_terminal(host: &Host, line: &str, variable: (&str, &str), typed: &str) -> (Option<i32>, String) {
    let terminal = openpty(None, None).expect("a terminal");
    let mut command = host.program(line);
    command.env_remove("NO_COLOR").env("TERM", "xterm").env(variable.0, variable.1);
    let end = terminal.slave.as_raw_fd();
    // SAFETY: the closure makes system calls alone, on descriptors that its process has.
    unsafe {
        command.pre_exec(move || match (0..3).all(|number| libc::dup2(end, number) == number) {
            true => Ok(()),
            false => Err(std::io::Error::last_os_error()),
        })
    };
    let process = host.spawn(command).unwrap();
    drop(terminal.slave);
    let mut master = File::from(terminal.master);
    master.write_all(typed.as_bytes()).unwrap();
    // Once nobody has the other end, reading is an error.
    let mut shown = Vec::new();
    let _ = master.read_to_end(&mut shown);
    (process.output_within(Duration::from_secs(20)).code, String::from_utf8_lossy(&shown).into_owned())
}

/// On a terminal, the plan has colours, unless they are not wanted, and is done when somebody says yes.
#[test]
fn asked_on_a_terminal() {
    let site = Site::new();
    site.host.write("/run/shop.toml", SHOP);
    let before = site.host.state();
    let line = "apply -f /run/shop.toml";
    let (code, shown) = on_terminal(&site.host, line, ("LANG", "C"), "n\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("\u{1b}[32m+ network front\u{1b}[0m") && shown.contains("Do this to shop? [y/N]"),
        "{shown:?}"
    );
    site.host.state().assert_same_as(&before);
    let (code, shown) = on_terminal(&site.host, line, ("NO_COLOR", "1"), "\n");
    assert!(code == Some(0) && shown.contains("+ network front") && !shown.contains('\u{1b}'), "{shown:?}");
    site.host.state().assert_same_as(&before);

    let (code, shown) = on_terminal(&site.host, line, ("LANG", "C"), "y\n");
    assert!(code == Some(0) && shown.trim_end().ends_with("shop: done"), "{shown:?}");
    assert_eq!(site.host.spandrel(line).ok(), NOTHING_TO_DO);
    let (code, shown) = on_terminal(&site.host, "down -f /run/shop.toml", ("LANG", "C"), "yes\n");
    assert!(code == Some(0) && shown.contains("\u{1b}[31m- container web"), "{shown:?}");
    site.host.state().assert_same_as(&before);
    let (code, shown) = on_terminal(&site.host, "rm nobody", ("LANG", "C"), "");
    assert!(code == Some(1) && shown.starts_with("\u{1b}[1m\u{1b}[31mspandrel:\u{1b}[0m "), "{shown:?}");
}

/// What somebody changed by hand is put right.
#[test]
fn drift() {
    let site = Site::new();
    apply(&site, SHOP).ok();
    site.host.spandrel("network disconnect back web").ok();
    site.host.spandrel("unpublish web 8080:80").ok();
    site.host.spandrel("publish web 9999:99").ok();
    site.host.spandrel("publish --allow-from 0.0.0.0/0,::/0 --rate-limit 0 web 8443:443").ok();
    site.host.spandrel("stop -t 0 db").ok();
    let plan = site.host.spandrel("apply -f /run/shop.toml --dry-run").ok();
    for detail in [
        "joins network back",
        "publishes 8080:80/tcp",
        "takes back 9999:99/tcp",
        "publishes published=8443,target=443",
        "started",
    ] {
        assert!(plan.contains(detail), "{detail}: {plan}");
    }
    assert!(plan.ends_with("0 to make, 2 to change, 0 to remove"), "{plan}");
    site.host.spandrel("port web 99").ok();
    apply(&site, SHOP).ok();
    assert_eq!(apply(&site, SHOP).ok(), NOTHING_TO_DO);
    assert_eq!(shown(&site, "{{.State.Running}}", "db"), "true");
    assert_eq!(site.host.spandrel("port web 99").code, Some(1));
    // The agent's end and start change nothing of it.
    let mut site = site;
    site.restart_agent();
    assert_eq!(apply(&site, SHOP).ok(), NOTHING_TO_DO);
}

/// A file with something wrong in it changes nothing, and the sentence says where and what would be right.
#[test]
fn wrong_files() {
    let site = Site::new();
    site.host.run_container("--name stranger");
    site.host.create_network("strange");
    apply(&site, SHOP).ok();
    let before = site.host.state();
    let with = |more: &str| format!("{SHOP}\n{more}");
    let mut unclear = Vec::new();
    for (text, words) in [
        (
            "name = \"shop\"\ncolour = \"red\"".to_owned(),
            ["shop.toml:2:1:", "unknown field `colour`, expected one of `name`, `networks`, `containers`"],
        ),
        (with("[networks.side]\nsubnet = \"10.5.0.0/24\""), [":24:1:", "unknown field `subnet`"]),
        (with("[containers.side]\ncommand = \"sleep\""), [":24:11:", "expected a sequence"]),
        (with("[containers.side]"), [":23:1:", "missing field `command`"]),
        (with("[containers.side"), [":23:17:", "]"]),
        (with("[networks.side]\nsubnets = [\"10.0.0.0/16\"]"), ["networks.side", "overlaps"]),
        (with("[networks.\"a/b\"]"), ["networks.a/b", "Invalid network name"]),
        (with("[networks.side]\ngateway-mode-ipv4 = \"open\""), ["networks.side", "open"]),
        (with("[containers.side]\ncommand = [\"sleep\"]\nports = [\"8080:80\"]"), ["containers.web.ports", "8080"]),
        (with("[containers.side]\ncommand = [\"sleep\"]\nports = [\"eighty\"]"), ["containers.side: ports", "eighty"]),
        (
            with("[containers.side]\ncommand = [\"sleep\"]\nnetworks = [\"nowhere\"]"),
            ["containers.side.networks", "nowhere"],
        ),
        (
            with("[containers.side]\ncommand = [\"sleep\"]\nnetworks.front = { ip = \"10.9.0.9\" }"),
            ["containers.side.networks.front", "10.9.0.9"],
        ),
        (with("[containers.stranger]\ncommand = [\"sleep\"]"), ["container stranger", "not made by `apply`"]),
        (with("[networks.strange]"), ["network strange", "not made by `apply`"]),
        (SHOP.replace("name = \"shop\"", "name = \"other\""), ["belongs to the project shop", "another name"]),
        // These only the agent can judge; what was made before them goes again.
        (
            with(
                "[networks.side]\nsubnets = [\"10.5.0.0/24\"]\n[containers.side]\ncommand = [\"no-such-command\"]\nnetworks = [\"side\"]",
            ),
            ["making container side", "removed again"],
        ),
        (
            with(
                "[networks.side]\n[containers.side]\ncommand = [\"sleep\", \"9\"]\nnetworks.front = { ip = \"10.0.0.1\" }",
            ),
            ["making container side", "removed again"],
        ),
    ] {
        let output = apply(&site, &text);
        let sentence = output.stderr.trim_end();
        let named = words.iter().all(|word| sentence.contains(word))
            && sentence.contains("shop.toml") | sentence.contains("making");
        if output.code != Some(1) || sentence.contains('\n') || !named {
            unclear.push(format!("{output:?}\nwanted: {words:?}"));
        }
        site.host.state().assert_same_as(&before);
    }
    assert!(unclear.is_empty(), "{}", unclear.join("\n\n"));

    // Neither does a file that is not there, or of no known language, nor one that nobody confirms.
    site.host.write("/run/shop.ini", "name = shop");
    site.host.write("/run/shop.yml", "name: shop\nnetworks:\n  side:\n    subnet: 10.5.0.0/24\n");
    site.host.write("/run/side.toml", "name = \"side\"\n[networks.side]");
    for (line, words) in [
        ("apply -f /run/nowhere.toml", ["/run/nowhere.toml", "cannot read"]),
        ("apply -f /run/shop.ini", ["/run/shop.ini", ".toml, .yaml or .yml"]),
        ("apply -f /run/shop.yml", ["/run/shop.yml:4:", "unknown field"]),
        ("down -f /run/shop.yml", ["/run/shop.yml:4:", "unknown field"]),
        ("apply -f /run/side.toml", ["nobody is there to confirm it", "--yes"]),
        ("apply", ["--file <FILE>", "required"]),
        ("down", ["--file <FILE>", "required"]),
        ("apply -f /run/side.toml --yes --dry-run", ["--dry-run", "--yes"]),
    ] {
        let output = site.host.spandrel(line);
        assert!(
            matches!(output.code, Some(1 | 2)) && words.iter().all(|word| output.stderr.contains(word)),
            "{output:?}"
        );
        site.host.state().assert_same_as(&before);
    }
}
