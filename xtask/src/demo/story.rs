//! How the demo tells: titles, commands with their output, check marks. Colours are for terminals only.

use std::io::{IsTerminal, stdout};
use std::process::Command;

use spandrel_tests::{Machine, Output};

const BOLD: &str = "1";
const GREEN: &str = "1;32";
const RED: &str = "1;31";
const GREY: &str = "2";

/// What has been told so far.
pub(super) struct Story {
    /// The search path of everything that is run.
    path: String,
    colours: bool,
    good: usize,
    all: usize,
}

impl Story {
    /// A story whose commands are looked for in `programs` first.
    pub(super) fn new(programs: &str) -> Self {
        let system = std::env::var("PATH").unwrap_or_default();
        let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { path: format!("{programs}:{system}"), colours, good: 0, all: 0 }
    }

    /// Says a sentence.
    pub(super) fn tell(&self, sentence: &str) {
        println!("{sentence}");
    }

    /// Begins a step.
    pub(super) fn title(&self, title: &str) {
        println!("\n{}", self.painted(BOLD, title));
    }

    /// A command line for a machine.
    pub(super) fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env("PATH", &self.path).env_remove("SPANDREL_SOCKET");
        command
    }

    /// Types a command line on a machine and shows what it prints.
    pub(super) fn run(&self, machine: &Machine, line: &str) -> Output {
        let output = self.typed(machine, line);
        self.show(output.stdout.lines().chain(output.stderr.lines()));
        output
    }

    /// The same for a command that prints much: only lines that hold one of `words` are shown.
    pub(super) fn run_in_part(&self, machine: &Machine, line: &str, words: &[&str]) {
        let output = self.typed(machine, line);
        let telling = |line: &&str| words.iter().any(|word| line.contains(word));
        let left_out = output.stdout.lines().filter(|line| !telling(line)).count();
        self.show(output.stdout.lines().filter(telling).chain(output.stderr.lines()));
        self.show([format!("(and {left_out} more lines)").as_str()].into_iter());
    }

    /// Says what the reader should have seen, and whether it was so.
    pub(super) fn check(&mut self, what: &str, as_told: bool) {
        self.all += 1;
        self.good += usize::from(as_told);
        match as_told {
            true => println!("  {} {what}", self.painted(GREEN, "✓")),
            false => println!("  {} {what}: {}", self.painted(RED, "✗"), self.painted(RED, "it is not so")),
        }
    }

    /// How many checks were good, of how many.
    pub(super) fn score(&self) -> (usize, usize) {
        (self.good, self.all)
    }

    fn typed(&self, machine: &Machine, line: &str) -> Output {
        println!("{}", self.painted(BOLD, &format!("{}# {line}", machine.name())));
        machine.output(self.command(line))
    }

    fn show<'l>(&self, lines: impl Iterator<Item = &'l str>) {
        for line in lines {
            println!("    {}", self.painted(GREY, line));
        }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}
