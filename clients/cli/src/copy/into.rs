//! From this host into a container: a file, a directory, or a tar on standard input.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use layer::copy::{open_archive, Archive, Root};
use layer::Limits;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::names::{self, ContainerPath, Destination};
use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::copy_from_response::Part as Answer;
use crate::api::v1::copy_to_request::Part;
use crate::api::v1::types::FileInfo;
use crate::api::v1::{CopyFromRequest, CopyToOptions, CopyToRequest};
use crate::failure::Failure;
use crate::images::send::{self, Sending};
use crate::progress;

/// Bytes of one message.
const CHUNK_BYTES: usize = 512 * 1024;
/// Messages that wait for the engine before reading stops.
const CHUNK_QUEUE: usize = 4;
/// Links followed to find the destination; as many as the kernel follows.
const MAX_LINKS: u32 = 40;
/// Type bits of a mode, and those of a directory and of a link. Source: inode(7).
const KIND_MASK: u32 = 0o170_000;
const KIND_DIRECTORY: u32 = 0o040_000;
const KIND_LINK: u32 = 0o120_000;

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
    from: OsString,
    to: ContainerPath,
    options: &Options,
) -> Result<u8, Failure> {
    let (to, found) = destination(&channel, to).await?;
    if from == "-" {
        return stream(channel, to, found, options).await;
    }
    let source = Source::look_at(&from, options.follow_link)?;
    let shown = from.as_bytes();
    let aim = names::aim(&source.name, names::means_content(shown), source.is_directory, &to.path, found)
        .map_err(|rule| Failure::new(rule, "the directory that it goes into must be there"))?;
    let archive = source.open(&aim.name, options)?;
    let first = CopyToOptions {
        container: to.container,
        raw_path: absolute(aim.directory),
        // The ids in the archive are those to be had: the files' own, or root's.
        keep_owners: true,
        ..Default::default()
    };
    send(channel, first, archive, progress::copying(options.is_quiet)).await
}

async fn send(
    channel: Channel,
    first: CopyToOptions,
    archive: Archive,
    bar: ProgressBar,
) -> Result<u8, Failure> {
    let (requests, queue) = mpsc::channel(CHUNK_QUEUE);
    let reader = {
        let bar = bar.clone();
        std::thread::spawn(move || read(archive, first, &requests, &bar))
    };
    let answer = ContainerServiceClient::new(channel).copy_to(ReceiverStream::new(queue)).await;
    bar.finish_and_clear();
    // A failure to read explains a failed call better than the call does.
    if let Ok(Err(failure)) = reader.join() {
        return Err(failure);
    }
    answer?;
    Ok(0)
}

/// Sends the archive piece by piece; ends early, and without an end, if the engine has closed the stream.
fn read(
    mut archive: Archive,
    first: CopyToOptions,
    requests: &mpsc::Sender<CopyToRequest>,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut part = Part::Options(first);
    while requests.blocking_send(CopyToRequest { part: Some(part) }).is_ok() {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut filled = 0;
        while filled < chunk.len() {
            match archive
                .stream
                .read(&mut chunk[filled..], &|| false)
                .map_err(|e| Failure::new(e.to_string(), ""))?
            {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            return Ok(());
        }
        chunk.truncate(filled);
        bar.inc(filled as u64);
        part = Part::Chunk(chunk);
    }
    Ok(())
}

/// A tar on standard input.
async fn stream(
    channel: Channel,
    to: ContainerPath,
    found: Destination,
    options: &Options,
) -> Result<u8, Failure> {
    if std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no archive on standard input, it is a terminal",
            "write `tar -c … | fluyt cp - CONTAINER:DIRECTORY`",
        ));
    }
    if found != Destination::Directory {
        let shown = String::from_utf8_lossy(&to.path).into_owned();
        return Err(Failure::new(
            format!("{shown} is no directory"),
            "an archive is unpacked into a directory",
        ));
    }
    let (input, _) = send::open(None)?;
    let first =
        CopyToOptions { container: to.container, raw_path: to.path, keep_owners: true, ..Default::default() };
    let (sending, requests) = Sending::begin(
        input,
        progress::copying(options.is_quiet),
        CopyToRequest { part: Some(Part::Options(first)) },
        |chunk| CopyToRequest { part: Some(Part::Chunk(chunk)) },
    );
    let answer = ContainerServiceClient::new(channel).copy_to(requests).await;
    sending.settle(answer).await?;
    Ok(0)
}

