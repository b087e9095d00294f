//! Where a build's context comes from, and sending of it what the engine lacks.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use ignore::Matcher;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::flags::BuildCommand;
use super::walk::{self, Walked};
use crate::api::v1::build_service_client::BuildServiceClient;
use crate::api::v1::build_source::Source;
use crate::api::v1::upload_context_request::Part;
use crate::api::v1::{BuildSource, ContextOffer, UploadContextOpen, UploadContextRequest};
use crate::failure::Failure;
use crate::progress;

/// Entries of one message, and about how many bytes of them.
const OFFER_ENTRIES: usize = 500;
const OFFER_BYTES: usize = 512 * 1024;
/// Messages that wait for the engine before reading stops.
const QUEUE: usize = 8;
/// What the engine takes of a Dockerfile, and of an ignore file; a larger one is refused there.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// How often the engine may say that chunks are missing before it is given up.
const MAX_ROUNDS: usize = 1_000;

/// A context that is not sent yet.
#[derive(Debug)]
pub enum Context {
    /// A folder, and the ignore files that it may have, the one that wins first.
    Folder(PathBuf, Vec<PathBuf>),
    /// What was read already.
    Walked(Walked),
    /// Fetched by the engine.
    Git(String),
    /// The same.
    Http(String),
}

impl Context {
    /// A folder or URL of `--build-context`.
    ///
    /// # Errors
    /// It is neither.
    pub fn named(text: &str) -> Result<Self, Failure> {
        if let Some(remote) = remote(text) {
            return Ok(remote);
        }
        let folder = PathBuf::from(text);
        if !folder.is_dir() {
            return Err(Failure::usage(
                format!("{text} is no folder"),
                "name a folder, docker-image://REFERENCE, or the URL of a git repository",
            ));
        }
        let own = folder.join(".dockerignore");
        Ok(Self::Folder(folder, vec![own]))
    }
}

/// What a command line means.
#[derive(Debug)]
pub struct Found {
    /// The context.
    pub context: Context,
    /// What errors call the Dockerfile; its path within the context where it is not sent.
    pub dockerfile_name: String,
    /// Its bytes; empty where the engine reads it from the context.
    pub dockerfile: Vec<u8>,
}

fn remote(text: &str) -> Option<Context> {
    let bare = text.split(['#', '?']).next().unwrap_or(text);
    if text.starts_with("github.com/") {
        return Some(Context::Git(format!("https://{text}")));
    }
    let is_url = text.contains("://") || text.starts_with("git@");
    if !is_url {
        return None;
    }
    let is_http = text.starts_with("http://") || text.starts_with("https://");
    if is_http && !bare.ends_with(".git") {
        return Some(Context::Http(text.to_owned()));
    }
    Some(Context::Git(text.to_owned()))
}

/// The context and the Dockerfile that the command names.
///
/// # Errors
/// Files that cannot be read; arguments that do not go together.
pub fn find(command: &BuildCommand) -> Result<Found, Failure> {
    let file = command.file.as_deref();
    if command.context == "-" {
        return from_standard_input(file);
    }
    if let Some(context) = remote(&command.context) {
        let name = file.unwrap_or("Dockerfile").to_owned();
        return Ok(Found { context, dockerfile_name: name, dockerfile: Vec::new() });
    }
    let folder = PathBuf::from(&command.context);
    if !folder.is_dir() {
        let message = format!("{} is no folder", folder.display());
        return Err(Failure::usage(message, "name the folder of the context, a URL, or `-`"));
    }
    let (name, dockerfile) = match file {
        Some("-") => ("Dockerfile".to_owned(), read_bounded(std::io::stdin().lock(), Path::new("-"))?),
        Some(path) => (path.to_owned(), read_file(Path::new(path))?),
        None => ("Dockerfile".to_owned(), read_file(&folder.join("Dockerfile"))?),
    };
    let ignored = ignore_files(&folder, file);
    Ok(Found { context: Context::Folder(folder, ignored), dockerfile_name: name, dockerfile })
}

/// `<Dockerfile>.dockerignore` beside the Dockerfile wins over `.dockerignore` of the context (case B22).
fn ignore_files(folder: &Path, file: Option<&str>) -> Vec<PathBuf> {
    let own = match file {
        None => folder.join("Dockerfile.dockerignore"),
        Some(path) => PathBuf::from(format!("{path}.dockerignore")),
    };
    vec![own, folder.join(".dockerignore")]
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::file("open", path, &error))?;
    read_bounded(file, path)
}

fn read_bounded(source: impl Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    source
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut data)
        .map_err(|error| Failure::file("read", path, &error))?;
    Ok(data)
}

