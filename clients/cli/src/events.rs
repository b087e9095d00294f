//! `fluyt events`: what happened, from any number on, until interrupted.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::event_service_client::EventServiceClient;
use crate::api::v1::watch_events_response::Message;
use crate::api::v1::{Event, EventFilter, WatchEventsRequest};
use crate::clock::parse_timestamp;
use crate::failure::Failure;
use crate::interrupt::{Interrupts, INTERRUPTED};
use crate::render::{self, Format};
use crate::units;

/// `fluyt events`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt events
  fluyt events --from-sequence 1 --until 0s
  fluyt events --filter fact=container_exited --format json")]
pub struct EventsCommand {
    /// Begin with this number; a gap is told if older ones were trimmed
    #[arg(long, value_name = "NUMBER")]
    from_sequence: Option<i64>,
    /// Begin with what happened since: 10m, 2026-01-31T10:00:00Z or seconds of the epoch
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End at this time; `0s` is now
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// fact=container_started, subject=ID or label=NAME[=VALUE]
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs `fluyt events`.
///
/// # Errors
/// A filter or time that cannot be read, or what the engine answers.
pub async fn run(channel: Channel, command: EventsCommand) -> Result<u8, Failure> {
    let mut filter = EventFilter::default();
    for text in &command.filter {
        match text.split_once('=') {
            Some(("fact" | "event", value)) => filter.facts.push(value.to_owned()),
            Some(("subject" | "container" | "image", value)) => filter.subjects.push(value.to_owned()),
            Some(("label", value)) => filter.labels.push(value.to_owned()),
            _ => {
                return Err(Failure::usage(
                    format!("--filter {text} is not known"),
                    "write fact=, subject= or label=",
                ))
            }
        }
    }
    let time = |text: &str| parse_timestamp(text).map_err(|message| Failure::usage(message, ""));
    let request = WatchEventsRequest {
        from_sequence: command.from_sequence.unwrap_or_default(),
        since_time: command.since.as_deref().map(time).transpose()?,
        until_time: command.until.as_deref().map(time).transpose()?,
        filter: Some(filter),
        ..Default::default()
    };
    let mut interrupts = Interrupts::new()?;
    let mut messages = EventServiceClient::new(channel).watch_events(request).await?.into_inner();
    loop {
        let message = tokio::select! {
            message = messages.message() => message?,
            code = interrupts.next() => return Ok(if code == INTERRUPTED { 0 } else { code }),
        };
        match message.map(|message| message.message) {
            Some(Some(Message::Event(event))) if command.format == Format::Json => {
                render::json_lines([&event])?
            }
            Some(Some(Message::Event(event))) => render::line(sentence(&event))?,
            Some(_) => {}
            None => return Ok(0),
        }
    }
}

/// One event on one line: number, time, fact, subject and what the fact carries.
fn sentence(event: &Event) -> String {
    let time = event.time.unwrap_or_default();
    let mut text = format!("{} {}", event.sequence, units::format_time(time.seconds, time.nanos));
    let value = render::json(event);
    let facts = value.as_object().into_iter().flatten().filter(|(_, value)| value.is_object());
    for (fact, fields) in facts.filter(|(name, _)| *name != "labels") {
        text.push(' ');
        text.push_str(fact);
        text.push(' ');
        text.push_str(&render::printable(render::short_id(&event.subject)));
        for (name, field) in fields.as_object().into_iter().flatten() {
            let shown = match field {
                serde_json::Value::String(value) => value.clone(),
                serde_json::Value::Bool(false) | serde_json::Value::Null => continue,
                other => other.to_string(),
            };
            if !shown.is_empty() && shown != event.subject {
                text.push_str(&format!(" {name}={}", render::printable(&shown)));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::{container_exited, event::Fact, ContainerExited};

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            sequence: 7,
            subject: "ab".to_owned(),
            fact: Some(Fact::ContainerExited(ContainerExited {
                container_id: "ab".to_owned(),
                name: "job".to_owned(),
                exit: Some(container_exited::Exit::ExitCode(3)),
                ..Default::default()
            })),
            ..Default::default()
        };
        assert_eq!(
            sentence(&event),
            "7 1970-01-01T00:00:00.000000000Z container_exited ab exit_code=3 name=job"
        );
    }
}
