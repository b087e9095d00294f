//! `fluyt image prune`.

use clap::Args;
use tonic::transport::Channel;

use super::filter;
use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::types::operation::Result as OperationResult;
use crate::api::v1::types::PruneResult;
use crate::api::v1::PruneImagesRequest;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::operations::{self, OnInterrupt};
use crate::render;
use crate::units;

/// What a prune is to take; shared by `image prune` and `system prune`.
#[derive(Args, Debug)]
pub struct PruneSelection {
    /// Also images with references, if no container uses them
    #[arg(short, long)]
    pub all: bool,
    /// Ask nothing
    #[arg(short, long)]
    pub force: bool,
    /// Only tell what would go
    #[arg(long)]
    pub dry_run: bool,
    /// reference=PATTERN, label=NAME[=VALUE], label!=NAME[=VALUE], before=IMAGE, since=IMAGE or until=TIME (made here
    /// before it)
    #[arg(long, value_name = "NAME=VALUE")]
    pub filter: Vec<String>,
}

/// `fluyt image prune`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt image prune
  fluyt image prune -a -f --filter until=240h
  fluyt image prune -a --dry-run")]
pub struct PruneCommand {
    #[command(flatten)]
    selection: PruneSelection,
}

/// Which images a prune means, in words.
pub fn described(all: bool) -> &'static str {
    if all {
        "all images that no container uses"
    } else {
        "all dangling images"
    }
}

/// Runs `fluyt image prune`: asks first unless forced, then deletes and tells what went.
///
/// # Errors
/// There is no terminal to ask on, a filter that is not known, or what the engine answers.
pub async fn prune(channel: Channel, command: PruneCommand) -> Result<u8, Failure> {
    let selection = command.selection;
    filter::parse(&selection.filter)?;
    let is_asking = !selection.force && !selection.dry_run;
    if is_asking && !confirm(&format!("This will remove {}.", described(selection.all)))? {
        return Ok(1);
    }
    let result = prune_images(channel, &selection).await?;
    print(&result)?;
    render::line(total(result.reclaimed_bytes, selection.dry_run))?;
    Ok(0)
}

/// Deletes images without a question and answers what went.
///
/// # Errors
/// A filter that is not known, or what the engine answers.
pub async fn prune_images(channel: Channel, selection: &PruneSelection) -> Result<PruneResult, Failure> {
    let request = PruneImagesRequest {
        filter: Some(filter::parse(&selection.filter)?),
        all: selection.all,
        dry_run: selection.dry_run,
        ..Default::default()
    };
    let answer = ImageServiceClient::new(channel.clone()).prune_images(request).await?.into_inner();
    let begun = answer.operation.unwrap_or_default();
    let ended = operations::watch(channel, begun, true, OnInterrupt::Cancel).await?;
    match ended.result {
        Some(OperationResult::PruneResult(result)) => Ok(result),
        _ => Err(Failure::cut_off("prune")),
    }
}

/// Prints what went, one a line.
///
/// # Errors
/// Standard output is closed.
pub fn print(result: &PruneResult) -> Result<(), Failure> {
    for id in &result.deleted {
        render::line(format!("Deleted: {id}"))?;
    }
    let left_out = result.deleted_count.saturating_sub(i64::try_from(result.deleted.len()).unwrap_or(0));
    if left_out > 0 {
        render::line(format!("and {left_out} more"))?;
    }
    Ok(())
}

/// The last line of a prune.
pub fn total(bytes: i64, dry_run: bool) -> String {
    let what = if dry_run { "Space that would be reclaimed" } else { "Total reclaimed space" };
    format!("{what}: {}", units::human_bytes(bytes))
}
