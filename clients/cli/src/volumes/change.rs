//! `fluyt volume create`, `rm`, `rename` and `clone`.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::volume_service_client::VolumeServiceClient;
use crate::api::v1::{CloneVolumeRequest, CreateVolumeRequest, DeleteVolumeRequest, RenameVolumeRequest};
use crate::failure::Failure;
use crate::flag_values::pairs;
use crate::render;
use crate::units;

/// `fluyt volume create`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt volume create data
  fluyt volume create --label team=web
  fluyt volume create -o type=nfs -o device=10.0.0.1:/export -o o=addr=10.0.0.1,vers=4 share")]
pub struct CreateCommand {
    /// Driver
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// Option of the driver, NAME=value
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// Label, NAME or NAME=value
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Bound of its data, as 10g
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    limit: Option<i64>,
    /// Name; default: an anonymous volume
    name: Option<String>,
}

/// `fluyt volume rm`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt volume rm data\n  fluyt volume rm $(fluyt volume ls -q --filter dangling=true)"
)]
pub struct RemoveCommand {
    /// No failure if one is not there
    #[arg(short, long)]
    force: bool,
    /// Volumes
    #[arg(id = "name", value_name = "VOLUMES", required = true)]
    volumes: Vec<String>,
}

/// `fluyt volume rename`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt volume rename data archive")]
pub struct RenameCommand {
    /// Volume
    #[arg(id = "name", value_name = "VOLUME")]
    volume: String,
    /// Its new name
    #[arg(id = "new_name", value_name = "NAME")]
    name: String,
}

/// `fluyt volume clone`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt volume clone data data-before-upgrade")]
pub struct CloneCommand {
    /// Label of the copy, NAME or NAME=value; default: those of the source
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Volume to copy
    source: String,
    /// Name of the copy
    name: String,
}

/// Runs `fluyt volume create`: prints the name.
///
/// # Errors
/// What the engine answers.
pub async fn create(channel: Channel, command: CreateCommand) -> Result<u8, Failure> {
    let request = CreateVolumeRequest {
        name: command.name.unwrap_or_default(),
        driver: command.driver,
        driver_options: pairs(&command.opt),
        labels: pairs(&command.label),
        limit_bytes: command.limit.unwrap_or_default(),
        ..Default::default()
    };
    let answer = VolumeServiceClient::new(channel).create_volume(request).await?.into_inner();
    render::line(answer.volume.unwrap_or_default().name)?;
    Ok(0)
}

/// Runs `fluyt volume rm`: each volume by itself; exit code 1 after all were tried if one failed.
///
/// # Errors
/// Standard output is closed.
pub async fn remove(channel: Channel, command: RemoveCommand) -> Result<u8, Failure> {
    let mut client = VolumeServiceClient::new(channel);
    let mut exit_code = 0;
    for name in command.volumes {
        let request = DeleteVolumeRequest { name, force: command.force, ..Default::default() };
        match client.delete_volume(request).await {
            Ok(answer) => render::line(answer.into_inner().name)?,
            Err(status) => {
                eprintln!("{}", Failure::from(status));
                exit_code = 1;
            }
        }
    }
    Ok(exit_code)
}

/// Runs `fluyt volume rename`.
///
/// # Errors
/// What the engine answers.
pub async fn rename(channel: Channel, command: RenameCommand) -> Result<u8, Failure> {
    let request = RenameVolumeRequest { name: command.volume, new_name: command.name, ..Default::default() };
    VolumeServiceClient::new(channel).rename_volume(request).await?;
    Ok(0)
}

/// Runs `fluyt volume clone`: prints the copy's name.
///
/// # Errors
/// What the engine answers.
pub async fn clone(channel: Channel, command: CloneCommand) -> Result<u8, Failure> {
    let labels = pairs(&command.label);
    let request =
        CloneVolumeRequest { source: command.source, name: command.name, labels, ..Default::default() };
    let answer = VolumeServiceClient::new(channel).clone_volume(request).await?.into_inner();
    render::line(answer.volume.unwrap_or_default().name)?;
    Ok(0)
}
