//! Plays a sequence: makes the frames, runs the programs, asks the oracle, and keeps what happened for later steps to refer to.

use std::fmt::Write as _;
use std::ops::AddAssign;

use crate::answers;
use crate::kernel::{Context, Ran};
use crate::oracle::{Arrived, Came, Hook, NEXT, Oracle, SHOT};
use crate::packet::{self, Ip, Kind, mend};
use crate::plan::{CONTAINERS, NETWORKS, UPLINKS, is_group, is_local, network_of};
use crate::steps::{Alteration, Change, Earlier, Step};
use crate::tables;
use crate::world::World;

/// The longest frame that is sent.
const LONGEST: usize = 3000;

/// A packet that a program let through.
pub(crate) struct Passed {
    pub(crate) hook: Hook,
    pub(crate) frame: Vec<u8>,
    pub(crate) out: Vec<u8>,
    pub(crate) arrived: Arrived,
    /// The step that it came of.
    step: usize,
}

/// What a run of a sequence comes to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    /// How often a program was run.
    pub(crate) runs: u64,
    /// How often it let the packet through.
    pub(crate) passed: u64,
    /// How many flows there were at the end.
    pub(crate) flows: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.passed += other.passed;
        self.flows += other.flows;
    }
}

/// One run of a sequence.
struct Play<'a> {
    world: &'a mut World,
    oracle: Oracle,
    passed: Vec<Passed>,
    /// The step at hand.
    step: usize,
    tally: Tally,
    /// What happened, if somebody wants to know.
    story: Option<String>,
}

/// A step with its number.
pub(crate) type Numbered = (usize, Step);

/// Numbers the steps of a sequence.
pub(crate) fn numbered(steps: &[Step]) -> Vec<Numbered> {
    steps.iter().cloned().enumerate().collect()
}

/// Plays a sequence in a world without flows. Earlier packets that it chooses are the same ones ever after.
///
/// # Errors
///
/// The rule that was broken.
pub(crate) fn play(world: &mut World, steps: &mut [Numbered]) -> Result<Tally, String> {
    let mut play = Play::new(world, None);
    play.all(steps)?;
    Ok(play.tally)
}

/// Leaves out every step without which the same rule is broken.
pub(crate) fn shorten(world: &mut World, mut steps: Vec<Numbered>, rule: &str) -> Vec<Numbered> {
    let mut breaks = |steps: &mut Vec<Numbered>| play(world, steps).is_err_and(|broken| broken == rule);
    if !breaks(&mut steps) {
        return steps;
    }
    for at in (0..steps.len()).rev() {
        let mut shorter = steps.clone();
        shorter.remove(at);
        if breaks(&mut shorter) {
            steps = shorter;
        }
    }
    steps
}

/// Plays a sequence once more and tells what happened: step by step, frame by frame.
pub(crate) fn tell(world: &mut World, steps: &mut [Numbered]) -> String {
    let mut play = Play::new(world, Some(String::new()));
    let end = play.all(steps).err().unwrap_or_else(|| "nothing is broken this time".into());
    format!("{}broken: {end}\n", play.story.unwrap_or_default())
}

impl<'a> Play<'a> {
    fn new(world: &'a mut World, story: Option<String>) -> Self {
        Self { world, oracle: Oracle::default(), passed: Vec::new(), step: 0, tally: Tally::default(), story }
    }

