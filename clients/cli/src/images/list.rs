//! `fluyt images`.

use clap::Args;
use serde_json::{json, Value};
use tonic::transport::Channel;

use super::{filter, pattern};
use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::{Image, ImageFilter, ListImagesRequest};
use crate::clock::{self, ago, now_seconds};
use crate::failure::Failure;
use crate::render;
use crate::template::{self, Column, Output};
use crate::units;

/// `fluyt images`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt images
  fluyt images -q --filter dangling=true
  fluyt images --digests 'registry.example.com/team/*'
  fluyt images --format json")]
pub struct ListCommand {
    /// Taken for Docker's sake: every image is listed already, there are no hidden ones
    #[arg(short, long)]
    all: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Print the digests that registries gave
    #[arg(long)]
    digests: bool,
    /// reference=PATTERN, label=NAME[=VALUE], label!=NAME[=VALUE], dangling=true|false, before=IMAGE, since=IMAGE or
    /// until=TIME (made here before it)
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Output: table, json, or a template of Go such as '{{.Repository}}:{{.Tag}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Output,
    /// Only images of this repository or reference
    reference: Option<String>,
}

/// Every image that fits, fetched page by page, newest first.
///
/// # Errors
/// What the engine answers.
pub async fn all(channel: Channel, filter: &ImageFilter) -> Result<Vec<Image>, Failure> {
    let mut client = ImageServiceClient::new(channel);
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListImagesRequest { page_token, filter: Some(filter.clone()), ..Default::default() };
        let page = client.list_images(request).await?.into_inner();
        found.extend(page.images);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// Runs `fluyt images`.
///
/// # Errors
/// A filter that is not known, or what the engine answers.
pub async fn list(channel: Channel, command: ListCommand) -> Result<u8, Failure> {
    let mut filter = filter::parse(&command.filter)?;
    filter.references.extend(command.reference);
    let found = all(channel, &filter).await?;
    if command.format == Output::Json {
        render::json_lines(&found)?;
    } else if command.quiet {
        for image in &found {
            render::line(shown_id(image, command.no_trunc))?;
        }
    } else if let Output::Template(template) = &command.format {
        let now = now_seconds();
        let shown = |image| columns(image, &filter.references, command.no_trunc, now);
        template.print(&COLUMNS, &found.iter().flat_map(shown).collect::<Vec<_>>())?;
    } else {
        let now = now_seconds();
        let shown = |image| rows(image, &filter.references, command.no_trunc, command.digests, now);
        let rows: Vec<Vec<String>> = found.iter().flat_map(shown).collect();
        let mut header = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
        if command.digests {
            header.insert(2, "DIGEST");
        }
        render::line(render::table(&header, &rows))?;
    }
    Ok(0)
}

fn shown_id(image: &Image, no_trunc: bool) -> &str {
    if no_trunc {
        &image.id
    } else {
        render::short_id(&image.id)
    }
}

/// What an image is listed under: its references that fit the patterns, if there are any; without a reference each
/// repository that it came from; else an empty text.
fn names(image: &Image, patterns: &[String]) -> Vec<String> {
    let fits = |name: &&String| patterns.is_empty() || patterns.iter().any(|one| pattern::fits(name, one));
    let mut names: Vec<String> = image.references.iter().filter(fits).cloned().collect();
    if image.references.is_empty() {
        let repositories = image.repo_digests.iter().filter_map(|text| text.split_once('@'));
        names.extend(repositories.map(|(name, _)| name.to_owned()));
        names.dedup();
    }
    if names.is_empty() {
        names.push(String::new());
    }
    names
}

/// One row a name; `<none>` for what it lacks.
fn rows(image: &Image, patterns: &[String], no_trunc: bool, digests: bool, now: i64) -> Vec<Vec<String>> {
    names(image, patterns)
        .iter()
        .map(|reference| {
            let (repository, tag) = repository_and_tag(reference);
            let mut row = vec![
                repository,
                tag,
                shown_id(image, no_trunc).to_owned(),
                ago(image.build_time.as_ref().or(image.create_time.as_ref()), now),
                units::human_bytes(image.size_bytes),
            ];
            if digests {
                row.insert(2, digest_of(image, &row[0]));
            }
            row
        })
        .collect()
}

/// What stands above each column. Source: docker/cli `cli/command/formatter/image.go`.
const COLUMNS: [Column; 9] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("Containers", "CONTAINERS"),
];

