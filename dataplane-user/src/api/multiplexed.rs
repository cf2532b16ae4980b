//! A container's log on the wire: Docker's multiplexed stream, in which each piece says whether it is output or an error.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};

use crate::agent::{LogRecord, LogStream};
use crate::model::Error;

/// Bytes before each piece: the stream's number, three zeros, the piece's length in network byte order.
pub(crate) const HEADER: usize = 8;

/// The stream's number in a header.
pub(crate) const STDERR: u8 = 2;

const STDOUT: u8 = 1;

/// The records as they come, each with its time in front if `times` are wanted.
pub(super) fn answer(records: impl Stream<Item = Result<LogRecord, Error>> + Send + 'static, times: bool) -> Response {
    let pieces = records.map(move |record| record.map(|record| piece(&record, times)));
    let kind = [(CONTENT_TYPE, "application/vnd.docker.multiplexed-stream")];
    (StatusCode::OK, kind, Body::from_stream(pieces)).into_response()
}

fn piece(record: &LogRecord, times: bool) -> Bytes {
    let time = record.at.filter(|_| times).map(|at| format!("{at:.9} ")).unwrap_or_default();
    let number = match record.stream {
        LogStream::Stdout => STDOUT,
        LogStream::Stderr => STDERR,
    };
    // A record is at most a few kilobytes long.
    let length = u32::try_from(time.len() + record.text.len()).unwrap_or(u32::MAX);
    let mut piece = vec![number, 0, 0, 0];
    piece.extend(length.to_be_bytes());
    piece.extend(time.into_bytes());
    piece.extend(&record.text);
    piece.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_says_what_it_is() {
        let at = Some("2026-01-02T03:04:05.6Z".parse().unwrap());
        let record = LogRecord { at, stream: LogStream::Stderr, text: b"oh\n".to_vec() };
        assert_eq!(&piece(&record, false)[..], b"\x02\0\0\0\0\0\0\x03oh\n");
        assert_eq!(&piece(&record, true)[HEADER..], b"2026-01-02T03:04:05.600000000Z oh\n");
    }
}
