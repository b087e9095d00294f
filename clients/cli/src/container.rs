//! `fluyt container`, and its commands that stand at the top too: one definition, which both name.

use clap::Subcommand;
use tonic::transport::Channel;

use crate::attach::{self, AttachCommand};
use crate::containers::{
    self, ContainerInspectCommand, KillCommand, ListCommand, RemoveCommand, WaitCommand,
};
use crate::copy::{self, CopyCommand};
use crate::exec::{self, ExecCommand};
use crate::failure::Failure;
use crate::files::{self, CommitCommand, DiffCommand, ExportCommand};
use crate::lifecycle::{
    self, PauseCommand, PruneCommand, RenameCommand, RestartCommand, UnpauseCommand, UpdateCommand,
};
use crate::logs::{self, LogsCommand};
use crate::ports::{self, PortCommand};
use crate::run::{self, CreateCommand, RunCommand};
use crate::start::{self, StartCommand};
use crate::stats::{self, StatsCommand, TopCommand};
use crate::stop::{self, StopCommand};

/// `fluyt VERB` and `fluyt container VERB`
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Run a command in a new container
    Run(Box<RunCommand>),
    /// Make a container without starting it
    Create(Box<CreateCommand>),
    /// Run a further command in a running container
    Exec(ExecCommand),
    /// Join the streams of a running container
    Attach(AttachCommand),
    /// Start containers
    Start(StartCommand),
    /// Stop containers
    Stop(StopCommand),
    /// Send a signal to containers
    Kill(KillCommand),
    /// Freeze containers
    Pause(PauseCommand),
    /// Let frozen containers run on
    Unpause(UnpauseCommand),
    /// Stop containers and start them again
    Restart(RestartCommand),
    /// Give a container another name
    Rename(RenameCommand),
    /// Change limits and restart policies of containers
    Update(Box<UpdateCommand>),
    /// Show what containers use
    Stats(StatsCommand),
    /// Show the processes of a container
    Top(TopCommand),
    /// Show published ports
    Port(PortCommand),
    /// Wait for containers and print their exit codes
    Wait(WaitCommand),
    /// Delete containers
    #[command(alias = "remove")]
    Rm(RemoveCommand),
    /// Print a container's output
    Logs(LogsCommand),
    /// Make an image of a container's files
    Commit(CommitCommand),
    /// List what a container changed of its image
    Diff(DiffCommand),
    /// Copy files into a container or out of it
    Cp(CopyCommand),
    /// Write a container's files to an archive
    Export(ExportCommand),
}

/// `fluyt container`
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ListCommand),
    /// Show all about containers
    Inspect(ContainerInspectCommand),
    /// Delete all containers that do not run
    Prune(PruneCommand),
    /// What stands at the top too
    #[command(flatten)]
    Verb(Verb),
}

impl Verb {
    /// Exit codes 125 to 127 are of a process that it starts or joins, or tell why there is none.
    pub fn is_of_a_process(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Create(_) | Self::Exec(_) | Self::Attach(_))
    }
}

/// Runs `fluyt VERB`.
///
/// # Errors
/// As the command's own function.
pub async fn run_verb(host: &str, channel: Channel, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Run(command) => run::run(channel, *command).await,
        Verb::Create(command) => run::create(channel, *command).await,
        Verb::Exec(command) => exec::run(channel, command).await,
        Verb::Attach(command) => attach::run(channel, command).await,
        Verb::Start(command) => start::run(channel, command).await,
        Verb::Stop(command) => stop::run(host, channel, command).await,
        Verb::Kill(command) => containers::kill(channel, command).await,
        Verb::Pause(command) => lifecycle::pause(channel, command).await,
        Verb::Unpause(command) => lifecycle::unpause(channel, command).await,
        Verb::Restart(command) => lifecycle::restart(channel, command).await,
        Verb::Rename(command) => lifecycle::rename(channel, command).await,
        Verb::Update(command) => lifecycle::update(channel, *command).await,
        Verb::Stats(command) => stats::stats(channel, command).await,
        Verb::Top(command) => stats::top(channel, command).await,
        Verb::Port(command) => ports::port(channel, command).await,
        Verb::Wait(command) => containers::wait(channel, command).await,
        Verb::Rm(command) => containers::remove(channel, command).await,
        Verb::Logs(command) => logs::run(channel, command).await,
        Verb::Commit(command) => files::commit(channel, command).await,
        Verb::Diff(command) => files::diff(channel, command).await,
        Verb::Cp(command) => copy::run(channel, command).await,
        Verb::Export(command) => files::export(channel, command).await,
    }
}

/// Runs `fluyt container …`.
///
/// # Errors
/// As the command's own function.
pub async fn run(host: &str, channel: Channel, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Ls(command) => containers::list(channel, command).await,
        Command::Inspect(command) => containers::inspect(channel, command.into()).await,
        Command::Prune(command) => lifecycle::prune(channel, command).await,
        Command::Verb(verb) => run_verb(host, channel, verb).await,
    }
}