/// The rows of an image for templates: the columns, and the API's message.
fn columns(image: &Image, patterns: &[String], no_trunc: bool, now: i64) -> Vec<Value> {
    rows(image, patterns, no_trunc, true, now)
        .into_iter()
        .map(|row| {
            let made = image.build_time.as_ref().or(image.create_time.as_ref());
            let columns = json!({
                "Repository": row[0], "Tag": row[1], "Digest": row[2], "ID": row[3], "CreatedSince": row[4],
                "CreatedAt": made.map_or_else(String::new, clock::point), "Size": row[5],
                "SharedSize": units::human_bytes(image.shared_size_bytes),
                "Containers": image.container_count.to_string(),
            });
            template::with(render::json(image), columns)
        })
        .collect()
}

/// The digest by which the registry of this repository knows the image.
fn digest_of(image: &Image, repository: &str) -> String {
    image
        .repo_digests
        .iter()
        .filter_map(|text| text.split_once('@'))
        .find(|(name, _)| repository_and_tag(name).0 == repository)
        .map_or_else(|| "<none>".to_owned(), |(_, digest)| digest.to_owned())
}

/// Repository, in the short form that people type, and tag; `<none>` for what a reference lacks.
pub fn repository_and_tag(reference: &str) -> (String, String) {
    let none = || "<none>".to_owned();
    if reference.is_empty() {
        return (none(), none());
    }
    let short = shortened(reference);
    let (name, digest) = short.split_once('@').map_or((short, None), |(name, digest)| (name, Some(digest)));
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
        _ => (name.to_owned(), digest.map_or_else(none, str::to_owned)),
    }
}

/// A reference as people type it.
pub fn shortened(reference: &str) -> &str {
    reference
        .strip_prefix("docker.io/library/")
        .or_else(|| reference.strip_prefix("docker.io/"))
        .unwrap_or(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_shown_as_people_type_it() {
        let split = repository_and_tag;
        assert_eq!(split("docker.io/library/debian:12"), ("debian".into(), "12".into()));
        assert_eq!(split("localhost:5000/a/b:c"), ("localhost:5000/a/b".into(), "c".into()));
        assert_eq!(split("localhost:5000/a"), ("localhost:5000/a".into(), "<none>".into()));
        assert_eq!(split("localhost:5000/a@sha256:0"), ("localhost:5000/a".into(), "sha256:0".into()));
        assert_eq!(split(""), ("<none>".into(), "<none>".into()));
    }

    #[test]
    fn a_digest_is_that_of_the_rows_own_repository() {
        let image = Image {
            id: "sha256:0123456789abcdef".into(),
            references: vec!["docker.io/library/a:1".into(), "host:5000/b:2".into(), "c:3".into()],
            repo_digests: vec!["docker.io/library/a@sha256:aa".into(), "host:5000/b@sha256:bb".into()],
            ..Default::default()
        };
        let digests: Vec<String> =
            rows(&image, &[], false, true, 0).into_iter().map(|row| row[2].clone()).collect();
        assert_eq!(digests, ["sha256:aa", "sha256:bb", "<none>"]);
    }

    #[test]
    fn an_image_is_shown_under_the_names_that_were_asked_for_or_where_it_came_from() {
        let shown = |image: &Image, patterns: &[&str]| -> Vec<String> {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
            rows(image, &patterns, false, true, 0).into_iter().map(|row| row[..3].join(" ")).collect()
        };
        let mut image = Image {
            references: vec!["docker.io/library/a:1".into(), "host:5000/b:2".into()],
            repo_digests: vec!["host:5000/b@sha256:bb".into()],
            ..Default::default()
        };
        assert_eq!(shown(&image, &["*/b"]), ["host:5000/b 2 sha256:bb"]);
        assert_eq!(shown(&image, &["*/b", "a"]), ["a 1 <none>", "host:5000/b 2 sha256:bb"]);
        image.references.clear();
        assert_eq!(shown(&image, &[]), ["host:5000/b <none> sha256:bb"]);
        image.repo_digests.clear();
        assert_eq!(shown(&image, &[]), ["<none> <none> <none>"]);
    }
}
