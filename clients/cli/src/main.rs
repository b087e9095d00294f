//! `fluyt`, the command line: arguments to calls of the public gRPC API, answers to tables, JSON and exit codes.
//! It knows nothing that the API does not say.

mod api;
mod attach;
mod build;
mod caller;
mod cid_file;
mod clock;
mod completion;
mod confinement_flags;
mod confirm;
mod connect;
mod container_flags;
mod containers;
mod copy;
mod credentials;
mod docker_flags;
mod engine;
mod events;
mod exec;
mod failure;
mod files;
mod flag_values;
mod images;
mod interrupt;
mod joined;
mod lifecycle;
mod lifecycle_flags;
mod log_flags;
mod login;
mod logs;
mod mount_flags;
mod network_flags;
mod networks;
mod operations;
mod output_file;
mod ports;
mod progress;
mod referrers;
mod render;
mod run;
mod search;
mod signals;
mod start;
mod stats;
mod stop;
mod system;
mod terminal;
mod units;
mod volumes;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use tonic::transport::Channel;

use failure::{Failure, EXIT_ENGINE};

/// Run and manage containers on one host, by its gRPC API.
#[derive(Parser, Debug)]
#[command(
    name = "fluyt",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  fluyt pull debian:12
  fluyt run --rm -m 256m debian:12 cat /etc/os-release
  fluyt run -d --name web -p 8080:80 nginx && fluyt logs -f web
  fluyt doctor

`fluyt COMMAND --help` explains a command."
)]
struct Cli {
    /// Address of the daemon: unix:///path or tcp://host:port
    #[arg(long, short = 'H', global = true, value_name = "ADDRESS")]
    host: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a command in a new container
    Run(Box<run::RunCommand>),
    /// Build an image of a folder and a Dockerfile
    Build(Box<build::BuildCommand>),
    /// What builds keep for later ones
    #[command(subcommand)]
    Builder(build::BuilderCommand),
    /// Make a container without starting it
    Create(Box<run::CreateCommand>),
    /// Run a further command in a running container
    Exec(exec::ExecCommand),
    /// Join the streams of a running container
    Attach(attach::AttachCommand),
    /// Start containers
    Start(start::StartCommand),
    /// Stop containers
    Stop(stop::StopCommand),
    /// Send a signal to containers
    Kill(containers::KillCommand),
    /// Freeze containers
    Pause(lifecycle::PauseCommand),
    /// Let frozen containers run on
    Unpause(lifecycle::UnpauseCommand),
    /// Stop containers and start them again
    Restart(lifecycle::RestartCommand),
    /// Give a container another name
    Rename(lifecycle::RenameCommand),
    /// Change limits and restart policies of containers
    Update(Box<lifecycle::UpdateCommand>),
    /// Show what containers use
    Stats(stats::StatsCommand),
    /// Show the processes of a container
    Top(stats::TopCommand),
    /// Show published ports
    Port(ports::PortCommand),
    /// Networks that containers are attached to
    #[command(subcommand)]
    Network(networks::Command),
    /// Work on many containers
    #[command(subcommand)]
    Container(lifecycle::Command),
    /// Wait for containers and print their exit codes
    Wait(containers::WaitCommand),
    /// Delete containers
    Rm(containers::RemoveCommand),
    /// List containers
    #[command(visible_alias = "ls")]
    Ps(containers::ListCommand),
    /// Print a container's output
    Logs(logs::LogsCommand),
    /// Make an image of a container's files
    Commit(files::CommitCommand),
    /// List what a container changed of its image
    Diff(files::DiffCommand),
    /// Copy files into a container or out of it
    Cp(copy::CopyCommand),
    /// Write a container's files to an archive
    Export(files::ExportCommand),
    /// Show all about containers or images
    Inspect(containers::InspectCommand),
    /// Pull an image from a registry
    Pull(images::PullCommand),
    /// Push an image to a registry
    Push(images::PushCommand),
    /// Find repositories of a registry
    Search(search::SearchCommand),
    /// List what refers to an image in its registry: signatures, bills of material
    Referrers(referrers::ReferrersCommand),
    /// Keep credentials for a registry
    Login(login::LoginCommand),
    /// Forget credentials for a registry
    Logout(login::LogoutCommand),
    /// Write images to an archive
    Save(images::SaveCommand),
    /// Load images from an archive
    Load(images::LoadCommand),
    /// Make an image of a root file system
    Import(images::ImportCommand),
    /// List images
    Images(images::ListCommand),
    /// Give an image a further reference
    Tag(images::TagCommand),
    /// Remove references and images
    Rmi(images::RemoveCommand),
    /// Show how an image was made
    History(images::HistoryCommand),
    /// Images: all that can be done with them
    #[command(subcommand)]
    Image(images::Command),
    /// Volumes: data that outlives containers
    #[command(subcommand)]
    Volume(volumes::Command),
    /// The engine's disk and host
    #[command(subcommand)]
    System(system::Command),
    /// Show what happens on the engine
    Events(events::EventsCommand),
    /// Pulls, loads and other long work
    #[command(subcommand, visible_alias = "op")]
    Operation(operations::Command),
    /// Show the engine and its host
    Info(engine::EngineCommand),
    /// Show versions
    Version(engine::EngineCommand),
    /// Tell what this host can do for containers
    Doctor(engine::EngineCommand),
    /// Print a shell's completion script
    Completion(completion::CompletionCommand),
}

