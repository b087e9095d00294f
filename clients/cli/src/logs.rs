//! `fluyt logs`.

use std::collections::BTreeMap;

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::log_service_client::LogServiceClient;
use crate::api::v1::read_logs_response::Event;
use crate::api::v1::types::{Container, OutputStream};
use crate::api::v1::{GetContainerRequest, ReadLogsRequest};
use crate::clock::parse_timestamp;
use crate::failure::Failure;
use crate::render::{self, Format};
use crate::units;

/// `fluyt logs`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  fluyt logs -f --tail 100 web\n  fluyt logs --since 10m -t web")]
pub struct LogsCommand {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Begin so many lines before the end
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    tail: String,
    /// Only lines written since: 10m, 2026-01-31T10:00:00Z or seconds of the epoch
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only lines written before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only what was written after this cursor (of `--format json`)
    #[arg(long)]
    cursor: Option<String>,
    /// Put the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Put before each line what `--log-opt labels=` and `env=` name of the container
    #[arg(long)]
    details: bool,
    /// Output; json is one record a line, `data` in base64
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Container: id, unique beginning of its id, or name
    container: String,
}

fn timestamp(text: &str) -> Result<prost_types::Timestamp, Failure> {
    parse_timestamp(text).map_err(|message| Failure::usage(message, ""))
}

/// What stands before each line with `--details`: the labels and variables that the container's log options name, as
/// Docker writes them, and a space.
async fn details(channel: Channel, container: &str) -> Result<String, Failure> {
    let request = GetContainerRequest { container: container.to_owned(), ..Default::default() };
    let found = ContainerServiceClient::new(channel).get_container(request).await?.into_inner().container;
    Ok(written_details(&found.unwrap_or_default()))
}

fn written_details(container: &Container) -> String {
    let spec = container.spec.clone().unwrap_or_default();
    let log = spec.log.unwrap_or_default();
    let labels =
        log.detail_labels.iter().filter_map(|name| Some((name.as_str(), spec.labels.get(name)?.as_str())));
    let variables = container.resolved_env.iter().filter_map(|item| item.split_once('='));
    let variables = variables.filter(|(name, _)| log.detail_env.iter().any(|wanted| wanted == name));
    let pairs: BTreeMap<&str, &str> = labels.chain(variables).collect();
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    format!("{} ", pairs.join(","))
}

/// As in the query of an address, so that no comma, space or newline of a value is taken for one of the line.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// A number of lines, None for all: `all`, and as in Docker a negative number.
fn parse_tail(text: &str) -> Result<Option<i64>, Failure> {
    if text == "all" {
        return Ok(None);
    }
    let lines = text.parse::<i64>().map_err(|_| {
        Failure::usage(format!("--tail {text} is not a number of lines"), "write a number or all")
    })?;
    Ok((lines >= 0).then_some(lines))
}

/// Runs `fluyt logs`.
///
/// # Errors
/// A time that cannot be read, or what the engine answers.
pub async fn run(channel: Channel, command: LogsCommand) -> Result<u8, Failure> {
    let tail_lines = parse_tail(&command.tail)?;
    let details =
        if command.details { details(channel.clone(), &command.container).await? } else { String::new() };
    let request = ReadLogsRequest {
        container: command.container,
        follow: command.follow,
        tail_lines,
        since_time: command.since.as_deref().map(timestamp).transpose()?,
        until_time: command.until.as_deref().map(timestamp).transpose()?,
        cursor: command.cursor.unwrap_or_default(),
        streams: Vec::new(),
    };
    let mut events = LogServiceClient::new(channel).read_logs(request).await?.into_inner();
    while let Some(message) = events.message().await? {
        match message.event {
            Some(Event::Batch(batch)) => {
                for record in &batch.records {
                    if command.format == Format::Json {
                        render::json_lines([record])?;
                        continue;
                    }
                    let is_stderr = record.stream() == OutputStream::Stderr;
                    if command.timestamps {
                        let time = record.time.unwrap_or_default();
                        render::bytes(
                            format!("{} ", units::format_time(time.seconds, time.nanos)).as_bytes(),
                            is_stderr,
                        )?;
                    }
                    if command.details {
                        render::bytes(details.as_bytes(), is_stderr)?;
                    }
                    render::bytes(&record.data, is_stderr)?;
                }
            }
            Some(Event::Gap(gap)) => {
                eprintln!(
                    "fluyt: {} log segments were dropped by rotation before they were read",
                    gap.skipped_segments
                );
            }
            Some(Event::End(_)) => return Ok(0),
            None => {}
        }
    }
    Err(Failure::cut_off("log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::types::{ContainerSpec, LogSpec};

    #[test]
    fn a_tail_is_a_number_and_all_is_written_either_way() {
        for (text, lines) in [("all", None), ("-1", None), ("0", Some(0)), ("12", Some(12))] {
            assert_eq!(parse_tail(text).unwrap(), lines, "{text}");
        }
        assert!(parse_tail("few").is_err());
    }

    #[test]
    fn details_are_those_that_were_named_and_no_value_can_break_a_line() {
        let log = LogSpec {
            detail_labels: vec!["role".into(), "absent".into()],
            detail_env: vec!["MODE".into()],
            ..Default::default()
        };
        let labels =
            [("role", "a b,c\n"), ("other", "x")].map(|(name, value)| (name.into(), value.into())).into();
        let container = Container {
            spec: Some(ContainerSpec { labels, log: Some(log), ..Default::default() }),
            resolved_env: vec!["MODE=fast".into(), "SECRET=x".into()],
            ..Default::default()
        };
        assert_eq!(written_details(&container), "MODE=fast,role=a+b%2Cc%0A ");
        assert_eq!(written_details(&Container::default()), " ");
    }
}
