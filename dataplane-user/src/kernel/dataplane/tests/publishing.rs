//! What the maps hold of published ports, and when a port's flows end.

use aya::maps::{PerCpuValues, lpm_trie::Key};
use dataplane_common::{
    address::AnyAddress,
    layout::{AllowedKey, Endpoint, MAX_PORTS, PORTS_TOGETHER, PortCount, Published, PublishedKey},
    wire::Be16,
};

use super::*;

const SLOT: u32 = 7;

/// A port of A's, published on both families and for these clients.
fn port(allow_from: &[&str]) -> PortConfig {
    let entry = |family: Family| PortEntry {
        protocol: Protocol::TCP,
        host: family.any(),
        host_port: 8080,
        endpoint: A,
        container: family.a(),
        container_port: 80,
    };
    let allow_from = allow_from.iter().map(|text| text.parse().unwrap()).collect();
    PortConfig { slot: SLOT, allow_from, rate: 0, entries: [Family::V4, Family::V6].map(entry).to_vec() }
}

impl Bench {
    fn entry(&self, family: Family, port: u16) -> Option<Published> {
        let key =
            PublishedKey { address: family.any().into(), port: Be16::new(port), protocol: Protocol::TCP, reserved: 0 };
        self.dataplane.maps.published.get(&key, 0).ok()
    }

    /// Whether the client is on the list of the port in [`SLOT`].
    fn is_listed(&self, client: &str) -> bool {
        let client = AnyAddress::from(client.parse::<IpAddr>().unwrap());
        let key = Key::new(160, AllowedKey { slot: SLOT, client });
        self.dataplane.maps.allowed.get(&key, 0).is_ok_and(|allowed| allowed != 0)
    }

    /// Sets a port's counters on all CPUs.
    fn count(&mut self, slot: u32, values: PerCpuValues<PortCount>) {
        let (place, at) = publish::place_of(slot);
        self.dataplane.port_counters(place).unwrap().counters.set(at, values, 0).unwrap();
    }

    fn generation(&self) -> u32 {
        self.dataplane.maps.port_generations.get(&SLOT, 0).unwrap()
    }

    fn publishes(&self, slot: u32) -> bool {
        self.dataplane.maps.endpoints.get(&slot, 0).unwrap().flags & Endpoint::PUBLISHES != 0
    }

    /// Publishes it so, and tells whether that ended its flows.
    fn publish_ends_flows(&mut self, port: PortConfig) -> bool {
        let before = self.generation();
        self.dataplane.publish(&[port]).unwrap();
        self.generation() != before
    }
}

#[test]
fn a_port_is_one_slot_on_all_its_addresses() {
    on_bench(|bench| {
        assert!(!bench.publishes(A));
        assert!(!bench.publish_ends_flows(PortConfig { rate: 5, ..port(&[]) }));
        for family in [Family::V4, Family::V6] {
            let entry = bench.entry(family, 8080).unwrap();
            assert_eq!(entry.container, family.a().into());
            assert_eq!((entry.endpoint, entry.port.get(), entry.slot), (A, 80, SLOT));
            assert_eq!((entry.flags, entry.rate), (0, 5));
        }
        assert!(bench.publishes(A) && !bench.publishes(B));
        let before = bench.generation();
        bench.dataplane.unpublish(&[SLOT]).unwrap();
        assert_eq!(bench.dataplane.maps.published.keys().count(), 0);
        assert!(!bench.publishes(A));
        assert_ne!(bench.generation(), before, "its flows have ended");
        // Once more is fine.
        bench.dataplane.unpublish(&[SLOT, 9]).unwrap();
    });
}

#[test]
fn ipv6_may_lead_to_an_ipv4_address() {
    on_bench(|bench| {
        let mut port = port(&[]);
        port.entries[1].container = Family::V4.a();
        bench.dataplane.publish(&[port]).unwrap();
        assert!(bench.entry(Family::V6, 8080).unwrap().container.is_v4());
    });
}

