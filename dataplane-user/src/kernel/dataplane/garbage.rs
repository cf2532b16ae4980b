//! Sweeps the flow tables. The agent looks for what has expired; the `collect` program deletes it in short steps, and only
//! what has not been used since the agent looked. While there are no flows nobody looks: the first one rings [`FlowAlarm`]. So does the
//! one with which room becomes short; then those that are over go early, the longest idle ones first.

use std::{
    collections::HashMap as Table,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::maps::{HashMap, MapData, RingBuf};
use dataplane_common::{
    Address, Flow, FlowKey, Protocol,
    address::AnyAddress,
    layout::{
        Config, EXPIRED_BATCH, EXPIRED_ETHERTYPE, Endpoint, Expired, MAX_ENDPOINTS, MAX_PORTS, is_crowded, swept,
    },
    tcp,
    timeout::{Timeouts, is_over},
    wire::Be16,
};
use tokio::io::unix::AsyncFd;

use super::{Dataplane, RunContext, error::DataplaneError, maps, programs, sys};

/// What a sweep found and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GcReport {
    /// Flows found, both families.
    pub flows: u64,
    /// Flows deleted.
    pub deleted: u64,
    /// Room is short all the same.
    pub crowded: bool,
}

/// What a sweep has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// No flow: the next one rings the alarm.
    Nothing,
    /// Flows, so that another sweep is wanted in a while.
    Flows,
    /// So many that room is short.
    Crowd,
}

/// Why the alarm rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// There is a first flow since a sweep has found none.
    Flows,
    /// Room has become short since the last sweep.
    Crowd,
}

/// Tells of flows that want a sweep.
pub struct FlowAlarm(AsyncFd<RingBuf<MapData>>);

impl FlowAlarm {
    /// Waits until it rings. Cancel safe.
    pub async fn rings(&mut self) -> Alarm {
        loop {
            let mut ready = match self.0.readable_mut().await {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!("no longer told of new flows: {error}");
                    return std::future::pending().await;
                }
            };
            let mut news = None;
            while let Some(record) = ready.get_inner_mut().next() {
                news = news.max(record.first_chunk().map(|word| u32::from_ne_bytes(*word)));
            }
            ready.clear_ready();
            match news {
                None => {}
                Some(swept::CROWDED..) => return Alarm::Crowd,
                Some(_) => return Alarm::Flows,
            }
        }
    }
}

impl GcReport {
    fn left(&self) -> Left {
        match (self.flows > self.deleted, self.crowded) {
            (false, _) => Left::Nothing,
            (true, false) => Left::Flows,
            (true, true) => Left::Crowd,
        }
    }
}

impl Dataplane {
    /// What tells that [`Dataplane::sweep`] is wanted again. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The ring buffer cannot be watched.
    pub fn flow_alarm(&self) -> Result<FlowAlarm, DataplaneError> {
        let ring = maps::flow_alarm(&self.root)?;
        // SAFETY: the ring buffer owns its descriptor, which stays the same and open for as long as it lives.
        let watched = unsafe { AsyncFd::register(ring) };
        watched.map(FlowAlarm).map_err(|source| DataplaneError::Host {
            what: "new flows cannot be watched for".into(),
            source: source.into(),
        })
    }

