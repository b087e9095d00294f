//! `fluyt volume export` and `import`.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::volume_service_client::VolumeServiceClient;
use crate::api::v1::{
    export_volume_response, import_volume_request::Part, ExportVolumeRequest, ImportVolumeOptions,
    ImportVolumeRequest,
};
use crate::failure::Failure;
use crate::images::send::{self, Sending};
use crate::output_file::OutputFile;
use crate::progress;
use crate::render;

/// `fluyt volume export`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt volume export -o data.tar data\n  fluyt volume export data | zstd > data.tar.zst"
)]
pub struct ExportCommand {
    /// File to write; it appears when it is whole. Default: standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// Volume
    #[arg(id = "name", value_name = "VOLUME")]
    volume: String,
}

/// `fluyt volume import`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt volume import data data.tar\n  zstdcat data.tar.zst | fluyt volume import data -"
)]
pub struct ImportCommand {
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// Volume; made if absent
    #[arg(id = "name", value_name = "VOLUME")]
    volume: String,
    /// Tar, compressed or not; `-` is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
}

/// Runs `fluyt volume export`.
///
/// # Errors
/// Standard output is a terminal, the file cannot be written, or what the engine answers.
pub async fn export(channel: Channel, command: ExportCommand) -> Result<u8, Failure> {
    if command.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "an archive is not for a terminal",
            "name a file with --output, or pass it on with a pipe",
        ));
    }
    let request = ExportVolumeRequest { name: command.volume };
    let mut parts = VolumeServiceClient::new(channel).export_volume(request).await?.into_inner();
    let mut file = None;
    let bar = progress::receiving(command.quiet || command.output.is_none());
    let mut received: i64 = 0;
    loop {
        let part = parts.message().await?.and_then(|message| message.part);
        if file.is_none() {
            // Made after the engine has taken the request, so that a name that is not there does not touch the disk.
            file = command.output.as_deref().map(OutputFile::create).transpose()?;
        }
        match part {
            Some(export_volume_response::Part::Chunk(chunk)) => {
                received = received.saturating_add(i64::try_from(chunk.len()).unwrap_or(i64::MAX));
                bar.inc(chunk.len() as u64);
                match &mut file {
                    Some(file) => file.write(&chunk)?,
                    None => render::bytes(&chunk, false)?,
                }
            }
            Some(export_volume_response::Part::Complete(complete)) if complete.size_bytes == received => {
                break
            }
            _ => return Err(Failure::cut_off("export")),
        }
    }
    bar.finish_and_clear();
    file.map_or(Ok(()), OutputFile::finish)?;
    Ok(0)
}

/// Runs `fluyt volume import`: prints the volume's name.
///
/// # Errors
/// The archive cannot be read, or what the engine answers.
pub async fn import(channel: Channel, command: ImportCommand) -> Result<u8, Failure> {
    let path = (command.file.as_os_str() != "-").then_some(command.file.as_path());
    if path.is_none() && std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no archive on standard input, it is a terminal",
            "write `tar -C directory -c . | fluyt volume import VOLUME -`",
        ));
    }
    let (file, size_bytes) = send::open(path)?;
    let options = ImportVolumeOptions { name: command.volume, size_bytes, ..Default::default() };
    let (sending, requests) = Sending::begin(
        file,
        progress::sending(command.quiet, size_bytes),
        ImportVolumeRequest { part: Some(Part::Options(options)) },
        |chunk| ImportVolumeRequest { part: Some(Part::Chunk(chunk)) },
    );
    let answer = VolumeServiceClient::new(channel).import_volume(requests).await;
    render::line(sending.settle(answer).await?.volume.unwrap_or_default().name)?;
    Ok(0)
}
