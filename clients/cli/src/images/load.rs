//! `fluyt load`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use layer::copy::{open_archive, Root};
use layer::diff::TarStream;
use layer::Limits;
use tonic::transport::Channel;

use super::send::{self, Sending};
use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::{load_images_request::Part, LoadImagesOptions, LoadImagesRequest};
use crate::container_flags::parse_platforms;
use crate::copy::open_directory;
use crate::failure::Failure;
use crate::progress;
use crate::render;

/// `fluyt load`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt load -i image.tar.xz
  fluyt load -i layout/
  skopeo copy docker://busybox oci-archive:/dev/stdout | fluyt load")]
pub struct LoadCommand {
    /// Archive: OCI archive, OCI layout tar or docker-archive, compressed (gzip, zstd, xz, bzip2) or not, or a folder with
    /// what stands in one; default: standard input
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
    let reference = command.reference.unwrap_or_default();
    let first = |size_bytes| {
        let options = LoadImagesOptions { platforms, size_bytes, reference, ..Default::default() };
        LoadImagesRequest { part: Some(Part::Options(options)) }
    };
    let wrap = |chunk| LoadImagesRequest { part: Some(Part::Chunk(chunk)) };
    let (sending, requests) = match command.input.as_deref() {
        Some(folder) if folder.is_dir() => {
            let bar = progress::sending(command.quiet, 0);
            Sending::begin_blocking(Folder::open(folder)?, bar, first(0), wrap)
        }
        input => {
            let (file, size_bytes) = send::open(input)?;
            Sending::begin(file, progress::sending(command.quiet, size_bytes), first(size_bytes), wrap)
        }
    };
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

/// Files of which an archive of images has one: by them a folder is known for what stands in an archive.
const LISTINGS: [&str; 2] = ["index.json", "manifest.json"];

/// A folder as the tar that it would be.
struct Folder {
    stream: TarStream,
}

impl Folder {
    /// # Errors
    /// It has no image, or cannot be read.
    fn open(path: &Path) -> Result<Self, Failure> {
        if !LISTINGS.iter().any(|name| path.join(name).is_file()) {
            return Err(Failure::usage(
                format!("{} is a folder without {}", path.display(), LISTINGS.join(" or ")),
                "name an archive, an OCI layout, or a folder that `docker save` was unpacked into",
            ));
        }
        let root = Root::new(open_directory(path)?, false);
        let shown = path.display().to_string();
        let archive = open_archive(&root, b".", false, Some(b"."), &Limits::default(), &shown)
            .map_err(|error| Failure::new(error.to_string(), ""))?;
        Ok(Self { stream: archive.stream })
    }
}

impl Read for Folder {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer, &|| false).map_err(|error| std::io::Error::other(error.to_string()))
    }
}