#[test]
fn only_listed_clients_may_use_a_restricted_port() {
    on_bench(|bench| {
        bench.dataplane.publish(&[port(&["10.0.0.0/8", "fd00::/8"])]).unwrap();
        assert_eq!(bench.entry(Family::V4, 8080).unwrap().flags, Published::RESTRICTED);
        assert_eq!(bench.entry(Family::V6, 8080).unwrap().flags, Published::RESTRICTED);
        for (client, listed) in [("10.9.9.9", true), ("11.0.0.1", false), ("fd12::1", true), ("2001:db8::1", false)] {
            assert_eq!(bench.is_listed(client), listed, "{client}");
        }
        // All of IPv6 is not all of IPv4, though its addresses lie in there.
        bench.dataplane.publish(&[port(&["::/0"])]).unwrap();
        assert!(bench.is_listed("2001:db8::1") && !bench.is_listed("10.9.9.9"));
        bench.dataplane.publish(&[port(&["::/0", "10.9.0.0/16"])]).unwrap();
        assert!(bench.is_listed("10.9.9.9") && !bench.is_listed("10.8.9.9"));
        bench.dataplane.publish(&[port(&[])]).unwrap();
        assert_eq!(bench.entry(Family::V4, 8080).unwrap().flags, 0);
        assert_eq!(bench.dataplane.maps.allowed.keys().count(), 0);
    });
}

#[test]
fn flows_end_when_a_port_lets_fewer_in_or_leads_elsewhere() {
    on_bench(|bench| {
        let mut elsewhere = port(&[]);
        elsewhere.entries[0].container_port = 81;
        let mut fewer_addresses = elsewhere.clone();
        fewer_addresses.entries.pop();
        for (what, port, ends) in [
            ("published", port(&[]), false),
            ("once more", port(&[]), false),
            ("limited in rate", PortConfig { rate: 9, ..port(&[]) }, false),
            ("restricted", port(&["10.0.0.0/8", "fd00::/8"]), true),
            ("one client more", port(&["10.0.0.0/8", "192.0.2.0/24", "fd00::/8"]), false),
            ("one client less", port(&["10.0.0.0/8", "192.0.2.0/24"]), true),
            ("opened", port(&[]), false),
            ("to another port", elsewhere, true),
            ("on one address only", fewer_addresses, true),
        ] {
            assert_eq!(bench.publish_ends_flows(port), ends, "{what}");
        }
    });
}

#[test]
fn a_slots_counters_begin_at_zero() {
    on_bench(|bench| {
        let some = PortCount { connections: 1, packets_in: 2, bytes_in: 3, packets_out: 4, bytes_out: 5 };
        let cpus = aya::util::nr_cpus().unwrap();
        let count = |bench: &mut Bench| {
            let values = PerCpuValues::try_from(vec![some; cpus]).unwrap();
            bench.count(SLOT, values);
        };
        // What an earlier port left.
        count(bench);
        bench.dataplane.publish(&[port(&[])]).unwrap();
        assert_eq!(bench.dataplane.port_count(SLOT).unwrap(), PortCount::default());
        count(bench);
        let sum = bench.dataplane.port_count(SLOT).unwrap();
        assert_eq!((sum.connections, sum.bytes_out), (cpus as u64, 5 * cpus as u64));
        // A change is no new port.
        bench.dataplane.publish(&[port(&["10.0.0.0/8"])]).unwrap();
        assert_eq!(bench.dataplane.port_count(SLOT).unwrap(), sum);
    });
}

