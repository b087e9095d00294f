//! `fluyt pull`.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::types::operation::Result as OperationResult;
use crate::api::v1::types::PullResult;
use crate::api::v1::PullImageRequest;
use crate::container_flags::parse_platform;
use crate::credentials;
use crate::failure::Failure;
use crate::operations::{self, OnInterrupt};
use crate::render;

/// `fluyt pull`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt pull debian:12
  fluyt pull --all-tags registry.example.com/team/app
  fluyt pull --platform linux/arm64 registry.example.com/team/app@sha256:…

Ctrl-C cancels the pull; what was fetched is kept, and the next pull resumes it.")]
pub struct PullCommand {
    /// Print no progress, and the image's id in place of its reference
    #[arg(short, long)]
    quiet: bool,
    /// Every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Platform to choose, as linux/arm64; default: the host's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Reference of the image
    reference: String,
}

/// Pulls an image and answers its reference in full and its id.
///
/// # Errors
/// Credentials that cannot be had, what the engine answers, or the operation's failure.
pub async fn pull_image(
    channel: Channel,
    reference: &str,
    platform: Option<&str>,
    quiet: bool,
) -> Result<(String, String), Failure> {
    let request = PullImageRequest {
        reference: reference.to_owned(),
        platform: platform.map(parse_platform).transpose()?,
        ..Default::default()
    };
    let result = finish(channel, request, quiet).await?;
    Ok((result.reference, result.image_id))
}

async fn finish(channel: Channel, mut request: PullImageRequest, quiet: bool) -> Result<PullResult, Failure> {
    request.auth = credentials::for_reference(&request.reference).await?;
    let answer = ImageServiceClient::new(channel.clone()).pull_image(request).await?.into_inner();
    let begun = answer.operation.unwrap_or_default();
    let ended = operations::watch(channel, begun, quiet, OnInterrupt::Cancel).await?;
    match ended.result {
        Some(OperationResult::PullResult(result)) => Ok(result),
        _ => Err(Failure::cut_off("pull")),
    }
}

/// Runs `fluyt pull`.
///
/// # Errors
/// As [`pull_image`].
pub async fn pull(channel: Channel, command: PullCommand) -> Result<u8, Failure> {
    let request = PullImageRequest {
        reference: command.reference,
        platform: command.platform.as_deref().map(parse_platform).transpose()?,
        all_tags: command.all_tags,
        ..Default::default()
    };
    let result = finish(channel, request, command.quiet).await?;
    if command.all_tags {
        for reference in &result.references {
            render::line(reference)?;
        }
    } else if command.quiet {
        render::line(result.image_id)?;
    } else {
        render::line(result.reference)?;
    }
    Ok(0)
}
