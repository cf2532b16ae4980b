//! Plays sequences on a path and tells what went otherwise.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use spandrel_tests::{Family, PATIENCE, SILENCE};

use crate::packet::{A, C, Packet, Place, Scene, udp};
use crate::path::{Kind, Path, SMALL_MTU, UPLINK_MTU};
use crate::reassembly::{Reassembly, without_id};
use crate::sequence::{Sequence, Step};
use crate::shown::hex;

/// How many packets are told of when something goes wrong.
const STORY: usize = 40;

/// Builds a path and plays all sequences on it, each with its families. Fails with all that went otherwise.
pub fn play(kind: Kind, sequences: &[Sequence]) {
    play_on(&Path::new(kind), &Family::BOTH, sequences);
}

/// The same on a path whose flows end after a second, each family on its own, so that both wait at the same time.
pub fn play_impatiently(kind: Kind, sequences: &[Sequence]) {
    thread::scope(|scope| {
        for family in Family::BOTH {
            scope.spawn(move || play_on(&Path::impatient(kind), &[family], sequences));
        }
    });
}

/// Plays all sequences on a path with these families, and fails with all that went otherwise.
fn play_on(path: &Path, families: &[Family], sequences: &[Sequence]) {
    let mut failures = Vec::new();
    for (number, sequence) in sequences.iter().enumerate() {
        for family in families.iter().filter(|family| sequence.families.contains(family)) {
            let mut play = Play::new(path, number, *family);
            if let Err(failure) = play.run(&sequence.steps).and_then(|()| play.silence()) {
                failures.push(format!("{family:?}: {}\n{}  {failure}", sequence.name, play.story()));
                // What else comes of it is not the next one's.
                let _ = play.silence();
            }
        }
    }
    // What was late.
    thread::sleep(SILENCE);
    for family in Family::BOTH {
        let scene = path.scene(0, family);
        for arrival in path.taps().filter_map(|tap| tap.next(Duration::ZERO)) {
            failures.push(format!("at the end there arrived {}", scene.shown(&arrival.bytes)));
        }
    }
    assert!(
        failures.is_empty(),
        "{:?} does otherwise in {} of {}:\n\n{}",
        path.kind,
        failures.len(),
        sequences.len(),
        failures.join("\n")
    );
}

/// One play of a sequence.
struct Play<'p> {
    path: &'p Path,
    scene: Scene,
    /// What was sent and seen at last.
    log: VecDeque<(&'static str, Vec<u8>)>,
    /// What arrived while something else was waited for.
    strays: Vec<Vec<u8>>,
    /// The fragments that arrived.
    fragments: Reassembly,
    witnesses: u32,
}

