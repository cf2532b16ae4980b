//! Programs on interfaces: attached once, replaced in place, gone with what they served; by TCX and by clsact.

use std::os::fd::AsFd as _;

use futures_util::TryStreamExt as _;

use super::*;

/// The ways that this kernel has: clsact is everywhere, TCX from 6.6 on.
fn modes() -> BTreeSet<AttachMode> {
    [AttachMode::Clsact, AttachMode::Auto.resolve()].into()
}

/// How many programs of ours run at an interface, both directions.
async fn programs_at(netlink: &Netlink, name: &str, mode: AttachMode) -> usize {
    if mode.resolve() == AttachMode::Clsact {
        let ifindex = netlink.link(name).await.unwrap().unwrap().ifindex.cast_signed();
        let mut filters = netlink.handle.traffic_filter(ifindex);
        // The kernel lists a classifier's head as well as its filters; only a filter has a handle.
        let count = async |request: rtnetlink::TrafficFilterGetRequest| {
            let filters: Vec<_> = request.execute().try_collect().await.unwrap_or_default();
            filters.iter().filter(|filter| u32::from(filter.header.handle) != 0).count()
        };
        return count(filters.get().ingress()).await + count(filters.get().egress()).await;
    }
    [aya::programs::TcAttachType::Ingress, aya::programs::TcAttachType::Egress]
        .into_iter()
        .map(|direction| aya::programs::SchedClassifier::query_tcx(name, direction).unwrap().1.len())
        .sum()
}

#[test]
fn programs_are_attached_once_and_outlive_the_agent() {
    for mode in modes() {
        let host = Host::new();
        let options = Options { attach: mode, ..Options::default() };
        host.inside(async |netlink| {
            drop(Bench::with(&host.bpffs(), &netlink, &options).await);
            for interface in ["veth1", "br1", "up0"] {
                assert_eq!(programs_at(&netlink, interface, mode).await, 2, "{mode:?}: {interface}, nobody there");
            }
        });
        host.inside(async |netlink| {
            let mut bench = Bench::again(&host.bpffs(), &netlink, &options).await;
            for interface in ["veth1", "br1", "up0"] {
                assert_eq!(programs_at(&netlink, interface, mode).await, 2, "{mode:?}: {interface}, after a restart");
            }
            bench.dataplane.remove_endpoint(A).unwrap();
            bench.dataplane.remove_network(2).unwrap();
            bench.dataplane.set_uplinks(&[]).unwrap();
            for interface in ["veth1", "br2", "up0"] {
                assert_eq!(programs_at(&netlink, interface, mode).await, 0, "{mode:?}: {interface}, removed");
            }
            assert_eq!(programs_at(&netlink, "veth2", mode).await, 2, "{mode:?}: the others stay");
            let config = bench.endpoint(A);
            bench.dataplane.set_endpoint(&config).unwrap();
            assert_eq!(programs_at(&netlink, "veth1", mode).await, 2, "{mode:?}: back again at once");
        });
    }
}

#[test]
fn an_uplink_of_an_older_agent_is_left_when_it_is_none_any_more() {
    for mode in modes() {
        let host = Host::new();
        let options = Options { attach: mode, ..Options::default() };
        host.inside(async |netlink| {
            drop(Bench::with(&host.bpffs(), &netlink, &options).await);
            let mut bench = Bench::open(&host.bpffs(), &netlink, &options).await;
            assert_eq!(programs_at(&netlink, "up0", mode).await, 2, "{mode:?}");
            bench.dataplane.set_uplinks(&[]).unwrap();
            assert_eq!(programs_at(&netlink, "up0", mode).await, 0, "{mode:?}");
        });
    }
}

#[test]
fn an_interface_that_was_made_anew_is_attached_anew() {
    on_host(|host| {
        host.inside(async |netlink| {
            let mut bench = Bench::again(&host.bpffs(), &netlink, &Options::default()).await;
            netlink.delete_link("veth1").await.unwrap();
            bench.veths[A as usize] = pair(&netlink, "veth1").await;
            let config = bench.endpoint(A);
            bench.dataplane.set_endpoint(&config).unwrap();
            assert_eq!(programs_at(&netlink, "veth1", AttachMode::Auto).await, 2);
        });
    });
}

#[test]
fn what_is_not_named_after_a_restart_is_forgotten() {
    on_host(|host| {
        host.inside(async |netlink| {
            let mut bench = Bench::again(&host.bpffs(), &netlink, &Options::default()).await;
            bench.dataplane.publish(&[Bench::port(Family::V4, 8080, 80), Bench::port(Family::V4, 8081, 81)]).unwrap();
            bench.dataplane.retain(&[1].into(), &[A].into(), &[port_slot(Family::V4, 8080)].into()).unwrap();
            for (interface, programs) in [("veth1", 2), ("veth2", 0), ("veth3", 0), ("br1", 2), ("br2", 0), ("up0", 2)]
            {
                assert_eq!(programs_at(&netlink, interface, AttachMode::Auto).await, programs, "{interface}");
            }
            assert_eq!(bench.dataplane.maps.published.keys().count(), 1);
            assert_eq!(bench.dataplane.maps.interfaces.keys().count(), 2);
        });
    });
}