#[test]
fn a_restart_changes_nothing() {
    on_host(|host| {
        host.inside(async |netlink| {
            let restricted = port(&["10.0.0.0/8", "::/0"]);
            let (generation, entry) = {
                let mut bench = Bench::again(&host.bpffs(), &netlink, &Options::default()).await;
                bench.dataplane.publish(&[restricted.clone(), Bench::port(Family::V4, 8081, 81)]).unwrap();
                (bench.generation(), bench.entry(Family::V4, 8080))
            };
            let mut bench = Bench::again(&host.bpffs(), &netlink, &Options::default()).await;
            assert!(bench.publishes(A));
            bench.dataplane.retain(&[1, 2].into(), &[A, B, C].into(), &[SLOT].into()).unwrap();
            bench.dataplane.publish(&[restricted]).unwrap();
            assert_eq!((bench.generation(), bench.entry(Family::V4, 8080)), (generation, entry));
            assert!(bench.is_listed("10.1.1.1") && bench.is_listed("2001:db8::1") && !bench.is_listed("192.0.2.1"));
            assert_eq!(bench.entry(Family::V4, 8081), None, "nobody named it");
            bench.dataplane.unpublish(&[SLOT]).unwrap();
            assert!(!bench.publishes(A));
            assert_eq!(bench.dataplane.maps.allowed.keys().count(), 0);
        });
    });
}

#[test]
fn all_ports_are_published_or_none() {
    on_bench(|bench| {
        let before = port(&["10.0.0.0/8"]);
        bench.dataplane.publish(std::slice::from_ref(&before)).unwrap();
        // Another port on an address that is taken, after one that is new and one that changes.
        let fresh = PortConfig { slot: 8, ..Bench::port(Family::V4, 9000, 90) };
        let clash = PortConfig { slot: 9, ..Bench::port(Family::V4, 8080, 80) };
        let error = bench.dataplane.publish(&[fresh, port(&[]), clash]).unwrap_err().to_string();
        assert_eq!(error, "port 0.0.0.0:8080 is already published by another container");
        assert_eq!(bench.entry(Family::V4, 9000), None);
        assert_eq!(bench.entry(Family::V4, 8080).unwrap().flags, Published::RESTRICTED);
        assert!(bench.is_listed("10.1.1.1"));
        let beyond = PortConfig { slot: MAX_PORTS as u32, ..before };
        let error = bench.dataplane.publish(&[beyond]).unwrap_err().to_string();
        assert_eq!(error, "there is no room for more than 32767 published ports");
        bench.dataplane.unpublish(&[SLOT]).unwrap();
        assert!(!bench.publishes(A), "what was undone is not counted");
    });
}

/// Many ports of A's, from `first` on, on both families.
fn many(first: u16) -> Vec<PortConfig> {
    let one = |number: u16| {
        let mut config = port(&[]);
        config.slot = u32::from(number);
        config.entries.iter_mut().for_each(|entry| entry.host_port = 10_000 + number);
        config
    };
    (first..first + 100).map(one).collect()
}

/// Counters are there for the ports that are, and those of neighbouring slots: each port has its own, whichever map that is in.
#[test]
fn each_port_has_counters_of_its_own() {
    const LAST: u32 = PORTS_TOGETHER as u32 - 1;
    const FIRST: u32 = LAST + 1;
    on_bench(|bench| {
        bench.dataplane.publish(&many(FIRST as u16 - 50)).unwrap();
        let cpus = aya::util::nr_cpus().unwrap();
        for slot in [LAST, FIRST] {
            let used = PortCount { packets_in: slot.into(), ..PortCount::default() };
            bench.count(slot, PerCpuValues::try_from(vec![used; cpus]).unwrap());
        }
        let counted = |bench: &Bench, slot| bench.dataplane.port_count(slot).unwrap().packets_in;
        let both = [LAST, FIRST].map(|slot| u64::from(slot) * cpus as u64);
        assert_eq!([LAST, FIRST].map(|slot| counted(bench, slot)), both);
        assert_eq!([LAST - 1, FIRST + 1, 1].map(|slot| counted(bench, slot)), [0; 3]);
        assert_eq!(counted(bench, MAX_PORTS as u32 - 1), 0, "of ports that nobody has published");

        // Whoever comes next has it again.
        bench.dataplane.port_counters.clear();
        bench.dataplane.count_ports().unwrap();
        assert_eq!([LAST, FIRST].map(|slot| counted(bench, slot)), both);
    });
}

