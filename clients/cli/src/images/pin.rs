//! `fluyt image pin` and `unpin`.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::SetImagePinRequest;
use crate::failure::Failure;
use crate::render;

/// `fluyt image pin`, `fluyt image unpin`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  fluyt image pin team/base:1\n  fluyt image unpin team/base:1")]
pub struct PinCommand {
    /// Images: references, digests or ids
    #[arg(required = true)]
    images: Vec<String>,
}

/// Pins each image, or ends that, and prints its name; exit code 1 after all were tried if one failed.
///
/// # Errors
/// Standard output is closed.
pub async fn set(channel: Channel, command: PinCommand, is_pinned: bool) -> Result<u8, Failure> {
    let mut client = ImageServiceClient::new(channel);
    let mut exit_code = 0;
    for image in command.images {
        let request = SetImagePinRequest { image: image.clone(), is_pinned, ..Default::default() };
        match client.set_image_pin(request).await {
            Ok(_) => render::line(image)?,
            Err(status) => {
                eprintln!("{}", Failure::from(status));
                exit_code = 1;
            }
        }
    }
    Ok(exit_code)
}
