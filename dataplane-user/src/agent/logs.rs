//! What containers in the background have said, for those who ask.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;

use super::handle::ExitWatch;
use crate::kernel::log::{LogReader, LogRecord, Stream as Source};
use crate::model::Result;

/// How often a log that is followed is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// What somebody wants to see of a log.
#[derive(Debug, Clone, Default)]
pub struct LogWish {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// What was said from then on.
    pub since: Option<Timestamp>,
    /// What was said until then.
    pub until: Option<Timestamp>,
    /// So many of the last lines.
    pub tail: Option<usize>,
    /// What comes, too, until the container ends.
    pub follow: bool,
}

impl LogWish {
    fn accepts(&self, record: &LogRecord) -> bool {
        let wanted = match record.stream {
            Source::Stdout => self.stdout,
            Source::Stderr => self.stderr,
        };
        wanted
            && self.since.is_none_or(|since| record.at.is_none_or(|at| at >= since))
            && self.until.is_none_or(|until| record.at.is_none_or(|at| at <= until))
    }
}

/// The records, and with `exit` those that come until it tells.
pub(super) fn stream(
    mut reader: LogReader,
    wish: LogWish,
    exit: Option<ExitWatch>,
) -> Result<impl Stream<Item = Result<LogRecord>> + use<>> {
    let mut known = VecDeque::new();
    loop {
        let records = reader.more()?;
        if records.is_empty() {
            break;
        }
        for record in records.into_iter().filter(|record| wish.accepts(record)) {
            known.push_back(record);
            if wish.tail.is_some_and(|tail| known.len() > tail) {
                known.pop_front();
            }
        }
    }
    let known = stream::iter(known.into_iter().map(Ok));
    let Some(exit) = exit else { return Ok(known.left_stream()) };
    let later = stream::try_unfold((reader, Some(exit)), |(mut reader, mut exit)| async move {
        loop {
            // Whether it had ended must be known before looking: what it says last is said before.
            let ended = match &exit {
                Some(running) => tokio::time::timeout(PERIOD, running.wait()).await.is_ok(),
                None => true,
            };
            let records = reader.more()?;
            if !records.is_empty() {
                return Ok(Some((records, (reader, exit))));
            }
            if ended && exit.take().is_none() {
                return Ok(None);
            }
        }
    });
    let later = later.flat_map(|records| match records {
        Ok(records) => stream::iter(records.into_iter().map(Ok).collect::<Vec<_>>()),
        Err(error) => stream::iter(vec![Err(error)]),
    });
    let later = later.filter(move |record| {
        let accepted = record.as_ref().map_or(true, |record| wish.accepts(record));
        async move { accepted }
    });
    Ok(known.chain(later).right_stream())
}
