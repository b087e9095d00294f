//! `fluyt system`: what the engine keeps on disk, whether it is whole, and the deletion of what nothing uses.

mod check;

use clap::{Args, Subcommand};
use tonic::transport::Channel;
use tonic::Code;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::engine_service_client::EngineServiceClient;
use crate::api::v1::types::{Container, ContainerFilter};
use crate::api::v1::volume_service_client::VolumeServiceClient;
use crate::api::v1::{
    DiskUsage, GetDiskUsageRequest, GetDiskUsageResponse, Image, ImageFilter, PruneContainersRequest,
    PruneVolumesRequest,
};
use crate::clock::{ago, now_seconds};
use crate::confirm::confirm;
use crate::containers;
use crate::engine::{self, EngineCommand};
use crate::events::{self, EventsCommand};
use crate::failure::Failure;
use crate::images::{self, PruneSelection};
use crate::render::{self, Format};
use crate::units;

/// `fluyt system`
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show what stands on disk
    Df(DfCommand),
    /// Delete what nothing uses
    Prune(PruneCommand),
    /// Read stored images again and tell what is damaged
    Check(check::CheckCommand),
    /// Show the engine and its host
    Info(EngineCommand),
    /// Show what happens on the engine
    Events(EventsCommand),
}

/// `fluyt system df`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  fluyt system df\n  fluyt system df -v\n  fluyt system df --format json")]
pub struct DfCommand {
    /// Each image and container by itself
    #[arg(short, long)]
    verbose: bool,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// `fluyt system prune`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt system prune
  fluyt system prune -a -f
  fluyt system prune -a --dry-run --filter until=240h")]
pub struct PruneCommand {
    #[command(flatten)]
    images: PruneSelection,
    /// Also anonymous volumes that no container has
    #[arg(long)]
    volumes: bool,
}

/// Runs `fluyt system …`.
///
/// # Errors
/// As the command's own function.
pub async fn run(channel: Channel, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Df(command) => df(channel, command).await,
        Command::Prune(command) => prune(channel, command).await,
        Command::Check(command) => check::run(channel, command).await,
        Command::Info(command) => engine::info(channel, command).await,
        Command::Events(command) => events::run(channel, command).await,
    }
}

async fn df(channel: Channel, command: DfCommand) -> Result<u8, Failure> {
    let answer = EngineServiceClient::new(channel.clone()).get_disk_usage(GetDiskUsageRequest {}).await?;
    let usage = answer.into_inner();
    if command.format == Format::Json && !command.verbose {
        render::json_lines([&usage])?;
        return Ok(0);
    }
    let images = images::all(channel.clone(), &ImageFilter::default()).await?;
    if !command.verbose {
        render::line(summary(&usage, &images))?;
        return Ok(0);
    }
    let containers = containers::all(channel, &ContainerFilter::default(), true, usize::MAX).await?;
    if command.format == Format::Json {
        let images: Vec<_> = images.iter().map(render::json).collect();
        let containers: Vec<_> = containers.iter().map(render::json).collect();
        let all = serde_json::json!({
            "usage": render::json(&usage), "images": images, "containers": containers,
        });
        render::line(all.to_string())?;
    } else {
        render::line(details(&usage, &images, &containers))?;
    }
    Ok(0)
}

/// Docker's four rows, of which the first counts images and the bytes of their blobs and layers; then what these are
/// made of, and logs.
fn summary(usage: &GetDiskUsageResponse, images: &[Image]) -> String {
    let part = |part: &Option<DiskUsage>| part.unwrap_or_default();
    let (blobs, layers) = (part(&usage.content), part(&usage.layers));
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let of_images = DiskUsage {
        count: count(images.len()),
        active_count: count(images.iter().filter(|image| image.container_count > 0).count()),
        size_bytes: blobs.size_bytes + layers.size_bytes,
        reclaimable_bytes: blobs.reclaimable_bytes + layers.reclaimable_bytes,
        is_estimate: blobs.is_estimate || layers.is_estimate,
    };
    let rows = [
        ("Images", of_images),
        ("Containers", part(&usage.containers)),
        ("Local Volumes", part(&usage.volumes)),
        ("Build Cache", part(&usage.build_cache)),
        ("Image blobs", blobs),
        ("Image layers", layers),
        ("Container logs", part(&usage.logs)),
    ]
    .map(|(name, usage)| row(name, usage));
    render::table(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], &rows)
}

