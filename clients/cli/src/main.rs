//! `fluyt`, the command line: arguments to calls of the public gRPC API, answers to tables, JSON and exit codes.
//! It knows nothing that the API does not say.

mod api;
mod arguments;
mod attach;
mod build;
mod caller;
mod cid_file;
mod clock;
mod completion;
mod confinement_flags;
mod confirm;
mod connect;
mod container;
mod container_flags;
mod container_names;
mod containers;
mod copy;
mod credentials;
mod docker_flags;
mod engine;
mod events;
mod exec;
mod failure;
mod fields;
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
mod template;
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
    /// What `fluyt container` has too
    #[command(flatten)]
    Verb(container::Verb),
    /// List containers
    #[command(visible_alias = "ls")]
    Ps(containers::ListCommand),
    /// Show all about containers or images
    Inspect(containers::InspectCommand),
    /// Containers: all that can be done with them
    #[command(subcommand)]
    Container(container::Command),
    /// Build an image of a folder and a Dockerfile
    Build(Box<build::BuildCommand>),
    /// What builds keep for later ones
    #[command(subcommand)]
    Builder(build::BuilderCommand),
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
    /// Networks that containers are attached to
    #[command(subcommand)]
    Network(networks::Command),
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

impl Command {
    /// See [`container::Verb::is_of_a_process`].
    fn is_of_a_process(&self) -> bool {
        match self {
            Self::Verb(verb) | Self::Container(container::Command::Verb(verb)) => verb.is_of_a_process(),
            _ => false,
        }
    }
}

async fn dispatch(host: &str, channel: Channel, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Verb(verb) => container::run_verb(host, channel, verb).await,
        Command::Ps(command) => containers::list(channel, command).await,
        Command::Inspect(command) => containers::inspect(channel, command).await,
        Command::Container(command) => container::run(host, channel, command).await,
        Command::Build(command) => build::build(channel, *command).await,
        Command::Builder(command) => build::builder(channel, command).await,
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
        Command::Network(command) => networks::run(channel, command).await,
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
    let cli = match arguments::parse::<Cli>(std::env::args_os()) {
        Ok(parsed) => {
            fields::show_for(&parsed.command);
            parsed.arguments
        }
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
    let is_container = cli.command.is_of_a_process();
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

    fn parsed(line: &[&str]) -> Result<Cli, clap::Error> {
        arguments::parse::<Cli>(line).map(|parsed| parsed.arguments)
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_behind_the_image_are_the_containers() {
        let cli =
            parsed(&["fluyt", "run", "--rm", "busybox", "ls", "-l", "--", "-x", "--rm", "--tty=no"]).unwrap();
        let Command::Verb(container::Verb::Run(command)) = cli.command else { panic!("run") };
        assert!(
            format!("{command:?}").contains(r#"args: ["ls", "-l", "--", "-x", "--rm", "--tty=no"]"#),
            "{command:?}"
        );
    }

    #[test]
    fn short_flags_may_be_joined() {
        assert!(parsed(&["fluyt", "ps", "-aq"]).is_ok());
        assert!(parsed(&["fluyt", "run", "-dq", "busybox"]).is_ok());
        assert!(parsed(&["fluyt", "run", "-m512m", "-eA=b", "busybox"]).is_ok());
    }

    #[test]
    fn flags_have_values_and_options_negative_ones() {
        for line in [
            &["fluyt", "run", "-it=false", "--rm=T", "--init=0", "busybox"][..],
            &["fluyt", "container", "run", "-dt", "-d=false", "-a", "stdout", "busybox"],
            &["fluyt", "ps", "-aq=false", "-n", "-1", "--no-trunc=1"],
            &["fluyt", "stop", "--time", "-1", "--all=f", "web"],
            &["fluyt", "create", "--memory-swap", "-1", "--oom-score-adj", "-500", "busybox"],
            &["fluyt", "builder", "history", "rm", "--all"],
        ] {
            assert!(parsed(line).is_ok(), "{line:?} {}", parsed(line).unwrap_err());
        }
        for line in [
            &["fluyt", "run", "--tty=maybe", "busybox"][..],
            &["fluyt", "run", "--tty=", "busybox"],
            &["fluyt", "run", "-d", "-a", "stdout", "busybox"],
            &["fluyt", "stop", "--all", "web"],
            &["fluyt", "stop", "--all=false"],
            &["fluyt", "builder", "history", "rm", "--all=false"],
            &["fluyt", "login", "--no-check", "--check", "a", "b"],
        ] {
            assert!(parsed(line).is_err(), "{line:?}");
        }
    }

    /// Each flag that is one, of all commands, since all are read by one rule.
    #[test]
    fn every_flag_of_every_command_takes_a_value() {
        fn visit(command: &clap::Command, path: &[&str], count: &mut usize) {
            for arg in
                command.get_arguments().filter(|arg| matches!(arg.get_action(), clap::ArgAction::SetTrue))
            {
                let long = arg.get_long().expect("a flag has a long name");
                let wrong = format!("--{long}=maybe");
                let line = [&["fluyt"], path, &[wrong.as_str()]].concat();
                let error = parsed(&line).expect_err(&wrong).to_string();
                assert!(error.contains(&format!("for '--{long}[=<BOOL>]': write true or false")), "{error}");
                *count += 1;
            }
            for below in command.get_subcommands() {
                visit(below, &[path, &[below.get_name()]].concat(), count);
            }
        }
        let mut count = 0;
        visit(&Cli::command(), &[], &mut count);
        assert!(count > 50, "{count}");
    }

    #[test]
    fn help_is_that_of_the_plain_command() {
        let help = |line: &[&str]| parsed(line).unwrap_err().to_string();
        let of_list = help(&["fluyt", "container", "ls", "-a=false", "--help"]);
        assert!(of_list.contains("-a, --all") && !of_list.contains("[=<BOOL>]"), "{of_list}");
        assert!(help(&["fluyt", "-H", "unix:///x", "rm", "-h"]).contains("Usage: fluyt rm [OPTIONS]"));
        assert!(help(&["fluyt", "--help"]).contains("container"));
    }

    #[test]
    fn every_flag_that_is_shown_for_a_field_is_one() {
        let program = Cli::command();
        let of = |name: &str| -> Vec<String> {
            let command = program.find_subcommand(name).unwrap();
            command.get_arguments().map(arguments::written).collect()
        };
        let known = [of("run"), of("update")].concat();
        for (field, flags) in fields::FLAGS {
            for flag in flags.split([' ', ',']).filter(|word| word.starts_with("--")) {
                assert!(known.iter().any(|one| one == flag), "{field}: {flag}");
            }
        }
        let has_flag = |field: &str| fields::FLAGS.iter().any(|(name, _)| name.starts_with(field));
        for field in render::fields_of::<api::v1::types::Resources>() {
            assert!(has_flag(&format!("spec.resources.{field}")), "{field}");
        }
        // What stands by its place behind the flags, or has none.
        let placed = ["image", "args", "stdin_once", "tty_width", "tty_height"];
        for field in render::fields_of::<api::v1::types::ContainerSpec>() {
            assert!(placed.contains(&&*field) || has_flag(&format!("spec.{field}")), "{field}");
        }
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
