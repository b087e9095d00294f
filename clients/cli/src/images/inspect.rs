//! `fluyt image inspect`, and the look-up of one image.

use clap::Args;
use serde_json::{json, Value};
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::{types, GetImageRequest, GetImageResponse};
use crate::clock;
use crate::container_flags::parse_platform;
use crate::failure::Failure;
use crate::render;
use crate::template::{self, Output};

/// `fluyt image inspect`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt image inspect debian:12
  fluyt image inspect --format json debian:12 | jq .config.env")]
pub struct InspectCommand {
    /// Output: table or json, both JSON, json one object a line; or a template of Go such as '{{.Id}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Output,
    /// Platform, where several are present; default: the host's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Images: references, digests or ids
    #[arg(required = true)]
    images: Vec<String>,
}

/// What the engine knows of one image; of `platform` where several of a reference are present.
///
/// # Errors
/// What the engine answers.
pub async fn get(
    channel: Channel,
    image: &str,
    platform: Option<types::Platform>,
) -> Result<GetImageResponse, Failure> {
    let request = GetImageRequest { image: image.to_owned(), platform };
    Ok(ImageServiceClient::new(channel).get_image(request).await?.into_inner())
}

/// An image for templates: the API's message, and what Docker calls the parts that scripts ask for.
pub fn inspected(found: &GetImageResponse) -> Value {
    let image = found.image.clone().unwrap_or_default();
    let config = found.config.clone().unwrap_or_default();
    let platform = image.platform.clone().unwrap_or_default();
    let names = json!({
        "Id": image.id,
        "RepoTags": image.references.iter().map(|name| super::list::shortened(name)).collect::<Vec<_>>(),
        "RepoDigests": image.repo_digests,
        "Created": image.build_time.as_ref().map_or_else(String::new, clock::point),
        "Architecture": platform.architecture,
        "Os": platform.os,
        "Variant": platform.variant,
        "Size": image.size_bytes,
        "Config": {
            "Env": config.env, "Cmd": config.args, "Entrypoint": config.entrypoint, "User": config.user,
            "WorkingDir": config.working_dir, "Labels": image.labels,
        },
    });
    template::with(render::json(found), names)
}

/// Runs `fluyt image inspect`: each image by itself; exit code 1 after all were tried if one failed.
///
/// # Errors
/// A platform that is none, or standard output is closed.
pub async fn inspect(channel: Channel, command: InspectCommand) -> Result<u8, Failure> {
    let platform = command.platform.as_deref().map(parse_platform).transpose()?;
    let mut exit_code = 0;
    for image in &command.images {
        match get(channel.clone(), image, platform.clone()).await {
            Ok(found) => command.format.show(&found, inspected)?,
            Err(failure) => {
                eprintln!("{failure}");
                exit_code = 1;
            }
        }
    }
    Ok(exit_code)
}
