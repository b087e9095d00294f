//! Where a build's context comes from, and sending of it what the engine lacks.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use ignore::Matcher;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::flags::BuildCommand;
use super::remembered::{Files, Remembered};
use super::walk::{self, Walked};
use crate::api::v1::build_service_client::BuildServiceClient;
use crate::api::v1::build_source::Source;
use crate::api::v1::upload_context_request::Part;
use crate::api::v1::{
    BuildSource, ContextOffer, UploadContextOpen, UploadContextRequest, UploadContextResponse,
};
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
    /// A repository that git reaches by ssh.
    pub fn is_over_ssh(&self) -> bool {
        matches!(self, Self::Git(url) if url.starts_with("git@") || url.starts_with("ssh://"))
    }

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
    /// The ignore file that is left out by; empty for none.
    pub ignore_file: Vec<u8>,
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
        return Ok(Found { context, dockerfile_name: name, dockerfile: Vec::new(), ignore_file: Vec::new() });
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
    let ignore_file = read_first(&ignored)?.map(|(_, data)| data).unwrap_or_default();
    Ok(Found { context: Context::Folder(folder, ignored), dockerfile_name: name, dockerfile, ignore_file })
}

/// `<Dockerfile>.dockerignore` beside the Dockerfile wins over `.dockerignore` of the context (case B22).
fn ignore_files(folder: &Path, file: Option<&str>) -> Vec<PathBuf> {
    let own = match file {
        None => folder.join("Dockerfile.dockerignore"),
        Some(path) => PathBuf::from(format!("{path}.dockerignore")),
    };
    vec![own, folder.join(".dockerignore")]
}

/// Name and bytes of the first of these files that is there.
fn read_first(paths: &[PathBuf]) -> Result<Option<(String, Vec<u8>)>, Failure> {
    let found = paths.iter().find(|path| path.is_file());
    found.map(|path| Ok((path.display().to_string(), read_file(path)?))).transpose()
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
        return Ok(Found {
            context,
            dockerfile_name: "Dockerfile".to_owned(),
            dockerfile,
            ignore_file: Vec::new(),
        });
    }
    let name = file.unwrap_or("Dockerfile").to_owned();
    let (mut dockerfile, mut ignore_file) = (None, Vec::new());
    let walked = walk::archive(begun.chain(input), |all| {
        dockerfile = walk::find(all, Path::new(&name));
        let own = ignore::file_names(&name);
        ignore_file = own.iter().find_map(|name| walk::find(all, Path::new(name))).unwrap_or_default();
        matcher(&ignore_file, "the ignore file of the tar")
    });
    // The closure's borrow ends with the walk.
    let walked = walked?;
    let dockerfile = dockerfile
        .ok_or_else(|| Failure::new(format!("the tar has no {name}"), "name the Dockerfile with --file"))?;
    Ok(Found { context: Context::Walked(walked), dockerfile_name: name, dockerfile, ignore_file })
}

fn matcher(data: &[u8], name: &str) -> Result<Matcher, Failure> {
    Matcher::from_file(data).map_err(|error| Failure::new(format!("{name}: {error}"), "mend the pattern"))
}

/// The context as the engine knows it, sent where it has to be.
///
/// # Errors
/// Files that cannot be read or change meanwhile; what the engine answers.
pub async fn send(channel: Channel, context: Context, is_quiet: bool) -> Result<BuildSource, Failure> {
    let mut client = BuildServiceClient::new(channel);
    let context_id = match context {
        Context::Git(url) => return Ok(BuildSource { source: Some(Source::GitUrl(url)) }),
        Context::Http(url) => return Ok(BuildSource { source: Some(Source::HttpUrl(url)) }),
        Context::Walked(walked) => {
            let offered = offer(&mut client, &walked).await?;
            send_missing(&mut client, &walked, offered, is_quiet).await?
        }
        Context::Folder(folder, ignore_files) => {
            let work = move || look(&folder, &ignore_files);
            let looked = tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| Failure::new(format!("the context could not be read: {error}"), ""))??;
            let offered = match known(&mut client, &looked.candidates).await? {
                Some(answer) => answer,
                None => offer(&mut client, &looked.walked).await?,
            };
            match send_missing(&mut client, &looked.walked, offered, is_quiet).await {
                Ok(context_id) => {
                    looked.remembered.keep(&looked.files, &looked.listing, &context_id);
                    context_id
                }
                Err(failure) => {
                    // What was remembered may be why: the next build looks at the files themselves.
                    looked.remembered.forget();
                    return Err(failure);
                }
            }
        }
    };
    Ok(BuildSource { source: Some(Source::ContextId(context_id)) })
}

/// A folder that was looked at.
struct Looked {
    walked: Walked,
    listing: [u8; 32],
    /// Ids of contexts that are the same.
    candidates: Vec<String>,
    remembered: Remembered,
    files: Files,
}

fn look(folder: &Path, ignore_files: &[PathBuf]) -> Result<Looked, Failure> {
    let (name, data) = read_first(ignore_files)?.unwrap_or_default();
    let (remembered, mut files) = (Remembered::of(folder), Files::begin());
    let table = remembered.table();
    let walked = walk::folder(folder, &matcher(&data, &name)?, &table, &mut files)?;
    let listing = walked.digest();
    let candidates = table.contexts(&listing);
    Ok(Looked { walked, listing, candidates, remembered, files })
}

/// What the engine says of the first of these contexts that it has; `None` if it has none of them.
async fn known(
    client: &mut BuildServiceClient<Channel>,
    candidates: &[String],
) -> Result<Option<UploadContextResponse>, Failure> {
    for context_id in candidates {
        let open = UploadContextOpen { context_id: context_id.clone(), ..Default::default() };
        let request = UploadContextRequest { part: Some(Part::Open(open)) };
        match client.upload_context(tokio_stream::once(request)).await {
            Ok(answer) => return Ok(Some(answer.into_inner())),
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err(status.into()),
        }
    }
    Ok(None)
}

async fn offer(
    client: &mut BuildServiceClient<Channel>,
    walked: &Walked,
) -> Result<UploadContextResponse, Failure> {
    Ok(client.upload_context(tokio_stream::iter(offers(walked))).await?.into_inner())
}

/// Sends the chunks that the engine names; returns the id of the context, which is whole.
async fn send_missing(
    client: &mut BuildServiceClient<Channel>,
    walked: &Walked,
    answer: UploadContextResponse,
    is_quiet: bool,
) -> Result<String, Failure> {
    let (context_id, mut missing) = (answer.context_id, answer.missing_chunk_digests);
    if missing.is_empty() {
        return Ok(context_id);
    }
    let places = walked.places();
    let bar = progress::sending(is_quiet, 0);
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
                let Some(place) = places.get(digest.as_slice()) else { continue };
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
    Ok(context_id)
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
