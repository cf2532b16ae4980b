//! `cargo xtask demo`: the tutorial, played on a host that exists for it alone, and told step by step.
//!
//! The host is a [`spandrel_tests::Host`]: namespaces that only this process holds, so nothing is left of them however
//! it ends, also on Ctrl-C. What is typed is really run, and what it prints is what is shown.

pub(crate) mod probe;
mod story;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::unistd::geteuid;
use spandrel_tests::{
    Agent, Family, Host, Lab, Machine, Net, Output, PATIENCE, RUN_DIR, STATE_DIR, Site, State, Uplink, V4, V6, within,
};

use crate::build;
use crate::privilege;
use crate::workspace::{Workspace, in_path};
use story::Story;

/// Where the demo's own programs are on its machines; `/run` is each machine's own.
const PROGRAMS: &str = "/run/demo";

/// The name that the internet of the demo knows.
const NAME: &str = "www.example.test";

/// Build, then watch the tutorial: networks, containers, names, isolation, published ports, the way out
///
/// Makes a host in network namespaces of its own, with an internet behind its uplink, runs the agent there and plays
/// the tutorial: each command is shown with its output and a check mark. Takes some ten seconds, touches nothing else
/// on the machine, and leaves nothing behind. The exit code is 1 if anything is not as told. Needs root, through sudo
/// where the caller is not.
#[derive(Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    profile: build::Profile,

    /// Play it with this binary instead of building one
    #[arg(long, value_name = "PATH")]
    spandrel: Option<PathBuf>,
}

/// Builds what is needed, becomes root if it is not, and plays.
pub(crate) fn run(workspace: &Workspace, args: &DemoArgs) -> Result<()> {
    let spandrel = match &args.spandrel {
        Some(path) => path.canonicalize().with_context(|| format!("there is no {}", path.display()))?,
        None => build::spandrel(workspace, args.profile)?,
    };
    run_with(&spandrel)
}

/// Plays it with this binary.
pub(crate) fn run_with(spandrel: &Path) -> Result<()> {
    let xtask = std::env::current_exe().context("cannot tell where this program is")?;
    if geteuid().is_root() {
        return play(&xtask, spandrel.to_owned());
    }
    let mut again = privilege::command(&xtask, "making network namespaces")?;
    again.args([OsStr::new("demo"), OsStr::new("--spandrel"), spandrel.as_os_str()]);
    match again.status().context("cannot become root")?.success() {
        true => Ok(()),
        false => bail!("the demo did not go as told"),
    }
}

/// Everything that the demo plays on.
struct Stage {
    agent: Agent,
    host: Host,
    internet: Machine,
    uplink: Uplink,
    /// The host as it was before the first command.
    before: State,
}

fn play(xtask: &Path, spandrel: PathBuf) -> Result<()> {
    let start = Instant::now();
    let mut story = Story::new(PROGRAMS);
    story.tell(
        "The tutorial, on a host that exists for it alone: a network namespace, with another one as the internet",
    );
    story.tell("behind its only uplink. Nothing else on this machine is touched.");
    let stage = Stage::build(xtask, spandrel, &mut story)?;
    let _names = stage.internet.name_server(Site::far(V4), &Family::BOTH.map(|family| (NAME, Site::far(family))));
    let _server = stage.internet.spawn(story.command("probe serve 80")).context("cannot start the server")?;
    wait_for(&stage.internet, Site::far(V4), 80);

    step_1_networks(&mut story, &stage);
    step_2_containers(&mut story, &stage);
    step_3_isolation(&mut story, &stage);
    step_4_networks_are_changed(&mut story, &stage);
    step_5_a_shared_alias(&mut story, &stage);
    step_6_published_ports(&mut story, &stage);
    step_7_chosen_addresses(&mut story, &stage);
    step_8_the_way_out(&mut story, &stage);
    no_packet_filter(&mut story, &stage);
    step_9_nothing_is_left(&mut story, &stage);

    let (good, all) = story.score();
    story.tell(&format!("\n{good} of {all} as told, in {:.1} s.", start.elapsed().as_secs_f32()));
    if good < all {
        story.tell(&format!("What the agent had to say:\n{}", stage.agent.log()));
        bail!("the demo did not go as told");
    }
    Ok(())
}

