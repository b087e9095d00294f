//! Images: pull, load, import, images, tag, rmi, history and the image side of inspect.

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::types::operation::Result as OperationResult;
use crate::api::v1::types::PullResult;
use crate::api::v1::{
    import_image_request, load_images_request, DeleteImageRequest, GetImageRequest, GetImageResponse, Image,
    ImageFilter, ImportImageOptions, ImportImageRequest, ListImagesRequest, LoadImagesOptions,
    LoadImagesRequest, PullImageRequest, TagImageRequest,
};
use crate::container_flags::parse_platform;
use crate::credentials;
use crate::failure::Failure;
use crate::operations;
use crate::progress;
use crate::render::{self, Format};
use crate::units;

/// Bytes of an archive sent in one message.
const CHUNK_BYTES: usize = 512 * 1024;
/// Messages of an archive that wait for the engine before reading stops.
const CHUNK_QUEUE: usize = 4;

/// `fluyt pull`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt pull debian:12
  fluyt pull --platform linux/arm64 registry.example.com/team/app@sha256:…")]
pub struct PullCommand {
    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,
    /// Every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Platform to choose, as linux/arm64; default: the host's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Reference of the image
    reference: String,
}

/// `fluyt load`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt load -i image.tar\n  skopeo copy docker://busybox oci-archive:/dev/stdout | fluyt load"
)]
pub struct LoadCommand {
    /// Archive: OCI archive, OCI layout tar or docker-archive, compressed or not; default: standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// Reference for an image that the archive does not name
    #[arg(long, value_name = "REFERENCE")]
    reference: Option<String>,
}

/// `fluyt import`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt import rootfs.tar my/base:1\n  tar -C rootfs -c . | fluyt import - my/base --change 'CMD [\"/bin/sh\"]'"
)]
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
    /// Tar of the root file system, compressed or not; `-` is standard input
    file: PathBuf,
    /// Reference for the new image
    reference: Option<String>,
}

/// `fluyt images`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt images\n  fluyt images -q --filter reference='team/*'\n  fluyt images --format json"
)]
pub struct ListCommand {
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// reference=PATTERN, label=NAME[=VALUE], dangling=true|false, before=IMAGE or since=IMAGE
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only images of this repository or reference
    reference: Option<String>,
}

/// `fluyt tag`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt tag busybox:latest team/busybox:1")]
pub struct TagCommand {
    /// Image: reference, digest or id
    image: String,
    /// Further reference for it
    reference: String,
}

/// `fluyt rmi`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  fluyt rmi team/app:1\n  fluyt rmi -f 0123456789ab")]
pub struct RemoveCommand {
    /// Remove all references of an id, also if stopped containers use it
    #[arg(short, long)]
    force: bool,
    /// Images: references, digests or ids
    #[arg(required = true)]
    images: Vec<String>,
}

/// `fluyt history`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt history debian:12")]
pub struct HistoryCommand {
    /// Print whole commands
    #[arg(long)]
    no_trunc: bool,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Image: reference, digest or id
    image: String,
}

/// Pulls an image and answers its id.
///
/// # Errors
/// Credentials that cannot be had, what the engine answers, or the operation's failure.
pub async fn pull_image(
    channel: Channel,
    reference: &str,
    platform: Option<&str>,
    quiet: bool,
) -> Result<(String, String), Failure> {
    let request = PullImageRequest {
        reference: reference.to_owned(),
        platform: platform.map(parse_platform).transpose()?,
        ..Default::default()
    };
    let result = finish_pull(channel, request, quiet).await?;
    Ok((result.reference, result.image_id))
}

async fn finish_pull(
    channel: Channel,
    mut request: PullImageRequest,
    quiet: bool,
) -> Result<PullResult, Failure> {
    request.auth = credentials::for_reference(&request.reference).await?;
    let answer = ImageServiceClient::new(channel.clone()).pull_image(request).await?.into_inner();
    let ended = operations::watch(channel, answer.operation.unwrap_or_default(), quiet).await?;
    match ended.result {
        Some(OperationResult::PullResult(result)) => Ok(result),
        _ => Err(Failure::cut_off("pull")),
    }
}

/// Runs `fluyt pull`.
///
/// # Errors
/// As [`pull_image`].
pub async fn pull(channel: Channel, command: PullCommand) -> Result<u8, Failure> {
    let request = PullImageRequest {
        reference: command.reference,
        platform: command.platform.as_deref().map(parse_platform).transpose()?,
        all_tags: command.all_tags,
        ..Default::default()
    };
    let result = finish_pull(channel, request, command.quiet).await?;
    if command.quiet {
        render::line(result.image_id)?;
    } else if command.all_tags {
        for reference in &result.references {
            render::line(reference)?;
        }
    } else {
        render::line(result.reference)?;
    }
    Ok(0)
}

