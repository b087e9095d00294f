//! `fluyt volume ls` and `fluyt volume inspect`.

use clap::Args;
use serde_json::{json, Value};
use tonic::transport::Channel;

use super::filter;
use crate::api::v1::volume_service_client::VolumeServiceClient;
use crate::api::v1::{GetVolumeRequest, ListVolumesRequest, Volume};
use crate::clock;
use crate::failure::Failure;
use crate::render;
use crate::template::{self, Column, Output};
use crate::units;

/// `fluyt volume ls`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt volume ls
  fluyt volume ls -q --filter dangling=true
  fluyt volume ls --size --format json")]
pub struct ListCommand {
    /// Print only names
    #[arg(short, long)]
    quiet: bool,
    /// Print what each takes on disk, and how many containers have it
    #[arg(short, long)]
    size: bool,
    /// name=PART, label=NAME[=VALUE], driver=DRIVER or dangling=true|false
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Output: table, json, or a template of Go such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Output,
}

/// `fluyt volume inspect`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt volume inspect data\n  fluyt volume inspect --format json data | jq -r .mountpoint"
)]
pub struct InspectCommand {
    /// Output: table or json, both JSON, json one object a line; or a template of Go such as '{{.Mountpoint}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Output,
    /// Volumes
    #[arg(id = "name", value_name = "VOLUMES", required = true)]
    volumes: Vec<String>,
}

/// What the engine knows of one volume.
///
/// # Errors
/// What the engine answers.
async fn get(channel: Channel, name: &str) -> Result<Volume, Failure> {
    let request = GetVolumeRequest { name: name.to_owned() };
    let answer = VolumeServiceClient::new(channel).get_volume(request).await?.into_inner();
    Ok(answer.volume.unwrap_or_default())
}

/// Runs `fluyt volume ls`: every volume that fits, by name.
///
/// # Errors
/// A filter that is not known, or what the engine answers.
pub async fn list(channel: Channel, command: ListCommand) -> Result<u8, Failure> {
    let filter = filter::parse(&command.filter)?;
    let mut client = VolumeServiceClient::new(channel);
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListVolumesRequest { page_token, filter: Some(filter.clone()), ..Default::default() };
        let page = client.list_volumes(request).await?.into_inner();
        found.extend(page.volumes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if command.format == Output::Json {
        render::json_lines(&found)?;
    } else if command.quiet {
        for volume in &found {
            render::line(&volume.name)?;
        }
    } else if let Output::Template(template) = &command.format {
        template.print(&COLUMNS, &found.iter().map(listed).collect::<Vec<_>>())?;
    } else {
        let mut header = vec!["DRIVER", "VOLUME NAME"];
        if command.size {
            header.extend(["CONTAINERS", "SIZE"]);
        }
        let rows: Vec<Vec<String>> = found.iter().map(|volume| row(volume, command.size)).collect();
        render::line(render::table(&header, &rows))?;
    }
    Ok(0)
}

/// What stands above each column. Source: docker/cli `cli/command/formatter/volume.go`.
const COLUMNS: [Column; 7] = [
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
];

/// A volume as a line for templates: the columns, and the API's message.
fn listed(volume: &Volume) -> Value {
    let [.., links, size] = &row(volume, true)[..] else { return Value::Null };
    let more = json!({"Links": links, "Size": size, "Labels": template::pairs(&volume.labels)});
    template::with(names(volume), more)
}

/// A volume for templates: the API's message, and Docker's names.
fn names(volume: &Volume) -> Value {
    let names = json!({
        "Name": volume.name, "Driver": volume.driver, "Scope": "local", "Mountpoint": volume.mountpoint,
        "Labels": volume.labels, "Options": volume.driver_options,
        "CreatedAt": volume.create_time.as_ref().map_or_else(String::new, clock::point),
    });
    template::with(render::json(volume), names)
}

fn row(volume: &Volume, size: bool) -> Vec<String> {
    let mut row = vec![volume.driver.clone(), volume.name.clone()];
    if size {
        let estimate = if volume.size_is_estimate { "~" } else { "" };
        let bytes = volume
            .size_bytes
            .map_or_else(|| "N/A".to_owned(), |bytes| format!("{estimate}{}", units::human_bytes(bytes)));
        row.extend([volume.container_ids.len().to_string(), bytes]);
    }
    row
}

/// Runs `fluyt volume inspect`: each volume by itself; exit code 1 after all were tried if one failed.
///
/// # Errors
/// Standard output is closed.
pub async fn inspect(channel: Channel, command: InspectCommand) -> Result<u8, Failure> {
    let mut exit_code = 0;
    for name in &command.volumes {
        match get(channel.clone(), name).await {
            Ok(found) => command.format.show(&found, names)?,
            Err(failure) => {
                eprintln!("{failure}");
                exit_code = 1;
            }
        }
    }
    Ok(exit_code)
}
