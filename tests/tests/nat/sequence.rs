//! What is played on both paths: packets that are sent, and what then has to arrive.

use std::time::Duration;

use spandrel_tests::Family;

use crate::packet::Packet;

/// A sequence of packets, for one family or both.
#[derive(Clone)]
pub struct Sequence {
    /// What it shows.
    pub name: String,
    /// The families that it is played with.
    pub families: Vec<Family>,
    /// What is done, and what must come of it.
    pub steps: Vec<Step>,
}

/// A step of a sequence.
#[derive(Clone)]
pub enum Step {
    /// A packet is sent from where its source is.
    Send(Packet),
    /// The next packet that arrives where the destination of this one is must be this one.
    Arrives(Packet),
    /// The next packets that arrive there must be fragments that make up this one.
    ArrivesInPieces(Packet),
    /// Nothing else may arrive anywhere.
    Silence,
    /// Whatever has arrived is of no interest.
    Ignore,
    /// Time passes.
    Wait(Duration),
    /// The kernel does this, Spandrel does that, for a reason.
    Differs(Difference, Vec<Step>, Vec<Step>),
}

/// A known difference between the kernel's NAT and ours, as `docs/nat.md` lists it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Difference {
    /// What happens.
    pub what: &'static str,
    /// What the kernel makes of it.
    pub kernel: &'static str,
    /// What Spandrel makes of it.
    pub spandrel: &'static str,
    /// Why.
    pub reason: &'static str,
}

impl Sequence {
    /// An empty one, to be played with both families.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), families: Family::BOTH.to_vec(), steps: Vec::new() }
    }

    /// Only for this family.
    #[must_use]
    pub fn only(mut self, family: Family) -> Self {
        self.families = vec![family];
        self
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The packet is sent.
    #[must_use]
    pub fn sends(self, packet: &Packet) -> Self {
        self.then(Step::Send(packet.clone()))
    }

    /// The packet arrives, and nothing before it.
    #[must_use]
    pub fn arrives(self, packet: &Packet) -> Self {
        self.then(Step::Arrives(packet.clone()))
    }

    /// The packet arrives, in fragments of whatever size and order.
    #[must_use]
    pub fn arrives_in_pieces(self, packet: &Packet) -> Self {
        self.then(Step::ArrivesInPieces(packet.clone()))
    }

    /// Nothing arrives, nowhere.
    #[must_use]
    pub fn nothing_arrives(self) -> Self {
        self.then(Step::Silence)
    }

    /// What has arrived so far and was not waited for is of no interest.
    #[must_use]
    pub fn ignores_arrivals(self) -> Self {
        self.then(Step::Ignore)
    }

    /// Time passes.
    #[must_use]
    pub fn waits(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    /// Here the paths differ.
    #[must_use]
    pub fn differs(
        self,
        difference: Difference,
        kernel: impl FnOnce(Sequence) -> Sequence,
        spandrel: impl FnOnce(Sequence) -> Sequence,
    ) -> Self {
        let (kernel, spandrel) = (kernel(Self::new("")).steps, spandrel(Self::new("")).steps);
        self.then(Step::Differs(difference, kernel, spandrel))
    }

    /// What `steps` does to it: for steps that several sequences share.
    #[must_use]
    pub fn with(self, steps: impl FnOnce(Sequence) -> Sequence) -> Self {
        steps(self)
    }

    /// The differences that it declares.
    pub fn differences(&self) -> Vec<Difference> {
        let declared = self.steps.iter().filter_map(|step| match step {
            Step::Differs(difference, ..) => Some(*difference),
            _ => None,
        });
        declared.collect()
    }
}
