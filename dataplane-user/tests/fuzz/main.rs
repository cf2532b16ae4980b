//! Feeds arbitrary frames to the programs on interfaces and checks what must hold whatever they are fed. Needs root.
//!
//! `cargo xtask fuzz` runs this for as long as one likes; among the tests it runs a fixed number of sequences. A sequence is a
//! list of [`steps::Step`]s: packets out of nothing, answers to packets that were let through, complaints about them, pieces of
//! them, each perhaps altered, and now and then the agent's hand. Every packet is run by the real program through
//! BPF_PROG_TEST_RUN in the world of [`plan`], what the stack would do next included, and judged by the [`oracle`].
//!
//! Sequences are made and shrunk by proptest. There is nothing to be gained from an engine that is led by coverage: it cannot
//! see which instructions of a program in the kernel were run. A seed is a number; sequence K of a run from seed S is the
//! first of a run from seed S + K.

mod answers;
mod flows;
mod integrity;
mod kernel;
mod neighbors;
mod oracle;
mod packet;
mod plan;
mod play;
mod recipe;
mod steps;
mod tables;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::time::{Duration, Instant};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use kernel::KernelLog;
use play::Tally;
use world::World;

/// Steps of a sequence.
const LENGTH: usize = 40;

/// Sequences among the tests.
const SEQUENCES: u64 = 1000;

/// Where they begin.
const SEED: u64 = 1;

/// How long it runs.
enum Span {
    Sequences(u64),
    Until(Instant),
}

/// `SPANDREL_FUZZ_SECONDS` and `SPANDREL_FUZZ_SEED` say for how long, and from where.
#[test]
fn arbitrary_frames_break_no_rule() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("SPANDREL_FUZZ_SEED").unwrap_or(SEED);
    let span = match number("SPANDREL_FUZZ_SECONDS") {
        Some(seconds) => Span::Until(Instant::now() + Duration::from_secs(seconds)),
        None => Span::Sequences(SEQUENCES),
    };
    let mut log = KernelLog::open().expect("root reads /dev/kmsg");
    let world = RefCell::new(World::build());
    let mut report = Report::default();
    let start = Instant::now();
    for number in 0.. {
        let over = match span {
            Span::Sequences(sequences) => number >= sequences,
            Span::Until(end) => Instant::now() >= end,
        };
        if over {
            break;
        }
        report.sequence(&world, seed.wrapping_add(number));
    }
    let Report { sequences, total: Tally { runs, passed, flows }, broken } = report;
    println!(
        "{sequences} sequences from seed {seed} in {:.0?}: {runs} packets, {passed} let through, {flows} flows at the end",
        start.elapsed()
    );
    let complaints = log.complaints().unwrap();
    assert!(complaints.is_empty(), "the kernel complains: {complaints:#?}");
    let stories: Vec<_> = broken.into_values().map(|(times, story)| format!("{times} times\n{story}")).collect();
    assert!(stories.is_empty(), "{} rules were broken\n\n{}", stories.len(), stories.join("\n"));
}

/// What was found so far.
#[derive(Default)]
struct Report {
    sequences: u64,
    total: Tally,
    /// By the rule that was broken: how often, and the shortest story of the first time.
    broken: BTreeMap<String, (u64, String)>,
}

impl Report {
    /// Makes up and plays one sequence. The first that breaks a rule is shrunk to the steps that break it.
    fn sequence(&mut self, world: &RefCell<World>, seed: u64) {
        let bytes = [mixed(seed).to_le_bytes(), mixed(!seed).to_le_bytes()].concat();
        let rng = TestRng::from_seed(RngAlgorithm::XorShift, &bytes);
        let config = Config { failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, rng);
        let tree = steps::sequences(LENGTH).new_tree(&mut runner).expect("no strategy rejects anything");
        self.sequences += 1;
        let rule = match play::play(&mut world.borrow_mut(), &mut play::numbered(&tree.current())) {
            Ok(tally) => return self.total += tally,
            Err(rule) => rule,
        };
        if let Some((times, _)) = self.broken.get_mut(&rule) {
            *times += 1;
            return;
        }
        let outcome =
            runner.run_one(tree, |steps| match play::play(&mut world.borrow_mut(), &mut play::numbered(&steps)) {
                Err(broken) if broken == rule => Err(TestCaseError::fail(broken)),
                _ => Ok(()),
            });
        let story = match outcome {
            Err(TestError::Fail(_, steps)) => {
                let mut world = world.borrow_mut();
                let mut steps = play::shorten(&mut world, play::numbered(&steps), &rule);
                play::tell(&mut world, &mut steps)
            }
            _ => "it does not happen again".into(),
        };
        self.broken.insert(rule.clone(), (1, format!("seed {seed}: {rule}\n{story}")));
    }
}

/// The generator's state must differ in all its bits where seeds differ in one (SplitMix64, Steele et al., 2014).
fn mixed(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ seed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ seed >> 31
}
