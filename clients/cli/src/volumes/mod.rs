//! Volumes: one file a command.

mod archive;
mod change;
mod filter;
mod list;
mod prune;

use clap::Subcommand;
use tonic::transport::Channel;

use crate::failure::Failure;

/// `fluyt volume`
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a volume
    Create(change::CreateCommand),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(list::ListCommand),
    /// Show all about volumes
    Inspect(list::InspectCommand),
    /// Delete volumes with their data
    #[command(visible_alias = "remove")]
    Rm(change::RemoveCommand),
    /// Give a volume another name
    Rename(change::RenameCommand),
    /// Copy a volume
    Clone(change::CloneCommand),
    /// Write a volume's data to an archive
    Export(archive::ExportCommand),
    /// Unpack an archive into a volume
    Import(archive::ImportCommand),
    /// Delete volumes that no container has
    Prune(prune::PruneCommand),
}

/// Runs `fluyt volume …`.
///
/// # Errors
/// As the command's own function.
pub async fn run(channel: Channel, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Create(command) => change::create(channel, command).await,
        Command::Ls(command) => list::list(channel, command).await,
        Command::Inspect(command) => list::inspect(channel, command).await,
        Command::Rm(command) => change::remove(channel, command).await,
        Command::Rename(command) => change::rename(channel, command).await,
        Command::Clone(command) => change::clone(channel, command).await,
        Command::Export(command) => archive::export(channel, command).await,
        Command::Import(command) => archive::import(channel, command).await,
        Command::Prune(command) => prune::prune(channel, command).await,
    }
}