/// Standard input is a tar, or a Dockerfile without a context.
fn from_standard_input(file: Option<&str>) -> Result<Found, Failure> {
    let mut input = std::io::stdin().lock();
    let mut head = [0; 512];
    let mut filled = 0;
    while filled < head.len() {
        let count = input
            .read(&mut head[filled..])
            .map_err(|error| Failure::new(format!("cannot read standard input: {error}"), ""))?;
        if count == 0 {
            break;
        }
        filled += count;
    }
    let begun = Cursor::new(head[..filled].to_vec());
    let is_tar = filled == head.len() && (&head[257..262] == b"ustar" || head[..filled].contains(&0));
    if !is_tar {
        if file.is_some() {
            return Err(Failure::usage(
                "standard input is no tar",
                "leave --file out to build from a Dockerfile",
            ));
        }
        let dockerfile = read_bounded(begun.chain(input), Path::new("-"))?;
        let context = Context::Walked(Walked::default());
        return Ok(Found { context, dockerfile_name: "Dockerfile".to_owned(), dockerfile });
    }
    let name = file.unwrap_or("Dockerfile").to_owned();
    let mut dockerfile = None;
    let walked = walk::archive(begun.chain(input), |all| {
        dockerfile = walk::find(all, Path::new(&name));
        let own = ignore::file_names(&name);
        let found = own.iter().find_map(|name| walk::find(all, Path::new(name)));
        matcher(&found.unwrap_or_default(), "the ignore file of the tar")
    });
    // The closure's borrow ends with the walk.
    let walked = walked?;
    let dockerfile = dockerfile
        .ok_or_else(|| Failure::new(format!("the tar has no {name}"), "name the Dockerfile with --file"))?;
    Ok(Found { context: Context::Walked(walked), dockerfile_name: name, dockerfile })
}

fn matcher(data: &[u8], name: &str) -> Result<Matcher, Failure> {
    Matcher::from_file(data).map_err(|error| Failure::new(format!("{name}: {error}"), "mend the pattern"))
}

/// The context as the engine knows it, sent where it has to be.
///
/// # Errors
/// Files that cannot be read or change meanwhile; what the engine answers.
pub async fn send(channel: Channel, context: Context, is_quiet: bool) -> Result<BuildSource, Failure> {
    let walked = match context {
        Context::Git(url) => return Ok(BuildSource { source: Some(Source::GitUrl(url)) }),
        Context::Http(url) => return Ok(BuildSource { source: Some(Source::HttpUrl(url)) }),
        Context::Walked(walked) => walked,
        Context::Folder(folder, ignore_files) => {
            let work = move || {
                let found = ignore_files.iter().find(|path| path.is_file());
                let data = found.map(|path| read_file(path)).transpose()?.unwrap_or_default();
                let name = found.map(|path| path.display().to_string()).unwrap_or_default();
                walk::folder(&folder, &matcher(&data, &name)?)
            };
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| Failure::new(format!("the context could not be read: {error}"), ""))??
        }
    };
    let mut client = BuildServiceClient::new(channel);
    let answer = client.upload_context(tokio_stream::iter(offers(&walked))).await?.into_inner();
    let (context_id, mut missing) = (answer.context_id, answer.missing_chunk_digests);
    let bar = progress::sending(is_quiet || missing.is_empty(), 0);
    let mut rounds = 0;
    while !missing.is_empty() {
        rounds += 1;
        if rounds > MAX_ROUNDS {
            return Err(Failure::new("the engine keeps nothing of the context", "see the daemon's log"));
        }
        let (requests, queue) = mpsc::channel(QUEUE);
        let open = UploadContextOpen { context_id: context_id.clone(), ..Default::default() };
        let sending = async {
            let _ = requests.send(UploadContextRequest { part: Some(Part::Open(open)) }).await;
            for digest in &missing {
                let Some(place) = walked.chunks.get(digest) else { continue };
                let data = place.read(digest)?;
                bar.inc(data.len() as u64);
                // The engine has closed the stream: its answer says why.
                if requests.send(UploadContextRequest { part: Some(Part::Chunk(data)) }).await.is_err() {
                    break;
                }
            }
            drop(requests);
            Ok::<(), Failure>(())
        };
        let (sent, answer) = tokio::join!(sending, client.upload_context(ReceiverStream::new(queue)));
        sent?;
        missing = answer?.into_inner().missing_chunk_digests;
    }
    bar.finish_and_clear();
    Ok(BuildSource { source: Some(Source::ContextId(context_id)) })
}

fn offers(walked: &Walked) -> Vec<UploadContextRequest> {
    let mut requests = vec![UploadContextRequest { part: Some(Part::Open(UploadContextOpen::default())) }];
    let (mut offer, mut size) = (ContextOffer::default(), 0);
    for entry in &walked.entries {
        size += prost::Message::encoded_len(entry);
        offer.entries.push(entry.clone());
        if offer.entries.len() == OFFER_ENTRIES || size > OFFER_BYTES {
            requests.push(UploadContextRequest { part: Some(Part::Offer(std::mem::take(&mut offer))) });
            size = 0;
        }
    }
    if !offer.entries.is_empty() {
        requests.push(UploadContextRequest { part: Some(Part::Offer(offer)) });
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_folders() {
        assert!(matches!(remote("https://example.com/a.git#main:sub"), Some(Context::Git(_))));
        assert!(matches!(remote("git@example.com:a/b"), Some(Context::Git(_))));
        assert!(matches!(remote("file:///srv/a"), Some(Context::Git(_))));
        assert!(matches!(remote("https://example.com/a.tar.gz"), Some(Context::Http(_))));
        assert!(
            matches!(remote("github.com/a/b#main"), Some(Context::Git(url)) if url == "https://github.com/a/b#main")
        );
        assert!(remote("./a.git").is_none());
    }

    #[test]
    fn the_ignore_file_of_the_dockerfile_comes_first() {
        let found = ignore_files(Path::new("ctx"), Some("docker/Prod"));
        assert_eq!(found, [PathBuf::from("docker/Prod.dockerignore"), PathBuf::from("ctx/.dockerignore")]);
    }
}
