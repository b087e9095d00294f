//! All patterns of an ignore file together: the last one that matches a path, or a directory above it, decides.

use crate::error::IgnoreError;
use crate::file::{parse, pattern, Line};
use crate::pattern::Pattern;

/// The patterns of one ignore file, compiled.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    rules: Vec<Rule>,
    has_exceptions: bool,
    /// One of the patterns leaves everything at the root out.
    covers_root: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    is_exception: bool,
}

/// What is known of a directory, so that its children need not look at the directories above again.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    is_excluded: bool,
    /// By rule: whether it matched this path or a directory above; empty at the root.
    matched: Vec<u64>,
}

impl Verdict {
    /// Whether the path is left out.
    pub fn is_excluded(&self) -> bool {
        self.is_excluded
    }

    fn has(&self, rule: usize) -> bool {
        self.matched.get(rule / 64).is_some_and(|word| word & (1 << (rule % 64)) != 0)
    }
}

impl Matcher {
    /// The patterns of a file's bytes.
    ///
    /// # Errors
    /// [`IgnoreError`] for a malformed pattern and for more than the limits allow.
    pub fn from_file(data: &[u8]) -> Result<Self, IgnoreError> {
        Self::from_lines(parse(data)?)
    }

    /// Patterns that came from no file, such as those of COPY --exclude.
    ///
    /// # Errors
    /// As [`Matcher::from_file`].
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        let given = patterns.into_iter().filter(|text| !text.trim().is_empty());
        Self::from_lines(given.map(|text| pattern(text, 0)).collect::<Result<_, _>>()?)
    }

    fn from_lines(lines: Vec<Line>) -> Result<Self, IgnoreError> {
        let mut found = Self::default();
        for line in lines {
            let pattern = Pattern::new(&line.text).map_err(|rule| IgnoreError::Invalid {
                line: line.number,
                pattern: line.text.clone(),
                rule,
            })?;
            found.has_exceptions |= line.is_exception;
            found.covers_root |= !line.is_exception && matches!(line.text.as_str(), "*" | "**" | "**/*");
            found.rules.push(Rule { pattern, is_exception: line.is_exception });
        }
        Ok(found)
    }

    /// Whether there is no pattern, so that nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a pattern begins with `!`. Without one, all below a directory that is left out is left out too.
    pub fn has_exceptions(&self) -> bool {
        self.has_exceptions
    }

    /// Whether one path is left out: relative to the context, parted by `/`, without `.` and `..`.
    ///
    /// For a whole tree [`Matcher::child`] is quicker.
    pub fn excludes(&self, path: &str) -> bool {
        let mut is_excluded = false;
        for rule in &self.rules {
            // A rule that cannot change the answer need not be asked.
            if rule.is_exception != is_excluded {
                continue;
            }
            let mut ends = path.match_indices('/').map(|(end, _)| end);
            if rule.pattern.matches(path) || ends.any(|end| rule.pattern.matches(&path[..end])) {
                is_excluded = !rule.is_exception;
            }
        }
        is_excluded
    }

    /// What holds for a directory, of whose own directory `parent` holds ([`Verdict::default`] for the context's root).
    pub fn child(&self, parent: &Verdict, path: &str) -> Verdict {
        let mut found = Verdict { is_excluded: false, matched: vec![0; self.rules.len().div_ceil(64)] };
        for (index, rule) in self.rules.iter().enumerate() {
            // Asked even where it cannot change the answer here: it may for what stands below.
            if parent.has(index) || rule.pattern.matches(path) {
                found.matched[index / 64] |= 1 << (index % 64);
                found.is_excluded = !rule.is_exception;
            }
        }
        found
    }

    /// Whether something is left out, of whose directory `parent` holds: as `child` answers, without what only its own
    /// children would need.
    pub fn excludes_below(&self, parent: &Verdict, path: &str) -> bool {
        let mut is_excluded = false;
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.is_exception == is_excluded && (parent.has(index) || rule.pattern.matches(path)) {
                is_excluded = !rule.is_exception;
            }
        }
        is_excluded
    }

    /// Whether something below a directory that is left out can be taken back by a `!`, so that it must be walked.
    pub fn may_keep_below(&self, directory: &str) -> bool {
        self.has_exceptions
            && self.rules.iter().any(|rule| rule.is_exception && rule.pattern.can_match_below(directory))
    }

    /// Whether a COPY of this source would surely find nothing: what the build check `CopyIgnoredFile` looks for.
    ///
    /// With a `!` among the patterns nothing is sure. Source: BuildKit `validateCopySourcePath`.
    pub fn hides_source(&self, source: &str) -> bool {
        let path = crate::file::clean(source);
        if self.has_exceptions {
            return false;
        }
        if path == "." || path == "/" {
            return self.covers_root;
        }
        self.excludes(path.trim_start_matches('/'))
    }
}
