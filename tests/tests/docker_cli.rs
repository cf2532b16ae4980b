//! The real `docker` command line as a client of the agent's socket: what scripts and people type works, and what is wrong gets
//! Docker's own kind of answer.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use spandrel_tests::*;

/// What `docker` says when the agent refuses.
const REFUSED: &str = "Error response from daemon: ";

/// Runs a `docker` command that must fail with a sentence of the agent that holds all of `words`.
#[track_caller]
fn assert_refused(host: &Host, line: &(impl Words + ?Sized), words: &[&str]) {
    let output = host.docker_cli(line);
    assert_eq!(output.code, Some(1), "{output:?}");
    let sentence = output.stderr.lines().find(|line| line.contains(REFUSED));
    let sentence = sentence.unwrap_or_else(|| panic!("the agent has not refused: {output:?}"));
    for word in words {
        assert!(sentence.contains(word), "{word:?} is missing: {output:?}");
    }
}

/// What `docker` prints, line by line.
#[track_caller]
fn lines(host: &Host, line: &(impl Words + ?Sized)) -> Vec<String> {
    host.docker_cli(line).ok().lines().map(String::from).collect()
}

/// `version` and `info` understand what the agent says of itself.
#[test]
fn version_and_info() {
    let site = Site::new();
    site.host.run_container("--name web");
    let version = site.host.docker_cli(&["version", "--format", "{{json .Server}}"]).json();
    assert_eq!((&version["Platform"]["Name"], &version["MinAPIVersion"]), (&"Spandrel".into(), &"1.24".into()));
    let shown = site.host.docker_cli("version").ok();
    assert!(shown.contains("Server: Spandrel") && shown.contains("(minimum version 1.24)"), "{shown}");
    let info = site.host.docker_cli(&["info", "--format", "{{json .}}"]).json();
    assert_eq!((&info["Containers"], &info["ContainersRunning"]), (&1.into(), &1.into()));
    assert_eq!(info["Plugins"]["Network"], serde_json::json!(["bridge", "host", "macvlan", "null"]));
    let shown = site.host.docker_cli("info").ok();
    assert!(shown.contains("Network: bridge host macvlan null") && shown.contains("Swarm: inactive"), "{shown}");
}

/// `network create` and `network ls`, with every filter and every form of the list.
#[test]
fn networks_are_made_and_listed() {
    let site = Site::new();
    let docker = |line: &str| lines(&site.host, line);
    let id = docker("network create --driver bridge --subnet 10.0.0.0/24 --gateway 10.0.0.1 second-bridge").remove(0);
    docker("network create --internal --label tier=back --label zone -o com.docker.network.driver.mtu=1400 back-net");
    docker("network create --ipv6 --subnet 10.1.0.0/24 --ip-range 10.1.0.128/25 --aux-address printer=10.1.0.5 third");
    site.host.run_container("--name web --network second-bridge");

    let table = docker("network ls");
    let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    assert_eq!(words(&table[0]).join(" "), "NETWORK ID NAME DRIVER SCOPE");
    assert!(table.iter().any(|line| words(line) == [&id[..12], "second-bridge", "bridge", "local"]), "{table:?}");
    assert!(docker("network ls --no-trunc -q").contains(&id));

    for (filters, names) in [
        ("driver=bridge", vec!["back-net", "bridge", "second-bridge", "third"]),
        ("driver=null", vec!["none"]),
        ("driver=overlay", vec![]),
        (&format!("id={}", &id[..12]), vec!["second-bridge"]),
        ("label=tier", vec!["back-net"]),
        ("label=tier=back label=zone", vec!["back-net"]),
        ("label=tier=front", vec![]),
        ("name=net", vec!["back-net"]),
        ("name=^second-bridge$", vec!["second-bridge"]),
        ("name=back name=third", vec!["back-net", "third"]),
        ("scope=local type=builtin", vec!["bridge", "host", "none"]),
        ("scope=swarm", vec![]),
        ("type=custom", vec!["back-net", "second-bridge", "third"]),
        ("dangling=true", vec!["back-net", "third"]),
        ("dangling=0 type=custom", vec!["second-bridge"]),
    ] {
        let filters: Vec<_> = filters.split(' ').flat_map(|filter| ["--filter", filter]).collect();
        let line = [["network", "ls", "--format", "{{.Name}}"].as_slice(), &filters].concat();
        assert_eq!(lines(&site.host, &line[..]), names, "{filters:?}");
    }
    let format = "{{.ID}} {{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}} {{.Label \"tier\"}}";
    let shown = lines(&site.host, &["network", "ls", "--filter", "label=tier", "--format", format]);
    assert_eq!(words(&shown[0])[1..], ["back-net", "bridge", "local", "false", "true", "back"]);
    let json = site.host.docker_cli(&["network", "ls", "--filter", "name=third", "--format", "{{json .}}"]).json();
    assert_eq!((&json["Name"], &json["IPv6"]), (&"third".into(), &"true".into()));
}

