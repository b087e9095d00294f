//! From a container to this host: a file, a directory, or a tar on standard output.

use std::ffi::OsString;
use std::fs;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use indicatif::ProgressBar;
use layer::copy::{begin, Receiver, Rename, Root, UnpackOptions, Unpacker};
use layer::Limits;
use tonic::transport::Channel;
use tonic::Streaming;

use super::into::open_directory;
use super::names::{self, ContainerPath, Destination};
use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::copy_from_response::Part;
use crate::api::v1::types::FileInfo;
use crate::api::v1::{CopyFromRequest, CopyFromResponse};
use crate::failure::Failure;
use crate::{progress, render};

/// Type bits of a mode, and those of a directory. Source: inode(7).
const KIND_MASK: u32 = 0o170_000;
const KIND_DIRECTORY: u32 = 0o040_000;
/// What a directory is called that has no name: its content is meant.
const NAMELESS: &[u8] = b".";

/// Flags of the command.
pub struct Options {
    /// Keep user and group.
    pub is_archive: bool,
    /// Copy what the source, a link, points to.
    pub follow_link: bool,
    /// Show no progress.
    pub is_quiet: bool,
}

/// Copies `from` to `to`.
///
/// # Errors
/// See `run` of the command.
pub async fn copy(
    channel: Channel,
    from: ContainerPath,
    to: OsString,
    options: &Options,
) -> Result<u8, Failure> {
    let is_stream = to == "-";
    if is_stream && std::io::stdout().is_terminal() {
        return Err(Failure::usage("a tar is nothing for a terminal", "name a file, or redirect the output"));
    }
    let request = CopyFromRequest {
        container: from.container,
        raw_path: from.path,
        follow_link: options.follow_link,
        ..Default::default()
    };
    let mut parts = ContainerServiceClient::new(channel).copy_from(request).await?.into_inner();
    let Some(Part::Info(info)) = parts.message().await?.and_then(|message| message.part) else {
        return Err(Failure::cut_off("copy"));
    };
    if is_stream {
        let hidden = ProgressBar::hidden();
        receive(&mut parts, &hidden, |chunk| render::bytes(&chunk, false)).await?;
        return Ok(0);
    }
    let bar = progress::copying(options.is_quiet);
    let receiver = receiver(&info, &to, options)?;
    let failed = |error: layer::copy::CopyError| Failure::new(error.to_string(), "");
    let received = receive(&mut parts, &bar, |chunk| receiver.write(chunk).map_err(failed)).await;
    bar.finish_and_clear();
    if received.is_err() {
        receiver.abort();
    }
    received?;
    receiver.finish().map_err(failed)?;
    Ok(0)
}

async fn receive(
    parts: &mut Streaming<CopyFromResponse>,
    bar: &ProgressBar,
    mut write: impl FnMut(Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    while let Some(message) = parts.message().await? {
        match message.part {
            Some(Part::Chunk(chunk)) => {
                bar.inc(chunk.len() as u64);
                write(chunk)?;
            }
            Some(Part::Complete(_)) => return Ok(()),
            Some(Part::Info(_)) | None => {}
        }
    }
    Err(Failure::cut_off("copy"))
}

/// Takes the tar of what `info` tells, to be put down at `to`. What it holds is a stranger's: no link of it is followed,
/// and without `-a` nothing of it has powers here.
fn receiver(info: &FileInfo, to: &OsString, options: &Options) -> Result<Receiver, Failure> {
    let is_content = info.raw_name == NAMELESS;
    let is_directory = info.mode & KIND_MASK == KIND_DIRECTORY;
    let (to, found) = destination(to.as_bytes());
    let aim = names::aim(&info.raw_name, is_content, is_directory, &to, found)
        .map_err(|rule| Failure::new(rule, "the directory that it goes into must be there"))?;
    let directory = names::os(aim.directory);
    let directory = Path::new(&directory);
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let from = if is_content { Vec::new() } else { info.raw_name.clone() };
    let unpack = UnpackOptions {
        owner: (!options.is_archive).then_some(owner),
        is_plain: !options.is_archive,
        rename: Some(Rename { from, to: aim.name }),
        ..UnpackOptions::default()
    };
    let (limits, shown) = (Limits::default(), directory.display().to_string());
    let root = Root::new(open_directory(directory)?, false);
    Unpacker::new(root, b"/", unpack, &limits, &shown)
        .and_then(|unpacker| begin(unpacker, &limits, &shown))
        .map_err(|error| Failure::new(error.to_string(), ""))
}

/// The destination, a link to nothing followed once, and what is there.
fn destination(to: &[u8]) -> (Vec<u8>, Destination) {
    let path = names::os(to.to_vec());
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => (to.to_vec(), Destination::Directory),
        Ok(_) => (real(&path).unwrap_or_else(|| to.to_vec()), Destination::File),
        Err(_) => match fs::read_link(&path) {
            Ok(target) => (names::follow(to, target.as_os_str().as_bytes()), Destination::Absent),
            Err(_) => (to.to_vec(), Destination::Absent),
        },
    }
}

/// Where a link leads, so that it is the file behind it that is written.
fn real(path: &OsString) -> Option<Vec<u8>> {
    Some(fs::canonicalize(path).ok()?.as_os_str().as_bytes().to_vec())
}
