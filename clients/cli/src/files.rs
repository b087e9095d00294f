//! A container's files as a whole: commit, diff, export.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::export_container_response::Part;
use crate::api::v1::types::file_change::Kind;
use crate::api::v1::{CommitContainerRequest, ExportContainerRequest, ListChangesRequest};
use crate::failure::Failure;
use crate::output_file::OutputFile;
use crate::render;

/// `fluyt commit`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt commit web web:fixed
  fluyt commit -m 'patched openssl' -a 'Ann <ann@example.com>' web web:fixed
  fluyt commit -c 'CMD [\"/server\"]' -c 'ENV MODE=live' web web:live")]
pub struct CommitCommand {
    /// Author, for the image's history
    #[arg(short, long, default_value = "", hide_default_value = true)]
    author: String,
    /// A Dockerfile instruction over the container's config; may be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A remark, for the image's history
    #[arg(short, long, default_value = "", hide_default_value = true)]
    message: String,
    /// Hold the container still meanwhile
    #[arg(
        short,
        long,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pause: bool,
    /// Container: id, unique beginning of one, or name
    container: String,
    /// Reference for the image; default: none
    reference: Option<String>,
}

/// `fluyt diff`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt diff web    # A added, C changed, D deleted")]
pub struct DiffCommand {
    /// Container: id, unique beginning of one, or name
    container: String,
}

/// `fluyt export`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt export -o web.tar web
  fluyt export web | tar -t
  fluyt export web | fluyt import - web:flat")]
pub struct ExportCommand {
    /// File to write; default: standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Container: id, unique beginning of one, or name
    pub container: String,
}

/// Runs `fluyt commit`: prints the image's id.
///
/// # Errors
/// What the engine answers.
pub async fn commit(channel: Channel, command: CommitCommand) -> Result<u8, Failure> {
    let request = CommitContainerRequest {
        container: command.container,
        reference: command.reference.unwrap_or_default(),
        changes: command.change,
        message: command.message,
        author: command.author,
        no_pause: !command.pause,
        ..Default::default()
    };
    let answer = ContainerServiceClient::new(channel).commit_container(request).await?.into_inner();
    render::line(answer.image_id)?;
    Ok(0)
}

/// Runs `fluyt diff`: one change a line, the bytes of paths as they are.
///
/// # Errors
/// What the engine answers; standard output that cannot be written.
pub async fn diff(channel: Channel, command: DiffCommand) -> Result<u8, Failure> {
    let mut client = ContainerServiceClient::new(channel);
    let mut page_token = String::new();
    loop {
        let request =
            ListChangesRequest { container: command.container.clone(), page_token, ..Default::default() };
        let page = client.list_changes(request).await?.into_inner();
        let mut text = Vec::new();
        for change in &page.changes {
            let letter = match change.kind() {
                Kind::Added => b'A',
                Kind::Modified => b'C',
                Kind::Deleted => b'D',
                Kind::Unspecified => b'?',
            };
            text.extend_from_slice(&[letter, b' ']);
            text.extend_from_slice(&change.path);
            text.push(b'\n');
        }
        render::bytes(&text, false)?;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(0);
        }
    }
}

/// Runs `fluyt export`.
///
/// # Errors
/// A terminal as standard output; a file that cannot be written, of which nothing is left then; what the engine answers.
pub async fn export(channel: Channel, command: ExportCommand) -> Result<u8, Failure> {
    let request = ExportContainerRequest { container: command.container };
    match command.output {
        Some(path) => {
            let mut file = OutputFile::create(&path)?;
            receive(channel, request, |chunk| file.write(chunk)).await?;
            file.finish()?;
        }
        None if std::io::stdout().is_terminal() => {
            return Err(Failure::usage(
                "a tar is nothing for a terminal",
                "name a file with -o, or redirect the output",
            ));
        }
        None => receive(channel, request, |chunk| render::bytes(chunk, false)).await?,
    }
    Ok(0)
}

async fn receive(
    channel: Channel,
    request: ExportContainerRequest,
    mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut parts = ContainerServiceClient::new(channel).export_container(request).await?.into_inner();
    while let Some(message) = parts.message().await? {
        match message.part {
            Some(Part::Chunk(chunk)) => write(&chunk)?,
            Some(Part::Complete(_)) => return Ok(()),
            None => {}
        }
    }
    Err(Failure::cut_off("export"))
}