/// `network inspect`, by name and id, whole and by a template.
#[test]
fn networks_are_inspected() {
    let site = Site::new();
    let host = &site.host;
    let made = "network create --subnet 10.0.0.0/24 --gateway 10.0.0.1 --ip-range 10.0.0.128/25 --aux-address a=10.0.0.9 \
                --label tier=front -o com.docker.network.bridge.enable_icc=false front";
    let id = host.docker_cli(made).ok();
    let web = host.run_container("--name web --network front");

    for line in
        ["network inspect front", "network inspect -v front", &format!("network inspect {}", &id[..5]), "inspect front"]
    {
        let network = host.docker_cli(line).json()[0].take();
        assert_eq!(network["Id"], id, "{line}");
        let config = &network["IPAM"]["Config"][0];
        assert_eq!((&config["Subnet"], &config["IPRange"]), (&"10.0.0.0/24".into(), &"10.0.0.128/25".into()));
        assert_eq!((&config["Gateway"], &config["AuxiliaryAddresses"]["a"]), (&"10.0.0.1".into(), &"10.0.0.9".into()));
        assert_eq!(network["Containers"][&web.id]["IPv4Address"], "10.0.0.128/24");
        assert_eq!(network["Labels"]["tier"], "front");
        assert_eq!(network["Options"]["com.docker.network.bridge.enable_icc"], "false");
    }
    let format = "{{.Name}} {{(index .IPAM.Config 0).Gateway}}{{range .Containers}} {{.Name}} {{.IPv4Address}}{{end}}";
    let shown = lines(host, &["network", "inspect", "--format", format, "front", "none"][..5]);
    assert_eq!(shown, ["front 10.0.0.1 web 10.0.0.128/24"]);

    // What is found is shown, what is not is named.
    let output = host.docker_cli("network inspect frnt front");
    assert_eq!((output.code, output.stdout.contains(&id)), (Some(1), true), "{output:?}");
    assert!(output.stderr.contains("network frnt not found"), "{output:?}");
    assert_refused(host, "network inspect fron", &["network fron not found", "did you mean front"]);
}

