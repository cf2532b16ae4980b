//! The output of a container in the background, line by line, in two files of bounded size.
//!
//! The shim writes `log` in the container's directory and, when that is full, makes it `log.1`: the last [`LIMIT`] bytes are always
//! there, and never more than twice as many. A line is one of the Container Runtime Interface's log format, which Kubernetes
//! uses: `2026-11-21T15:04:05.000000006Z stdout F text`, with `P` in the place of `F` where the line goes on in the next one. Who
//! may read it and how it is shown is not decided here.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::error::{Context, Result};

/// Bytes after which a file is full.
pub(super) const LIMIT: u64 = 5 << 20;

/// Bytes of a line that are kept together.
const LINE: usize = 16 << 10;

/// Where a command wrote something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both, in the order of their descriptors.
    pub const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// A line, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// When it was written; unknown of what the shim itself had to say.
    pub at: Option<Timestamp>,
    /// Where it was written.
    pub stream: Stream,
    /// What was written, with the newline if the line ends here.
    pub text: Vec<u8>,
}

/// The shim's side.
#[derive(Debug)]
pub(super) struct LogWriter {
    path: PathBuf,
    limit: u64,
    file: File,
    size: u64,
    /// The beginnings of lines, by stream.
    begun: [Vec<u8>; 2],
}

impl LogWriter {
    /// Goes on with the log in `directory`.
    pub(super) fn open(directory: &Path, limit: u64) -> Result<Self> {
        let path = directory.join("log");
        let action = || format!("open {}", path.display());
        let file = append(&path).to(action)?;
        let size = file.metadata().to(action)?.len();
        Ok(Self { path, limit, file, size, begun: Default::default() })
    }

    /// Takes what was read from a stream. What cannot be written, as on a full disk, is lost: the command must not wait for that.
    pub(super) fn take(&mut self, stream: Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let begun = &mut self.begun[stream as usize];
            let room = LINE - begun.len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let (part, rest) = bytes.split_at(end.unwrap_or(room.min(bytes.len())));
            begun.extend_from_slice(part);
            bytes = rest;
            if end.is_some() {
                bytes = &bytes[1..];
                self.put(stream, 'F');
            } else if self.begun[stream as usize].len() == LINE {
                self.put(stream, 'P');
            }
        }
    }

    /// Writes down the lines that will not be ended any more.
    pub(super) fn finish(&mut self) {
        for stream in Stream::BOTH {
            if !self.begun[stream as usize].is_empty() {
                self.put(stream, 'P');
            }
        }
    }

    fn put(&mut self, stream: Stream, tag: char) {
        let mut record = format!("{:.9} {} {tag} ", Timestamp::now(), stream.name()).into_bytes();
        record.append(&mut self.begun[stream as usize]);
        record.push(b'\n');
        let length = record.len() as u64;
        if self.size > 0 && self.size + length > self.limit {
            self.rotate();
        }
        if self.file.write_all(&record).is_ok() {
            self.size += length;
        }
    }

    /// Begins a new file. Where that fails the old one grows: better than to lose what is said.
    fn rotate(&mut self) {
        if fs::rename(&self.path, older(&self.path)).is_ok()
            && let Ok(file) = append(&self.path)
        {
            self.file = file;
            self.size = 0;
        }
    }
}

/// Reads a container's log from its beginning, and goes on when there is more.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// The file that is read, and those that come after it.
    files: VecDeque<File>,
    rest: Vec<u8>,
}

impl LogReader {
    /// Of the container in `directory`; one that has said nothing has an empty log.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("log");
        // In this order, a file that is renamed in between is seen twice, not never.
        let (new, old) = (open(&path)?, open(&older(&path))?);
        let mut files = VecDeque::new();
        files.extend(old.filter(|old| new.as_ref().is_none_or(|new| !same(old, new))));
        files.extend(new);
        Ok(Self { path, files, rest: Vec::new() })
    }

    /// Some more records; none if there are no more yet.
    pub fn more(&mut self) -> Result<Vec<LogRecord>> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let Some(file) = self.files.front_mut() else {
                self.files.extend(open(&self.path)?);
                if self.files.is_empty() {
                    return Ok(Vec::new());
                }
                continue;
            };
            let count = file.read(&mut buffer).to(|| format!("read {}", self.path.display()))?;
            if count > 0 {
                self.rest.extend_from_slice(&buffer[..count]);
                let records = self.cut();
                if records.is_empty() {
                    continue;
                }
                return Ok(records);
            }
            // The end of this file; its successor, if there is one, comes when nothing was added meanwhile.
            if self.files.len() > 1 {
                self.files.pop_front();
                continue;
            }
            let successor = open(&self.path)?.filter(|new| self.files.front().is_some_and(|old| !same(old, new)));
            match successor {
                Some(new) => self.files.push_back(new),
                None => return Ok(Vec::new()),
            }
        }
    }

    /// The whole lines of what was read.
    fn cut(&mut self) -> Vec<LogRecord> {
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        lines.split_inclusive(|byte| *byte == b'\n').map(parse).collect()
    }
}