/// Many ports at once are opened and closed as one is: with endpoint, counters and generations.
#[test]
fn many_ports_are_as_one() {
    on_bench(|bench| {
        let ports = many(100);
        let slots: Vec<u32> = ports.iter().map(|port| port.slot).collect();
        let cpus = aya::util::nr_cpus().unwrap();
        let used = PortCount { connections: 3, ..PortCount::default() };
        bench.count(150, PerCpuValues::try_from(vec![used; cpus]).unwrap());
        let generation = |bench: &Bench| bench.dataplane.maps.port_generations.get(&150, 0).unwrap();
        let before = generation(bench);

        bench.dataplane.publish(&ports).unwrap();
        assert!(bench.publishes(A));
        assert_eq!(bench.dataplane.port_count(150).unwrap(), PortCount::default());
        for number in [10_100, 10_150, 10_199] {
            for family in [Family::V4, Family::V6] {
                let entry = bench.entry(family, number).expect("it is published");
                assert_eq!((entry.slot, entry.endpoint), (u32::from(number) - 10_000, A));
            }
        }
        assert_eq!(generation(bench), before);
        // The same once more changes nothing.
        bench.dataplane.publish(&ports).unwrap();
        assert_eq!(generation(bench), before);

        bench.dataplane.unpublish(&slots).unwrap();
        assert!(!bench.publishes(A));
        assert_eq!(generation(bench), before.wrapping_add(1));
        for number in 10_100..10_200 {
            assert!(bench.entry(Family::V4, number).is_none() && bench.entry(Family::V6, number).is_none());
        }
        // Absent ones are fine.
        bench.dataplane.unpublish(&slots).unwrap();
        assert_eq!(generation(bench), before.wrapping_add(1));
    });
}

/// Among many, one address that is another port's: none is opened, and the other one stays.
#[test]
fn many_ports_are_all_or_none() {
    on_bench(|bench| {
        let mut other = port(&[]);
        other.entries.truncate(1);
        other.entries[0].host_port = 10_150;
        bench.dataplane.publish(&[other]).unwrap();
        let error = bench.dataplane.publish(&many(100)).unwrap_err();
        assert!(matches!(&error, DataplaneError::Published(address) if address == "0.0.0.0:10150"), "{error}");
        assert_eq!(bench.entry(Family::V4, 10_150).map(|entry| entry.slot), Some(SLOT));
        for number in (10_100..10_200).filter(|number| *number != 10_150) {
            assert!(bench.entry(Family::V4, number).is_none(), "{number}");
        }
        // One of them is for some clients only, and cannot be opened: what was opened before it is closed.
        let mut ports = many(300);
        ports.push(PortConfig { slot: MAX_PORTS as u32, ..port(&["10.0.0.0/8"]) });
        bench.dataplane.publish(&ports).unwrap_err();
        assert!(bench.entry(Family::V4, 10_300).is_none());
        // Twice the same address in one command.
        let mut ports = many(500);
        ports[1].entries = ports[0].entries.clone();
        bench.dataplane.publish(&ports).unwrap_err();
        assert!(bench.entry(Family::V4, 10_500).is_none());
    });
}

#[test]
fn a_part_of_an_array_is_read_by_its_slots() {
    on_bench(|bench| {
        for slot in 0..100 {
            bench.dataplane.maps.port_generations.set(slot, 1000 + slot, 0).unwrap();
        }
        for slots in [0..1, 0..100, 1..2, 40..97] {
            let expected: Vec<u32> = slots.clone().map(|slot| 1000 + slot).collect();
            assert_eq!(bench.dataplane.array::<u32>("PORT_GENERATIONS", slots).unwrap(), expected);
        }
        let last = MAX_PORTS as u32 - 1;
        bench.dataplane.maps.port_generations.set(last, 7, 0).unwrap();
        assert_eq!(bench.dataplane.array::<u32>("PORT_GENERATIONS", last..last + 1).unwrap(), [7]);
    });
}
