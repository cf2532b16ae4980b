//! The table of names: who is called what on which network, and who may ask for it.
//!
//! A change of one container costs what that container has, and a look-up what its asker has: neither depends on how many others
//! there are. Names are kept in lower case (RFC 4343).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::Id;

/// A container's place on a network with names: what it is called there, and whom it calls how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The network.
    pub network: Id,
    /// The network's name.
    pub network_name: String,
    /// The container's names there. The first one is told to those who ask by address.
    pub names: Vec<String>,
    /// The container's addresses there.
    pub addresses: Vec<IpAddr>,
    /// Other containers on the network, by name, under names that only this one knows: alias, then name.
    pub links: Vec<(String, String)>,
}

/// All names of this host's containers.
#[derive(Debug, Default)]
pub struct Names {
    networks: HashMap<Id, Network>,
    containers: HashMap<Id, Asker>,
}

/// What a container may know.
#[derive(Debug)]
struct Asker {
    places: Vec<Place>,
    outside: bool,
}

/// The names of one network.
#[derive(Debug, Default)]
struct Network {
    names: HashMap<String, Holders>,
    addresses: HashMap<IpAddr, String>,
}

/// The containers that have a name, and whose turn it is to be named first, in each family.
#[derive(Debug, Default)]
struct Holders {
    containers: Vec<Holder>,
    turns: [AtomicUsize; 2],
}

#[derive(Debug)]
struct Holder {
    container: Id,
    addresses: Vec<IpAddr>,
}

impl Names {
    /// Puts a container's names in the place of those that it had. `outside` is whether names from elsewhere may be looked for where
    /// the host looks for them.
    pub fn put(&mut self, container: Id, mut places: Vec<Place>, outside: bool) {
        self.remove(&container);
        for place in &mut places {
            place.network_name.make_ascii_lowercase();
            place.names.iter_mut().for_each(|name| name.make_ascii_lowercase());
            for (alias, target) in &mut place.links {
                alias.make_ascii_lowercase();
                target.make_ascii_lowercase();
            }
            let network = self.networks.entry(place.network).or_default();
            for name in &place.names {
                let holders = &mut network.names.entry(name.clone()).or_default().containers;
                // Two of its names may differ in case alone.
                if holders.iter().all(|holder| holder.container != container) {
                    if holders.is_empty() {
                        // Hardly any name has more than one, and a list would make room for four.
                        holders.reserve_exact(1);
                    }
                    holders.push(Holder { container, addresses: place.addresses.clone() });
                }
            }
            if let Some(first) = place.names.first() {
                network.addresses.extend(place.addresses.iter().map(|address| (*address, first.clone())));
            }
        }
        self.containers.insert(container, Asker { places, outside });
    }

    /// Forgets a container.
    pub fn remove(&mut self, container: &Id) {
        let Some(gone) = self.containers.remove(container) else { return };
        for place in gone.places {
            let Some(network) = self.networks.get_mut(&place.network) else { continue };
            for name in &place.names {
                if let Some(holders) = network.names.get_mut(name) {
                    holders.containers.retain(|holder| holder.container != *container);
                    if holders.containers.is_empty() {
                        network.names.remove(name);
                    }
                }
            }
            for address in &place.addresses {
                network.addresses.remove(address);
            }
            if network.names.is_empty() {
                self.networks.remove(&place.network);
            }
        }
    }

    /// The addresses of one family that a name has for who asks: one after the other is the first. None if the name is not known on any of
    /// its networks.
    pub fn find(&self, asker: &Id, name: &str, v6: bool) -> Option<Vec<IpAddr>> {
        let name = name.to_ascii_lowercase();
        let mut known = false;
        for place in &self.containers.get(asker)?.places {
            // With the network's name behind it, or bare. Names and networks' names may have dots in them.
            let local = name.strip_suffix(place.network_name.as_str()).and_then(|rest| rest.strip_suffix('.'));
            for name in [Some(name.as_str()), local].into_iter().flatten() {
                if let Some(holders) = self.holders(place, name) {
                    known = true;
                    let found = holders.addresses(v6);
                    if !found.is_empty() {
                        return Some(found);
                    }
                }
            }
        }
        known.then(Vec::new)
    }

    /// Whether who asks may know what the host's servers say.
    pub fn reaches_outside(&self, asker: &Id) -> bool {
        self.containers.get(asker).is_some_and(|asker| asker.outside)
    }

    fn holders(&self, place: &Place, name: &str) -> Option<&Holders> {
        let names = &self.networks.get(&place.network)?.names;
        let link = place.links.iter().find(|(alias, _)| alias == name);
        // A link leads to where its target is now; one whose target is not there is no name.
        link.and_then(|(_, target)| names.get(target)).or_else(|| names.get(name))
    }

    /// The name, with that of its network, of an address on a network of who asks.
    pub fn find_address(&self, asker: &Id, address: IpAddr) -> Option<String> {
        self.containers.get(asker)?.places.iter().find_map(|place| {
            let name = self.networks.get(&place.network)?.addresses.get(&address)?;
            Some(format!("{name}.{}", place.network_name))
        })
    }
}

