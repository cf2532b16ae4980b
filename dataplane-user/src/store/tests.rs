//! The store against real files.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::model::{BridgeOptions, Driver, EndpointRequest, Scope, State};

fn network(name: &str) -> Network {
    Network {
        id: Id::random(),
        name: name.into(),
        driver: Driver::Bridge,
        scope: Scope::Local,
        created: Timestamp::now(),
        internal: false,
        enable_ipv4: true,
        enable_ipv6: false,
        subnets: vec![],
        options: BTreeMap::new(),
        macvlan: None,
        engine: None,
        bridge_options: BridgeOptions::default(),
        labels: BTreeMap::from([("a".into(), "b".into())]),
        bridge: "br-0".into(),
        slot: 1,
    }
}

fn container(name: &str) -> Container {
    Container {
        id: Id::random(),
        name: name.into(),
        hostname: name.into(),
        command: vec!["sleep".into(), "1".into()],
        env: vec!["A=1".into()],
        working_dir: "/".into(),
        auto_remove: false,
        created: Timestamp::now(),
        state: State::Running { pid: 1, started: Timestamp::now() },
        network_mode: "bridge".into(),
        endpoints: vec![],
        attachments: vec![],
        exposed: vec![],
        ports: vec![],
        naming: Default::default(),
        labels: BTreeMap::from([("a".into(), "b".into())]),
        sandbox: None,
    }
}

fn path() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spandrel.redb");
    (dir, path)
}

#[test]
fn keeps_what_was_written() {
    let (_dir, path) = path();
    let (net, ctr) = (network("n"), container("c"));
    let host = {
        let store = Store::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), Contents::default());
        store.apply(&[Change::PutNetwork(&net), Change::PutContainer(&ctr)]).unwrap();
        store.host_id().unwrap()
    };
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.host_id().unwrap(), host);
    assert_eq!(
        store.load().unwrap(),
        Contents { networks: vec![net.clone()], containers: vec![ctr.clone()], blocks: vec![] }
    );

    let renamed = Container { hostname: "other".into(), ..ctr.clone() };
    store.apply(&[Change::RemoveNetwork(net.id), Change::PutContainer(&renamed)]).unwrap();
    assert_eq!(store.load().unwrap(), Contents { containers: vec![renamed], ..Contents::default() });
    store.apply(&[Change::RemoveContainer(ctr.id), Change::RemoveNetwork(net.id)]).unwrap();
    assert_eq!(store.load().unwrap(), Contents::default());
}

#[test]
fn a_crash_in_the_middle_of_a_change_leaves_none_of_it() {
    let (_dir, path) = path();
    let (kept, lost) = (network("kept"), network("lost"));
    {
        let store = Store::open(&path).unwrap();
        store.apply(&[Change::PutNetwork(&kept)]).unwrap();
        // As apply() does it, but the process ends before the commit: the file is copied as it is then.
        let write = store.database.begin_write().unwrap();
        {
            let mut table = write.open_table(NETWORKS).unwrap();
            let value = store.encode(&lost).unwrap();
            table.insert(lost.id.to_string().as_str(), value.as_slice()).unwrap();
            table.remove(kept.id.to_string().as_str()).unwrap();
        }
        std::fs::copy(&path, path.with_extension("crashed")).unwrap();
    }
    for path in [path.clone(), path.with_extension("crashed")] {
        let store = Store::open(&path).unwrap();
        assert_eq!(store.load().unwrap().networks, vec![kept.clone()]);
        store.apply(&[Change::PutNetwork(&lost)]).unwrap();
    }
}

#[test]
fn a_newer_schema_is_refused() {
    let (_dir, path) = path();
    {
        let store = Store::open(&path).unwrap();
        let write = store.database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("schema", SCHEMA + 1).unwrap();
        write.commit().unwrap();
    }
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(error.contains("schema version 5, this agent knows version 4"), "{error}");
    // It stays as it was.
    assert!(Store::open(&path).is_err());
}