    /// Does what [`Dataplane::collect_garbage`] does. The alarm rings with the next flow if this leaves none, and when room becomes short
    /// from here on.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn sweep(&mut self) -> Result<Left, DataplaneError> {
        self.maps.swept.set(0, swept::AWAKE, 0)?;
        let left = self.collect_garbage()?.left();
        if left != Left::Nothing {
            return Ok(left);
        }
        self.maps.swept.set(0, swept::ASLEEP, 0)?;
        // A flow that was opened meanwhile is seen now; one that is opened from now on rings.
        let left = self.collect_garbage()?.left();
        if left != Left::Nothing {
            self.maps.swept.set(0, swept::AWAKE, 0)?;
        }
        Ok(left)
    }

    /// Whether something has to be forgotten that no flow tells of.
    pub fn wants_sweep(&self) -> bool {
        self.unpublished
    }

    /// Deletes flows that have been idle for too long or whose endpoint has gone, and what sockets of the host were told of ports that
    /// have gone. Where room is short, flows that are over go as well, until half of it is free. Call it only when all endpoints that
    /// should be there are there.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn collect_garbage(&mut self) -> Result<GcReport, DataplaneError> {
        self.forget_socket_peers()?;
        let now = seconds_since_boot();
        let generations = Generations {
            endpoints: self.array::<Endpoint>("ENDPOINTS", 0..MAX_ENDPOINTS as u32)?,
            ports: self.array::<u32>("PORT_GENERATIONS", 0..MAX_PORTS as u32)?,
        };
        let mut surplus = self.surplus(&generations.endpoints)?;
        let short = !surplus.is_empty();
        let look = Look {
            generations: &generations,
            surplus: &surplus,
            timeouts: &self.timeouts,
            mapped: self.maps.config.get(&0, 0)?.flags & Config::ENDPOINT_INDEPENDENT != 0,
            closely: self.half_pairs,
            now,
        };
        let mut v4 = look.through(&self.maps.flows4, self.open_map("FLOWS4")?.as_fd())?;
        let mut v6 = look.through(&self.maps.flows6, self.open_map("FLOWS6")?.as_fd())?;
        self.half_pairs = v4.has_half_pairs() || v6.has_half_pairs();
        v4.make_room(&mut surplus);
        v6.make_room(&mut surplus);
        Ok(GcReport {
            flows: v4.flows() + v6.flows(),
            deleted: self.delete(EXPIRED_ETHERTYPE, &v4.expired)? + self.delete(EXPIRED_ETHERTYPE + 1, &v6.expired)?,
            crowded: short && !self.surplus(&generations.endpoints)?.is_empty(),
        })
    }

    /// How many flows each endpoint has too many where room is short: an endpoint near its quota, or all of them where the tables are nearly
    /// full. Families are counted together, so that a table may seem full that is not; all that comes of it is that flows go early that are
    /// over.
    fn surplus(&self, endpoints: &[Endpoint]) -> Result<Surplus, DataplaneError> {
        let counts = self.array::<u64>("FLOW_COUNTS", 0..MAX_ENDPOINTS as u32)?;
        let full = is_crowded(counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count)), self.capacity()?);
        let too_many = |(slot, (endpoint, count)): (u32, (&Endpoint, &u64))| {
            let half = u64::from(endpoint.quota) / 2;
            match (is_crowded(*count, endpoint.quota), full && *count > 0) {
                (true, _) => Some((slot, *count - half)),
                (false, true) => Some((slot, count.div_ceil(2))),
                (false, false) => None,
            }
        };
        Ok((0..).zip(endpoints.iter().zip(&counts)).filter_map(too_many).collect())
    }

    /// Has the `collect` program delete pairs; returns how many it did delete.
    fn delete<A: Address>(&mut self, ethertype: u16, expired: &[Expired<A>]) -> Result<u64, DataplaneError> {
        let mut deleted = 0;
        for batch in expired.chunks(EXPIRED_BATCH) {
            let mut frame = vec![0; 12];
            frame.extend(ethertype.to_be_bytes());
            for record in batch {
                // SAFETY: `Expired` is a plain struct of integers without padding.
                frame.extend(unsafe {
                    std::slice::from_raw_parts((&raw const *record).cast::<u8>(), size_of::<Expired<A>>())
                });
            }
            deleted += u64::from(self.run_program(programs::COLLECT, &frame, &RunContext::default())?.verdict as u32);
        }
        Ok(deleted)
    }
}

/// How many flows endpoints have too many, by slot.
type Surplus = Table<u32, u64>;

/// The generations of everything with which a flow ends, by slot.
struct Generations {
    endpoints: Vec<Endpoint>,
    ports: Vec<u32>,
}

impl Generations {
    /// Are the flow's endpoints and port still those for which it was made?
    fn has<A>(&self, flow: &Flow<A>) -> bool {
        let endpoint = |slot: u32, generation| {
            slot == 0 || self.endpoints.get(slot as usize).is_some_and(|endpoint| endpoint.generation == generation)
        };
        let (port, generation) = (flow.port, flow.port_generation);
        endpoint(flow.owner, flow.owner_generation)
            && endpoint(flow.target, flow.target_generation)
            && (port == 0 || self.ports.get(port as usize) == Some(&generation))
    }
}

/// A look at the flow tables.
struct Look<'a> {
    generations: &'a Generations,
    /// Whose flows are to go early that are over.
    surplus: &'a Surplus,
    timeouts: &'a Timeouts,
    /// Are there mappings?
    mapped: bool,
    /// Ask for the other half of each pair, even of those that were used just now.
    closely: bool,
    /// Seconds since boot.
    now: u32,
}

/// What a look at one family's table found.
struct Found<A> {
    originals: u64,
    replies: u64,
    expired: Vec<Expired<A>>,
    /// Those that are over, and their owners.
    over: Vec<(u32, Expired<A>)>,
}

impl<A> Found<A> {
    fn flows(&self) -> u64 {
        self.originals.max(self.replies)
    }