#[test]
fn removing_all_leaves_no_program_and_no_pin() {
    let host = Host::new();
    host.inside(async |netlink| {
        let bench = Bench::with(&host.bpffs(), &netlink, &Options::default()).await;
        bench.dataplane.remove_all().unwrap();
        for interface in ["veth1", "br1", "up0"] {
            assert_eq!(programs_at(&netlink, interface, AttachMode::Auto).await, 0, "{interface}");
        }
        // A bpffs has files of its own for debugging.
        let pins = std::fs::read_dir(host.bpffs()).unwrap().flatten();
        let pins: Vec<_> = pins.filter(|entry| entry.file_type().unwrap().is_dir()).collect();
        assert!(pins.is_empty(), "{pins:?}");
    });
}

#[test]
fn a_pinned_map_of_another_shape_is_refused() {
    let host = Host::new();
    host.inside(async |_| {
        let maps = host.bpffs().join(format!("v{}/maps", layout::VERSION));
        std::fs::create_dir_all(&maps).unwrap();
        let stranger = aya::maps::HashMap::<_, u32, u32>::create(8, 0).unwrap();
        stranger.pin(maps.join("PUBLISHED")).unwrap();
        let error = Dataplane::open(&host.bpffs(), &Options::default()).err().unwrap();
        assert!(matches!(error, DataplaneError::Shape { .. }), "{error}");
        assert!(error.to_string().contains("PUBLISHED has type Hash, 4-byte keys and 4-byte values"), "{error}");
    });
}

/// What an older version pinned takes no memory once this one runs.
#[test]
fn a_pinned_map_that_this_version_has_not_is_let_go() {
    on_host(|host| {
        host.inside(async |_| {
            let pin = host.bpffs().join(format!("v{}/maps/PORT_COUNTS", layout::VERSION));
            aya::maps::HashMap::<_, u32, u32>::create(8, 0).unwrap().pin(&pin).unwrap();
            drop(Dataplane::open(&host.bpffs(), &Options::default()).unwrap());
            assert!(!pin.exists());
        });
    });
}

/// A new agent's programs go on with what the old ones remembered: flows, and whom the host's sockets talk to.
#[test]
fn every_memory_of_the_programs_is_pinned() {
    on_host(|host| {
        host.inside(async |_| {
            let dataplane = Dataplane::open(&host.bpffs(), &Options::default()).unwrap();
            // What is not pinned is each load's own: constants, the log, and memory in place of the stack.
            let own = |name: &str| {
                ["AYA_LOG", "BUFFER", "DRAFT", "NOTE", "PACKET", "SAVED", "WORK", "."]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
                    // The kernel cuts names after 15 characters.
                    || name.contains("_QUESTI")
            };
            let ours: Vec<u32> = ids(&dataplane).collect();
            let used = aya::programs::loaded_programs()
                .flatten()
                .filter(|info| ours.contains(&info.id()))
                .flat_map(|info| info.map_ids().unwrap().unwrap());
            let pinned = maps::ids(&dataplane.root).unwrap().unwrap();
            let loose: Vec<_> = used
                .filter(|id| !pinned.contains(id))
                .map(|id| aya::maps::MapInfo::from_id(id).unwrap().name_as_str().unwrap().to_owned())
                .collect();
            assert!(!loose.is_empty() && loose.iter().all(|name| own(name)), "{loose:?}");
        });
    });
}

/// The kernel's numbers of the programs.
fn ids(dataplane: &Dataplane) -> impl Iterator<Item = u32> {
    dataplane.programs().into_iter().map(|program| program.id)
}

/// Does opening this give the programs that `old` has? All of them or none.
fn takes_over(host: &Host, old: &Dataplane, options: &Options) -> bool {
    let new = Dataplane::open(&host.bpffs(), options).unwrap();
    let same = ids(old).zip(ids(&new)).filter(|(old, new)| old == new).count();
    assert!(same == 0 || same == ids(old).count(), "{same} programs are the same");
    let folders = std::fs::read_dir(old.root.join("programs")).unwrap();
    assert_eq!(folders.count(), 1, "what is not used any more goes");
    same > 0
}

#[test]
fn programs_are_taken_over_where_nothing_about_them_would_differ() {
    let host = Host::new();
    host.inside(async |_| {
        let options = Options::default();
        let open = |options: &Options| Dataplane::open(&host.bpffs(), options).unwrap();
        let first = open(&options);
        assert!(takes_over(&host, &first, &options));
        // What has nothing to do with the programs.
        let elsewhere = Options { xdp: XdpMode::Generic, max_flows: 1, ..Options::default() };
        assert!(takes_over(&host, &first, &elsewhere));

        let talkative = Options { log_level: LogLevel::Debug, ..Options::default() };
        assert!(!takes_over(&host, &first, &talkative), "another constant");
        let second = open(&talkative);
        assert!(first.log().is_none() && second.log().is_some());

        // An agent that died while it loaded; pins as older versions made them.
        let folder = second.root.join("programs");
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir_all(folder.join("fresh")).unwrap();
        for pin in ["fresh/to_uplink", "to_uplink"] {
            sys::pin(second.maps.neighbors_raw.fd().as_fd(), &folder.join(pin)).unwrap();
        }
        assert!(!takes_over(&host, &second, &talkative), "not all were loaded");

        let third = open(&talkative);
        std::fs::remove_file(third.root.join("maps/DROPS")).unwrap();
        assert!(!takes_over(&host, &third, &talkative), "another map");
    });
}