impl Stage {
    fn build(xtask: &Path, spandrel: PathBuf, story: &mut Story) -> Result<Self> {
        let lab = Lab::with(spandrel.clone());
        let (host, internet) = (lab.host("host"), lab.machine("internet"));
        let uplink = lab.uplink(&host, &internet);
        for (family, prefix) in [(V4, 32), (V6, 128)] {
            internet.add_address("lo", Site::far(family), prefix);
        }
        host.write("/etc/resolv.conf", &format!("nameserver {}\n", Site::far(V4)));
        for machine in [&*host, &internet] {
            install(machine, xtask, &spandrel).context("cannot prepare the demo's programs")?;
        }
        story.title("A bare host");
        story.tell(&format!("{} is its address on the uplink {}.", uplink.host(V4), uplink.name));
        story.tell(&format!("host# spandrel agent --run-dir {RUN_DIR} --state-dir {STATE_DIR} &"));
        let agent = host.agent();
        story.check("the agent runs, with every program loaded", true);
        let before = host.state();
        Ok(Self { agent, host, internet, uplink, before })
    }

    /// A container's address on its one network.
    fn address(&self, container: &str) -> IpAddr {
        self.host.container(container).ip(V4)
    }
}

/// Puts `spandrel` and `probe` where commands on a machine and in its containers find them.
fn install(machine: &Machine, xtask: &Path, spandrel: &Path) -> std::io::Result<()> {
    let folder = machine.path(PROGRAMS);
    fs::create_dir(&folder)?;
    symlink(spandrel, folder.join("spandrel"))?;
    symlink(xtask, folder.join("xtask"))?;
    let probe = folder.join("probe");
    fs::write(&probe, format!("#!/bin/sh\nexec {PROGRAMS}/xtask probe \"$@\"\n"))?;
    fs::set_permissions(&probe, fs::Permissions::from_mode(0o755))
}

/// The system's own `ping`, or ours on a machine that has none.
fn ping(address: impl std::fmt::Display) -> String {
    match in_path("ping").is_empty() {
        false => format!("ping -c 1 -W 1 {address}"),
        true => format!("probe ping {address}"),
    }
}

fn step_1_networks(story: &mut Story, stage: &Stage) {
    story.title("Step 1: networks");
    let listed = story.run(&stage.host, "spandrel network ls");
    let has = |name: &str| listed.stdout.lines().any(|line| line.split_whitespace().nth(1) == Some(name));
    story.check("bridge, host and none are there from the start", ["bridge", "host", "none"].into_iter().all(has));
    let created = "spandrel network create --subnet 10.0.0.0/24 --gateway 10.0.0.1 --ipv6 second-bridge";
    let created = story.run(&stage.host, created);
    let listed = story.run(&stage.host, "spandrel network ls");
    story.check("second-bridge is made", created.code == Some(0) && listed.stdout.contains("second-bridge"));
}

fn step_2_containers(story: &mut Story, stage: &Stage) {
    story.title("Step 2: containers");
    for options in ["--name ubuntuA", "--name ubuntuB", "--name ubuntuC --network second-bridge"] {
        story.run(&stage.host, &format!("spandrel run -d {options} sleep infinity"));
    }
    story.run(&stage.host, "spandrel ps");
    let (a, b) = (stage.address("ubuntuA"), stage.address("ubuntuB"));
    let consecutive = matches!((a, b), (IpAddr::V4(a), IpAddr::V4(b)) if u32::from(b) == u32::from(a) + 1);
    story.check(&format!("ubuntuA has {a}, ubuntuB has the next address, {b}"), consecutive);
    let fields =
        ["\"Name\"", "\"MacAddress\"", "\"Gateway\"", "\"IPAddress\"", "\"GlobalIPv6Address\"", "\"IPv6Gateway\""];
    story.run_in_part(&stage.host, "spandrel inspect ubuntuC", &fields);
    let endpoint = stage.host.container("ubuntuC").endpoint("second-bridge");
    let as_told = endpoint["IPAddress"] == "10.0.0.2" && endpoint["Gateway"] == "10.0.0.1";
    story.check("ubuntuC has 10.0.0.2 on second-bridge, with 10.0.0.1 as its gateway", as_told);
}

