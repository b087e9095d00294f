//! `fluyt history`.

use clap::{ArgAction, Args};
use tonic::transport::Channel;

use super::inspect::get;
use crate::api::v1::ImageHistory;
use crate::clock::{ago, now_seconds};
use crate::container_flags::parse_platform;
use crate::failure::Failure;
use crate::render::{self, Format};
use crate::units;

/// Characters of a command that are shown without `--no-trunc`.
const COMMAND_WIDTH: usize = 45;

/// `fluyt history`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt history debian:12\n  fluyt history --no-trunc --format json debian:12"
)]
pub struct HistoryCommand {
    /// Print whole commands and ids
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids: the image's at its newest step, <missing> at the others
    #[arg(short, long)]
    quiet: bool,
    /// Sizes and dates for people; `--human=false` prints bytes and RFC 3339
    #[arg(
        long,
        action = ArgAction::Set,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_name = "BOOL"
    )]
    human: bool,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Platform, where several are present; default: the host's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Image: reference, digest or id
    image: String,
}

/// Runs `fluyt history`, newest step first.
///
/// # Errors
/// What the engine answers.
pub async fn history(channel: Channel, command: HistoryCommand) -> Result<u8, Failure> {
    let platform = command.platform.as_deref().map(parse_platform).transpose()?;
    let answer = get(channel, &command.image, platform).await?;
    let steps = answer.history.iter().rev();
    if command.format == Format::Json {
        render::json_lines(steps)?;
        return Ok(0);
    }
    let id = answer.image.unwrap_or_default().id;
    let id = if command.no_trunc { id.as_str() } else { render::short_id(&id) };
    let ids = std::iter::once(id).chain(std::iter::repeat("<missing>"));
    if command.quiet {
        for (_, id) in steps.zip(ids) {
            render::line(id)?;
        }
        return Ok(0);
    }
    let now = now_seconds();
    let rows: Vec<Vec<String>> = steps.zip(ids).map(|(step, id)| row(step, id, &command, now)).collect();
    let created = if command.human { "CREATED" } else { "CREATED AT" };
    render::line(render::table(&["IMAGE", created, "CREATED BY", "SIZE", "COMMENT"], &rows))?;
    Ok(0)
}

fn row(step: &ImageHistory, id: &str, command: &HistoryCommand, now: i64) -> Vec<String> {
    let time = step.build_time.as_ref();
    let created_by = render::printable(&step.created_by);
    vec![
        id.to_owned(),
        if command.human {
            ago(time, now)
        } else {
            time.map_or_else(|| "N/A".to_owned(), |time| units::format_time(time.seconds, time.nanos))
        },
        if command.no_trunc { created_by } else { render::shorten(&created_by, COMMAND_WIDTH) },
        if command.human { units::human_bytes(step.size_bytes) } else { step.size_bytes.to_string() },
        step.comment.clone(),
    ]
}
