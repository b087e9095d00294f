//! One pattern: told by comparison where it has no wildcard or only `**` at one end, else by a [`Glob`].

use crate::glob::Glob;

/// How a pattern is told. Source: moby/patternmatcher, `compile`.
#[derive(Debug, Clone)]
enum Way {
    /// `a/b`.
    Exact(String),
    /// `a/**`: what the path begins with.
    Prefix(String),
    /// `**/a`, `**a`: what the path ends with; behind a `/` it may be the whole path.
    Suffix(String),
    Glob(Glob),
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    way: Way,
}

impl Pattern {
    /// Compiles a cleaned pattern without `!`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub(crate) fn new(text: &str) -> Result<Self, &'static str> {
        // Compiled in any case: this is what finds a malformed pattern.
        let glob = Glob::new(text)?;
        let has_wildcard = |part: &str| part.contains(['*', '?', '[', ']', '\\']);
        let way = if !has_wildcard(text) {
            Way::Exact(text.to_owned())
        } else if text.strip_prefix("**").is_some_and(|rest| !has_wildcard(rest)) {
            Way::Suffix(text[2..].to_owned())
        } else if text.strip_suffix("**").is_some_and(|rest| !has_wildcard(rest)) {
            Way::Prefix(text[..text.len() - 2].to_owned())
        } else {
            Way::Glob(glob)
        };
        Ok(Self { way })
    }

    /// Whether this one path is matched; its parents are another question.
    pub(crate) fn matches(&self, path: &str) -> bool {
        match &self.way {
            Way::Exact(text) => path == text,
            Way::Prefix(prefix) => path.starts_with(prefix),
            Way::Suffix(suffix) => path.ends_with(suffix) || suffix.strip_prefix('/') == Some(path),
            Way::Glob(glob) => glob.matches(path),
        }
    }

    /// Whether something below this directory can be matched.
    pub(crate) fn can_match_below(&self, directory: &str) -> bool {
        let is_below = |path: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        match &self.way {
            Way::Exact(text) => is_below(text),
            Way::Prefix(prefix) => {
                is_below(prefix)
                    || directory.starts_with(prefix)
                    || prefix.strip_suffix('/') == Some(directory)
            }
            Way::Suffix(_) => true,
            Way::Glob(glob) => glob.can_match_below(directory),
        }
    }
}