impl Holders {
    fn addresses(&self, v6: bool) -> Vec<IpAddr> {
        let all = self.containers.iter().flat_map(|holder| &holder.addresses);
        let mut found: Vec<_> = all.copied().filter(|address| address.is_ipv6() == v6).collect();
        if found.len() > 1 {
            // Each family takes turns by itself: who asks for both would else see every second one only.
            let turn = self.turns[usize::from(v6)].fetch_add(1, Ordering::Relaxed) % found.len();
            found.rotate_left(turn);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> Id {
        format!("{number:064x}").parse().unwrap()
    }

    fn place(network: u8, names: &[&str], addresses: &[&str]) -> Place {
        Place {
            network: id(network),
            network_name: format!("net{network}"),
            names: names.iter().map(|name| name.to_string()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            links: Vec::new(),
        }
    }

    fn shown(found: Option<Vec<IpAddr>>) -> Option<Vec<String>> {
        found.map(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_are_for_those_on_the_network() {
        let mut names = Names::default();
        names.put(id(1), vec![place(10, &["Web", "www"], &["10.0.0.2", "fd00::2"])], true);
        names.put(id(2), vec![place(10, &["db"], &["10.0.0.3"]), place(11, &["db"], &["10.1.0.3"])], true);
        names.put(id(3), vec![place(11, &["other"], &["10.1.0.4"])], true);
        let find = |asker, name: &str, v6| shown(names.find(&id(asker), name, v6));
        for name in ["web", "WEB", "www", "web.net10", "www.NET10"] {
            assert_eq!(find(2, name, false).unwrap(), ["10.0.0.2"], "{name}");
            assert_eq!(find(2, name, true).unwrap(), ["fd00::2"], "{name}");
            assert_eq!(find(1, name, false).unwrap(), ["10.0.0.2"], "{name}");
        }
        for (asker, name) in
            [(3, "web"), (3, "web.net10"), (1, "other"), (2, "web.net11"), (2, "web."), (2, ""), (9, "web")]
        {
            assert_eq!(find(asker, name, false), None, "{asker} {name}");
        }
        // Each sees the address on a network of its own.
        assert_eq!(find(1, "db", false).unwrap(), ["10.0.0.3"]);
        assert_eq!(find(3, "db", false).unwrap(), ["10.1.0.3"]);
        assert_eq!(find(2, "db.net11", false).unwrap(), ["10.1.0.3"]);
        // Known, but not in this family.
        assert_eq!(find(1, "db", true).unwrap(), [""; 0]);
        let address = |asker, text: &str| names.find_address(&id(asker), text.parse().unwrap());
        assert_eq!(address(2, "fd00::2").as_deref(), Some("web.net10"));
        assert_eq!(address(3, "fd00::2"), None);
    }

    #[test]
    fn answers_take_turns() {
        let mut names = Names::default();
        for number in 1..=3 {
            let addresses = [format!("10.0.0.{number}"), format!("fd00::{number}")];
            names.put(id(number), vec![place(10, &["pool"], &addresses.each_ref().map(String::as_str))], true);
        }
        let firsts = |v6| {
            let mut firsts: Vec<_> = (0..6).map(|_| names.find(&id(1), "pool", v6).unwrap()[0]).collect();
            // Also where another family is asked for in between.
            names.find(&id(1), "pool", !v6).unwrap();
            firsts.sort();
            firsts.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(firsts(false), ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.3"]);
        assert_eq!(firsts(true), ["fd00::1", "fd00::1", "fd00::2", "fd00::2", "fd00::3", "fd00::3"]);
    }

    #[test]
    fn links_are_private() {
        let mut names = Names::default();
        names.put(id(1), vec![place(10, &["db"], &["10.0.0.2"])], true);
        names.put(
            id(2),
            vec![Place { links: vec![("Store".into(), "DB".into())], ..place(10, &["a"], &["10.0.0.3"]) }],
            true,
        );
        names.put(id(3), vec![place(10, &["b"], &["10.0.0.4"])], true);
        assert_eq!(shown(names.find(&id(2), "store", false)).unwrap(), ["10.0.0.2"]);
        assert_eq!(shown(names.find(&id(2), "store.net10", false)).unwrap(), ["10.0.0.2"]);
        assert_eq!(names.find(&id(3), "store", false), None);
        names.remove(&id(1));
        assert_eq!(names.find(&id(2), "store", false), None);
    }

    proptest! {
        /// Whatever came before, the table is what the last word about each container makes it, and empty in the end.
        #[test]
        fn nothing_stays_of_what_was(steps in prop::collection::vec((0..4_u8, 0..3_u8, prop::collection::vec("[a-c]", 0..3)), 0..40)) {
            let mut names = Names::default();
            let mut last = HashMap::new();
            for (container, network, called) in steps {
                let called: Vec<_> = called.iter().map(String::as_str).collect();
                let address = format!("10.0.{network}.{container}");
                names.put(id(container), vec![place(network, &called, &[&address])], true);
                last.insert(container, vec![place(network, &called, &[&address])]);
            }
            let mut fresh = Names::default();
            last.iter().for_each(|(container, places)| fresh.put(id(*container), places.clone(), true));
            for (asker, name) in last.keys().flat_map(|asker| ["a", "b", "c"].map(|name| (asker, name))) {
                let sorted = |names: &Names| names.find(&id(*asker), name, false).map(|mut found| { found.sort(); found });
                prop_assert_eq!(sorted(&names), sorted(&fresh));
            }
            last.keys().for_each(|container| names.remove(&id(*container)));
            prop_assert!(names.networks.is_empty() && names.containers.is_empty());
        }
    }
}
