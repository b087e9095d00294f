//! Flags of `fluyt run`, `create` and `update` about a container's life: restarts, an init, health. Pure.

use std::time::Duration;

use clap::Args;

use crate::api::v1::types;
use types::restart_policy::Mode;

/// Flags about how a container lives on; names and meanings are Docker's.
#[derive(Args, Debug, Default)]
pub struct LifecycleFlags {
    /// When it is started again: no, on-failure[:COUNT], always or unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = parse_restart_policy)]
    restart: Option<types::RestartPolicy>,
    /// Run a tiny init as process 1, which forwards signals and reaps
    #[arg(long)]
    init: bool,
    /// Shell command that tells whether it is healthy
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time from the end of one check to the next
    #[arg(long, value_name = "SPAN", value_parser = crate::units::parse_span)]
    health_interval: Option<Duration>,
    /// Time after which a check counts as failed
    #[arg(long, value_name = "SPAN", value_parser = crate::units::parse_span)]
    health_timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy
    #[arg(long, value_name = "COUNT")]
    health_retries: Option<u32>,
    /// Time after the start in which failures do not count
    #[arg(long, value_name = "SPAN", value_parser = crate::units::parse_span)]
    health_start_period: Option<Duration>,
    /// Time between checks in the start period
    #[arg(long, value_name = "SPAN", value_parser = crate::units::parse_span)]
    health_start_interval: Option<Duration>,
    /// What is done when it becomes unhealthy: none, restart, stop or kill
    #[arg(long, value_name = "ACTION", value_parser = ["none", "restart", "stop", "kill"])]
    health_on_failure: Option<String>,
    /// No health check, also if the image has one
    #[arg(long)]
    no_healthcheck: bool,
}

impl LifecycleFlags {
    /// Sets the fields of the specification that these flags stand for.
    pub fn apply(&self, spec: &mut types::ContainerSpec) {
        spec.restart_policy = self.restart;
        spec.init = self.init;
        spec.health_check = self.health_check();
    }

    fn health_check(&self) -> Option<types::HealthCheck> {
        use types::health_check::Action;
        let span = |span: Option<Duration>| span.and_then(|span| span.try_into().ok());
        let check = types::HealthCheck {
            disabled: self.no_healthcheck,
            args: self
                .health_cmd
                .as_ref()
                .map(|command| vec!["/bin/sh".to_owned(), "-c".to_owned(), command.clone()])
                .unwrap_or_default(),
            interval: span(self.health_interval),
            timeout: span(self.health_timeout),
            start_period: span(self.health_start_period),
            start_interval: span(self.health_start_interval),
            retries: self.health_retries.unwrap_or_default(),
            action: match self.health_on_failure.as_deref() {
                None => Action::Unspecified,
                Some("restart") => Action::Restart,
                Some("stop") => Action::Stop,
                Some("kill") => Action::Kill,
                Some(_) => Action::None,
            }
            .into(),
        };
        (check != types::HealthCheck::default()).then_some(check)
    }
}

/// `no`, `on-failure`, `on-failure:3`, `always` or `unless-stopped`.
///
/// # Errors
/// A sentence that says what a policy looks like.
pub fn parse_restart_policy(text: &str) -> Result<types::RestartPolicy, String> {
    let (name, count) = match text.split_once(':') {
        None => (text, None),
        Some((name, count)) => (name, Some(count.parse::<u32>().ok())),
    };
    let mode = match name {
        "no" | "" => Mode::No,
        "on-failure" => Mode::OnFailure,
        "always" => Mode::Always,
        "unless-stopped" => Mode::UnlessStopped,
        _ => Mode::Unspecified,
    };
    match (mode, count) {
        (Mode::Unspecified, _) | (_, Some(None)) => Err(format!(
            "`{text}` is not a policy; write no, on-failure, on-failure:3, always or unless-stopped"
        )),
        (Mode::OnFailure, count) => Ok(types::RestartPolicy {
            mode: mode.into(),
            max_retry_count: count.flatten().unwrap_or_default(),
        }),
        (_, Some(_)) => Err(format!("`{text}`: only on-failure takes a count")),
        (_, None) => Ok(types::RestartPolicy { mode: mode.into(), max_retry_count: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_read_as_dockers() {
        for (text, mode, max_retry_count) in [
            ("no", Mode::No, 0),
            ("on-failure", Mode::OnFailure, 0),
            ("on-failure:3", Mode::OnFailure, 3),
            ("always", Mode::Always, 0),
            ("unless-stopped", Mode::UnlessStopped, 0),
        ] {
            let wanted = types::RestartPolicy { mode: mode.into(), max_retry_count };
            assert_eq!(parse_restart_policy(text).unwrap(), wanted, "{text}");
        }
        for text in
            ["sometimes", "always:3", "on-failure:", "on-failure:x", "on-failure:-1", "on-failure:1:2"]
        {
            assert!(parse_restart_policy(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_health_command_is_run_by_a_shell_and_nothing_asks_for_none() {
        assert_eq!(LifecycleFlags::default().health_check(), None);
        let flags = LifecycleFlags { health_cmd: Some("test -f /ok".to_owned()), ..Default::default() };
        assert_eq!(flags.health_check().unwrap().args, ["/bin/sh", "-c", "test -f /ok"]);
        let off = LifecycleFlags { no_healthcheck: true, ..Default::default() };
        assert!(off.health_check().unwrap().disabled);
    }
}