fn step_3_isolation(story: &mut Story, stage: &Stage) {
    story.title("Step 3: who reaches whom");
    let [a, b, c] = ["ubuntuA", "ubuntuB", "ubuntuC"].map(|name| stage.address(name));
    let reached = story.run(&stage.host, &format!("spandrel exec ubuntuB {}", ping(a)));
    story.check("ubuntuB reaches ubuntuA, on the same network", reached.code == Some(0));
    for (from, to, address) in [("ubuntuB", "ubuntuC", c), ("ubuntuC", "ubuntuA", a)] {
        let reached = story.run(&stage.host, &format!("spandrel exec {from} {}", ping(address)));
        story.check(
            &format!("{from} gets no answer from {to}, on another network: silence, no refusal"),
            silent(&reached),
        );
    }
    for (name, address) in [("ubuntuA", a), ("ubuntuB", b), ("ubuntuC", c)] {
        let reached = story.run(&stage.host, &ping(address));
        story.check(&format!("the host reaches {name}"), reached.code == Some(0));
    }
    story.run(&stage.host, "spandrel drops");
    let counted = stage.host.dropped("ubuntuB", |reason| reason == "OtherNetwork");
    story.check("what was dropped is counted, with its reason", counted > 0);
}

/// Whether a ping ended without an answer, and without being told that there can be none.
fn silent(ping: &Output) -> bool {
    ping.code == Some(1) && ![&ping.stdout, &ping.stderr].iter().any(|text| text.to_lowercase().contains("unreachable"))
}

fn step_4_networks_are_changed(story: &mut Story, stage: &Stage) {
    story.title("Step 4: names, and a change of networks");
    for (name, network, server) in [("web", "front-net", 80), ("was", "back-net", 8080), ("db", "back-net", 5432)] {
        if name != "db" {
            story.run(&stage.host, &format!("spandrel network create {network}"));
        }
        story.run(&stage.host, &format!("spandrel run -d --name {name} --network {network} probe serve {server}"));
        wait_for(&stage.host, stage.address(name), server);
    }
    let reached = |story: &Story| {
        ["was:8080", "db:5432"].map(|server| {
            let answer = story.run(&stage.host, &format!("spandrel exec web probe get {server}"));
            answer.code == Some(0)
        })
    };
    story.check("web, on front-net alone, knows neither was nor db", reached(story) == [false; 2]);
    let connected = story.run(&stage.host, "spandrel network connect back-net web");
    let both = reached(story) == [true; 2];
    story.check("connected to back-net while it runs, it reaches both by name", connected.code == Some(0) && both);
    let disconnected = story.run(&stage.host, "spandrel network disconnect back-net web");
    let none = reached(story) == [false; 2];
    story.check("disconnected, it no longer does", disconnected.code == Some(0) && none);
}

fn step_5_a_shared_alias(story: &mut Story, stage: &Stage) {
    story.title("Step 5: one name for three containers");
    let names = ["alice1", "alice2", "alice3"];
    for name in names {
        let options = format!("--name {name} --network front-net --network-alias alicek106");
        story.run(&stage.host, &format!("spandrel run -d {options} sleep infinity"));
    }
    let answers = names.map(|_| story.run(&stage.host, "spandrel exec web probe names alicek106").stdout);
    let first: BTreeSet<_> = answers.iter().filter_map(|answer| answer.lines().next()?.parse().ok()).collect();
    let all: BTreeSet<_> = names.iter().map(|name| stage.address(name)).collect();
    story.check("each look-up tells all three, and another one first", first == all);
}

fn step_6_published_ports(story: &mut Story, stage: &Stage) {
    story.title("Step 6: published ports");
    let published = "spandrel run -d --name shop --network second-bridge -p 8080:80 probe serve 80";
    story.run(&stage.host, published);
    wait_for(&stage.host, stage.address("shop"), 80);
    story.run(&stage.host, "spandrel port shop");
    for family in [V4, V6] {
        let (host, client) = (stage.uplink.host(family), stage.uplink.outside(family));
        let answer = story.run(&stage.internet, &format!("probe get {}", socket(host, 8080)));
        let seen = answer.code == Some(0) && answer.stdout.contains(&format!("you are {client}"));
        story.check(&format!("from outside, and the container sees the client's own address, {client}"), seen);
    }
    for (address, from) in
        [(stage.uplink.host(V4), "its own address"), (V4.loopback(), "loopback"), (V6.loopback(), "::1")]
    {
        let answer = story.run(&stage.host, &format!("probe get {}", socket(address, 8080)));
        story.check(&format!("from the host, by {from}"), answer.code == Some(0));
    }
    let second = story.run(&stage.host, "spandrel run -d --name shop2 -p 8080:80 probe serve 80");
    let refused = second.code == Some(1) && second.stderr.contains("port is already allocated");
    story.check("a second container does not get the same port", refused);

    story.run(&stage.host, "spandrel run -d --name database --network second-bridge probe serve 5432");
    let database = stage.address("database");
    wait_for(&stage.host, database, 5432);
    let near = story.run(&stage.host, &format!("spandrel exec ubuntuC probe get {}", socket(database, 5432)));
    let far = story.run(&stage.internet, &format!("probe get {}", socket(stage.uplink.host(V4), 5432)));
    let apart = near.code == Some(0) && far.code == Some(1);
    story.check("a database that publishes nothing is reached from its own network only", apart);
}