async fn dispatch(host: &str, channel: Channel, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Run(command) => run::run(channel, *command).await,
        Command::Build(command) => build::build(channel, *command).await,
        Command::Builder(command) => build::builder(channel, command).await,
        Command::Create(command) => run::create(channel, *command).await,
        Command::Exec(command) => exec::run(channel, command).await,
        Command::Attach(command) => attach::run(channel, command).await,
        Command::Start(command) => start::run(channel, command).await,
        Command::Stop(command) => stop::run(host, channel, command).await,
        Command::Kill(command) => containers::kill(channel, command).await,
        Command::Pause(command) => lifecycle::pause(channel, command).await,
        Command::Unpause(command) => lifecycle::unpause(channel, command).await,
        Command::Restart(command) => lifecycle::restart(channel, command).await,
        Command::Rename(command) => lifecycle::rename(channel, command).await,
        Command::Update(command) => lifecycle::update(channel, *command).await,
        Command::Stats(command) => stats::stats(channel, command).await,
        Command::Top(command) => stats::top(channel, command).await,
        Command::Port(command) => ports::port(channel, command).await,
        Command::Network(command) => networks::run(channel, command).await,
        Command::Container(command) => lifecycle::run(channel, command).await,
        Command::Wait(command) => containers::wait(channel, command).await,
        Command::Rm(command) => containers::remove(channel, command).await,
        Command::Ps(command) => containers::list(channel, command).await,
        Command::Logs(command) => logs::run(channel, command).await,
        Command::Commit(command) => files::commit(channel, command).await,
        Command::Diff(command) => files::diff(channel, command).await,
        Command::Cp(command) => copy::run(channel, command).await,
        Command::Export(command) => files::export(channel, command).await,
        Command::Inspect(command) => containers::inspect(channel, command).await,
        Command::Pull(command) => images::pull(channel, command).await,
        Command::Push(command) => images::push(channel, command).await,
        Command::Search(command) => search::run(channel, command).await,
        Command::Referrers(command) => referrers::run(channel, command).await,
        Command::Login(command) => login::login(channel, command).await,
        Command::Logout(command) => login::logout(command).await,
        Command::Save(command) => images::save(channel, command).await,
        Command::Load(command) => images::load(channel, command).await,
        Command::Import(command) => images::import(channel, command).await,
        Command::Images(command) => images::list(channel, command).await,
        Command::Tag(command) => images::tag(channel, command).await,
        Command::Rmi(command) => images::remove(channel, command).await,
        Command::History(command) => images::history(channel, command).await,
        Command::Image(command) => images::run(channel, command).await,
        Command::Volume(command) => volumes::run(channel, command).await,
        Command::System(command) => system::run(channel, command).await,
        Command::Events(command) => events::run(channel, command).await,
        Command::Operation(command) => operations::run(channel, command).await,
        Command::Info(command) => engine::info(channel, command).await,
        Command::Version(command) => engine::version(channel, command).await,
        Command::Doctor(command) => engine::doctor(channel, command).await,
        Command::Completion(command) => completion::run(Cli::command(), &command),
    }
}

/// Exit code of a failure: 125 to 127 for commands that run a container, 1 for the others; of an interrupted one its own.
fn failure_exit_code(failure: &Failure, is_container: bool) -> u8 {
    if is_container || failure.exit_code >= 128 {
        failure.exit_code
    } else {
        1
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Printing fails only on a closed terminal, when nobody reads it.
            let _ = error.print();
            return if is_help { ExitCode::SUCCESS } else { ExitCode::from(EXIT_ENGINE) };
        }
    };
    let host = cli
        .host
        .or_else(|| std::env::var("FLUYT_HOST").ok())
        .unwrap_or_else(|| connect::DEFAULT_HOST.to_owned());
    let is_container =
        matches!(cli.command, Command::Run(_) | Command::Create(_) | Command::Exec(_) | Command::Attach(_));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("fluyt: cannot start: {error}");
            return ExitCode::from(EXIT_ENGINE);
        }
    };
    let result = runtime.block_on(async {
        let channel = connect::channel(&host)?;
        dispatch(&host, channel, cli.command).await
    });
    // A thread may still wait for standard input; it must not keep us.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure_exit_code(&failure, is_container))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_behind_the_image_are_the_containers() {
        let cli =
            Cli::try_parse_from(["fluyt", "run", "--rm", "busybox", "ls", "-l", "--", "-x", "--rm"]).unwrap();
        let Command::Run(command) = cli.command else { panic!("run") };
        assert!(format!("{command:?}").contains(r#"args: ["ls", "-l", "--", "-x", "--rm"]"#), "{command:?}");
    }

    #[test]
    fn short_flags_may_be_joined() {
        assert!(Cli::try_parse_from(["fluyt", "ps", "-aq"]).is_ok());
        assert!(Cli::try_parse_from(["fluyt", "run", "-dq", "busybox"]).is_ok());
        assert!(Cli::try_parse_from(["fluyt", "run", "-m512m", "-eA=b", "busybox"]).is_ok());
    }

    /// Of the command, or of each below it.
    fn has_examples(command: &clap::Command) -> bool {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut below = command.get_subcommands().filter(|below| below.get_name() != "info").peekable();
        help.contains("Example") || (below.peek().is_some() && below.all(has_examples))
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands() {
            let is_plain = ["info", "version", "doctor"].contains(&command.get_name());
            assert!(is_plain || has_examples(command), "{}", command.get_name());
        }
    }
}
