//! Images: one file a command. `fluyt image COMMAND` and the short spellings that Docker has come to the same functions.

mod filter;
mod history;
mod import;
mod inspect;
mod list;
mod load;
mod pattern;
mod pin;
mod prune;
mod pull;
mod push;
mod remove;
mod save;
pub mod send;
mod tag;

pub use history::{history, HistoryCommand};
pub use import::{import, ImportCommand};
pub use inspect::{get, inspected};
pub use list::{all, list, repository_and_tag, ListCommand};
pub use load::{load, LoadCommand};
pub use prune::{described, print as print_pruned, prune_images, total as pruned_total, PruneSelection};
pub use pull::{pull, pull_image, PullCommand};
pub use push::{push, PushCommand};
pub use remove::{remove, RemoveCommand};
pub use save::{save, SaveCommand};
pub use tag::{tag, TagCommand};

use clap::Subcommand;
use tonic::transport::Channel;

use crate::build::{self, BuildCommand};
use crate::failure::Failure;

/// `fluyt image`
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List images
    #[command(visible_alias = "list")]
    Ls(ListCommand),
    /// Build an image of a folder and a Dockerfile
    Build(Box<BuildCommand>),
    /// Pull an image from a registry
    Pull(PullCommand),
    /// Push an image to a registry
    Push(PushCommand),
    /// Show all about images
    Inspect(inspect::InspectCommand),
    /// Show how an image was made
    History(HistoryCommand),
    /// Remove references and images
    #[command(visible_alias = "remove")]
    Rm(RemoveCommand),
    /// Give an image a further reference
    Tag(TagCommand),
    /// Write images to an archive
    Save(SaveCommand),
    /// Load images from an archive
    Load(LoadCommand),
    /// Make an image of a root file system
    Import(ImportCommand),
    /// Delete images that nothing uses
    Prune(prune::PruneCommand),
    /// Keep images from every prune and collection
    Pin(pin::PinCommand),
    /// End what `pin` began
    Unpin(pin::PinCommand),
}

/// Runs `fluyt image …`.
///
/// # Errors
/// As the command's own function.
pub async fn run(channel: Channel, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Ls(command) => list(channel, command).await,
        Command::Build(command) => build::build(channel, *command).await,
        Command::Pull(command) => pull(channel, command).await,
        Command::Push(command) => push(channel, command).await,
        Command::Inspect(command) => inspect::inspect(channel, command).await,
        Command::History(command) => history(channel, command).await,
        Command::Rm(command) => remove(channel, command).await,
        Command::Tag(command) => tag(channel, command).await,
        Command::Save(command) => save(channel, command).await,
        Command::Load(command) => load(channel, command).await,
        Command::Import(command) => import(channel, command).await,
        Command::Prune(command) => prune::prune(channel, command).await,
        Command::Pin(command) => pin::set(channel, command, true).await,
        Command::Unpin(command) => pin::set(channel, command, false).await,
    }
}
