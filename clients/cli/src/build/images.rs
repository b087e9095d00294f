//! Images in OCI layouts of this host as contexts: `--build-context NAME=oci-layout://FOLDER[:TAG|@DIGEST]`.

use std::io::Cursor;
use std::path::Path;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tonic::transport::Channel;

use super::flags::BuildCommand;
use super::layout::{self, Layout, Wanted, DEFAULT_TAG};
use crate::api::v1::build_source::Source;
use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::{load_images_request::Part, BuildSource, LoadImagesOptions, LoadImagesRequest};
use crate::container_flags::parse_platforms;
use crate::failure::Failure;
use crate::images::send::{Input, Sending};
use crate::progress;

const BLOCK_BYTES: u64 = 512;

/// The image of a layout is the engine's, without a name, as any image of an archive that has none.
///
/// # Errors
/// The layout cannot be read, has no such image, or what the engine answers.
pub async fn send(
    channel: Channel,
    place: &str,
    command: &BuildCommand,
    is_quiet: bool,
) -> Result<BuildSource, Failure> {
    let (folder, wanted) = place_of(place);
    let layout = Layout::open(Path::new(folder))?;
    let entry = layout.find(&wanted)?;
    let digest = layout::digest_of(entry)?.to_owned();
    let mut bare = entry.clone();
    if let Some(fields) = bare.as_object_mut() {
        // What the layout calls it is no name of the engine's.
        fields.remove("annotations");
    }
    let index = json!({"schemaVersion": 2, "manifests": [bare]}).to_string().into_bytes();
    let mut input: Input = Box::new(Cursor::new(Vec::new()));
    let listings = [("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()), ("index.json", index)];
    let mut size_bytes = 0;
    for (name, data) in listings {
        let size = data.len() as u64;
        size_bytes += size;
        input = appended(input, name, size, Box::new(Cursor::new(data)))?;
    }
    for (blob, size) in layout.blobs(entry)? {
        let path = layout.path(&blob);
        let file = std::fs::File::open(&path).map_err(|error| Failure::file("open", &path, &error))?;
        size_bytes += size;
        input = appended(input, &layout::blob_name(&blob), size, Box::new(tokio::fs::File::from_std(file)))?;
    }
    input = Box::new(input.chain(Cursor::new(vec![0; 2 * BLOCK_BYTES as usize])));
    let size_bytes = i64::try_from(size_bytes).unwrap_or_default();
    let options = LoadImagesOptions {
        platforms: parse_platforms(&command.platform)?,
        size_bytes,
        ..Default::default()
    };
    let (sending, requests) = Sending::begin(
        input,
        progress::sending(is_quiet, size_bytes),
        LoadImagesRequest { part: Some(Part::Options(options)) },
        |chunk| LoadImagesRequest { part: Some(Part::Chunk(chunk)) },
    );
    let answer = ImageServiceClient::new(channel).load_images(requests).await;
    sending.settle(answer).await?;
    Ok(BuildSource { source: Some(Source::Image(digest)) })
}

/// `FOLDER[:TAG|@DIGEST]`.
fn place_of(place: &str) -> (&str, Wanted) {
    if let Some((folder, digest)) = place.rsplit_once('@').filter(|(_, digest)| layout::is_digest(digest)) {
        return (folder, Wanted::Digest(digest.to_owned()));
    }
    match place.rsplit_once(':').filter(|(_, tag)| !tag.is_empty() && !tag.contains('/')) {
        Some((folder, tag)) => (folder, Wanted::Tag(tag.to_owned())),
        None => (place, Wanted::Tag(DEFAULT_TAG.to_owned())),
    }
}

/// The tar with one more file.
fn appended(tar: Input, name: &str, size: u64, data: Input) -> Result<Input, Failure> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(|error| Failure::new(format!("{name}: {error}"), ""))?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let padding = (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES;
    let zeros = vec![0; usize::try_from(padding).unwrap_or_default()];
    let head = Cursor::new(header.as_bytes().to_vec());
    Ok(Box::new(tar.chain(head).chain(data.take(size)).chain(Cursor::new(zeros))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_tag_or_a_digest() {
        let digest = format!("sha256:{}", "b".repeat(64));
        let tag = |text: &str| Wanted::Tag(text.to_owned());
        assert_eq!(place_of("/a/b"), ("/a/b", tag("latest")));
        assert_eq!(place_of("/a/b:1"), ("/a/b", tag("1")));
        assert_eq!(place_of("/a:x/b"), ("/a:x/b", tag("latest")));
        assert_eq!(place_of(&format!("a@{digest}")), ("a", Wanted::Digest(digest)));
    }
}