/// `network connect` with its wishes, `network disconnect`, and what both refuse.
#[test]
fn containers_are_connected_and_disconnected() {
    let site = Site::new();
    let host = &site.host;
    host.docker_cli("network create --subnet 10.0.0.0/24 --gateway 10.0.0.1 front").ok();
    host.docker_cli("network create --ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 back").ok();
    let web = host.run_container("--name web --network front");
    let db = host.run_container("--name db --network back");

    host.docker_cli("network connect --alias www --alias shop --ip 10.1.0.77 --ip6 fd00:1::77 back web").ok();
    let endpoint = web.endpoint("back");
    assert_eq!((&endpoint["IPAddress"], &endpoint["GlobalIPv6Address"]), (&"10.1.0.77".into(), &"fd00:1::77".into()));
    for name in ["www", "shop", "web"] {
        assert_eq!(db.exec(&["getent", "ahostsv4", name]).ok().split(' ').next(), Some("10.1.0.77"), "{name}");
    }
    db.ping(web.ip_on("back", V4)).expect("they are on one network now");

    for (line, words) in [
        ("network connect back web", ["web", "already exists in network back"].as_slice()),
        ("network connect --ip 10.1.0.77 back nobody", &["No such container: nobody"]),
        ("network connect nowhere web", &["network nowhere not found"]),
        ("network connect host web", &["network host"]),
        ("network connect --ip 10.2.0.1 front db", &["10.2.0.1"]),
        ("network connect --ip 10.0.0.2 front db", &["10.0.0.2", "already"]),
        ("network connect --ip 10.0.0.300 front db", &["10.0.0.300"]),
        ("network connect --alias a/b front db", &["invalid alias", "a/b"]),
        ("network connect --link nobody:n front db", &["nobody"]),
        ("network connect --link-local-ip 169.254.1.1 front db", &["link-local addresses are not supported"]),
        ("network connect --driver-opt a=b front db", &["unknown driver option \"a\" of an endpoint"]),
        ("network disconnect front db", &["container db is not connected to network front"]),
        ("network disconnect front nobody", &["No such container: nobody"]),
        ("network disconnect nowhere web", &["network nowhere not found"]),
    ] {
        let before = host.state();
        assert_refused(host, line, words);
        host.state().assert_same_as(&before);
    }

    host.docker_cli("network disconnect back web").ok();
    assert!(web.inspect()["NetworkSettings"]["Networks"]["back"].is_null());
    assert_silent(web.briefly().ping(db.ip(V4)));
    host.docker_cli("network disconnect -f back web").ok();
}

/// `network rm` of several, `-f`, and `network prune` with its filters.
#[test]
fn networks_are_removed() {
    let site = Site::new();
    let host = &site.host;
    for arguments in ["a", "b", "--label keep=yes kept", "--label stage=test tested", "used"] {
        host.docker_cli(&format!("network create {arguments}")).ok();
    }
    host.run_container("--name web --network used");
    assert_eq!(lines(host, "network rm a b"), ["a", "b"]);
    let output = host.docker_cli("network rm gone tested used bridge");
    assert_eq!((output.code, output.stdout.trim()), (Some(1), "tested"), "{output:?}");
    for sentence in
        ["network gone not found", "network used has active endpoints (name:\"web\"", "bridge is a pre-defined network"]
    {
        assert!(output.stderr.contains(sentence), "{sentence:?} is missing: {output:?}");
    }
    host.docker_cli("network rm -f gone").ok();

    host.docker_cli("network create --label stage=test tested").ok();
    host.docker_cli("network create plain").ok();
    let pruned = |filters: &str| host.docker_cli(&format!("network prune -f {filters}")).ok();
    assert_eq!(pruned("--filter until=1h"), "");
    assert_eq!(pruned("--filter label=stage=live"), "");
    assert_eq!(pruned("--filter label=stage=test"), "Deleted Networks:\ntested");
    assert_eq!(pruned("--filter label!=keep --filter until=0s"), "Deleted Networks:\nplain");
    for (filter, words) in [
        ("until=soon", ["invalid moment", "soon"]),
        ("until=1h --filter until=2h", ["more than one until filter", "give one"]),
        ("colour=red", ["colour", "label, label!, until"]),
    ] {
        assert_refused(host, &format!("network prune -f --filter {filter}"), &words);
    }
    assert_eq!(pruned(""), "Deleted Networks:\nkept");
    assert_eq!(lines(host, &["network", "ls", "--format", "{{.Name}}"]), ["bridge", "host", "none", "used"]);
}