/// Runs `fluyt load`.
///
/// # Errors
/// The archive cannot be read, or what the engine answers.
pub async fn load(channel: Channel, command: LoadCommand) -> Result<u8, Failure> {
    let (file, size) = open(command.input.as_deref()).await?;
    let bar = progress::sending(command.quiet, size);
    let options = LoadImagesOptions {
        size_bytes: size,
        reference: command.reference.unwrap_or_default(),
        ..Default::default()
    };
    let (requests, queue) = mpsc::channel(CHUNK_QUEUE);
    let first = LoadImagesRequest { part: Some(load_images_request::Part::Options(options)) };
    let reader = tokio::spawn(send(file, bar.clone(), requests, first, |chunk| LoadImagesRequest {
        part: Some(load_images_request::Part::Chunk(chunk)),
    }));
    let answer = ImageServiceClient::new(channel).load_images(ReceiverStream::new(queue)).await;
    let answer = settle(reader, answer).await;
    bar.finish_and_clear();
    let answer = answer?;
    for image in answer.images {
        for reference in &image.references {
            render::line(if command.quiet { image.image_id.clone() } else { format!("loaded {reference}") })?;
        }
        if image.references.is_empty() {
            render::line(if command.quiet { image.image_id } else { format!("loaded {}", image.image_id) })?;
        }
    }
    Ok(0)
}

/// Runs `fluyt import`.
///
/// # Errors
/// The archive cannot be read, or what the engine answers.
pub async fn import(channel: Channel, command: ImportCommand) -> Result<u8, Failure> {
    let path = (command.file.as_os_str() != "-").then_some(command.file.as_path());
    let (file, size) = open(path).await?;
    let bar = progress::sending(false, size);
    let options = ImportImageOptions {
        reference: command.reference.unwrap_or_default(),
        changes: command.change,
        platform: command.platform.as_deref().map(parse_platform).transpose()?,
        message: command.message,
        size_bytes: size,
        ..Default::default()
    };
    let (requests, queue) = mpsc::channel(CHUNK_QUEUE);
    let first = ImportImageRequest { part: Some(import_image_request::Part::Options(options)) };
    let reader = tokio::spawn(send(file, bar.clone(), requests, first, |chunk| ImportImageRequest {
        part: Some(import_image_request::Part::Chunk(chunk)),
    }));
    let answer = ImageServiceClient::new(channel).import_image(ReceiverStream::new(queue)).await;
    let answer = settle(reader, answer).await;
    bar.finish_and_clear();
    let answer = answer?;
    render::line(answer.image.unwrap_or_default().id)?;
    Ok(0)
}

type Input = Box<dyn tokio::io::AsyncRead + Send + Unpin>;

async fn open(path: Option<&std::path::Path>) -> Result<(Input, i64), Failure> {
    match path {
        None => Ok((Box::new(tokio::io::stdin()), 0)),
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| Failure::file("open", path, &error))?;
            let metadata = file.metadata().map_err(|error| Failure::file("stat", path, &error))?;
            let size = if metadata.is_file() { i64::try_from(metadata.len()).unwrap_or(0) } else { 0 };
            Ok((Box::new(tokio::fs::File::from_std(file)), size))
        }
    }
}

/// Sends `first`, then the input in pieces; ends early when the engine has closed the stream.
async fn send<T>(
    mut input: Input,
    bar: ProgressBar,
    requests: mpsc::Sender<T>,
    first: T,
    wrap: fn(Vec<u8>) -> T,
) -> std::io::Result<()> {
    if requests.send(first).await.is_err() {
        return Ok(());
    }
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = input.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        chunk.truncate(count);
        bar.inc(count as u64);
        if requests.send(wrap(chunk)).await.is_err() {
            return Ok(());
        }
    }
}

/// The engine's answer; a failure to read the input explains a failed call better than the call does.
async fn settle<T>(
    reader: tokio::task::JoinHandle<std::io::Result<()>>,
    answer: Result<tonic::Response<T>, tonic::Status>,
) -> Result<T, Failure> {
    if reader.is_finished() {
        if let Ok(Err(error)) = reader.await {
            return Err(Failure::new(format!("cannot read the archive: {error}"), ""));
        }
    }
    Ok(answer?.into_inner())
}

