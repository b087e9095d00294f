//! From the bytes of an ignore file to its patterns, and which file is the one to read.

use crate::error::IgnoreError;

/// The size of an ignore file.
pub const MAX_IGNORE_FILE_BYTES: usize = 512 * 1024;
/// The length of one pattern; no path of Linux is longer (PATH_MAX).
pub const MAX_IGNORE_PATTERN_BYTES: usize = 4096;
/// How many patterns an ignore file holds.
pub const MAX_IGNORE_PATTERNS: usize = 10_000;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Where the ignore file of a Dockerfile may stand, the one that wins first: beside the Dockerfile under its name
/// with `.dockerignore` behind it, then `.dockerignore` at the root of the context (case B22).
///
/// `dockerfile` is the Dockerfile's path, relative to the context or absolute.
pub fn file_names(dockerfile: &str) -> [String; 2] {
    [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()]
}

/// One pattern of a file: cleaned, relative to the context, `!` taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The line it stands on, from 1; 0 for a pattern that came from no file.
    pub(crate) number: usize,
    /// Whether it takes back instead of leaving out.
    pub(crate) is_exception: bool,
    /// The pattern.
    pub(crate) text: String,
}

/// The patterns of an ignore file, in order. Comments begin with `#` in the first column.
///
/// # Errors
/// [`IgnoreError::Invalid`] for a lone `!` and for bytes that are not UTF-8; [`IgnoreError::LimitExceeded`].
pub fn parse(data: &[u8]) -> Result<Vec<Line>, IgnoreError> {
    check("MAX_IGNORE_FILE_BYTES", MAX_IGNORE_FILE_BYTES, data.len())?;
    let text = std::str::from_utf8(data).map_err(|error| IgnoreError::Invalid {
        line: 1 + data[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count(),
        pattern: String::new(),
        rule: "the line is not UTF-8",
    })?;
    let mut found = Vec::new();
    for (index, line) in text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).split('\n').enumerate() {
        if !line.starts_with('#') && !line.trim().is_empty() {
            found.push(pattern(line, index + 1)?);
            check("MAX_IGNORE_PATTERNS", MAX_IGNORE_PATTERNS, found.len())?;
        }
    }
    Ok(found)
}

/// One pattern with its spelling made uniform, in two passes as moby's two packages make them: what the first one
/// uncovers (a blank behind `./`, a `!` behind `/`) means to the second what it says.
pub(crate) fn pattern(written: &str, number: usize) -> Result<Line, IgnoreError> {
    check("MAX_IGNORE_PATTERN_BYTES", MAX_IGNORE_PATTERN_BYTES, written.len())?;
    let trimmed = written.trim();
    let (mark, bare) = trimmed.strip_prefix('!').map_or(("", trimmed), |bare| ("!", bare.trim()));
    let cleaned = if bare.is_empty() { String::new() } else { clean(bare) };
    let relative = if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
    let text = clean(format!("{mark}{relative}").trim());
    let exception = text.strip_prefix('!');
    if exception.is_some_and(str::is_empty) {
        let rule = "'!' stands alone; write the pattern behind it";
        return Err(IgnoreError::Invalid { line: number, pattern: trimmed.to_owned(), rule });
    }
    Ok(Line { number, is_exception: exception.is_some(), text: exception.unwrap_or(&text).to_owned() })
}

/// The shortest path of the same meaning, as Go's `path.Clean` has it.
pub(crate) fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if is_absolute => {}
            _ => parts.push(part),
        }
    }
    match (is_absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

fn check(limit: &'static str, value: usize, actual: usize) -> Result<(), IgnoreError> {
    if actual > value {
        return Err(IgnoreError::LimitExceeded { limit, value, actual });
    }
    Ok(())
}
