//! `fluyt login` and `fluyt logout`: the caller's credentials for registries, kept as Docker keeps them.

use std::io::{BufRead, IsTerminal, Read, Write};

use clap::Args;
use rustix::termios::{self, LocalModes, OptionalActions};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::api::v1::image_service_client::ImageServiceClient;
use crate::api::v1::types::RegistryAuth;
use crate::api::v1::{CheckRegistryAuthRequest, ResolveImageRequest};
use crate::credentials::{registry_argument, registry_of, Config, DOCKER_HUB};
use crate::failure::Failure;
use crate::render;

/// Longest password or token.
const PASSWORD_MAX_BYTES: u64 = 64 * 1024;

/// `fluyt login`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt login
  fluyt login -u me --password-stdin registry.example.com <password.txt
  fluyt login -u me --no-check registry.example.com

Credentials are kept as Docker keeps them: by the helper that ~/.docker/config.json names, else in that file.")]
pub struct LoginCommand {
    /// User name; asked for if it is not given
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Read the password or token from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Keep the credentials without trying them at the registry
    #[arg(long)]
    no_check: bool,
    /// Image by which the engine tries the credentials besides
    #[arg(long, value_name = "REFERENCE")]
    check: Option<String>,
    /// Registry, as host[:port]
    #[arg(default_value = DOCKER_HUB)]
    registry: String,
}

/// `fluyt logout`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt logout registry.example.com")]
pub struct LogoutCommand {
    /// Registry, as host[:port]
    #[arg(default_value = DOCKER_HUB)]
    registry: String,
}

/// Runs `fluyt login`.
///
/// # Errors
/// No user name or password, a registry that refuses them, a place that cannot be written.
pub async fn login(channel: Channel, command: LoginCommand) -> Result<u8, Failure> {
    let registry = registry_argument(&command.registry)?;
    let mut config = Config::load()?;
    let username = match command.username {
        Some(username) => username,
        None if command.password_stdin => {
            return Err(Failure::usage("--password-stdin needs a user name", "give --username"));
        }
        None => ask_username()?,
    };
    if username.is_empty() || username.contains(':') {
        return Err(Failure::usage("a user name has one character at least and no colon", ""));
    }
    let password = if command.password_stdin { read_password()? } else { ask_password()? };
    if password.is_empty() {
        return Err(Failure::usage("the password is empty", "give it by --password-stdin"));
    }
    let auth =
        RegistryAuth { username: username.clone(), password: password.to_string(), ..Default::default() };
    if !command.no_check {
        let request = CheckRegistryAuthRequest { registry: registry.to_owned(), auth: Some(auth.clone()) };
        ImageServiceClient::new(channel.clone()).check_registry_auth(request).await?;
    }
    if let Some(reference) = command.check {
        check(channel, registry, &reference, auth).await?;
    }
    let place = config.store(registry, &username, &password).await?;
    render::line(format!("credentials for {registry} are kept in {place}"))?;
    Ok(0)
}

/// Runs `fluyt logout`.
///
/// # Errors
/// A helper that fails, a file that cannot be written.
pub async fn logout(command: LogoutCommand) -> Result<u8, Failure> {
    let registry = registry_argument(&command.registry)?;
    let mut config = Config::load()?;
    let was_kept = config.erase(registry).await?;
    render::line(if was_kept {
        format!("credentials for {registry} are removed")
    } else {
        format!("there were no credentials for {registry} in {}", config.path().display())
    })?;
    Ok(0)
}

/// The registry takes the credentials: the image may be asked for, though it may be absent.
async fn check(channel: Channel, registry: &str, reference: &str, auth: RegistryAuth) -> Result<(), Failure> {
    if registry_of(reference) != registry {
        return Err(Failure::usage(format!("{reference} is not an image of {registry}"), ""));
    }
    let request =
        ResolveImageRequest { reference: reference.to_owned(), auth: Some(auth), ..Default::default() };
    match ImageServiceClient::new(channel).resolve_image(request).await.map_err(Failure::from) {
        Err(failure) if failure.reason != "IMAGE_NOT_FOUND" && failure.reason != "PLATFORM_UNAVAILABLE" => {
            Err(failure)
        }
        _ => Ok(()),
    }
}

fn ask_username() -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is nobody to ask for a user name", "give --username"));
    }
    prompt("user name: ")?;
    let mut line = String::new();
    let read = std::io::stdin().lock().take(PASSWORD_MAX_BYTES).read_line(&mut line);
    read.map_err(|error| Failure::file("read", "standard input", &error))?;
    Ok(line.trim().to_owned())
}

fn read_password() -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin().lock().take(PASSWORD_MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::file("read", "standard input", &error))?;
    if text.len() as u64 > PASSWORD_MAX_BYTES {
        let message = format!("the password is longer than PASSWORD_MAX_BYTES, {PASSWORD_MAX_BYTES}");
        return Err(Failure::usage(message, ""));
    }
    Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// Asked on the terminal, which shows nothing of what is typed.
fn ask_password() -> Result<Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("there is nobody to ask for a password", "give it by --password-stdin"));
    }
    prompt("password: ")?;
    let failed = |errno: rustix::io::Errno| Failure::file("set", "the terminal", &errno.into());
    let before = termios::tcgetattr(&stdin).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    termios::tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(failed)?;
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().take(PASSWORD_MAX_BYTES).read_line(&mut line);
    termios::tcsetattr(&stdin, OptionalActions::Flush, &before).map_err(failed)?;
    eprintln!();
    read.map_err(|error| Failure::file("read", "standard input", &error))?;
    Ok(Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned()))
}

fn prompt(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stderr().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::file("write", "standard error", &error))
}
