//! The command line as scripts and people use it: lists and their filters, formats, quiet and whole, beside the real `docker`
//! with the same agent; and for each flag what a wrong value gets.

use std::os::unix::process::CommandExt;

use spandrel_tests::*;

/// The agent's socket as Docker's client names it.
const SOCKET: &str = "unix:///run/spandrel/spandrel.sock";

/// A host with something of everything on it.
fn furnished() -> Site {
    let site = Site::new();
    site.host.create_network("--ipv6 --subnet 10.0.0.0/24 --subnet fd00:a::/64 --label tier=front --label zone front");
    site.host.create_network(
        "--internal --subnet 10.1.0.0/24 --gateway 10.1.0.9 -o com.docker.network.bridge.enable_icc=false back-net",
    );
    site.host.run_container(
        "--name web --network front --network-alias www -p 8080:80 -p 127.0.0.1:5353:53/udp --label app=shop",
    );
    site.host.run_container("--name db --network back-net --ip 10.1.0.100 --label app=shop --label role=db");
    site.host.run_container("--name job --network front");
    site.host.spandrel("stop -t 0 job").ok();
    site
}

/// What the real `docker` prints, and what `spandrel` prints for the same words, is the same: for lists by their columns and
/// filters, and for objects by templates.
#[test]
fn the_same_words_print_the_same_as_docker() {
    let site = furnished();
    site.host.install_debian();
    let words = |line: &str| -> Vec<String> {
        // Single quotes keep words together, as in a shell.
        let mut words = Vec::new();
        for (index, part) in line.split('\'').enumerate() {
            match index % 2 {
                0 => words.extend(part.split_whitespace().map(String::from)),
                _ => words.push(part.into()),
            }
        }
        words
    };
    let mut differences = Vec::new();
    for line in [
        "network ls",
        "network ls --no-trunc",
        "network ls -q",
        "network ls --quiet --no-trunc",
        "network ls --filter driver=bridge",
        "network ls -f name=front -f name=back",
        "network ls --filter label=tier=front -q",
        "network ls --filter label=zone --filter driver=null",
        "network ls --filter type=builtin --format '{{.Name}} {{.Driver}}'",
        "network ls --format '{{.ID}}: {{.Name | upper}} {{.Internal}} {{.IPv6}} {{.CreatedAt}}'",
        "network ls --format 'table {{.Name}}\\t{{.ID}}\\t{{.Scope}}'",
        "network ls --filter name=front --format '{{.Label \"tier\"}}[{{.Label \"none\"}}]'",
        "network ls --filter name=front --format '{{json .Name}} {{.CreatedAt}}'",
        "network inspect -f '{{.Name}} {{.Driver}} {{.Internal}} {{.EnableIPv6}}' front back-net",
        "network inspect -f '{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}};{{end}}' front back-net bridge",
        "network inspect -f '{{range $id, $c := .Containers}}{{$id}}={{$c.Name}} {{.IPv4Address}};{{end}}' front",
        "network inspect -f '{{index .Options \"com.docker.network.bridge.enable_icc\"}}' front back-net",
        "network inspect -f '{{json .Labels}} {{len .Labels}} {{json .Options}}' front back-net",
        "network inspect -f '{{.Labels.tier}}' front",
        "network inspect -f '{{(index .IPAM.Config 0).Subnet}}' back-net",
        "ps -q",
        "ps -aq --no-trunc",
        "ps -a --format '{{.Names}} {{.ID}} {{.State}} {{.Networks}} {{.Label \"app\"}}'",
        "ps --format 'table {{.Names}}\\t{{.Ports}}'",
        "ps --filter name=web --format '{{.Names}}'",
        "ps -a --filter status=exited --format '{{.Names}}'",
        "ps --filter network=front --format '{{.Names}}'",
        "ps --filter label=app=shop --filter label=role --format '{{.Names}}: {{.Label \"role\"}}'",
        "ps --no-trunc --format '{{.ID}} {{.Command}} {{.CreatedAt}}'",
        "ps -n 1 --format '{{.Names}}'",
        "ps -n 2 -q",
        "ps -a --filter before=db --format '{{.Names}}'",
        "ps -a --filter since=db -q",
        "ps -a --filter since=web --filter before=job --format '{{.Names}}'",
        "ps -a --filter exited=143 --format '{{.Names}}'",
        "ps -a --filter exited=1 -q",
        "ps --filter publish=80 --format '{{.Names}}'",
        "ps --filter publish=8080 -q",
        "ps --filter expose=50-60/udp --format '{{.Names}}'",
        "ps -a --format '{{ .Label \"app\" }} {{if .Label \"role\"}}{{.Label `role` | upper}}{{end}}'",
        "ps -a --format 'table {{ .Names }}\\t{{ .Label \"app\" }}'",
        "network ls --format '{{range split \"tier,zone\" \",\"}}{{$.Label .}};{{end}}'",
        "ps --latest -q",
        "ps --latest --filter status=running -q",
        "port web",
        "port web 80",
        "port web 53/udp",
        "inspect -f '{{.Name}} {{.State.Status}} {{.State.Running}} {{.State.Pid}}' web db job",
        "inspect -f '{{.NetworkSettings.Networks.front.IPAddress}}' web",
        "inspect --format '{{(index .NetworkSettings.Networks \"back-net\").IPAddress}}' db",
        "inspect -f '{{range $name, $net := .NetworkSettings.Networks}}{{$name}} {{$net.MacAddress}} {{$net.Gateway}}{{end}}' web db",
        "inspect -f '{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}}{{end}}' web",
        "inspect -f '{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}' web",
        "inspect -f '{{join .Config.Cmd \" \"}} {{len .Config.Cmd}}' web",
        "inspect -f '{{if .State.Running}}up{{else}}down{{end}}' web job",
        "inspect -f '{{index .Config.Labels \"app\"}}[{{index .Config.Labels \"none\"}}]' web",
        "inspect -f '{{with .NetworkSettings.Networks.front}}{{json .Aliases}}{{end}}' web",
        "inspect -f '{{printf \"%s is %q\" .Name .State.Status}} {{eq .Name \"/web\"}}' web",
        "inspect --type container -f '{{json .Config.Labels}}' db",
        "inspect --type network -f '{{.Id}}' front",
    ] {
        let docker =
            site.host.command(&[["docker", "-H", SOCKET].map(String::from).to_vec(), words(line)].concat()[..]);
        assert_eq!(docker.code, Some(0), "{docker:?}");
        let ours = site.host.spandrel(&words(line)[..]);
        if (ours.code, &ours.stdout) != (Some(0), &docker.stdout) {
            differences.push(format!("{ours:?}\n{docker:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// `--format json`: one object a line in lists, and each object whole.
#[test]
fn json() {
    let site = furnished();
    let networks = site.host.spandrel("network ls --format json --filter name=front").json_lines();
    assert_eq!(networks.len(), 1);
    assert_eq!((&networks[0]["Name"], &networks[0]["Labels"]), (&"front".into(), &"tier=front,zone=".into()));
    assert!(networks[0].get("labels").is_none(), "{networks:?}");
    let rows = site.host.spandrel(&["network", "ls", "--filter", "name=front", "--format", "{{json .}}"]).json_lines();
    assert_eq!(rows, networks);

    let last = |line: &str| site.host.spandrel(&format!("{line} --format {{{{.Names}}}}")).ok();
    assert_eq!((last("ps --latest"), last("ps -n 2")), ("job".into(), "job\ndb".into()));

    let containers = site.host.spandrel("inspect -f json web db").json_lines();
    let names: Vec<_> = containers.iter().map(|container| container["Name"].as_str().unwrap()).collect();
    assert_eq!(names, ["/web", "/db"]);
    let ports = site.host.spandrel("port --stats --format json web").json_lines();
    assert_eq!(ports.len(), 2);
    let stats = site.host.spandrel(&["port", "--stats", "--format", "{{.PrivatePort}} {{.Connections}}", "web"]).ok();
    assert_eq!(stats.lines().collect::<Vec<_>>(), ["80 0", "53 0"]);
}

/// Labels and variables that stand in files, and labels of a container that outlive the agent.
#[test]
fn files_of_labels_and_variables() {
    let mut site = Site::new();
    site.host.write("/run/labels", "# whose\nowner=shop\ntier=front\n");
    site.host.write("/run/variables", "COLOUR=red\nSIZE=large and heavy\n");
    site.host.run_container(
        "--name web --label-file /run/labels --label tier=back --env-file /run/variables -e COLOUR=blue",
    );
    let label = |site: &Site| site.host.spandrel(&["ps", "--format", "{{.Label \"owner\"}} {{.Label \"tier\"}}"]).ok();
    assert_eq!(label(&site), "shop back");
    site.restart_agent();
    assert_eq!(label(&site), "shop back");
    let environment = site.host.spandrel("inspect -f {{json.Config.Env.Nope}} web");
    assert_ne!(environment.code, Some(0));
    let environment = site.host.spandrel(&["inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", "web"]).ok();
    let values: Vec<_> =
        environment.lines().filter(|line| line.starts_with("COLOUR=") || line.starts_with("SIZE=")).collect();
    assert_eq!(values, ["SIZE=large and heavy", "COLOUR=blue"]);
    let listed = site.host.spandrel("exec --env-file /run/variables web env").ok();
    assert!(listed.lines().any(|line| line == "SIZE=large and heavy"), "{listed}");
}

/// Colours are for terminals: neither lists nor sentences nor help have any elsewhere.
#[test]
fn no_colours_without_a_terminal() {
    let site = furnished();
    for line in
        ["ps -a", "network ls", "--help", "run --help", "network ls --colour", "rm nobody", "network create a/b"]
    {
        let output = site.host.spandrel(line);
        assert!(!output.stdout.contains('\u{1b}') && !output.stderr.contains('\u{1b}'), "{output:?}");
    }
}

/// Every command has a help with examples.
#[test]
fn every_command_has_examples() {
    let lab = Lab::new();
    let host = lab.host("host");
    let commands = |help: &str| -> Vec<String> {
        let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        names.filter_map(|line| line.split_whitespace().next()).map(String::from).collect()
    };
    let top = commands(&host.spandrel("--help").ok());
    assert!(top.len() > 15, "{top:?}");
    let mut lines: Vec<_> = top.iter().filter(|name| *name != "network").cloned().collect();
    let below = commands(&host.spandrel("network --help").ok());
    assert!(below.len() >= 7, "{below:?}");
    lines.extend(below.iter().map(|name| format!("network {name}")));
    for line in lines {
        let help = host.spandrel(&format!("{line} --help")).ok();
        // Before the command there may be a variable, `sudo`, or what is piped into it.
        let (_, examples) = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{line}: {help}"));
        assert!(examples.lines().any(|example| example.contains(&format!("spandrel {line}"))), "{line}: {help}");
    }
}

/// Networks that nobody uses go; those with members, predefined ones, and those that the filter leaves out stay.
#[test]
fn prune() {
    let site = furnished();
    site.host.create_network("--label tier=front unused");
    site.host.create_network("--label tier=back spare");
    let names = || site.host.spandrel(&["network", "ls", "--format", "{{.Name}}"]).ok();
    // Nobody is there to be asked.
    let refused = site.host.spandrel("network prune");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    assert!(names().contains("unused"));

    let pruned = site.host.spandrel("network prune -f --filter label=tier=front").ok();
    assert_eq!(pruned, "Deleted Networks:\nunused");
    assert!(!names().contains("unused") && names().contains("spare"));
    let pruned = site.host.spandrel("network prune --force").ok();
    assert_eq!(pruned, "Deleted Networks:\nspare");
    assert_eq!(site.host.spandrel("network prune --force").ok(), "");
    let left: Vec<_> = names().lines().map(String::from).collect();
    assert_eq!(left.len(), 5, "{left:?}");
}

/// What each flag says to a value that makes no sense: one sentence that names flag or value, a failure, and nothing is changed.
#[test]
fn wrong_values_of_every_flag() {
    let site = furnished();
    site.host.write("/run/odd-labels", "fine=1\n=odd\n");
    let before = site.host.state();
    let mut unclear = Vec::new();
    for (line, words) in [
        ("--socket /run/nowhere ps", ["/run/nowhere", "spandrel agent"]),
        // Lists.
        ("network ls --filter colour=red", ["colour", "known are"]),
        ("network ls --filter colour", ["--filter", "KEY=VALUE"]),
        ("network ls --filter =x", ["--filter", "KEY=VALUE"]),
        ("network ls --format yaml", ["yaml", "--format"]),
        ("network ls --format {{.Colour}}", ["no field `Colour`", "there are"]),
        ("network ls --format {{.Name", ["--format", "unclosed action"]),
        ("network ls --format {{colour}}", ["--format", "colour not defined"]),
        ("ps --filter colour=red", ["colour", "known are"]),
        ("ps --filter web", ["--filter", "KEY=VALUE"]),
        ("ps --filter ancestor=nginx", ["ancestor", "image"]),
        ("ps --filter before=nobody", ["nobody", "No such container"]),
        ("ps --filter since=nobody", ["nobody", "No such container"]),
        ("ps --filter exited=soon", ["exited=soon", "exit code"]),
        ("ps --filter publish=8080:80", ["publish=8080:80", "port[-port][/proto]"]),
        ("ps --filter expose=http", ["expose=http", "port[-port][/proto]"]),
        ("events --filter colour=red", ["colour", "known are"]),
        ("events --filter web", ["--filter", "KEY=VALUE"]),
        ("events --since tomorrow", ["tomorrow", "--since"]),
        ("events --until tomorrow", ["tomorrow", "--until"]),
        ("events --format yaml", ["yaml", "--format"]),
        ("events --since 1h --until 0s --format {{.Colour}}", ["no field `Colour`", "Action"]),
        ("ps --last some", ["some", "--last"]),
        ("ps --last -1", ["-1", "error"]),
        ("ps -l -n 2", ["--latest", "--last"]),
        ("ps --format {{.Name}}", ["no field `Name`", "Names"]),
        ("drops --format {{.Nobody}}", ["no field `Nobody`", "Reason"]),
        ("port --stats --format {{.Nobody}}", ["no field `Nobody`", "Published"]),
        ("port web --format json", ["--stats", "required"]),
        ("port web http", ["http", "no public port"]),
        ("network prune --filter web", ["--filter", "KEY=VALUE"]),
        ("network prune -f --filter colour=red", ["colour", "filter"]),
        // Objects.
        ("inspect -f {{.Colour}} web", ["--format", "no field `Colour`"]),
        ("inspect -f {{.NetworkSettings.Networks.side.IPAddress}} web", ["--format", "no field `side`"]),
        ("inspect -f yaml web", ["yaml", "--format"]),
        ("inspect --type image web", ["image", "container, network"]),
        ("inspect --type network web", ["web", "not found"]),
        ("inspect --type container front", ["front", "No such container"]),
        ("network inspect -f {{range front", ["--format", "unclosed action"]),
        // Networks.
        ("network create -d overlap n", ["overlap", "bridge"]),
        ("network create --subnet nonsense n", ["nonsense", "subnet"]),
        ("network create --subnet 10.2.0.0/24 --gateway nonsense n", ["nonsense", "gateway"]),
        ("network create --gateway 10.2.0.1 n", ["--subnet", "gateway"]),
        ("network create --subnet 10.2.0.0/24 --ip-range nonsense n", ["nonsense", "range"]),
        ("network create --subnet 10.2.0.0/24 --aux-address a=nonsense n", ["nonsense", "aux"]),
        ("network create --subnet 10.2.0.0/24 --aux-address =10.2.0.3 n", ["KEY=VALUE", "--aux-address"]),
        ("network create --ipv4=perhaps n", ["perhaps", "--ipv4"]),
        ("network create --ipv6=perhaps n", ["perhaps", "--ipv6"]),
        ("network create -o com.docker.network.driver.mtu=large n", ["large", "mtu"]),
        ("network create --opt =x n", ["--opt", "KEY=VALUE"]),
        ("network create --label =x n", ["--label", "KEY=VALUE"]),
        ("network create --config-only n", ["configuration", "not supported"]),
        ("network create --config-from front n", ["configuration", "not supported"]),
        ("network create --ingress n", ["ingress", "not supported"]),
        ("network create --scope swarm n", ["swarm", "not supported"]),
        ("network create --ipam-driver dhcp n", ["dhcp", "default"]),
        ("network create --ipam-opt a=b n", ["IPAM option", "default"]),
        ("network connect --ip nonsense front db", ["nonsense", "address"]),
        ("network connect --ip6 nonsense front db", ["nonsense", "address"]),
        ("network connect --gw-priority high front db", ["high", "--gw-priority"]),
        ("network connect --alias a/b front db", ["a/b", "alias"]),
        ("network connect --link nobody front db", ["nobody", "container"]),
        ("network connect --link-local-ip 169.254.0.9 front db", ["link-local", "not supported"]),
        ("network connect --driver-opt a=b front db", ["unknown driver option", "spandrel.ingress_rate"]),
        ("network disconnect front db", ["front", "db"]),
        ("network rm -f front", ["front", "active endpoints"]),
        // Containers.
        ("run -d --network nowhere sleep 1", ["nowhere", "not found"]),
        ("run -d --network name=front,colour=red sleep 1", ["colour", "invalid field"]),
        ("run -d --network front --ip nonsense sleep 1", ["nonsense", "address"]),
        ("run -d --network front --ip6 nonsense sleep 1", ["nonsense", "address"]),
        ("run -d --network front --mac-address nonsense sleep 1", ["nonsense", "MAC"]),
        ("run -d --network front --network-alias a/b sleep 1", ["a/b", "alias"]),
        ("run -d --network front --link nobody sleep 1", ["nobody", "container"]),
        ("run -d --network front --link-local-ip 169.254.0.9 sleep 1", ["link-local", "not supported"]),
        ("run -d --dns nonsense sleep 1", ["nonsense", "address"]),
        ("run -d --dns-search a..b sleep 1", ["a..b", "domain"]),
        ("run -d --add-host host sleep 1", ["extra host", "NAME:IP"]),
        ("run -d -p 80:80:80:80 sleep 1", ["80:80:80:80", "port"]),
        ("run -d -p 70000:80 sleep 1", ["70000", "port"]),
        ("run -d --expose http sleep 1", ["http", "port"]),
        ("run -d -p 8081:80 --allow-from nonsense sleep 1", ["nonsense", "allow"]),
        ("run -d -p 8081:80 --rate-limit fast sleep 1", ["fast", "rate"]),
        ("run -d --hostname a_b/c sleep 1", ["a_b/c", "host"]),
        ("run -d --name a/b sleep 1", ["a/b", "name"]),
        ("run -d --label =x sleep 1", ["--label", "KEY=VALUE"]),
        ("run -d --label-file /run/nowhere sleep 1", ["/run/nowhere", "cannot read"]),
        ("run -d --label-file /run/odd-labels sleep 1", ["/run/odd-labels:2", "name"]),
        ("run -d --env-file /run/nowhere sleep 1", ["/run/nowhere", "cannot read"]),
        ("run -d --env-file /run/odd-labels sleep 1", ["/run/odd-labels:2", "name"]),
        ("run -d -w /run/nowhere sleep 1", ["/run/nowhere", "directory"]),
        ("exec -w /run/nowhere web true", ["/run/nowhere", "directory"]),
        ("exec --env-file /run/nowhere web true", ["/run/nowhere", "cannot read"]),
        ("exec job true", ["job", "not running"]),
        ("start -a web job", ["attach", "multiple"]),
        ("run -d --cidfile /run/odd-labels sleep 1", ["/run/odd-labels", "container ID file found"]),
        ("run -d --cidfile /run/nowhere/cid sleep 1", ["/run/nowhere/cid", "cannot make"]),
        ("run -d --cidfile /run/cid --network nowhere sleep 1", ["nowhere", "not found"]),
        ("exec -d -i web true", ["--detach", "--interactive"]),
        ("exec -d web no-such-command", ["no-such-command", "not found"]),
        ("stop -s SHOUT web", ["SHOUT", "signal"]),
        ("restart --signal SHOUT web", ["SHOUT", "signal"]),
        ("stop -t soon web", ["soon", "--timeout"]),
        ("restart -t soon web", ["soon", "--timeout"]),
        ("rename web db", ["db", "already in use"]),
        ("rename web a/b", ["a/b", "name"]),
        ("logs --since tomorrow web", ["tomorrow", "--since"]),
        ("logs --until tomorrow web", ["tomorrow", "--until"]),
        ("logs -n some web", ["some", "--tail"]),
        ("publish --rate-limit fast web 81:81", ["fast", "rate"]),
        ("publish --allow-from nonsense web 81:81", ["nonsense", "allow"]),
        ("unpublish web 99", ["99", "no public port"]),
        ("rm web", ["web", "running"]),
    ] {
        let output = site.host.spandrel(line);
        let sentence = output.stderr.trim_end();
        let well_said = match output.code {
            Some(1) => sentence.starts_with("spandrel: ") && !sentence.contains('\n'),
            // Of a command line that makes no sense, the first lines say what is wrong, and others how to get help.
            Some(2) => sentence.starts_with("error: "),
            _ => false,
        };
        let named = words.iter().all(|word| sentence.contains(word));
        if !well_said || !named || !matches!(output.stdout.trim(), "" | "[]") {
            unclear.push(format!("{output:?}\nwanted: {words:?}"));
        }
    }
    assert!(unclear.is_empty(), "{}", unclear.join("\n\n"));
    site.host.state().assert_same_as(&before);
}

/// A reader that has seen enough is no error.
#[test]
fn a_reader_that_goes_away() {
    let site = furnished();
    let mut command = site.host.program("network ls");
    // SAFETY: the closure makes one system call on a number of its own process.
    unsafe {
        command.pre_exec(|| {
            let mut ends = [0; 2];
            // A pipe whose reading end is closed.
            match libc::pipe(ends.as_mut_ptr()) == 0 && libc::close(ends[0]) == 0 && libc::dup2(ends[1], 1) == 1 {
                true => Ok(()),
                false => Err(std::io::Error::last_os_error()),
            }
        })
    };
    let output = site.host.output(command);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
}