/// `ps`, `port`, `inspect`, and the life of a container: `stop`, `start`, `restart`, `rename`, `logs`, `kill`, `wait`, `rm`.
#[test]
fn containers_are_listed_and_driven() {
    let site = Site::with_networks(["front"]);
    let host = &site.host;
    let web = host.run_container("--name web --network front -p 8080:80");
    host.run_container("--name webshop");
    host.spandrel("run -d --name done echo hello").ok();
    assert_eq!(host.docker_cli("wait done").ok(), "0");

    let table = lines(host, "ps");
    assert!(table[0].starts_with("CONTAINER ID") && table.len() == 3, "{table:?}");
    assert!(
        table.iter().any(|line| line.starts_with(&web.id[..12]) && line.contains("0.0.0.0:8080->80/tcp")),
        "{table:?}"
    );
    assert!(lines(host, "ps -q --no-trunc").contains(&web.id));
    let network = host.docker_cli(&["network", "ls", "-q", "--filter", "name=front"]).ok();
    for (options, names) in [
        ("", vec!["webshop", "web"]),
        ("-a", vec!["done", "webshop", "web"]),
        ("--filter name=web", vec!["webshop", "web"]),
        ("--filter name=^/web$", vec!["web"]),
        ("--filter name=^web$ --filter name=^webshop$", vec!["webshop", "web"]),
        (&format!("--filter id={}", &web.id[..8]), vec!["web"]),
        ("--filter network=front", vec!["web"]),
        (&format!("--filter network={network}"), vec!["web"]),
        ("--filter status=exited", vec!["done"]),
        ("--filter status=exited --filter status=running --filter network=bridge", vec!["done", "webshop"]),
        ("--filter label=tier", vec![]),
    ] {
        let found = lines(host, &format!("ps {options} --format {{{{.Names}}}}"));
        assert_eq!(found, names, "{options}");
    }
    assert_refused(host, "ps --filter status=asleep", &["invalid filter 'status=asleep'", "running"]);
    assert_refused(host, "ps --filter colour=red", &["invalid filter \"colour\""]);

    assert_eq!(lines(host, "port web"), ["80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"]);
    assert_eq!(lines(host, "port web 80/tcp"), ["0.0.0.0:8080", "[::]:8080"]);
    assert!(host.docker_cli("port web 81").stderr.contains("No public port '81'"));
    let format =
        "{{.Name}} {{.State.Status}} {{.NetworkSettings.Networks.front.IPAddress}} {{.HostConfig.NetworkMode}}";
    assert_eq!(lines(host, &["inspect", "--format", format, "web"]), [format!("/web running {} front", web.ip(V4))]);
    let output = host.docker_cli("inspect nobody");
    assert!(output.code == Some(1) && output.stderr.to_lowercase().contains("no such object: nobody"), "{output:?}");
    assert_eq!(lines(host, "logs done"), ["hello"]);

    let address = web.ip(V4);
    assert_eq!(lines(host, "stop -t 0 web"), ["web"]);
    assert_refused(host, "kill web", &["container web is not running"]);
    assert_eq!(lines(host, "start web"), ["web"]);
    assert_eq!(host.container("web").ip(V4), address);
    assert_eq!(lines(host, "restart -t 0 web"), ["web"]);
    host.docker_cli("rename web shop").ok();
    assert_refused(host, "rename shop webshop", &["\"webshop\" is already in use"]);
    assert_refused(host, "rm shop", &["cannot remove container", "running"]);
    assert_refused(host, "rm nobody", &["No such container: nobody"]);
    assert_eq!(lines(host, "kill -s TERM shop"), ["shop"]);
    host.docker_cli("wait shop").ok();
    assert_eq!(lines(host, "rm -f shop webshop done"), ["shop", "webshop", "done"]);
    assert_eq!(lines(host, "ps -aq"), Vec::<String>::new());
}

/// What wrong input to `network create` and `network ls` gets.
#[test]
fn wrong_input_is_refused() {
    let site = Site::new();
    let host = &site.host;
    host.docker_cli("network create --subnet 10.0.0.0/24 front").ok();
    for (line, words) in [
        ("network create front", ["network with name front already exists"].as_slice()),
        ("network create bridge", &["not permitted on predefined bridge network"]),
        ("network create a/b", &["Invalid network name (a/b)"]),
        ("network create --driver overlay n", &["network driver \"overlay\" not found"]),
        ("network create --ipam-driver dhcp n", &["IPAM driver \"dhcp\""]),
        ("network create --ipam-opt a=b n", &["IPAM option \"a\""]),
        ("network create --subnet 10.0.0.0/25 n", &["10.0.0.0/25", "front"]),
        ("network create --subnet 10.9.0.0/33 n", &["10.9.0.0/33"]),
        ("network create --opt com.docker.network.driver.mtu=wide n", &["mtu", "wide"]),
        ("network create --opt com.docker.network.bridge.enable_icc=maybe n", &["enable_icc", "maybe"]),
        ("network create --scope swarm n", &["scope \"swarm\""]),
        ("network create --ingress n", &["ingress networks are not supported"]),
        ("network create --config-only n", &["only a configuration"]),
        ("network create --config-from front n", &["only a configuration"]),
        ("network ls --filter dangling=maybe", &["'dangling=maybe'"]),
        ("network ls --filter type=odd", &["'type=odd'", "builtin, custom"]),
        ("network ls --filter scope=galaxy", &["'scope=galaxy'"]),
        ("network ls --filter colour=red", &["invalid filter \"colour\"", "driver"]),
        ("events --filter colour=red", &["invalid filter \"colour\""]),
        ("events --filter type=weather", &["'type=weather'"]),
    ] {
        let before = host.state();
        assert_refused(host, line, words);
        host.state().assert_same_as(&before);
    }
}

