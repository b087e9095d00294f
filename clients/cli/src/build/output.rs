//! Where the result of a build goes beside the engine: an archive, a folder, a tar.

use std::path::PathBuf;

use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::types::ContainerSpec;
use crate::api::v1::{CreateContainerRequest, DeleteContainerRequest};
use crate::copy::{self, CopyCommand};
use crate::failure::Failure;
use crate::files::{export, ExportCommand};
use crate::images::{save, SaveCommand};

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image of the engine, which it is anyway.
    Image,
    /// Pushed besides.
    Registry,
    /// Nothing but the cache.
    CacheOnly,
    /// An archive that OCI tools and docker load; none: standard output.
    Archive(Option<PathBuf>),
    /// The files of the image, in a folder.
    Folder(PathBuf),
    /// The same as a tar; none: standard output.
    Tar(Option<PathBuf>),
}

/// Reads `type=KIND[,dest=PATH][,push=true]`, a folder, or `-` for a tar on standard output.
///
/// # Errors
/// Why it is none.
///
/// Source: docker buildx build, `--output`.
pub fn parse(text: &str) -> Result<Output, String> {
    if text == "-" {
        return Ok(Output::Tar(None));
    }
    if !text.contains('=') {
        return Ok(Output::Folder(PathBuf::from(text)));
    }
    let (mut kind, mut dest, mut push) = ("", None, false);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("type", value)) => kind = value,
            Some(("dest", value)) => dest = Some(value).filter(|value| *value != "-").map(PathBuf::from),
            Some(("push", "true")) => push = true,
            Some(("push", "false")) => push = false,
            _ => return Err(format!("`{part}` is no option of --output: write type=, dest= or push=")),
        }
    }
    match (kind, dest) {
        ("image", None) => Ok(if push { Output::Registry } else { Output::Image }),
        ("registry", None) => Ok(Output::Registry),
        ("cacheonly", None) => Ok(Output::CacheOnly),
        ("oci" | "docker", dest) => Ok(Output::Archive(dest)),
        ("local", Some(dest)) => Ok(Output::Folder(dest)),
        ("local", None) => Err("type=local needs dest=FOLDER".to_owned()),
        ("tar", dest) => Ok(Output::Tar(dest)),
        ("image" | "registry" | "cacheonly", Some(_)) => Err(format!("type={kind} has no dest=")),
        _ => Err(format!(
            "`{kind}` is no type of --output: image, registry, oci, docker, local, tar or cacheonly"
        )),
    }
}

/// Writes the image out.
///
/// # Errors
/// A file that cannot be written, a terminal as standard output, or what the engine answers.
pub async fn write(
    channel: Channel,
    output: &Output,
    image: &str,
    tags: &[String],
    quiet: bool,
) -> Result<(), Failure> {
    match output {
        Output::Image | Output::Registry | Output::CacheOnly => Ok(()),
        Output::Archive(dest) => {
            let images = if tags.is_empty() { vec![image.to_owned()] } else { tags.to_vec() };
            save(channel, SaveCommand { output: dest.clone(), platform: Vec::new(), quiet, images })
                .await
                .map(drop)
        }
        Output::Folder(dest) => {
            std::fs::create_dir_all(dest).map_err(|error| Failure::file("create", dest, &error))?;
            let destination = dest.clone().into_os_string();
            with_container(channel, image, |channel, id| {
                let source = format!("{id}:/.").into();
                let command = CopyCommand { archive: false, follow_link: false, quiet, source, destination };
                copy::run(channel, command)
            })
            .await
        }
        Output::Tar(dest) => {
            let output = dest.clone();
            with_container(channel, image, |channel, container| {
                export(channel, ExportCommand { output, container })
            })
            .await
        }
    }
}

/// A container of the image that never starts shows the image's files; it goes afterwards.
async fn with_container<F: std::future::Future<Output = Result<u8, Failure>>>(
    channel: Channel,
    image: &str,
    work: impl FnOnce(Channel, String) -> F,
) -> Result<(), Failure> {
    let mut client = ContainerServiceClient::new(channel.clone());
    // An image without a command is no container: this one is never executed.
    let spec = ContainerSpec {
        image: image.to_owned(),
        args: vec!["/never-executed".to_owned()],
        ..Default::default()
    };
    let request = CreateContainerRequest { spec: Some(spec), ..Default::default() };
    let container = client.create_container(request).await?.into_inner().container.unwrap_or_default().id;
    let done = work(channel, container.clone()).await;
    let request = DeleteContainerRequest { container, delete_volumes: true, ..Default::default() };
    client.delete_container(request).await?;
    done.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_dockers_are() {
        let folder = |path: &str| Output::Folder(PathBuf::from(path));
        let cases = [
            ("out", folder("out")),
            ("-", Output::Tar(None)),
            ("type=local,dest=out", folder("out")),
            ("type=tar,dest=-", Output::Tar(None)),
            ("type=tar,dest=a.tar", Output::Tar(Some("a.tar".into()))),
            ("type=oci,dest=a", Output::Archive(Some("a".into()))),
            ("type=docker", Output::Archive(None)),
            ("type=image", Output::Image),
            ("type=image,push=true", Output::Registry),
            ("type=registry", Output::Registry),
            ("type=cacheonly", Output::CacheOnly),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse(text), Ok(wanted), "{text}");
        }
        for wrong in ["type=local", "type=x", "a=b", "type=image,dest=x", "dest=x", "type=tar,name"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