impl<'p> Play<'p> {
    fn new(path: &'p Path, number: usize, family: Family) -> Self {
        Self {
            path,
            scene: path.scene(number, family),
            log: VecDeque::new(),
            strays: Vec::new(),
            fragments: Reassembly::default(),
            witnesses: 0,
        }
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            match step {
                Step::Send(packet) => {
                    let sent = self.path.tap(packet.source).send(packet, &self.scene);
                    self.note("sent", sent);
                }
                Step::Arrives(packet) => self.arrives(packet)?,
                Step::ArrivesInPieces(packet) => self.arrives_in_pieces(packet)?,
                Step::Silence => self.silence()?,
                Step::Ignore => drop(self.stragglers()?),
                Step::Wait(time) => thread::sleep(*time),
                Step::Differs(_, kernel, spandrel) => self.run(match self.path.kind {
                    Kind::Kernel => kernel,
                    Kind::Spandrel => spandrel,
                })?,
            }
        }
        Ok(())
    }

    fn note(&mut self, what: &'static str, packet: Vec<u8>) {
        self.log.push_back((what, packet));
        if self.log.len() > STORY {
            self.log.pop_front();
        }
    }

    /// What was sent and seen at last, a line each.
    fn story(&self) -> String {
        self.log.iter().map(|(what, packet)| format!("  {what:8} {}\n", self.scene.shown(packet))).collect()
    }

    /// Demands that the next packet at the destination's end is this one.
    fn arrives(&mut self, packet: &Packet) -> Result<(), String> {
        let arrival = self.path.tap(packet.destination).next(PATIENCE);
        let Some(arrival) = arrival else {
            let expected = self.scene.shown(&packet.bytes(&self.scene));
            return Err(format!("nothing arrived, expected {expected}"));
        };
        packet.learn(&arrival.bytes, &mut self.scene);
        self.note("arrived", arrival.bytes.clone());
        let expected = packet.bytes(&self.scene);
        let seen = packet.settled(&arrival.bytes, &expected, self.scene.family);
        let whole = arrival.segment_size == packet.segment_size;
        match arrival.complaint {
            Some(complaint) => Err(complaint),
            None if seen == expected && whole => Ok(()),
            None => {
                let at = seen.iter().zip(&expected).position(|(one, other)| one != other);
                let at = at.unwrap_or(seen.len().min(expected.len()));
                Err(format!(
                    "expected {}\n  from byte {at} on {} instead of {}; segments of {} and {}",
                    self.scene.shown(&expected),
                    hex(&seen[at..]),
                    hex(&expected[at..]),
                    arrival.segment_size,
                    packet.segment_size
                ))
            }
        }
    }

    /// Demands that the next datagram which is whole at the destination's end is this one, whatever its fragments.
    fn arrives_in_pieces(&mut self, packet: &Packet) -> Result<(), String> {
        let limit = if packet.destination == C { SMALL_MTU } else { UPLINK_MTU };
        let whole = loop {
            let Some(arrival) = self.path.tap(packet.destination).next(PATIENCE) else {
                let expected = self.scene.shown(&packet.bytes(&self.scene));
                return Err(format!("not all fragments arrived, expected {expected}"));
            };
            self.note("arrived", arrival.bytes.clone());
            if let Some(complaint) = arrival.complaint {
                return Err(complaint);
            }
            if arrival.bytes.len() > limit as usize {
                return Err(format!("a packet of {} bytes where {limit} are the limit", arrival.bytes.len()));
            }
            if let Some(whole) = self.fragments.add(self.scene.family, &arrival.bytes)? {
                break whole;
            }
        };
        packet.learn(&whole, &mut self.scene);
        let expected = without_id(self.scene.family, &packet.bytes(&self.scene));
        if whole == expected {
            return Ok(());
        }
        let at = whole.iter().zip(&expected).position(|(one, other)| one != other).unwrap_or_default();
        Err(format!(
            "expected {}\n  but whole is {}\n  from byte {at} on",
            self.scene.shown(&expected),
            self.scene.shown(&whole)
        ))
    }

    /// Demands that nothing has arrived but what was waited for.
    fn silence(&mut self) -> Result<(), String> {
        let strays: Vec<_> = self.stragglers()?.iter().map(|packet| self.scene.shown(packet)).collect();
        match self.fragments.incomplete() {
            _ if !strays.is_empty() => Err(format!("nothing should have arrived, but {}", strays.join("; "))),
            0 => Ok(()),
            count => Err(format!("{count} datagrams have not arrived whole")),
        }
    }

    /// All that has arrived and was not waited for. A witness goes out and back: it is the last in every queue, so what has
    /// not come before it does not come.
    fn stragglers(&mut self) -> Result<Vec<Vec<u8>>, String> {
        self.witnesses += 1;
        let text = format!("witness {}", self.witnesses);
        let question = udp(A, 20999, Place::Witness, 9, &text);
        self.path.tap(A).send(&question, &self.scene);
        self.await_witness(&question.from(Place::Public, 'w').hop())?;
        let answer = question.from(Place::Public, 'w').answer(&text);
        self.path.tap(Place::Witness).send(&answer, &self.scene);
        self.await_witness(&answer.to(A, 20999).hop())?;
        for tap in self.path.taps() {
            self.strays.extend(std::iter::from_fn(|| tap.next(Duration::ZERO)).map(|arrival| arrival.bytes));
        }
        Ok(std::mem::take(&mut self.strays))
    }

    fn await_witness(&mut self, witness: &Packet) -> Result<(), String> {
        let far = self.scene.address(Place::Witness);
        loop {
            let end = witness.destination;
            let Some(arrival) = self.path.tap(end).next(PATIENCE) else {
                return Err("not even the witness arrived".to_owned());
            };
            if self.scene.concerns(&arrival.bytes, far) {
                witness.learn(&arrival.bytes, &mut self.scene);
                if arrival.bytes == witness.bytes(&self.scene) {
                    return Ok(());
                }
            }
            self.strays.push(arrival.bytes);
        }
    }
}