/// Runs `fluyt images`.
///
/// # Errors
/// A filter that is not known, or what the engine answers.
pub async fn list(channel: Channel, command: ListCommand) -> Result<u8, Failure> {
    let mut filter = ImageFilter::default();
    filter.references.extend(command.reference);
    for text in &command.filter {
        match text.split_once('=') {
            Some(("reference", value)) => filter.references.push(value.to_owned()),
            Some(("label", value)) => filter.labels.push(value.to_owned()),
            Some(("dangling", value)) => filter.is_dangling = Some(value == "true" || value == "1"),
            Some(("before", value)) => value.clone_into(&mut filter.before_image),
            Some(("since", value)) => value.clone_into(&mut filter.since_image),
            _ => {
                return Err(Failure::usage(
                    format!("--filter {text} is not known"),
                    "write reference=, label=, dangling=, before= or since=",
                ))
            }
        }
    }
    let mut client = ImageServiceClient::new(channel);
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListImagesRequest { page_token, filter: Some(filter.clone()), ..Default::default() };
        let page = client.list_images(request).await?.into_inner();
        found.extend(page.images);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if command.format == Format::Json {
        render::json_lines(&found)?;
    } else if command.quiet {
        for image in &found {
            render::line(if command.no_trunc { &image.id } else { render::short_id(&image.id) })?;
        }
    } else {
        let now = now_seconds();
        let rows: Vec<Vec<String>> =
            found.iter().flat_map(|image| rows(image, command.no_trunc, now)).collect();
        render::line(render::table(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED"], &rows))?;
    }
    Ok(0)
}

fn rows(image: &Image, no_trunc: bool, now: i64) -> Vec<Vec<String>> {
    let none = "<none>".to_owned();
    let names: Vec<(String, String)> = if image.references.is_empty() {
        vec![(none.clone(), none)]
    } else {
        image.references.iter().map(|reference| split_reference(reference)).collect()
    };
    names
        .into_iter()
        .map(|(repository, tag)| {
            vec![
                repository,
                tag,
                if no_trunc { image.id.clone() } else { render::short_id(&image.id).to_owned() },
                ago(image.build_time.as_ref().or(image.create_time.as_ref()), now),
                units::human_bytes(image.size_bytes),
                units::human_bytes(image.shared_size_bytes),
            ]
        })
        .collect()
}

/// Repository, in the short form that people type, and tag.
fn split_reference(reference: &str) -> (String, String) {
    let short = reference
        .strip_prefix("docker.io/library/")
        .or_else(|| reference.strip_prefix("docker.io/"))
        .unwrap_or(reference);
    let (name, digest) = short.split_once('@').map_or((short, None), |(name, digest)| (name, Some(digest)));
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
        _ => (name.to_owned(), digest.map_or_else(|| "<none>".to_owned(), str::to_owned)),
    }
}

fn ago(time: Option<&prost_types::Timestamp>, now: i64) -> String {
    time.map_or_else(|| "N/A".to_owned(), |time| format!("{} ago", units::human_span(now - time.seconds)))
}

/// Seconds of the epoch, now.
pub fn now_seconds() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |span| i64::try_from(span.as_secs()).unwrap_or(i64::MAX))
}

/// Runs `fluyt tag`.
///
/// # Errors
/// What the engine answers.
pub async fn tag(channel: Channel, command: TagCommand) -> Result<u8, Failure> {
    let request =
        TagImageRequest { image: command.image, reference: command.reference, ..Default::default() };
    ImageServiceClient::new(channel).tag_image(request).await?;
    Ok(0)
}

/// Runs `fluyt rmi`: each image by itself; the first failure decides the exit code after all were tried.
///
/// # Errors
/// Standard output is closed.
pub async fn remove(channel: Channel, command: RemoveCommand) -> Result<u8, Failure> {
    let mut client = ImageServiceClient::new(channel);
    let mut exit_code = 0;
    for image in command.images {
        let request = DeleteImageRequest { image, force: command.force, ..Default::default() };
        match client.delete_image(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                for reference in answer.untagged {
                    render::line(format!("untagged {reference}"))?;
                }
                for id in answer.deleted {
                    render::line(format!("deleted {id}"))?;
                }
            }
            Err(status) => {
                eprintln!("{}", Failure::from(status));
                exit_code = 1;
            }
        }
    }
    Ok(exit_code)
}

/// What the engine knows of one image.
///
/// # Errors
/// What the engine answers.
pub async fn get(channel: Channel, image: &str) -> Result<GetImageResponse, Failure> {
    let request = GetImageRequest { image: image.to_owned(), ..Default::default() };
    Ok(ImageServiceClient::new(channel).get_image(request).await?.into_inner())
}

/// Runs `fluyt history`, newest step first.
///
/// # Errors
/// What the engine answers.
pub async fn history(channel: Channel, command: HistoryCommand) -> Result<u8, Failure> {
    let answer = get(channel, &command.image).await?;
    if command.format == Format::Json {
        render::json_lines(answer.history.iter().rev())?;
        return Ok(0);
    }
    let now = now_seconds();
    let rows: Vec<Vec<String>> = answer
        .history
        .iter()
        .rev()
        .map(|step| {
            let text = render::printable(&step.created_by);
            vec![
                ago(step.build_time.as_ref(), now),
                if command.no_trunc { text } else { render::shorten(&text, 60) },
                units::human_bytes(step.size_bytes),
                render::printable(&step.comment),
            ]
        })
        .collect();
    render::line(render::table(&["CREATED", "CREATED BY", "SIZE", "COMMENT"], &rows))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_shown_as_people_type_it() {
        let split = |text| split_reference(text);
        assert_eq!(split("docker.io/library/debian:12"), ("debian".into(), "12".into()));
        assert_eq!(split("localhost:5000/a/b:c"), ("localhost:5000/a/b".into(), "c".into()));
        assert_eq!(split("localhost:5000/a@sha256:0"), ("localhost:5000/a".into(), "sha256:0".into()));
    }
}
