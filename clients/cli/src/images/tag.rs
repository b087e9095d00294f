//! `fluyt tag`.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::TagImageRequest;
use crate::container_flags::parse_platform;
use crate::failure::Failure;

/// `fluyt tag`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt tag busybox:latest team/busybox:1")]
pub struct TagCommand {
    /// Name only the image of this platform; default: all that the reference names
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Image: reference, digest or id
    image: String,
    /// Further reference for it; one that names another image moves
    reference: String,
}

/// Runs `fluyt tag`.
///
/// # Errors
/// A platform that is none, or what the engine answers.
pub async fn tag(channel: Channel, command: TagCommand) -> Result<u8, Failure> {
    let platform = command.platform.as_deref().map(parse_platform).transpose()?;
    let request = TagImageRequest {
        image: command.image,
        reference: command.reference,
        platform,
        ..Default::default()
    };
    ImageServiceClient::new(channel).tag_image(request).await?;
    Ok(0)
}