/// The destination with links at its end followed, as far as there is something, and what is there.
async fn destination(
    channel: &Channel,
    mut to: ContainerPath,
) -> Result<(ContainerPath, Destination), Failure> {
    for _ in 0..MAX_LINKS {
        let Some(info) = look(channel.clone(), &to).await? else { return Ok((to, Destination::Absent)) };
        match info.mode & KIND_MASK {
            KIND_DIRECTORY => return Ok((to, Destination::Directory)),
            KIND_LINK => to.path = names::follow(&to.path, &info.raw_link_target),
            _ => return Ok((to, Destination::File)),
        }
    }
    Err(Failure::new("too many links lead from the destination", ""))
}

/// What the path is; `None` if nothing is there.
async fn look(channel: Channel, at: &ContainerPath) -> Result<Option<FileInfo>, Failure> {
    let request =
        CopyFromRequest { container: at.container.clone(), raw_path: at.path.clone(), ..Default::default() };
    let failure = match ContainerServiceClient::new(channel).copy_from(request).await {
        // Only the first message is of interest; dropping the stream ends the call.
        Ok(answer) => match answer.into_inner().message().await {
            Ok(message) => {
                return match message.and_then(|message| message.part) {
                    Some(Answer::Info(info)) => Ok(Some(info)),
                    _ => Err(Failure::cut_off("copy")),
                }
            }
            Err(status) => Failure::from(status),
        },
        Err(status) => Failure::from(status),
    };
    if failure.reason == "PATH_NOT_FOUND" {
        return Ok(None);
    }
    Err(failure)
}

fn absolute(path: Vec<u8>) -> Vec<u8> {
    if path.starts_with(b"/") {
        path
    } else {
        [b"/", path.as_slice()].concat()
    }
}

/// What is copied.
struct Source {
    path: PathBuf,
    /// What it is called.
    name: Vec<u8>,
    is_directory: bool,
}

impl Source {
    fn look_at(path: &OsStr, follow_link: bool) -> Result<Self, Failure> {
        let given = Path::new(path);
        let failed = |error: &std::io::Error| Failure::file("read", given, error);
        let path =
            if follow_link { fs::canonicalize(given).map_err(|e| failed(&e))? } else { given.to_owned() };
        // What ends in a slash is the directory that a link leads to, as everywhere.
        let metadata = fs::symlink_metadata(&path).map_err(|error| failed(&error))?;
        let (_, mut name) = names::split(given.as_os_str().as_bytes());
        if name.is_empty() {
            let whole = fs::canonicalize(given).map_err(|error| failed(&error))?;
            name = whole.file_name().unwrap_or_default().as_bytes().to_vec();
        }
        Ok(Self { path, name, is_directory: metadata.is_dir() })
    }

    fn open(&self, name: &[u8], options: &Options) -> Result<Archive, Failure> {
        let (directory, path) = if self.is_directory {
            (self.path.as_path(), OsStr::new("."))
        } else {
            let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")), self.path.file_name().unwrap_or_default())
        };
        let root = Root::new(open_directory(directory)?, false);
        let shown = self.path.display().to_string();
        let mut archive = open_archive(&root, path.as_bytes(), false, Some(name), &Limits::default(), &shown)
            .map_err(|error| Failure::new(error.to_string(), ""))?;
        if !options.is_archive {
            archive.stream = archive.stream.owned_by(0, 0);
        }
        Ok(archive)
    }
}

/// A directory of this host, opened to be walked from.
///
/// # Errors
/// It is not there, is none, or cannot be read.
pub fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = rustix::fs::OFlags::DIRECTORY.bits();
    let flags = i32::try_from(flags).unwrap_or_default();
    let opened = File::options().read(true).custom_flags(flags).open(path);
    opened.map(OwnedFd::from).map_err(|error| Failure::file("open", path, &error))
}