    /// Counts flows among the expired that are over, those first that have been so for longest, until no endpoint has too many.
    fn make_room(&mut self, surplus: &mut Surplus) {
        self.over.sort_by_key(|(_, flow)| flow.last_used.max(flow.reply_last_used));
        for (owner, flow) in self.over.drain(..) {
            if let Some(surplus) = surplus.get_mut(&owner).filter(|surplus| **surplus > 0) {
                *surplus -= 1;
                self.expired.push(flow);
            }
        }
    }

    /// Perhaps only because pairs came and went meanwhile.
    fn has_half_pairs(&self) -> bool {
        self.originals != self.replies
    }
}

impl Look<'_> {
    /// Goes through a table: once, and a second time for single entries in it. Nearly all are told by themselves, since whatever was used
    /// just now is alive, so that a full table takes a few hundred calls.
    fn through<A>(
        &self,
        table: &HashMap<MapData, FlowKey<A>, Flow<A>>,
        raw: BorrowedFd<'_>,
    ) -> Result<Found<A>, DataplaneError>
    where
        A: Address,
        FlowKey<A>: aya::Pod,
        Flow<A>: aya::Pod,
    {
        let Self { generations, surplus, timeouts, mapped, now, .. } = *self;
        let mut found = Found { originals: 0, replies: 0, expired: Vec::new(), over: Vec::new() };
        // A mapping lives as long as its socket's flows: when each port was last used, and the mappings, which are judged at the end.
        let (mut ports, mut mappings) = (Table::<(AnyAddress, Be16), u32>::new(), Vec::new());
        let visit = |key: FlowKey<A>, flow: Flow<A>| {
            let used = now.saturating_sub(flow.last_used) <= timeouts.shortest(key.protocol);
            // What was used within this second may be used again, and its time would not tell.
            let may_go = flow.is_original() && flow.last_used < now && surplus.contains_key(&{ flow.owner });
            let alone = !self.closely && !mapped && !may_go && used && generations.has(&flow);
            *(if flow.is_original() { &mut found.originals } else { &mut found.replies }) += 1;
            if alone {
                return;
            }
            let sibling_key = flow.sibling(key.protocol);
            let sibling = table.get(&sibling_key, 0).ok();
            if !flow.is_original() {
                // Told by its original, unless that is missing: half a pair, which a program is making or a crash has left.
                if sibling.is_none() && now.saturating_sub(flow.created) > HALF_PAIR_GRACE {
                    found.expired.push(Expired {
                        key: sibling_key,
                        reply: key,
                        last_used: 0,
                        reply_last_used: flow.last_used,
                    });
                }
                return;
            }
            let reply_last_used = sibling.map_or(0, |reply| reply.last_used);
            let seen = sibling.map_or(tcp::Flags::default(), |reply| reply.seen);
            let answered = sibling.is_some_and(|reply| reply.packets > 0);
            let allowed = timeouts.of(key.protocol, flow.seen, seen, answered);
            let last_used = flow.last_used.max(reply_last_used);
            if mapped && key.protocol == Protocol::UDP && !key.zone.is_of_mappings() {
                // Of a flow to the outside it is the source after translation, of one from there what was asked for.
                let (before, after) = (key.tuple, flow.after);
                for port in [(after.source, after.source_port), (before.destination, before.destination_port)] {
                    let port_used = ports.entry((port.0.any(), port.1)).or_default();
                    *port_used = last_used.max(*port_used);
                }
            }
            if key.zone.is_of_mappings() && sibling.is_some() && generations.has(&flow) {
                mappings.push((key, flow, reply_last_used));
                return;
            }
            let idle = now.saturating_sub(last_used);
            let pair = Expired { key, reply: sibling_key, last_used: flow.last_used, reply_last_used };
            if sibling.is_none() || !generations.has(&flow) || idle > allowed {
                found.expired.push(pair);
            } else if may_go && idle > 0 && sibling.is_some_and(|reply| is_over(&key, &flow, &reply)) {
                found.over.push((flow.owner, pair));
            }
        };
        sys::for_each_entry(raw, visit)
            .map_err(|source| DataplaneError::Host { what: "a flow table cannot be read".into(), source })?;
        for (key, flow, reply_last_used) in mappings {
            let after = flow.after;
            let port_used = ports.get(&(after.source.any(), after.source_port)).copied().unwrap_or(0);
            if now.saturating_sub(flow.last_used.max(port_used)) > timeouts.udp_answered {
                let reply = flow.sibling(key.protocol);
                found.expired.push(Expired { key, reply, last_used: flow.last_used, reply_last_used });
            }
        }
        Ok(found)
    }
}

/// Seconds that half a pair may stand alone.
const HALF_PAIR_GRACE: u32 = 2;

/// The clock of `bpf_ktime_get_coarse_ns`, CLOCK_MONOTONIC, in seconds.
fn seconds_since_boot() -> u32 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec() as u32)
}
