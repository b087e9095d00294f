//! `fluyt completion`: what a shell needs to complete commands and flags. It asks no daemon.

use clap::{Args, ValueEnum};
use clap_complete::shells;

use crate::failure::Failure;
use crate::render;

/// `fluyt completion`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt completion bash > /etc/bash_completion.d/fluyt
  fluyt completion zsh > /usr/local/share/zsh/site-functions/_fluyt
  fluyt completion fish > ~/.config/fish/completions/fluyt.fish")]
pub struct CompletionCommand {
    /// Shell that will read it
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the completion script of `program` for a shell.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(mut program: clap::Command, command: &CompletionCommand) -> Result<u8, Failure> {
    let mut script = Vec::new();
    match command.shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut program, "fluyt", &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut program, "fluyt", &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut program, "fluyt", &mut script),
    }
    render::bytes(&script, false)?;
    Ok(0)
}
