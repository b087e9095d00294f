//! `fluyt rmi`.

use std::collections::HashSet;

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::DeleteImageRequest;
use crate::container_flags::parse_platform;
use crate::failure::Failure;
use crate::render;

/// `fluyt rmi`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt rmi team/app:1
  fluyt rmi -f 0123456789ab
  fluyt rmi $(fluyt images -q --filter dangling=true)")]
pub struct RemoveCommand {
    /// Remove all references of an id, also if stopped containers use it; no failure if it is not there
    #[arg(short, long)]
    force: bool,
    /// Only the image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Images: references, digests or ids
    #[arg(required = true)]
    images: Vec<String>,
}

/// Runs `fluyt rmi`: each image by itself; exit code 1 after all were tried if one failed.
///
/// # Errors
/// A platform that is none, or standard output is closed.
pub async fn remove(channel: Channel, command: RemoveCommand) -> Result<u8, Failure> {
    let platform = command.platform.as_deref().map(parse_platform).transpose()?;
    let mut client = ImageServiceClient::new(channel);
    let mut exit_code = 0;
    for image in command.images {
        let request = DeleteImageRequest {
            image,
            force: command.force,
            platform: platform.clone(),
            ..Default::default()
        };
        match client.delete_image(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                for reference in answer.untagged {
                    render::line(format!("Untagged: {reference}"))?;
                }
                // A config is listed as the image and as a blob.
                let mut seen = HashSet::new();
                for id in answer.deleted.iter().filter(|id| seen.insert(*id)) {
                    render::line(format!("Deleted: {id}"))?;
                }
            }
            Err(status) => {
                let failure = Failure::from(status);
                let is_only_absent = command.force && failure.reason == "IMAGE_NOT_FOUND";
                eprintln!("{failure}");
                exit_code = if is_only_absent { exit_code } else { 1 };
            }
        }
    }
    Ok(exit_code)
}