/// As the version 0.1 agent wrote it.
#[test]
fn ports_of_the_first_schema_get_slots() {
    let (_dir, path) = path();
    let containers = ["one", "two"].map(container);
    {
        let store = Store::open(&path).unwrap();
        let write = store.database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("schema", 1).unwrap();
        for container in &containers {
            let mut old = serde_json::to_value(container).unwrap();
            old.as_object_mut().unwrap().remove("exposed");
            let port =
                |number: u16| json!({"host_ip": null, "host_port": number, "container_port": 80, "protocol": "tcp"});
            old["ports"] = json!([port(8080), port(8081)]);
            let mut table = write.open_table(CONTAINERS).unwrap();
            table.insert(container.id.to_string().as_str(), old.to_string().as_bytes()).unwrap();
        }
        write.commit().unwrap();
    }
    for _ in 0..2 {
        let found = Store::open(&path).unwrap().load().unwrap().containers;
        let ports: Vec<_> = found.iter().flat_map(|container| &container.ports).collect();
        let mut slots: Vec<_> = ports.iter().map(|port| port.slot).collect();
        slots.sort();
        assert_eq!(slots, [1, 2, 3, 4]);
        assert!(ports.iter().all(|port| port.access.is_open() && port.host_ip.is_none()), "{ports:?}");
        assert_eq!(found[0].ports[1].host_port, 8081);
    }
}

/// As agents of the second schema wrote what had ended: without its networks.
#[test]
fn ended_containers_of_the_second_schema_get_their_network_again() {
    let (_dir, path) = path();
    let front = network("front");
    let ended = |mode: &str| {
        let state = State::Exited { code: 0, started: Timestamp::UNIX_EPOCH, finished: Timestamp::UNIX_EPOCH };
        Container { state, network_mode: mode.into(), ..container(mode) }
    };
    let [known, gone, host, none] = ["front", "gone", "host", "none"].map(ended);
    let running = Container { network_mode: "front".into(), ..container("running") };
    let shared = ended(&format!("container:{}", known.id));
    {
        let store = Store::open(&path).unwrap();
        let containers = [&known, &gone, &host, &none, &shared, &running];
        let changes: Vec<_> =
            containers.map(Change::PutContainer).into_iter().chain([Change::PutNetwork(&front)]).collect();
        store.apply(&changes).unwrap();
        let write = store.database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("schema", 2).unwrap();
        write.commit().unwrap();
    }
    for _ in 0..2 {
        let found = Store::open(&path).unwrap().load().unwrap().containers;
        let attachments = |wanted: &Container| {
            let container = found.iter().find(|container| container.id == wanted.id).unwrap();
            container.attachments.clone()
        };
        let [kept] = attachments(&known).try_into().unwrap();
        assert_eq!((kept.network, kept.network_name.as_str()), (front.id, "front"));
        assert_eq!(kept.requested, EndpointRequest::default());
        assert_eq!(attachments(&gone)[0].network_name, "gone");
        for alone in [&host, &none, &shared, &running] {
            assert_eq!(attachments(alone), []);
        }
    }
}

#[test]
fn two_at_once_and_no_database() {
    let (_dir, path) = path();
    let _first = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(error.contains("another agent has it open"), "{error}");

    let text = path.with_extension("txt");
    std::fs::write(&text, "not a database").unwrap();
    let error = Store::open(&text).unwrap_err().to_string();
    assert!(error.contains("cannot open the store"), "{error}");
    assert!(Store::open(Path::new("/nonexistent/spandrel.redb")).is_err());
}

/// While an agent has it open, and after one that was killed.
#[test]
fn a_look_changes_nothing_and_disturbs_nobody() {
    let (_dir, path) = path();
    assert_eq!(Store::peek(&path).unwrap(), None);
    assert!(!path.exists());
    let (net, ctr) = (network("n"), container("c"));
    let store = Store::open(&path).unwrap();
    store.apply(&[Change::PutNetwork(&net), Change::PutContainer(&ctr)]).unwrap();
    let wanted = Contents { networks: vec![net], containers: vec![ctr], ..Contents::default() };
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(Store::peek(&path).unwrap().as_ref(), Some(&wanted));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(store.load().unwrap(), wanted);
    std::fs::write(&path, "damaged").unwrap();
    let error = Store::peek(&path).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the store"), "{error}");
}
