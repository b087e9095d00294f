//! The flags of `run` and `create` that say where a container's output is kept and how much of it.

use clap::Args;

use crate::api::v1::types::{log_spec::Driver, LogSpec};
use crate::failure::Failure;
use crate::units;

/// Docker's names; `json-file` and `local` mean the engine's own files.
#[derive(Args, Debug, Default)]
pub struct LogFlags {
    /// Where output is kept: file, journald (files and the host's journal) or none
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// max-size=SIZE of one file, max-file=COUNT of files kept; labels=NAME,… and env=NAME,… for `logs --details` and the
    /// journal; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
}

impl LogFlags {
    /// What they ask for; nothing if none was given.
    ///
    /// # Errors
    /// A driver or an option that is not known, a value that is no size or count.
    pub fn spec(&self) -> Result<Option<LogSpec>, Failure> {
        if self.log_driver.is_none() && self.log_opt.is_empty() {
            return Ok(None);
        }
        let mut spec = LogSpec::default();
        spec.set_driver(match self.log_driver.as_deref() {
            // The engine's own choice.
            None => Driver::Unspecified,
            Some("file" | "json-file" | "local") => Driver::File,
            Some("journald") => Driver::Journald,
            Some("none") => Driver::None,
            Some(other) => {
                return Err(Failure::usage(
                    format!("--log-driver {other} is not known"),
                    "write file (json-file and local mean it too), journald or none",
                ))
            }
        });
        for option in &self.log_opt {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let wrong = |rule: String| Failure::usage(format!("--log-opt {option}: {rule}"), "");
            match name {
                "max-size" => spec.segment_size_bytes = units::parse_bytes(value).map_err(wrong)?,
                "max-file" => {
                    spec.segment_count =
                        value.parse().map_err(|_| wrong("it must be a number of files".into()))?;
                }
                "labels" => spec.detail_labels.extend(value.split(',').map(str::to_owned)),
                "env" => spec.detail_env.extend(value.split(',').map(str::to_owned)),
                _ => return Err(wrong("only max-size, max-file, labels and env are known".into())),
            }
        }
        Ok(Some(spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(driver: Option<&str>, options: &[&str]) -> Result<Option<LogSpec>, String> {
        let log_opt = options.iter().map(ToString::to_string).collect();
        let flags = LogFlags { log_driver: driver.map(Into::into), log_opt };
        flags.spec().map_err(|failure| failure.message)
    }

    #[test]
    fn dockers_names_are_understood() {
        assert_eq!(spec(None, &[]), Ok(None));
        let bounded = spec(Some("json-file"), &["max-size=10m", "max-file=3"]).unwrap().unwrap();
        assert_eq!((bounded.segment_size_bytes, bounded.segment_count), (10 << 20, 3));
        assert_eq!(spec(None, &["max-file=3"]).unwrap().unwrap().driver(), Driver::Unspecified);
        let noted = spec(None, &["labels=a,b", "env=E", "labels=c"]).unwrap().unwrap();
        assert_eq!(
            (noted.detail_labels, noted.detail_env),
            (vec!["a".into(), "b".into(), "c".into()], vec!["E".into()])
        );
        for (name, driver) in
            [("local", Driver::File), ("journald", Driver::Journald), ("none", Driver::None)]
        {
            assert_eq!(spec(Some(name), &[]).unwrap().unwrap().driver(), driver, "{name}");
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (driver, option) in
            [("syslog", "max-size=1m"), ("file", "tag=x"), ("file", "max-file=x"), ("file", "max-size=")]
        {
            assert!(spec(Some(driver), &[option]).is_err(), "{driver} {option}");
        }
    }
}