/// One line of the file. One of another form is something that the shim itself has said.
fn parse(line: &[u8]) -> LogRecord {
    let fields: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
    let read = || {
        let [at, stream, tag, text] = fields.as_slice() else { return None };
        let at: Timestamp = std::str::from_utf8(at).ok()?.parse().ok()?;
        let stream = Stream::BOTH.into_iter().find(|known| known.name().as_bytes() == *stream)?;
        let text = if *tag == b"P" { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        Some(LogRecord { at: Some(at), stream, text: text.to_vec() })
    };
    read().unwrap_or_else(|| LogRecord { at: None, stream: Stream::Stderr, text: line.to_vec() })
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("1")
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some).to(|| format!("open {}", path.display())),
    }
}

fn same(a: &File, b: &File) -> bool {
    let inode = |file: &File| file.metadata().map(|metadata| metadata.ino()).ok();
    inode(a) == inode(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut LogReader) -> Vec<(Stream, String)> {
        let mut found = Vec::new();
        loop {
            let records = reader.more().unwrap();
            if records.is_empty() {
                return found;
            }
            found.extend(records.into_iter().map(|record| (record.stream, String::from_utf8(record.text).unwrap())));
        }
    }

    #[test]
    fn lines_come_back_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut reader = LogReader::open(directory.path()).unwrap();
        assert_eq!(all(&mut reader), []);
        let mut writer = LogWriter::open(directory.path(), LIMIT).unwrap();
        writer.take(Stream::Stdout, b"one\ntw");
        writer.take(Stream::Stderr, b"oh\n\n");
        writer.take(Stream::Stdout, b"o\nwithout an end");
        writer.finish();
        let long = "x".repeat(LINE + 5);
        writer.take(Stream::Stdout, format!("{long}\n").as_bytes());
        let texts = [
            (Stream::Stdout, "one\n".to_owned()),
            (Stream::Stderr, "oh\n".into()),
            (Stream::Stderr, "\n".into()),
            (Stream::Stdout, "two\n".into()),
            (Stream::Stdout, "without an end".into()),
            (Stream::Stdout, "x".repeat(LINE)),
            (Stream::Stdout, "xxxxx\n".into()),
        ];
        assert_eq!(all(&mut reader), texts);
        // A new shim goes on where the old one stopped, and so does the reader.
        LogWriter::open(directory.path(), LIMIT).unwrap().take(Stream::Stdout, b"again\n");
        assert_eq!(all(&mut reader), [(Stream::Stdout, "again\n".to_owned())]);
        assert_eq!(all(&mut LogReader::open(directory.path()).unwrap()).len(), texts.len() + 1);
    }

    #[test]
    fn a_log_is_bounded_and_its_end_is_never_lost() {
        let directory = tempfile::tempdir().unwrap();
        let mut follower = LogReader::open(directory.path()).unwrap();
        let mut writer = LogWriter::open(directory.path(), 1000).unwrap();
        let mut followed = 0;
        for number in 0..200 {
            writer.take(Stream::Stdout, format!("line {number}\n").as_bytes());
            followed += all(&mut follower).len();
        }
        assert_eq!(followed, 200);
        let sizes = ["log", "log.1"].map(|name| fs::metadata(directory.path().join(name)).unwrap().len());
        assert!(sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
        let kept = all(&mut LogReader::open(directory.path()).unwrap());
        assert_eq!(kept.last().unwrap().1, "line 199\n");
        assert!(kept.len() >= 1000 / 60, "{}", kept.len());
    }

    #[test]
    fn what_the_shim_says_is_shown_too() {
        let record = parse(b"thread 'main' panicked\n");
        assert_eq!(
            (record.at, record.stream, record.text.as_slice()),
            (None, Stream::Stderr, &b"thread 'main' panicked\n"[..])
        );
    }
}
