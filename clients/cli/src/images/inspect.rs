//! `fluyt image inspect`, and the look-up of one image.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::{types, GetImageRequest, GetImageResponse};
use crate::container_flags::parse_platform;
use crate::failure::Failure;
use crate::render::{self, Format};

/// `fluyt image inspect`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt image inspect debian:12
  fluyt image inspect --format json debian:12 | jq .config.env")]
pub struct InspectCommand {
    /// Output; both are JSON, `json` one object a line
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// Platform, where several are present; default: the host's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Images: references, digests or ids
    #[arg(required = true)]
    images: Vec<String>,
}

/// What the engine knows of one image; of `platform` where several of a reference are present.
///
/// # Errors
/// What the engine answers.
pub async fn get(
    channel: Channel,
    image: &str,
    platform: Option<types::Platform>,
) -> Result<GetImageResponse, Failure> {
    let request = GetImageRequest { image: image.to_owned(), platform };
    Ok(ImageServiceClient::new(channel).get_image(request).await?.into_inner())
}

/// Runs `fluyt image inspect`: each image by itself; exit code 1 after all were tried if one failed.
///
/// # Errors
/// A platform that is none, or standard output is closed.
pub async fn inspect(channel: Channel, command: InspectCommand) -> Result<u8, Failure> {
    let platform = command.platform.as_deref().map(parse_platform).transpose()?;
    let mut exit_code = 0;
    for image in &command.images {
        match get(channel.clone(), image, platform.clone()).await {
            Ok(found) if command.format == Format::Json => render::json_lines([&found])?,
            Ok(found) => render::json_pretty(&found)?,
            Err(failure) => {
                eprintln!("{failure}");
                exit_code = 1;
            }
        }
    }
    Ok(exit_code)
}
