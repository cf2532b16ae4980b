//! Programs that run on a machine: bounded in time, their output kept in memory, killed when dropped.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fail::OrFail;

/// How often a waiting loop looks.
const TICK: Duration = Duration::from_millis(5);

/// A running program.
pub struct Process {
    line: String,
    child: Child,
    output: File,
    errors: File,
}

/// What a program said and how it ended.
pub struct Output {
    line: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Process {
    /// Starts `command` by `spawn`, with no input and its output kept.
    pub(crate) fn start(
        line: &str,
        mut command: Command,
        spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
    ) -> io::Result<Self> {
        let (output, errors) = (memory_file()?, memory_file()?);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
        let child = spawn(&mut command)?;
        Ok(Self { line: line.into(), child, output, errors })
    }

    /// Its number, as this process sees it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        contents(&self.output)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        contents(&self.errors)
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).or_fail(format_args!("send {signal} to `{}`", self.line));
    }

    /// How it ended, if it has.
    #[track_caller]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().or_fail(format_args!("wait for `{}`", self.line))
    }

    /// Waits until it has ended; it is a failure if that takes longer than `limit`.
    #[track_caller]
    pub fn wait_within(&mut self, limit: Duration) -> ExitStatus {
        let ended = within(limit, || self.ended());
        match ended {
            Some(status) => status,
            None => panic!("`{}` has not ended within {limit:?}:\n{}", self.line, self.stderr()),
        }
    }

    /// Waits for its end and what it wrote.
    #[track_caller]
    pub fn output_within(mut self, limit: Duration) -> Output {
        let status = self.wait_within(limit);
        Output { line: self.line.clone(), code: status.code(), stdout: contents(&self.output), stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and one that cannot be waited for is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// Demands success and gives what was printed, without the white space around it.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == Some(0), "{self:?}");
        self.stdout.trim().to_owned()
    }

    /// Demands this exit code and one sentence on standard error, and nothing else, that holds all of `words`.
    #[track_caller]
    pub fn assert_sentence(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let sentence = self.stderr.trim_end();
        assert!(sentence.starts_with("spandrel: ") && !sentence.contains('\n'), "not one sentence: {self:?}");
        for word in words {
            assert!(sentence.contains(word), "{word:?} is missing: {self:?}");
        }
        assert_eq!(self.stdout, "", "{self:?}");
    }

    /// Demands success and reads what was printed as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        let shown = format!("{self:?}");
        serde_json::from_str(&self.ok()).or_fail(format_args!("read as JSON what {shown}"))
    }

    /// Demands success and reads what was printed as one JSON object a line.
    #[track_caller]
    pub fn json_lines(self) -> Vec<Value> {
        let shown = format!("{self:?}");
        let objects: Result<_, _> = self.ok().lines().map(serde_json::from_str).collect();
        objects.or_fail(format_args!("read as JSON what {shown}"))
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.code.map_or("was killed".to_owned(), |code| format!("exited with {code}"));
        write!(f, "`{}` {ended}", self.line)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "\n{name}: {}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

/// Asks until there is an answer or the time is up.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        // Time is read before asking, so that a slow last question still counts.
        let late = Instant::now() >= end;
        match ask() {
            None if !late => std::thread::sleep(TICK),
            answer => return answer,
        }
    }
}

/// A command line: words separated by white space in one string, or a list where a word holds white space.
pub trait Words {
    /// The words.
    fn words(&self) -> Vec<String>;
}

impl Words for str {
    fn words(&self) -> Vec<String> {
        self.split_whitespace().map(String::from).collect()
    }
}

impl Words for String {
    fn words(&self) -> Vec<String> {
        self.as_str().words()
    }
}

impl<S: AsRef<str>> Words for [S] {
    fn words(&self) -> Vec<String> {
        self.iter().map(|word| word.as_ref().to_owned()).collect()
    }
}

impl<S: AsRef<str>, const N: usize> Words for [S; N] {
    fn words(&self) -> Vec<String> {
        self.as_slice().words()
    }
}

fn memory_file() -> io::Result<File> {
    let name = CString::from(c"output");
    Ok(memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC)?.into())
}

/// Everything in a file, without moving the position at which the program writes on.
fn contents(file: &File) -> String {
    struct At<'f>(&'f File, u64);
    impl Read for At<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.read_at(buffer, self.1)?;
            self.1 += length as u64;
            Ok(length)
        }
    }
    let mut bytes = Vec::new();
    At(file, 0).read_to_end(&mut bytes).expect("memory can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
