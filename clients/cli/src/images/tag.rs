//! `fluyt tag`.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::TagImageRequest;
use crate::failure::Failure;

/// `fluyt tag`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt tag busybox:latest team/busybox:1")]
pub struct TagCommand {
    /// Image: reference, digest or id
    image: String,
    /// Further reference for it; one that names another image moves
    reference: String,
}

/// Runs `fluyt tag`.
///
/// # Errors
/// What the engine answers.
pub async fn tag(channel: Channel, command: TagCommand) -> Result<u8, Failure> {
    let request =
        TagImageRequest { image: command.image, reference: command.reference, ..Default::default() };
    ImageServiceClient::new(channel).tag_image(request).await?;
    Ok(0)
}