fn row(name: &str, usage: DiskUsage) -> Vec<String> {
    let mark = if usage.is_estimate { "~" } else { "" };
    let mut reclaimable = units::human_bytes(usage.reclaimable_bytes);
    if usage.size_bytes > 0 {
        let percent = i128::from(usage.reclaimable_bytes) * 100 / i128::from(usage.size_bytes);
        reclaimable.push_str(&format!(" ({percent}%)"));
    }
    vec![
        name.to_owned(),
        usage.count.to_string(),
        usage.active_count.to_string(),
        format!("{mark}{}", units::human_bytes(usage.size_bytes)),
        reclaimable,
    ]
}

fn details(usage: &GetDiskUsageResponse, images: &[Image], containers: &[Container]) -> String {
    let now = now_seconds();
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            let reference = image.references.first().map(String::as_str).unwrap_or_default();
            let (repository, tag) = images::repository_and_tag(reference);
            vec![
                repository,
                tag,
                render::short_id(&image.id).to_owned(),
                ago(image.build_time.as_ref().or(image.create_time.as_ref()), now),
                units::human_bytes(image.size_bytes),
                units::human_bytes(image.shared_size_bytes),
                units::human_bytes(image.size_bytes - image.shared_size_bytes),
                image.container_count.to_string(),
            ]
        })
        .collect();
    let header =
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"];
    format!(
        "Images space usage:\n\n{}\n\nContainers space usage:\n\n{}\n\nIn all:\n\n{}",
        render::table(&header, &rows),
        containers::table(containers, false, true),
        summary(usage, images),
    )
}

/// Runs `fluyt system prune`: containers that have ended, then images, then volumes if asked. What this engine cannot
/// prune is said on standard error.
async fn prune(channel: Channel, command: PruneCommand) -> Result<u8, Failure> {
    let selection = &command.images;
    if command.volumes && !selection.filter.is_empty() {
        return Err(Failure::usage("--filter does not go with --volumes", "prune volumes by themselves"));
    }
    let is_asking = !selection.force && !selection.dry_run;
    if is_asking && !confirm(&warning(selection.all, command.volumes))? {
        return Ok(1);
    }
    let mut reclaimed: i64 = 0;
    // A filter of images says nothing of containers.
    if selection.filter.is_empty() {
        let request = PruneContainersRequest { dry_run: selection.dry_run, ..Default::default() };
        match ContainerServiceClient::new(channel.clone()).prune_containers(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                reclaimed = reclaimed.saturating_add(answer.reclaimed_bytes);
                deleted(&answer.deleted)?;
            }
            Err(status) => not_built(status, "containers", "delete them with `fluyt rm`")?,
        }
    }
    let result = images::prune_images(channel.clone(), selection).await?;
    reclaimed = reclaimed.saturating_add(result.reclaimed_bytes);
    images::print_pruned(&result)?;
    if command.volumes {
        let request = PruneVolumesRequest { dry_run: selection.dry_run, ..Default::default() };
        match VolumeServiceClient::new(channel).prune_volumes(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                reclaimed = reclaimed.saturating_add(answer.reclaimed_bytes);
                deleted(&answer.deleted)?;
            }
            Err(status) => not_built(status, "volumes", "delete them with `fluyt volume rm`")?,
        }
    }
    render::line(images::pruned_total(reclaimed, selection.dry_run))?;
    Ok(0)
}

fn warning(all: bool, volumes: bool) -> String {
    let mut text =
        format!("This will remove:\n  - all containers that do not run\n  - {}", images::described(all));
    if volumes {
        text.push_str("\n  - all anonymous volumes that no container has");
    }
    text
}

fn deleted(names: &[String]) -> Result<(), Failure> {
    names.iter().try_for_each(|name| render::line(format!("Deleted: {name}")))
}

/// Says that this engine does not prune `what`; any other failure is one.
fn not_built(status: tonic::Status, what: &str, next_step: &str) -> Result<(), Failure> {
    if status.code() != Code::Unimplemented {
        return Err(status.into());
    }
    eprintln!("fluyt: this engine does not prune {what} yet\n  try: {next_step}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_counts_images_and_sums_their_bytes() {
        let part = |size_bytes, reclaimable_bytes| {
            Some(DiskUsage { count: 9, size_bytes, reclaimable_bytes, ..Default::default() })
        };
        let usage =
            GetDiskUsageResponse { content: part(1000, 0), layers: part(3000, 1000), ..Default::default() };
        let images = [Image { container_count: 2, ..Default::default() }, Image::default()];
        let text = summary(&usage, &images);
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["Images", "2", "1", "4.00kB", "1.00kB", "(25%)"]);
        assert!(text.contains("Local Volumes    0       0        0B"), "{text}");
    }
}