    fn all(&mut self, steps: &mut [Numbered]) -> Result<(), String> {
        self.world.reset();
        for (number, step) in steps {
            self.note(|| format!("{number}: {step:?}"));
            self.step = *number;
            self.step(step)?;
        }
        self.tally.flows = tables::check(self.world)?;
        Ok(())
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let _ = writeln!(story, "{}", line());
        }
    }

    fn step(&mut self, step: &mut Step) -> Result<(), String> {
        match step {
            Step::Send(hook, recipe, change) => self.send(*hook, answers::out_of_nothing(*hook, recipe), change),
            Step::Raw(hook, ethertype, bytes) => {
                self.send(*hook, answers::raw(*hook, *ethertype, bytes), &mut Change::default())
            }
            Step::Answer(to, flags, payload, ttl, change) => {
                let answer = self.earlier(to).and_then(|passed| answers::answer(passed, *flags, *payload, *ttl));
                answer.map_or(Ok(()), |(hook, frame)| self.send(hook, frame, change))
            }
            Step::Again(of, flags, change) => {
                let Some(Passed { hook, frame, .. }) = self.earlier(of) else { return Ok(()) };
                let (hook, mut frame) = (*hook, frame.clone());
                if let (Some(flags), Some(Ip { kind: Kind::Tcp(_), transport, .. })) = (flags, packet::ip(&frame)) {
                    frame[transport + 13] = *flags;
                    mend(&mut frame);
                }
                self.send(hook, frame, change)
            }
            Step::Complain(about, by, what, quoted, change) => {
                let complaint = self.earlier(about);
                let complaint = complaint.and_then(|passed| answers::complaint(passed, *by, *what, (*quoted).into()));
                complaint.map_or(Ok(()), |(hook, frame)| self.send(hook, frame, change))
            }
            Step::Cut(of, first, second, reversed) => {
                let Some(Passed { hook, frame, .. }) = self.earlier(of) else { return Ok(()) };
                let (hook, mut pieces) = (*hook, answers::pieces(frame, [*first, *second].map(usize::from)));
                if *reversed {
                    pieces.reverse();
                }
                pieces.into_iter().try_for_each(|piece| self.send(hook, piece, &mut Change::default()))
            }
            Step::Restart(number) => {
                self.world.restart(CONTAINERS[*number]);
                self.oracle.forget(CONTAINERS[*number].slot);
                Ok(())
            }
            Step::ChangeRoutes => {
                self.world.change_routes();
                Ok(())
            }
            Step::CollectGarbage => {
                self.world.collect_garbage();
                Ok(())
            }
        }
    }

    fn earlier(&self, earlier: &mut Earlier) -> Option<&Passed> {
        choose(&self.passed, earlier)
    }

    /// Changes a frame, sends it, and plays what the stack does with it next.
    fn send(&mut self, hook: Hook, mut frame: Vec<u8>, change: &mut Change) -> Result<(), String> {
        for alteration in &mut change.alterations {
            alter(&mut frame, alteration, &self.passed);
        }
        frame.truncate(LONGEST);
        if change.mend {
            mend(&mut frame);
        }
        let summed = change.summed && matches!(hook, Hook::FromUplink(_));
        let Some(ran) = self.run(hook, &frame, u32::from(change.gso_size), summed)? else { return Ok(()) };
        if ran.verdict == NEXT { self.stack_goes_on(hook, ran.frame) } else { Ok(()) }
    }

    /// Runs the program of a hook and has the outcome judged. `None`: the packet is dead, or was none.
    fn run(&mut self, hook: Hook, frame: &[u8], gso_size: u32, summed: bool) -> Result<Option<Ran>, String> {
        let (program, at, came) = self.place(hook);
        let context = Context { ifindex: at, ingress_ifindex: came, gso_size, summed };
        let failed = |error| format!("{program} cannot be run: {error}");
        let shielded = matches!(hook, Hook::FromUplink(_)) && self.world.shield_drops(frame, at).map_err(failed)?;
        let (ran, sum_is_lost) = match self.world.run(program, frame, context) {
            Err(error) if error.raw_os_error() == Some(libc::EBADMSG) => {
                let ran = self.world.run(program, frame, Context { summed: false, ..context }).map_err(failed)?;
                (ran, true)
            }
            other => (other.map_err(failed)?, false),
        };
        let Some(ran) = ran else {
            self.note(|| format!("  {program} takes no such frame"));
            return Ok(None);
        };
        self.tally.runs += 1;
        self.note(|| {
            let verdict = match ran.verdict {
                NEXT => "lets it go on",
                SHOT => "drops it",
                _ => "redirects it",
            };
            let after = if ran.frame == frame { "unchanged".into() } else { hex(&ran.frame) };
            format!("  {hook:?} gso {gso_size} summed {summed}\n    in  {}\n    out {after}\n    {verdict}", hex(frame))
        });
        if sum_is_lost && ran.verdict != SHOT {
            return Err("what a network card has summed up stays right".into());
        }
        if shielded && ran.verdict != SHOT {
            return Err("the shield drops only what would be dropped anyway".into());
        }
        let Some(arrived) = self.oracle.judge(hook, frame, &ran)? else { return Ok(None) };
        self.tally.passed += 1;
        self.passed.push(Passed { hook, frame: frame.to_vec(), out: ran.frame.clone(), arrived, step: self.step });
        Ok(Some(ran))
    }

    /// The program of a hook, the interface at which it runs, and the one through which the packet came.
    fn place(&self, hook: Hook) -> (&'static str, u32, u32) {
        let veth = |n: usize| self.world.index(&CONTAINERS[n].veth());
        let bridge = |n: usize| self.world.index(&NETWORKS[n].bridge());
        let uplink = |n: usize| self.world.index(UPLINKS[n].name);
        let through = |came| match came {
            Came::Host => 0,
            Came::Container(n) => veth(n),
            Came::Bridge(n) => bridge(n),
            Came::Uplink(n) => uplink(n),
        };
        match hook {
            Hook::FromContainer(n) => ("from_container", veth(n), veth(n)),
            Hook::ToContainer(n, came) => ("to_container", veth(n), through(came)),
            Hook::FromBridge(n) => ("from_bridge", bridge(n), bridge(n)),
            Hook::ToBridge(n, came) => ("to_bridge", bridge(n), through(came)),
            Hook::FromUplink(n) => ("from_uplink", uplink(n), uplink(n)),
            Hook::ToUplink(n, came) => ("to_uplink", uplink(n), through(came)),
        }
    }

    /// A program has left a packet to the stack: what it does not take for itself meets more programs on its way.
    fn stack_goes_on(&mut self, hook: Hook, out: Vec<u8>) -> Result<(), String> {
        let came = match hook {
            Hook::FromContainer(n) => {
                let network = NETWORKS.iter().position(|network| *network == CONTAINERS[n].network());
                let bridge = network.expect("every container is on a network");
                if !packet::is_for(&out, NETWORKS[bridge].bridge_mac()) {
                    return Ok(());
                }
                if self.run(Hook::FromBridge(bridge), &out, 0, false)?.is_none() {
                    return Ok(());
                }
                Came::Bridge(bridge)
            }
            Hook::FromUplink(n) => Came::Uplink(n),
            _ => return Ok(()),
        };
        let Some(ip) = packet::ip(&out) else { return Ok(()) };
        let destination = ip.tuple.destination.0;
        let for_all = packet::destination_mac(&out)[0] & 1 != 0 || is_group(destination) || destination.is_loopback();
        if ip.ttl <= 1 || for_all || is_local(destination) {
            return Ok(());
        }
        let mut routed = out;
        // The stack drops what has a wrong header, and corrects the sum for the time to live.
        if !ip.is_sound(&routed) {
            return Ok(());
        }
        ip.lower_ttl(&mut routed);
        match network_of(destination) {
            Some(network) => {
                routed[6..12].copy_from_slice(&network.bridge_mac());
                let bridge = NETWORKS.iter().position(|other| *other == network).expect("it is one of them");
                let receiver = CONTAINERS.iter().position(|other| other.ip(ip.is_v6()) == destination);
                if let Some(n) = receiver {
                    routed[..6].copy_from_slice(&CONTAINERS[n].mac());
                }
                if self.run(Hook::ToBridge(bridge, came), &routed, 0, false)?.is_some()
                    && let Some(n) = receiver
                {
                    self.run(Hook::ToContainer(n, came), &routed, 0, false)?;
                }
            }
            None => {
                let uplink = UPLINKS.iter().position(|uplink| uplink.leads_to(destination)).unwrap_or(0);
                self.run(Hook::ToUplink(uplink, came), &routed, 0, false)?;
            }
        }
        Ok(())
    }
}

