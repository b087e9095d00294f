//! `fluyt volume prune`.

use clap::Args;
use tonic::transport::Channel;

use super::filter;
use crate::api::v1::volume_service_client::VolumeServiceClient;
use crate::api::v1::PruneVolumesRequest;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::images::pruned_total;
use crate::render;

/// `fluyt volume prune`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt volume prune
  fluyt volume prune -a -f --filter label=temporary
  fluyt volume prune -a --dry-run")]
pub struct PruneCommand {
    /// Also volumes that have a name
    #[arg(short, long)]
    all: bool,
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,
    /// name=PART, label=NAME[=VALUE] or driver=DRIVER
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
}

/// Runs `fluyt volume prune`: asks first unless forced, then deletes and tells what went.
///
/// # Errors
/// There is no terminal to ask on, a filter that is not known, or what the engine answers.
pub async fn prune(channel: Channel, command: PruneCommand) -> Result<u8, Failure> {
    let filter = filter::parse(&command.filter)?;
    let which = if command.all { "all volumes" } else { "all anonymous volumes" };
    let is_asking = !command.force && !command.dry_run;
    if is_asking && !confirm(&format!("This will remove {which} that no container has, with their data."))? {
        return Ok(1);
    }
    let request = PruneVolumesRequest {
        filter: Some(filter),
        all: command.all,
        dry_run: command.dry_run,
        ..Default::default()
    };
    let pruned = VolumeServiceClient::new(channel).prune_volumes(request).await?.into_inner();
    for name in &pruned.deleted {
        render::line(format!("Deleted: {name}"))?;
    }
    render::line(pruned_total(pruned.reclaimed_bytes, command.dry_run))?;
    Ok(0)
}
