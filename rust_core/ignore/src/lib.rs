//! Ignore files of build contexts: which paths `.dockerignore` leaves out, with Docker's matching, not git's.
//!
//! A pattern without a slash matches at the root of the context only; the last pattern that matches decides; `!`
//! takes back what an earlier pattern left out, also below a directory that is left out itself. The crate reads no
//! file and walks no directory. Source: github.com/moby/patternmatcher and its ignorefile package.

mod error;
mod file;
mod glob;
mod matcher;
mod pattern;

pub use error::IgnoreError;
pub use file::{file_names, parse, MAX_IGNORE_FILE_BYTES, MAX_IGNORE_PATTERNS, MAX_IGNORE_PATTERN_BYTES};
pub use matcher::{Matcher, Verdict};
