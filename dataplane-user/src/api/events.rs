//! The call that tells what happens: `GET /events`, an answer that goes on for as long as the client wants.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, future, stream};
use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;

use super::error::{Refusal, Refusals};
use super::extract::Query;
use super::filter::Filters;
use super::query::{Period, moment};
use super::types::event::{Actor, Event};
use crate::agent::{self, Handle, Subject};
use crate::model::Error;

/// Tell what happens
///
/// Filters: `container`, `event`, `label`, `network`, `scope`, `type`. The last 256 events are known.
#[utoipa::path(get, path = "/events", tag = "Agent", params(Period), responses((status = 200, description = "One event a line, for as long as was asked for.", body = Event, content_type = "application/x-ndjson"), Refusals))]
pub(super) async fn stream(State(agent): State<Handle>, Query(query): Query<Period>) -> Result<Response, Refusal> {
    let filters = Filters::parse(&query.filters, &Filters::EVENT)?;
    let (since, until) = (moment(&query.since)?, moment(&query.until)?);
    // Who asks for an end without a beginning means all that is known.
    let (past, news) = agent.events(since.or(until.map(|_| Timestamp::UNIX_EPOCH)));
    let in_time = move |event: &agent::Event| until.is_none_or(|until| event.time <= until);
    let end = async move {
        match until.map(|until| Duration::try_from(until.duration_since(Timestamp::now()))) {
            Some(wait) => tokio::time::sleep(wait.unwrap_or_default()).await,
            None => future::pending().await,
        }
    };
    let events = stream::iter(past).map(Ok).chain(later(news).take_until(Box::pin(end)));
    let lines = events.filter_map(move |event| {
        let line = match event {
            Ok(event) => (in_time(&event) && filters.pass_event(&event)).then(|| Ok(line(&event))),
            Err(error) => Some(Err(error)),
        };
        future::ready(line)
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// What happens from now on. It breaks off if the client reads too slowly: to leave events out would be a lie.
fn later(news: Receiver<agent::Event>) -> impl Stream<Item = Result<agent::Event, Error>> {
    stream::unfold(Some(news), async |news| {
        let mut news = news?;
        match news.recv().await {
            Ok(event) => Some((Ok(event), Some(news))),
            Err(error) => Some((Err(Error::internal("the client reads events too slowly", error)), None)),
        }
    })
}

fn line(event: &agent::Event) -> Bytes {
    // Text and numbers always have a JSON form.
    let mut line = serde_json::to_vec(&shown(event)).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn shown(event: &agent::Event) -> Event {
    let id = event.id.map(|id| id.to_string()).unwrap_or_default();
    let of_container = event.subject == Subject::Container;
    Event {
        status: if of_container { event.action.to_string() } else { String::new() },
        id: if of_container { id.clone() } else { String::new() },
        kind: event.subject.as_str().into(),
        action: event.action.to_string(),
        actor: Actor { id, attributes: event.attributes.clone() },
        scope: "local".into(),
        time: event.time.as_second(),
        // Until the year 2262.
        time_nano: i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX),
    }
}
