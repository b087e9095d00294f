//! `fluyt logs`.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::log_service_client::LogServiceClient;
use crate::api::v1::read_logs_response::Event;
use crate::api::v1::types::OutputStream;
use crate::api::v1::ReadLogsRequest;
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
    /// Output; json is one record a line, `data` in base64
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Container: id, unique beginning of its id, or name
    container: String,
}

fn timestamp(text: &str) -> Result<prost_types::Timestamp, Failure> {
    parse_timestamp(text).map_err(|message| Failure::usage(message, ""))
}

/// Runs `fluyt logs`.
///
/// # Errors
/// A time that cannot be read, or what the engine answers.
pub async fn run(channel: Channel, command: LogsCommand) -> Result<u8, Failure> {
    let tail_lines = match command.tail.as_str() {
        "all" => None,
        text => Some(text.parse::<i64>().ok().filter(|lines| *lines >= 0).ok_or_else(|| {
            Failure::usage(format!("--tail {text} is not a number of lines"), "write a number or all")
        })?),
    };
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
