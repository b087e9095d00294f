//! Operations: watched to their end by the commands that begin them, and by `fluyt operation`.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::api::v1::operation_service_client::OperationServiceClient;
use crate::api::v1::types::operation::{Kind, State};
use crate::api::v1::types::{self, Operation};
use crate::api::v1::watch_operation_response::Update;
use crate::api::v1::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, WatchOperationRequest,
};
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::progress::Progress;
use crate::render::{self, Format};

/// How long a lost connection is made again before the command gives up.
const RECONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
const RESUMES: &str = "run the command again: what was fetched is kept and resumed";

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
            let ended =
                watch(channel, answer.operation.unwrap_or_default(), false, OnInterrupt::Leave).await?;
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

/// What Ctrl-C does while an operation is watched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnInterrupt {
    /// It cancels the operation, as its caller began it; a second one leaves at once.
    Cancel,
    /// It ends the watching only.
    Leave,
}

/// Follows an operation to its end, showing progress. A connection that breaks is made again and the operation found
/// again, for up to [`RECONNECT_LIMIT`].
///
/// # Errors
/// The operation's own failure, that of the watch, or that the caller interrupted it (exit code 130 or 143).
pub async fn watch(
    channel: Channel,
    operation: Operation,
    quiet: bool,
    on_interrupt: OnInterrupt,
) -> Result<Operation, Failure> {
    let mut client = OperationServiceClient::new(channel);
    let mut progress = Progress::new(quiet);
    let mut last = operation;
    // Before anything is shown: who reads it may answer with Ctrl-C at once.
    let mut interrupts = Interrupts::new()?;
    progress.show(&last);
    let mut exit_code: Option<u8> = None;
    let mut is_cancel_sent = false;
    let mut lost: Option<(Instant, i64)> = None;
    while last.state() == State::Running {
        let step = tokio::select! {
            step = async {
                if exit_code.is_some() && !is_cancel_sent {
                    let request = CancelOperationRequest { id: last.id.clone(), ..Default::default() };
                    client.cancel_operation(request).await?;
                    is_cancel_sent = true;
                }
                follow(&mut client, &mut last, &mut progress).await
            } => step,
            code = interrupts.next() => {
                if on_interrupt == OnInterrupt::Leave || exit_code.is_some() {
                    return Err(left_running(&last, code));
                }
                exit_code = Some(code);
                progress.say("cancelling; press Ctrl-C again to leave at once");
                continue;
            }
        };
        match step {
            Ok(()) => {}
            Err(status) if is_connection_lost(&status) => {
                let since = match lost {
                    Some((since, sequence)) if sequence == last.sequence => since,
                    _ => {
                        progress.say("connection lost; connecting again");
                        Instant::now()
                    }
                };
                if since.elapsed() > RECONNECT_LIMIT {
                    return Err(status.into());
                }
                lost = Some((since, last.sequence));
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
            Err(status) => return Err(status.into()),
        }
    }
    progress.end();
    match (last.state(), exit_code) {
        (State::Succeeded, _) => Ok(last),
        (State::Cancelled, Some(code)) => Err(Failure::interrupted("cancelled", RESUMES, code)),
        (State::Failed | State::Cancelled, _) => Err(ended_badly(&last)),
        (State::Running | State::Unspecified, _) => Err(Failure::cut_off("operation")),
    }
}

/// Shows the operation's changes until it has ended. Cancel-safe: `last` is the newest state seen.
async fn follow(
    client: &mut OperationServiceClient<Channel>,
    last: &mut Operation,
    progress: &mut Progress,
) -> Result<(), Status> {
    let request = WatchOperationRequest { id: last.id.clone(), ..Default::default() };
    let mut updates = client.watch_operation(request).await?.into_inner();
    while let Some(update) = updates.message().await? {
        if let Some(Update::Operation(state)) = update.update {
            progress.show(&state);
            *last = state;
        }
    }
    if last.state() == State::Running {
        return Err(Status::unavailable("the engine closed the stream before the operation ended"));
    }
    Ok(())
}

/// Whether a failure is the transport's: the engine's own carry details.
fn is_connection_lost(status: &Status) -> bool {
    status.get_details_error_info().is_none()
        && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
}

fn left_running(operation: &Operation, code: u8) -> Failure {
    let id = &operation.id;
    Failure::interrupted(
        format!("operation {id} goes on without this command"),
        format!("follow it with `fluyt operation watch {id}`, end it with `fluyt operation cancel {id}`"),
        code,
    )
}

fn ended_badly(operation: &types::Operation) -> Failure {
    match &operation.failure {
        Some(failure) => Failure::recorded(failure),
        None => Failure::new("cancelled", RESUMES),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn only_a_failure_of_the_transport_is_tried_again() {
        assert!(is_connection_lost(&Status::unavailable("tcp connect error")));
        assert!(is_connection_lost(&Status::unknown("transport error")));
        assert!(!is_connection_lost(&Status::not_found("no such operation")));
        let details = ErrorDetails::with_error_info("UNEXPECTED", "fluyt", HashMap::new());
        let told = Status::with_error_details(Code::Internal, "a bug", details);
        assert!(!is_connection_lost(&told));
    }
}
