//! `spandrel events`: what happens to networks and containers, as it happens.

use std::io;
use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::args::{Events, ListFormat};
use super::client::{Client, filters, segment};
use super::error::Error;
use super::template::Template;
use super::{Outcome, moment, output};
use crate::api::types::event::Event;

/// Prints events until the time is up, or the agent or the reader is gone.
pub(super) async fn run(client: &Client, command: Events) -> Outcome {
    let printer = Printer::new(command.format.as_ref())?;
    let mut path = format!("/events?{}", filters(&command.filter));
    for (name, when) in [("since", &command.since), ("until", &command.until)] {
        if let Some(when) = when {
            path += &format!("&{name}={}", segment(&moment::parse(name, when, Timestamp::now())?));
        }
    }
    let mut events = client.lines(&path).await?;
    while let Some(event) = events.next_if_any::<Event>().await? {
        let line = printer.line(&event)? + "\n";
        if !output::write(&mut io::stdout(), line.as_bytes())? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What an event is printed as.
enum Printer<'f> {
    People,
    Json,
    Template(&'f str, Box<Template>),
}

impl<'f> Printer<'f> {
    fn new(format: Option<&'f ListFormat>) -> Result<Self, Error> {
        Ok(match format {
            None => Printer::People,
            Some(ListFormat::Template(text)) => {
                let template = Template::parse(text).map_err(|why| output::invalid(text, &why, []))?;
                Printer::Template(text, Box::new(template))
            }
            Some(_) => Printer::Json,
        })
    }

    fn line(&self, event: &Event) -> Result<String, Error> {
        match self {
            Printer::People => Ok(sentence(event, &TimeZone::system())),
            Printer::Json => serde_json::to_string(event).map_err(output::unprintable),
            Printer::Template(text, template) => {
                let fields = fields(event);
                template.render(&fields).map_err(|why| {
                    let names = fields.as_object().into_iter().flat_map(|fields| fields.keys().map(String::as_str));
                    output::invalid(text, &why, names)
                })
            }
        }
    }
}

/// An event as templates see it: by the names of Docker's fields, which differ from those in JSON.
fn fields(event: &Event) -> Value {
    json!({
        "Action": event.action,
        "Actor": event.actor,
        "From": "",
        "ID": event.id,
        "Scope": event.scope,
        "Status": event.status,
        "Time": event.time,
        "TimeNano": event.time_nano,
        "Type": event.kind,
    })
}

/// An event for people, as Docker prints it: `2026-01-02T13:23:37.000000000Z container start 3f0a… (name=web)`.
fn sentence(event: &Event, zone: &TimeZone) -> String {
    let time = Timestamp::from_nanosecond(event.time_nano.into()).unwrap_or_default().to_zoned(zone.clone());
    let offset = if time.offset().is_zero() { "Z".into() } else { time.strftime("%:z").to_string() };
    let time = time.strftime("%Y-%m-%dT%H:%M:%S.%9f");
    let mut line = format!("{time}{offset} {} {} {}", event.kind, event.action, event.actor.id);
    let attributes: Vec<_> = event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !attributes.is_empty() {
        line += &format!(" ({})", attributes.join(", "));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::types::event::Actor;

    fn start() -> Event {
        Event {
            status: "start".into(),
            id: "3f0a".into(),
            kind: "container".into(),
            action: "start".into(),
            actor: Actor {
                id: "3f0a".into(),
                attributes: BTreeMap::from([("name".into(), "web".into()), ("a".into(), "b".into())]),
            },
            scope: "local".into(),
            time: 1_136_073_600,
            time_nano: 1_136_073_600_000_000_007,
        }
    }

    #[test]
    fn sentences_read_as_dockers() {
        let there = |zone: &TimeZone| sentence(&start(), zone);
        assert_eq!(there(&TimeZone::UTC), "2006-01-01T00:00:00.000000007Z container start 3f0a (a=b, name=web)");
        let east = TimeZone::fixed(jiff::tz::offset(9));
        assert_eq!(there(&east), "2006-01-01T09:00:00.000000007+09:00 container start 3f0a (a=b, name=web)");
        let mut bare = start();
        bare.actor.attributes.clear();
        assert_eq!(sentence(&bare, &TimeZone::UTC), "2006-01-01T00:00:00.000000007Z container start 3f0a");
    }

    #[test]
    fn events_by_template() {
        let line = |text: &str| {
            let format = ListFormat::Template(text.into());
            Printer::new(Some(&format)).and_then(|printer| printer.line(&start())).map_err(|error| error.to_string())
        };
        assert_eq!(
            line("{{.Type}} {{.Status}} {{.Actor.Attributes.name}} {{.Time}}").unwrap(),
            "container start web 1136073600"
        );
        assert_eq!(line("{{json .Actor.Attributes}}").unwrap(), r#"{"a":"b","name":"web"}"#);
        let error = line("{{.Colour}}").unwrap_err();
        assert!(error.contains("no field `Colour`") && error.contains("Action, Actor"), "{error}");
    }
}
