//! Operations: watched to their end by the commands that begin them, and by `fluyt operation`.

use clap::{Args, Subcommand};
use tonic::transport::Channel;

use crate::api::v1::operation_service_client::OperationServiceClient;
use crate::api::v1::types::operation::{Kind, State};
use crate::api::v1::types::{self, Operation};
use crate::api::v1::watch_operation_response::Update;
use crate::api::v1::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, WatchOperationRequest,
};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::render::{self, Format};

/// `fluyt operation`
#[derive(Subcommand, Debug)]
#[command(
    after_help = "Examples:\n  fluyt operation ls\n  fluyt operation watch 0f3c\n  fluyt operation cancel 0f3c"
)]
pub enum Command {
    /// List pulls, loads and other long work, newest first
    Ls {
        /// Output
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show one operation's state
    Inspect(Target),
    /// Follow an operation to its end
    Watch(Target),
    /// Ask an operation to end
    Cancel(Target),
}

/// The operation that is meant.
#[derive(Args, Debug)]
pub struct Target {
    /// Id of the operation
    id: String,
}

/// Runs `fluyt operation …`.
///
/// # Errors
/// What the engine answers; a watched operation that failed.
pub async fn run(channel: Channel, command: Command) -> Result<u8, Failure> {
    let mut client = OperationServiceClient::new(channel.clone());
    match command {
        Command::Ls { format } => {
            let mut operations = Vec::new();
            let mut page_token = String::new();
            loop {
                let request = ListOperationsRequest { page_token, ..Default::default() };
                let page = client.list_operations(request).await?.into_inner();
                operations.extend(page.operations);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            if format == Format::Json {
                render::json_lines(&operations)?;
            } else {
                let rows: Vec<Vec<String>> = operations.iter().map(row).collect();
                render::line(render::table(&["OPERATION ID", "KIND", "SUBJECT", "STATE"], &rows))?;
            }
        }
        Command::Inspect(target) => {
            let answer = client.get_operation(GetOperationRequest { id: target.id }).await?.into_inner();
            render::json_pretty(&answer.operation.unwrap_or_default())?;
        }
        Command::Watch(target) => {
            let answer = client.get_operation(GetOperationRequest { id: target.id }).await?.into_inner();
            let ended = watch(channel, answer.operation.unwrap_or_default(), false).await?;
            render::line(&ended.id)?;
        }
        Command::Cancel(target) => {
            let request = CancelOperationRequest { id: target.id, ..Default::default() };
            let answer = client.cancel_operation(request).await?.into_inner();
            render::line(answer.operation.unwrap_or_default().id)?;
        }
    }
    Ok(0)
}

fn row(operation: &Operation) -> Vec<String> {
    let kind = Kind::try_from(operation.kind).unwrap_or_default().as_str_name();
    vec![
        operation.id.clone(),
        kind.trim_start_matches("KIND_").to_lowercase().replace('_', " "),
        render::printable(&operation.subject),
        operation.state().as_str_name().trim_start_matches("STATE_").to_lowercase(),
    ]
}

/// Follows an operation to its end, showing progress. Ctrl-C cancels it.
///
/// # Errors
/// The operation's own failure, or that of the watch.
pub async fn watch(channel: Channel, operation: Operation, quiet: bool) -> Result<Operation, Failure> {
    let mut client = OperationServiceClient::new(channel);
    let mut progress = Progress::new(quiet);
    let id = operation.id.clone();
    let mut last = operation;
    progress.show(&last);
    if last.state() == State::Running {
        let request = WatchOperationRequest { id: id.clone(), ..Default::default() };
        let mut updates = client.watch_operation(request).await?.into_inner();
        loop {
            let update = tokio::select! {
                update = updates.message() => update?,
                _ = tokio::signal::ctrl_c() => {
                    client.cancel_operation(CancelOperationRequest { id: id.clone(), ..Default::default() }).await?;
                    continue;
                }
            };
            let Some(update) = update else { break };
            if let Some(Update::Operation(state)) = update.update {
                progress.show(&state);
                last = state;
            }
        }
    }
    progress.end();
    match last.state() {
        State::Succeeded => Ok(last),
        State::Failed | State::Cancelled => Err(ended_badly(&last)),
        State::Running | State::Unspecified => Err(Failure::cut_off("operation")),
    }
}

fn ended_badly(operation: &types::Operation) -> Failure {
    match &operation.failure {
        Some(failure) => Failure::recorded(failure),
        None => Failure::new("cancelled", "run the command again: what was fetched is kept and resumed"),
    }
}
