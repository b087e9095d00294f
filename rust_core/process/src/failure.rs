//! Why a container's process did not start.

use std::fmt;
use std::path::Path;

use errors::Catalogued;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::step::Step;

/// Exit code of a start that failed through the engine or its surroundings (Docker's 125).
pub const EXIT_ENGINE: u8 = 125;
/// Exit code where the command was found and could not be executed, or its working directory not entered.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// Exit code where the command was not found.
pub const EXIT_NOT_FOUND: u8 = 127;

/// The start stopped at `step`; nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// What was being done.
    pub step: Step,
    /// The kernel's answer; 0 where a rule of ours refused (`detail` names it).
    pub errno: i32,
    /// What it was done to: a path, the user's text, a key; empty where there is nothing to name.
    pub path: String,
    /// A sentence for people; empty where step, path and errno say it all.
    pub detail: String,
    /// 125, 126 or 127 as in Docker.
    pub exit_code: u8,
}

impl StartFailure {
    /// The kernel refused.
    pub fn kernel(step: Step, path: impl AsRef<Path>, errno: Errno) -> Self {
        Self {
            step,
            errno: errno.raw_os_error(),
            path: path.as_ref().to_string_lossy().into_owned(),
            detail: String::new(),
            exit_code: EXIT_ENGINE,
        }
    }

    /// A rule of ours refused; `rule` is a sentence that names it.
    pub fn rule(step: Step, subject: impl AsRef<Path>, rule: impl Into<String>) -> Self {
        Self {
            step,
            errno: 0,
            path: subject.as_ref().to_string_lossy().into_owned(),
            detail: rule.into(),
            exit_code: EXIT_ENGINE,
        }
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    pub(crate) fn with_exit_code(mut self, exit_code: u8) -> Self {
        self.exit_code = exit_code;
        self
    }
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start failed at {}", self.step.name())?;
        if !self.path.is_empty() {
            write!(f, " ({})", self.path)?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if self.errno != 0 {
            write!(f, ": {}", std::io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for StartFailure {}

impl Catalogued for StartFailure {
    fn reason(&self) -> &'static str {
        let is = |errno: Errno| self.errno == errno.raw_os_error();
        match self.step {
            Step::User => "USER_INVALID",
            _ if is(Errno::NOSPC) || is(Errno::DQUOT) => "STORAGE_FULL",
            Step::Clone | Step::Root | Step::Seccomp if is(Errno::NOSYS) => "KERNEL_FEATURE_MISSING",
            _ => "PROCESS_START_FAILED",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        let errno = self.errno.to_string();
        match self.reason() {
            "USER_INVALID" => {
                let mut rule = self.detail.clone();
                if self.errno != 0 {
                    let cause = std::io::Error::from_raw_os_error(self.errno);
                    rule = if rule.is_empty() { cause.to_string() } else { format!("{rule}: {cause}") };
                }
                vec![("user", self.path.clone()), ("rule", rule)]
            }
            "STORAGE_FULL" => {
                vec![
                    ("operation", self.step.name().to_owned()),
                    ("path", self.path.clone()),
                    ("errno", errno),
                ]
            }
            "KERNEL_FEATURE_MISSING" => {
                let release = rustix::system::uname().release().to_string_lossy().into_owned();
                vec![("feature", self.step.name().to_owned()), ("kernel_release", release)]
            }
            _ => vec![
                ("step", self.step.name().to_owned()),
                ("errno", errno),
                ("path", self.path.clone()),
                ("exit_code", self.exit_code.to_string()),
                ("detail", self.detail.clone()),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_holds_step_path_rule_and_cause() {
        let failure =
            StartFailure::kernel(Step::Cwd, "/work", Errno::ACCESS).with_detail("cannot be entered");
        assert_eq!(
            failure.to_string(),
            "start failed at cwd (/work): cannot be entered: Permission denied (os error 13)"
        );
    }

    #[test]
    fn each_reason_carries_its_own_keys() {
        let keys = |failure: StartFailure| -> (&str, Vec<&str>) {
            (failure.reason(), failure.metadata().into_iter().map(|(key, _)| key).collect())
        };
        assert_eq!(
            keys(StartFailure::rule(Step::User, "evil", "the uid is not a number")),
            ("USER_INVALID", vec!["user", "rule"])
        );
        assert_eq!(
            keys(StartFailure::kernel(Step::Mount, "/x", Errno::NOSPC)),
            ("STORAGE_FULL", vec!["operation", "path", "errno"])
        );
        assert_eq!(
            keys(StartFailure::kernel(Step::Clone, "", Errno::NOSYS)),
            ("KERNEL_FEATURE_MISSING", vec!["feature", "kernel_release"])
        );
        assert_eq!(
            keys(StartFailure::kernel(Step::Exec, "/x", Errno::NOENT)),
            ("PROCESS_START_FAILED", vec!["step", "errno", "path", "exit_code", "detail"])
        );
    }
}
