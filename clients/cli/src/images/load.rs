//! `fluyt load`.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use tonic::transport::Channel;

use super::send::{self, Sending};
use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::{load_images_request::Part, LoadImagesOptions, LoadImagesRequest};
use crate::container_flags::parse_platforms;
use crate::failure::Failure;
use crate::progress;
use crate::render;

/// `fluyt load`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt load -i image.tar
  skopeo copy docker://busybox oci-archive:/dev/stdout | fluyt load")]
pub struct LoadCommand {
    /// Archive: OCI archive, OCI layout tar or docker-archive, compressed or not; default: standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print no progress, and ids in place of sentences
    #[arg(short, long)]
    quiet: bool,
    /// Platforms to load; default: the host's where the archive has it, else all
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    platform: Vec<String>,
    /// Reference for an image that the archive does not name
    #[arg(long, value_name = "REFERENCE")]
    reference: Option<String>,
}

/// Runs `fluyt load`.
///
/// # Errors
/// Standard input is a terminal, the archive cannot be read, or what the engine answers.
pub async fn load(channel: Channel, command: LoadCommand) -> Result<u8, Failure> {
    let platforms = parse_platforms(&command.platform)?;
    if command.input.is_none() && std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no archive on standard input, it is a terminal",
            "name a file with --input, or write `… | fluyt load`",
        ));
    }
    let (file, size_bytes) = send::open(command.input.as_deref())?;
    let reference = command.reference.unwrap_or_default();
    let options = LoadImagesOptions { platforms, size_bytes, reference, ..Default::default() };
    let (sending, requests) = Sending::begin(
        file,
        progress::sending(command.quiet, size_bytes),
        LoadImagesRequest { part: Some(Part::Options(options)) },
        |chunk| LoadImagesRequest { part: Some(Part::Chunk(chunk)) },
    );
    let answer = ImageServiceClient::new(channel).load_images(requests).await;
    for image in sending.settle(answer).await?.images {
        if command.quiet {
            render::line(&image.image_id)?;
        } else if image.references.is_empty() {
            render::line(format!("Loaded image ID: {}", image.image_id))?;
        } else {
            for reference in &image.references {
                render::line(format!("Loaded image: {reference}"))?;
            }
        }
    }
    Ok(0)
}