/// Starts a container with the label `tier=front`.
#[track_caller]
fn run_labelled(host: &Host, name: &str, network: &str) -> String {
    let config =
        serde_json::json!({"Cmd": ["sleep", "infinity"], "Env": ["PATH=/usr/bin:/bin"], "Labels": {"tier": "front"}});
    let request = serde_json::json!({"Name": name, "Network": network, "Config": config});
    let answer = host.request("POST", "/spandrel/containers/run", &request.to_string());
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["Id"].as_str().unwrap().to_owned()
}

/// A listener that is still there: what `docker events` prints while something happens.
struct Listener<'h> {
    host: &'h Host,
    process: Process,
}

impl<'h> Listener<'h> {
    /// Starts listening, and makes sure that the agent has heard of it.
    #[track_caller]
    fn new(host: &'h Host, options: &[&str]) -> Self {
        let line = [["events", "--format", "{{json .}}"].as_slice(), options].concat();
        let process = host.spawn(host.docker_program(&line[..])).expect("docker is there");
        let mut listener = Self { host, process };
        let mark = within(PATIENCE * 5, || {
            host.docker_cli("network create mark").ok();
            host.docker_cli("network rm mark").ok();
            (!listener.said().is_empty()).then_some(())
        });
        assert!(mark.is_some(), "docker events says nothing: {}", listener.process.stderr());
        listener
    }

