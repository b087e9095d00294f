//! What goes wrong, said to a person: what happened, then what to do. Built from the engine's error details.

use std::fmt;
use std::path::Path;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::fields;

/// Exit code for a failure of the engine or of this program, as Docker has it.
pub const EXIT_ENGINE: u8 = 125;

/// A failure that ends the program.
#[derive(Debug)]
pub struct Failure {
    /// What happened, one sentence.
    pub message: String,
    /// What to do next; empty if there is nothing to say.
    pub next_step: String,
    /// The program's exit code.
    pub exit_code: u8,
    /// The engine's reason, empty for a failure of this program.
    pub reason: String,
}

impl Failure {
    /// A failure of this program with advice.
    pub fn new(message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            next_step: next_step.into(),
            exit_code: EXIT_ENGINE,
            reason: String::new(),
        }
    }

    /// Arguments that make no sense.
    pub fn usage(message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self::new(message, next_step)
    }

    /// A file of the caller that could not be used.
    pub fn file(operation: &str, path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        Self::new(format!("cannot {operation} {}: {error}", path.as_ref().display()), "")
    }

    /// The stream ended before the engine said how the work ended.
    pub fn cut_off(what: &str) -> Self {
        Self::new(
            format!("the engine closed the stream before it said how the {what} ended"),
            "see `fluyt events` and the daemon's log; the daemon may have been stopped",
        )
    }

    /// Standard output could not be written.
    pub fn output(error: &std::io::Error) -> Self {
        Self::new(format!("cannot write to standard output: {error}"), "")
    }

    /// The caller ended the command by a signal; `exit_code` is 128 and the signal's number.
    pub fn interrupted(message: impl Into<String>, next_step: impl Into<String>, exit_code: u8) -> Self {
        Self { exit_code, ..Self::new(message, next_step) }
    }

    /// A failure that the engine recorded on an operation or a container.
    pub fn recorded(failure: &crate::api::v1::types::Failure) -> Self {
        Self {
            message: failure.message.clone(),
            next_step: failure.next_step.clone(),
            exit_code: start_exit_code(&failure.reason, |key| failure.metadata.get(key).map(String::as_str)),
            reason: failure.reason.clone(),
        }
    }
}

/// 126 or 127 where the engine says that the command is at fault, else 125.
fn start_exit_code<'a>(reason: &str, metadata: impl Fn(&str) -> Option<&'a str>) -> u8 {
    match reason {
        "PROCESS_START_FAILED" => metadata("exit_code")
            .and_then(|text| text.parse().ok())
            .filter(|code| *code != 0)
            .unwrap_or(EXIT_ENGINE),
        _ => EXIT_ENGINE,
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let mut failure = Self::new(status.message(), "");
        if let Some(info) = status.get_details_error_info() {
            failure.exit_code =
                start_exit_code(&info.reason, |key| info.metadata.get(key).map(String::as_str));
            failure.reason = info.reason;
        }
        if let Some(message) = status.get_details_localized_message() {
            failure.next_step = message.message;
        }
        if let Some(bad) = status.get_details_bad_request() {
            for violation in bad.field_violations {
                failure.message = fields::shown(&violation.field, failure.message);
            }
        }
        if failure.reason.is_empty() && status.code() == Code::Unavailable {
            failure.next_step =
                "is the daemon running? start it with `fluytd`, or name another with --host".to_owned();
        }
        if failure.message.is_empty() {
            failure.message = status.code().description().to_owned();
        }
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fluyt: {}", self.message)?;
        if !self.next_step.is_empty() {
            write!(f, "\n  try: {}", self.next_step)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_field_is_shown_as_its_flag() {
        let mut details =
            ErrorDetails::with_bad_request_violation("spec.resources.memory_limit_bytes", "too small");
        details.set_error_info("FIELD_INVALID", "fluyt", HashMap::new());
        let failure =
            Failure::from(Status::with_error_details(Code::InvalidArgument, "below 6 MiB", details));
        assert_eq!(failure.message, "--memory: below 6 MiB");
        assert_eq!(failure.exit_code, EXIT_ENGINE);
    }

    #[test]
    fn a_limit_of_an_update_is_shown_as_its_flag() {
        let details = ErrorDetails::with_bad_request_violation("resources.nano_cpus", "too many");
        let failure = Failure::from(Status::with_error_details(Code::InvalidArgument, "too many", details));
        assert_eq!(failure.message, "--cpus: too many");
    }

    #[test]
    fn a_command_at_fault_gives_its_exit_code() {
        let metadata = HashMap::from([("exit_code".to_owned(), "127".to_owned())]);
        let details = ErrorDetails::with_error_info("PROCESS_START_FAILED", "fluyt", metadata);
        let failure =
            Failure::from(Status::with_error_details(Code::FailedPrecondition, "no such file", details));
        assert_eq!(failure.exit_code, 127);
    }

    #[test]
    fn an_absent_daemon_is_said_to_be_absent() {
        let failure = Failure::from(Status::unavailable("tcp connect error"));
        assert!(failure.to_string().contains("is the daemon running?"));
    }
}