/// Changes one thing.
fn alter(frame: &mut Vec<u8>, alteration: &mut Alteration, passed: &[Passed]) {
    /// An Ethernet header is always there.
    const LEAST: usize = packet::ETHERNET;
    match alteration {
        Alteration::Flip(at, bit) => {
            let at = at.index(frame.len());
            frame[at] ^= 1 << *bit;
        }
        Alteration::Word(at, word) => {
            let at = at.index(frame.len() / 2) * 2;
            frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
        }
        Alteration::Cut(at) => frame.truncate(at.index(frame.len()).max(LEAST)),
        Alteration::Pad(bytes) => frame.resize(frame.len() + usize::from(*bytes), 0xa5),
        Alteration::Splice(at, of, length) => {
            let Some(Passed { out: other, .. }) = choose(passed, of) else { return };
            let start = at.index(frame.len()).max(LEAST);
            let end = (start + usize::from(*length)).min(frame.len()).min(other.len());
            if start < end {
                frame[start..end].copy_from_slice(&other[start..end]);
            }
        }
    }
}

/// The earlier packet that is meant; which one it is is noted.
fn choose<'a>(passed: &'a [Passed], earlier: &mut Earlier) -> Option<&'a Passed> {
    if let Earlier::Any(index) = *earlier {
        let chosen = (!passed.is_empty()).then(|| index.index(passed.len()))?;
        let step = passed[chosen].step;
        *earlier = Earlier::Of(step, passed[..chosen].iter().filter(|other| other.step == step).count());
    }
    let Earlier::Of(step, number) = *earlier else { return None };
    passed.iter().filter(|passed| passed.step == step).nth(number)
}

fn hex(frame: &[u8]) -> String {
    frame.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