fn step_7_chosen_addresses(story: &mut Story, stage: &Stage) {
    story.title("Step 7: chosen addresses");
    let created = "spandrel network create --subnet 172.30.1.0/24 --ip-range 172.30.1.128/25 chosen-net";
    story.run(&stage.host, created);
    let run = |story: &Story, options: &str| {
        story.run(&stage.host, &format!("spandrel run -d --network chosen-net {options} sleep infinity"))
    };
    run(story, "--name fixed --ip 172.30.1.100");
    run(story, "--name dynamic");
    let [fixed, dynamic] = ["fixed", "dynamic"].map(|name| stage.address(name));
    let in_range = matches!(dynamic, IpAddr::V4(ip) if ip.octets()[..3] == [172, 30, 1] && ip.octets()[3] >= 128);
    story.check(&format!("fixed has {fixed} as it asked, dynamic has {dynamic} of the range"), {
        fixed == IpAddr::from([172, 30, 1, 100]) && in_range
    });
    let taken = run(story, "--name late --ip 172.30.1.100");
    story.check("an address that is taken is refused", taken.code != Some(0) && taken.stderr.contains("172.30.1.100"));
}

fn step_8_the_way_out(story: &mut Story, stage: &Stage) {
    story.title("Step 8: the way out");
    let resolved = story.run(&stage.host, &format!("spandrel exec ubuntuA getent ahostsv4 {NAME}"));
    story.check("a name of the internet resolves in a container", resolved.stdout.contains(&Site::far(V4).to_string()));
    for (container, family) in [("ubuntuA", V4), ("ubuntuC", V6)] {
        let server = match family {
            V4 => NAME.to_owned(),
            V6 => format!("[{}]", Site::far(V6)),
        };
        let answer = story.run(&stage.host, &format!("spandrel exec {container} probe get {server}:80"));
        let host = stage.uplink.host(family);
        let masqueraded = answer.code == Some(0) && answer.stdout.contains(&format!("you are {host}"));
        story.check(&format!("its server answers, and sees the host's address, {host}"), masqueraded);
    }
    let answer = story.run(&stage.host, &format!("spandrel exec ubuntuA {}", ping(Site::far(V4))));
    story.check("ping gets out, too", answer.code == Some(0));
}

fn no_packet_filter(story: &mut Story, stage: &Stage) {
    story.title("All of this without a packet filter");
    let tables = stage.host.packet_filters();
    story.tell("The kernel was asked for every table of nftables, iptables, ip6tables and arptables in this host.");
    story.check(
        &format!("it has {}", if tables.is_empty() { "none".into() } else { tables.join(", ") }),
        tables.is_empty(),
    );
}

fn step_9_nothing_is_left(story: &mut Story, stage: &Stage) {
    story.title("Step 9: everything away");
    let listed = story.run(&stage.host, "spandrel ps -aq");
    let containers: Vec<_> = listed.stdout.split_whitespace().collect();
    let removed = story.run(&stage.host, &format!("spandrel rm -f {}", containers.join(" ")));
    let gone = story.run(&stage.host, "spandrel network rm second-bridge front-net back-net chosen-net");
    story.run(&stage.host, "spandrel ps -a");
    story.check("containers and network are removed", removed.code == Some(0) && gone.code == Some(0));
    let after = stage.host.state();
    for (what, beginning) in [
        ("veth", "link "),
        ("namespace", "netns/"),
        ("process", "process "),
        ("held port", "listening "),
        ("map entry", "pin "),
    ] {
        story.check(&format!("no {what} is left"), after.lines(beginning) == stage.before.lines(beginning));
    }
    story.check("the host is as it was before the first command", after == stage.before);
}

/// Waits until a server that has just been started listens. Whether it is reached is for the story to find out.
fn wait_for(from: &Net, address: IpAddr, port: u16) {
    within(PATIENCE, || from.tcp_open(address, port).ok());
}

fn socket(ip: IpAddr, port: u16) -> std::net::SocketAddr {
    (ip, port).into()
}
