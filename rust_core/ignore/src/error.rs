//! Why an ignore file cannot be used.

use errors::Catalogued;

/// An ignore file that breaks a rule or a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A pattern that means nothing.
    #[error("line {line} of the ignore file: {pattern:?}: {rule}")]
    Invalid {
        /// The line, from 1; 0 for a pattern that came from no file.
        line: usize,
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// More than a named bound allows.
    #[error("the ignore file: {actual} exceeds the limit {limit} of {value}")]
    LimitExceeded {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        value: usize,
        /// What was found.
        actual: usize,
    },
}

impl Catalogued for IgnoreError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "IGNORE_FILE_INVALID",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Invalid { line, pattern, rule } => {
                vec![("line", line.to_string()), ("pattern", pattern.clone()), ("rule", (*rule).to_owned())]
            }
            Self::LimitExceeded { limit, value, actual } => vec![
                ("limit", (*limit).to_owned()),
                ("limit_value", value.to_string()),
                ("actual", actual.to_string()),
                ("subject", "the ignore file".to_owned()),
            ],
        }
    }
}
