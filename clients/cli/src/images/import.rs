//! `fluyt import`.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use tonic::transport::Channel;

use super::send::{self, Sending};
use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::{import_image_request::Part, ImportImageOptions, ImportImageRequest};
use crate::container_flags::parse_platform;
use crate::failure::Failure;
use crate::progress;
use crate::render;

/// `fluyt import`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt import rootfs.tar my/base:1
  tar -C rootfs -c . | fluyt import - my/base --change 'CMD [\"/bin/sh\"]'
  curl -L https://example.com/rootfs.tar.xz | fluyt import - my/base")]
pub struct ImportCommand {
    /// Dockerfile instruction for the image's config: CMD, ENTRYPOINT, ENV, USER, WORKDIR, LABEL, EXPOSE, VOLUME
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Message in the image's history
    #[arg(short, long, default_value = "")]
    message: String,
    /// Platform of the root file system; default: the host's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// Tar of the root file system, compressed or not; `-` is standard input
    file: PathBuf,
    /// Reference for the new image
    reference: Option<String>,
}

/// Runs `fluyt import`.
///
/// # Errors
/// The archive is an address or cannot be read, or what the engine answers.
pub async fn import(channel: Channel, command: ImportCommand) -> Result<u8, Failure> {
    let path = command.file.to_string_lossy();
    let reference = command.reference.unwrap_or_default();
    if path.starts_with("http://") || path.starts_with("https://") {
        return Err(Failure::usage(
            format!("{} is an address; fluyt import reads files", render::printable(&path)),
            format!("fetch it yourself: curl -L ADDRESS | fluyt import - {reference}").trim_end(),
        ));
    }
    let path = (path != "-").then_some(command.file.as_path());
    if path.is_none() && std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no archive on standard input, it is a terminal",
            "write `tar -C rootfs -c . | fluyt import -`",
        ));
    }
    let platform = command.platform.as_deref().map(parse_platform).transpose()?;
    let (file, size_bytes) = send::open(path)?;
    let options = ImportImageOptions {
        reference,
        changes: command.change,
        platform,
        message: command.message,
        size_bytes,
        ..Default::default()
    };
    let (sending, requests) = Sending::begin(
        file,
        progress::sending(command.quiet, size_bytes),
        ImportImageRequest { part: Some(Part::Options(options)) },
        |chunk| ImportImageRequest { part: Some(Part::Chunk(chunk)) },
    );
    let answer = ImageServiceClient::new(channel).import_image(requests).await;
    render::line(sending.settle(answer).await?.image.unwrap_or_default().id)?;
    Ok(0)
}
