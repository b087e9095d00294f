//! `fluyt referrers`.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::types::Descriptor;
use crate::api::v1::ListReferrersRequest;
use crate::credentials;
use crate::failure::Failure;
use crate::render::{self, Format};
use crate::units;

/// `fluyt referrers`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt referrers registry.example.com/team/app:1
  fluyt referrers --artifact-type application/spdx+json registry.example.com/team/app:1")]
pub struct ReferrersCommand {
    /// Only artifacts of this type
    #[arg(long, value_name = "TYPE", default_value = "")]
    artifact_type: String,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Image in its registry
    #[arg(id = "reference", value_name = "IMAGE")]
    image: String,
}

/// Runs `fluyt referrers`.
///
/// # Errors
/// Credentials that cannot be had, or what the engine answers.
pub async fn run(channel: Channel, command: ReferrersCommand) -> Result<u8, Failure> {
    let mut client = ImageServiceClient::new(channel);
    let mut request = ListReferrersRequest {
        auth: credentials::for_reference(&command.image).await?,
        reference: command.image,
        artifact_type: command.artifact_type,
        ..Default::default()
    };
    let mut found: Vec<Descriptor> = Vec::new();
    loop {
        let answer = client.list_referrers(request.clone()).await?.into_inner();
        found.extend(answer.referrers);
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = answer.next_page_token;
        // A tag may move between two pages; what it named first is what is asked for.
        request.reference = answer.subject;
    }
    if command.format == Format::Json {
        render::json_lines(found.iter())?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|one| {
            vec![
                one.digest.clone(),
                render::printable(if one.artifact_type.is_empty() {
                    &one.media_type
                } else {
                    &one.artifact_type
                }),
                units::human_bytes(one.size_bytes),
            ]
        })
        .collect();
    render::line(render::table(&["DIGEST", "TYPE", "SIZE"], &rows))?;
    Ok(0)
}
