//! Where the result of a build goes beside the engine: an archive, a folder, a tar.

use std::path::PathBuf;

use tonic::transport::Channel;

use crate::api::v1::build_output_spec::Compression;
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

/// What is asked of one `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where it goes.
    pub output: Output,
    /// How the image is made for it.
    pub image: ImageOptions,
}

/// How an image is made; the same for all outputs of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// Further references.
    pub names: Vec<String>,
    /// How its layers are compressed.
    pub compression: Option<Compression>,
    /// At which level.
    pub level: Option<i32>,
    /// Also those of base images.
    pub force: bool,
    /// No time of a new layer is later than SOURCE_DATE_EPOCH.
    pub rewrites_times: bool,
}

/// Reads `type=KIND[,dest=PATH][,push=true][,name=REFERENCE][,compression=KIND]...`, a folder, or `-` for a tar on standard
/// output. A value may be in quotation marks, as the names of several references.
///
/// # Errors
/// Why it is none.
///
/// Source: docker buildx build, `--output`; BuildKit's README, "Output".
pub fn parse(text: &str) -> Result<Asked, String> {
    let plain = |output| Ok(Asked { output, image: ImageOptions::default() });
    if text == "-" {
        return plain(Output::Tar(None));
    }
    if !text.contains('=') {
        return plain(Output::Folder(PathBuf::from(text)));
    }
    let (mut kind, mut dest, mut push) = (String::new(), None, false);
    let mut image = ImageOptions::default();
    for part in fields(text)? {
        let (name, value) = part.split_once('=').unwrap_or((&part, "true"));
        match name {
            "type" => kind = value.to_owned(),
            "dest" => dest = Some(value).filter(|value| *value != "-").map(PathBuf::from),
            "push" => push = truth(name, value)?,
            "name" => image.names.extend(value.split(',').filter(|one| !one.is_empty()).map(str::to_owned)),
            "compression" => image.compression = Some(compression(value)?),
            "compression-level" => {
                image.level = Some(value.parse().map_err(|_| format!("`{value}` is no compression level"))?);
            }
            "force-compression" => image.force = truth(name, value)?,
            "rewrite-timestamp" => {
                if !truth(name, value)? {
                    return Err("times are never later than SOURCE_DATE_EPOCH: unset that instead".to_owned());
                }
                image.rewrites_times = true;
            }
            // What this engine writes anyway.
            "oci-mediatypes" | "store" | "unpack" | "tar" if truth(name, value)? => {}
            "oci-mediatypes" | "store" | "unpack" | "tar" => {
                return Err(format!("{name}=false is not supported"));
            }
            _ => {
                return Err(format!(
                    "`{part}` is no option of --output: write type=, dest=, push=, name=, compression=, \
                     compression-level=, force-compression= or rewrite-timestamp="
                ))
            }
        }
    }
    Ok(Asked { output: output_of(&kind, dest, push)?, image })
}

/// The parts between commas; one that is in quotation marks keeps its own. Source: RFC 4180, as Docker's flags.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut is_quoted) = (vec![String::new()], false);
    for char in text.chars() {
        match char {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            _ => fields.last_mut().expect("there is one").push(char),
        }
    }
    if is_quoted {
        return Err(format!("a quotation mark of `{text}` is never closed"));
    }
    Ok(fields)
}

fn truth(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{name} is true or false, not `{value}`")),
    }
}

fn compression(name: &str) -> Result<Compression, String> {
    match name {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "uncompressed" => Ok(Compression::Uncompressed),
        _ => Err(format!("`{name}` is no compression: gzip, zstd or uncompressed")),
    }
}

/// What several outputs ask of the one image.
///
/// # Errors
/// Two of them ask for different compressions.
pub fn image_options(asked: &[Asked]) -> Result<ImageOptions, Failure> {
    let mut all = ImageOptions::default();
    for Asked { image, .. } in asked {
        if differ(&all.compression, &image.compression) || differ(&all.level, &image.level) {
            return Err(Failure::usage(
                "--output asks for two compressions",
                "build twice: the second time every step is cached",
            ));
        }
        all.names.extend(image.names.iter().cloned());
        all.compression = all.compression.or(image.compression);
        all.level = all.level.or(image.level);
        all.force |= image.force;
        all.rewrites_times |= image.rewrites_times;
    }
    Ok(all)
}

fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
    one.is_some() && other.is_some() && one != other
}

fn output_of(kind: &str, dest: Option<PathBuf>, push: bool) -> Result<Output, String> {
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
            assert_eq!(parse(text).map(|asked| asked.output), Ok(wanted), "{text}");
        }
        for wrong in [
            "type=local",
            "type=x",
            "a=b",
            "type=image,dest=x",
            "dest=x",
            "type=tar,other",
            "type=image,push=maybe",
            "type=image,compression=estargz",
            "type=image,compression-level=high",
            "type=image,rewrite-timestamp=false",
            "type=image,oci-mediatypes=false",
            "type=image,\"name=a",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_outputs_ask_of_one_image() {
        let image = |texts: &[&str]| {
            let asked: Vec<Asked> = texts.iter().map(|text| parse(text).unwrap()).collect();
            image_options(&asked)
        };
        let found = image(&[
            "type=image,\"name=a:1,b:1\",compression=zstd,force-compression,oci-mediatypes=true",
            "type=oci,dest=x,compression-level=9,rewrite-timestamp=true,name=c",
            "type=tar,dest=y,compression=zstd",
        ]);
        let names = ["a:1", "b:1", "c"].map(str::to_owned).to_vec();
        let (compression, level) = (Some(Compression::Zstd), Some(9));
        assert_eq!(
            found.unwrap(),
            ImageOptions { names, compression, level, force: true, rewrites_times: true }
        );
        assert!(image(&["type=image,compression=zstd", "type=oci,compression=gzip"]).is_err());
        assert!(image(&["type=image,compression-level=1", "type=oci,compression-level=2"]).is_err());
    }
}