    fn said(&mut self) -> Vec<Value> {
        self.process.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What it has heard until a network called `end` is made, but for the networks `mark` and `end`.
    #[track_caller]
    fn stop(mut self) -> Vec<Value> {
        self.host.docker_cli("network create end").ok();
        let name = |event: &Value| event["Actor"]["Attributes"]["name"].as_str().unwrap_or_default().to_owned();
        let whole = within(PATIENCE * 5, || self.said().iter().any(|event| name(event) == "end").then_some(()));
        assert!(whole.is_some(), "the last event does not come: {:?}", self.said());
        self.process.signal(Signal::SIGINT);
        self.process.wait_within(Duration::from_secs(10));
        self.host.docker_cli("network rm end").ok();
        self.said().into_iter().filter(|event| !["mark", "end"].contains(&name(event).as_str())).collect()
    }
}

/// An event in short: its type, action, and the attributes of that name.
fn short(event: &Value, attributes: &[&str]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes = attributes.iter().map(|name| text(&event["Actor"]["Attributes"][*name]));
    let words = [text(&event["Type"]), text(&event["Action"])].into_iter().chain(attributes);
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// `events` tells of networks and containers in Docker's words, in Docker's order.
#[test]
fn events_are_told() {
    let site = Site::new();
    let host = &site.host;
    let listener = Listener::new(host, &[]);
    let network = host.docker_cli("network create front").ok();
    host.docker_cli("network create back").ok();
    let id = run_labelled(host, "web", "front");
    host.docker_cli("network connect back web").ok();
    host.docker_cli("network disconnect back web").ok();
    host.docker_cli("rename web shop").ok();
    host.docker_cli("stop -t 10 shop").ok();
    host.docker_cli("start shop").ok();
    host.docker_cli("rm -f shop").ok();
    assert_eq!(host.spandrel("run --rm --name once --network none false").code, Some(1));
    host.docker_cli("network rm back").ok();
    host.docker_cli("network prune -f").ok();
    let events = listener.stop();

    let told: Vec<_> =
        events.iter().map(|event| short(event, &["name", "oldName", "signal", "exitCode", "reclaimed"])).collect();
    assert_eq!(
        told,
        [
            "network create front",
            "network create back",
            "container create web",
            "network connect front",
            "container start web",
            "network connect back",
            "network disconnect back",
            "container rename shop /web",
            "container kill shop 15",
            "container die shop 143",
            "network disconnect front",
            "container stop shop",
            "network connect front",
            "container start shop",
            "container kill shop 9",
            "container die shop 137",
            "network disconnect front",
            "container destroy shop",
            "container create once",
            "network connect none",
            "container start once",
            "container die once 1",
            "network disconnect none",
            "container destroy once",
            "network destroy back",
            "network destroy front",
            "network prune 0",
        ]
    );
    let (created, connected, started) = (&events[0], &events[3], &events[4]);
    assert_eq!((&created["Actor"]["ID"], &created["scope"]), (&network.as_str().into(), &"local".into()));
    assert_eq!(created["Actor"]["Attributes"]["type"], "bridge");
    assert_eq!(connected["Actor"]["Attributes"]["container"], id);
    assert_eq!(
        (&started["Actor"]["ID"], &started["Actor"]["Attributes"]["tier"]),
        (&id.as_str().into(), &"front".into())
    );
    let nanoseconds = started["timeNano"].as_i64().unwrap();
    assert_eq!(started["time"].as_i64().unwrap(), nanoseconds / 1_000_000_000);
    assert!(events.windows(2).all(|pair| pair[0]["timeNano"].as_i64() <= pair[1]["timeNano"].as_i64()), "{events:?}");
}

/// `events --since --until` tells the past and ends; filters choose among it. The client sends whole seconds: -1s is the next one.
#[test]
fn events_of_the_past() {
    let site = Site::new();
    let host = &site.host;
    host.docker_cli("network create front").ok();
    let id = run_labelled(host, "web", "front");
    host.run_container("--name db");
    for (filters, told) in [
        (vec!["event=create"], vec!["network create front", "container create web", "container create db"]),
        (vec!["type=network", "event=create"], vec!["network create front"]),
        (
            vec!["type=network", "event=create", "event=connect"],
            vec!["network create front", "network connect front", "network connect bridge"],
        ),
        (vec!["container=web"], vec!["container create web", "container start web"]),
        (vec![&format!("container={}", &id[..12]), "event=start"], vec!["container start web"]),
        (vec!["network=front", "event=connect"], vec!["network connect front"]),
        (vec!["label=tier=front", "event=start"], vec!["container start web"]),
        (vec!["label=tier=back"], vec![]),
        (vec!["scope=swarm"], vec![]),
    ] {
        let filters: Vec<_> = filters.iter().flat_map(|filter| ["--filter", *filter]).collect();
        let base = [
            "events",
            "--since",
            "1h",
            "--until",
            "-1s",
            "--format",
            "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}",
        ];
        let line = [base.as_slice(), &filters].concat();
        assert_eq!(lines(host, &line[..]), told, "{filters:?}");
    }
    // Nothing from before the moment that is asked for, and nothing at all without one.
    assert_eq!(lines(host, "events --since 2000-01-01T00:00:00 --until 2000-01-02T00:00:00"), Vec::<String>::new());
    for query in ["since=soon", "until=later", "filters=%7B%22colour%22%3A%5B%22red%22%5D%7D", "filters=nonsense"] {
        let answer = host.request("GET", &format!("/events?{query}"), "");
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert!(answer.json()["message"].is_string(), "{answer:?}");
    }
}

/// Every version of the API that Docker's clients speak stands in front of a path; others get Docker's own answer.
#[test]
fn api_versions() {
    let site = Site::new();
    for minor in 24..=51 {
        assert_eq!(site.host.request("GET", &format!("/v1.{minor}/networks"), "").status, 200, "1.{minor}");
    }
    for (version, sentence) in [
        (
            "1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
        ),
        ("1.52", "client version 1.52 is too new. Maximum supported API version is 1.51"),
        ("2.0", "client version 2.0 is too new. Maximum supported API version is 1.51"),
    ] {
        let answer = site.host.request("GET", &format!("/v{version}/networks"), "");
        assert_eq!((answer.status, &answer.json()["message"]), (400, &sentence.into()), "{version}");
        let mut command: Command = site.host.docker_program("network ls");
        command.env("DOCKER_API_VERSION", version);
        let output = site.host.output(command);
        assert!(output.code == Some(1) && output.stderr.contains(sentence), "{output:?}");
    }
    let mut command = site.host.docker_program("network ls -q");
    command.env("DOCKER_API_VERSION", "1.24");
    assert_eq!(site.host.output(command).ok().lines().count(), 3);
}

/// Errors have Docker's status and Docker's body.
#[test]
fn errors_have_dockers_form() {
    let site = Site::new();
    let host = &site.host;
    host.create_network("front");
    host.run_container("--name web --network front");
    for (method, path, body, status) in [
        ("GET", "/networks/nowhere", "", 404),
        ("GET", "/nothing", "", 404),
        ("PUT", "/networks", "", 405),
        ("GET", "/networks?filters=nonsense", "", 400),
        ("POST", "/networks/create", "{", 400),
        ("POST", "/networks/create", "{}", 400),
        ("POST", "/networks/create", r#"{"Name":7}"#, 400),
        ("POST", "/networks/create", r#"{"Name":"front"}"#, 409),
        ("POST", "/networks/create", r#"{"Name":"host"}"#, 403),
        ("POST", "/networks/create", r#"{"Name":"n","Driver":"overlay"}"#, 404),
        ("DELETE", "/networks/front", "", 403),
        ("DELETE", "/networks/bridge", "", 403),
        ("DELETE", "/networks/nowhere", "", 404),
        ("POST", "/networks/front/connect", r#"{"Container":"web"}"#, 403),
        ("POST", "/networks/front/connect", r#"{"Container":"nobody"}"#, 404),
        ("POST", "/networks/bridge/disconnect", r#"{"Container":"web"}"#, 403),
        ("POST", "/networks/prune?filters=nonsense", "", 400),
        ("GET", "/containers/nobody/json", "", 404),
        ("GET", "/containers/web/logs", "", 400),
        ("POST", "/containers/web/start", "", 304),
        ("POST", "/containers/web/kill?signal=SHOUT", "", 400),
        ("POST", "/containers/web/rename?name=web", "", 400),
        ("POST", "/containers/web/stop?t=soon", "", 400),
        ("DELETE", "/containers/web", "", 409),
        ("POST", "/containers/nobody/wait", "", 404),
    ] {
        let answer = host.request(method, path, body);
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
        if status >= 400 {
            let error = answer.json();
            let whole = error.as_object().is_some_and(|fields| fields.len() == 1) && error["message"].is_string();
            assert!(whole, "{method} {path}: {answer:?}");
        }
    }
}

/// The client of an older Debian, which speaks an older version of the API, gets along as well.
#[test]
fn an_old_client() {
    let site = Site::new();
    let host = &site.host;
    let docker = |line: &str| host.output(host.old_docker_program(line));
    docker("network create --driver bridge --subnet 10.0.0.0/24 --gateway 10.0.0.1 second-bridge").ok();
    let web = host.run_container("--name web");
    docker("network connect --alias www --ip 10.0.0.9 second-bridge web").ok();
    assert_eq!(web.endpoint("second-bridge")["IPAddress"], "10.0.0.9");
    assert!(docker("ps").ok().contains("web") && docker("network ls").ok().contains("second-bridge"));
    assert!(docker("version").ok().contains("Spandrel") && docker("info").ok().contains("bridge host macvlan null"));
    let told = docker("events --since 1h --until -1s --filter type=network").ok();
    assert!(told.contains("network create") && told.contains("network connect"), "{told}");
    docker("network disconnect second-bridge web").ok();
    assert_eq!(docker("network prune -f").ok(), "Deleted Networks:\nsecond-bridge");
}
