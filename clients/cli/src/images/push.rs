//! `fluyt push`.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::types::operation::Result as OperationResult;
use crate::api::v1::PushImageRequest;
use crate::container_flags::parse_platforms;
use crate::credentials;
use crate::failure::Failure;
use crate::operations::{self, OnInterrupt};
use crate::render;

/// `fluyt push`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt push registry.example.com/team/app:1
  fluyt push app:1 registry.example.com/team/app:1
  fluyt push --all-tags registry.example.com/team/app")]
pub struct PushCommand {
    /// Print no progress, and the digest in place of references
    #[arg(short, long)]
    quiet: bool,
    /// Every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Platforms to push; default: all that are present
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    platform: Vec<String>,
    /// Image: reference, digest or id; with --all-tags a repository
    #[arg(id = "reference", value_name = "IMAGE")]
    image: String,
    /// Reference to write; default: the image's
    #[arg(id = "target_reference", value_name = "TARGET")]
    target: Option<String>,
}

/// Runs `fluyt push`.
///
/// # Errors
/// Credentials that cannot be had, what the engine answers, or the operation's failure.
pub async fn push(channel: Channel, command: PushCommand) -> Result<u8, Failure> {
    let target = command.target.unwrap_or_default();
    let written = if target.is_empty() { &command.image } else { &target };
    let request = PushImageRequest {
        auth: credentials::for_reference(written).await?,
        reference: command.image.clone(),
        platforms: parse_platforms(&command.platform)?,
        all_tags: command.all_tags,
        target_reference: target,
        ..Default::default()
    };
    let answer = ImageServiceClient::new(channel.clone()).push_image(request).await?.into_inner();
    let begun = answer.operation.unwrap_or_default();
    let ended = operations::watch(channel, begun, command.quiet, OnInterrupt::Cancel).await?;
    let Some(OperationResult::PushResult(result)) = ended.result else {
        return Err(Failure::cut_off("push"));
    };
    if command.quiet {
        render::line(result.digest)?;
    } else {
        for reference in &result.references {
            render::line(reference)?;
        }
    }
    Ok(0)
}
