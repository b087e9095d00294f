//! Which ids a user's text means, by the /etc/passwd and /etc/group of the container. Pure: it opens nothing.
//!
//! Digits are always a number, whatever a line is named; a line whose ids are not numbers in range is an error for
//! the user that it names and is never read as 0.
//! Source: moby/sys user (GetExecUser, GetAdditionalGroups), passwd(5), group(5).

use std::fmt;

/// The highest user or group id that a text may give (2^31 - 1, as in Docker).
pub const MAX_ID: u32 = i32::MAX as u32;
/// NGROUPS_MAX of linux/limits.h: the most groups that a process has.
pub const MAX_GROUPS: usize = 65_536;

/// What a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, sorted, each once; the primary group is always among them, so that a file which denies
    /// its group cannot be opened by leaving that group (CVE-2022-2989).
    pub groups: Vec<u32>,
    /// The home directory of the user's line, `/` without one.
    pub home: Vec<u8>,
}

/// Why a user's text means nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserError {
    /// The text, or the part of it that is at fault.
    pub subject: String,
    /// The rule, as a sentence without its end.
    pub rule: String,
}

impl UserError {
    fn new(subject: &str, rule: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), rule: rule.into() }
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {:?}: {}", self.subject, self.rule)
    }
}

impl std::error::Error for UserError {}

impl errors::Catalogued for UserError {
    fn reason(&self) -> &'static str {
        "USER_INVALID"
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        vec![("user", self.subject.clone()), ("rule", self.rule.clone())]
    }
}

/// One of the two files: its bytes, or why it cannot be read. A file that does not exist is empty.
pub type Source<'a> = &'a dyn Fn() -> Result<Vec<u8>, String>;

/// The ids of `user` (empty, `uid`, `uid:gid`, `name`, `name:group`) and of `additional_groups` (names or ids).
///
/// Each file is read at most once, and only if it is needed. One that cannot be read is an error where a name has
/// to be found in it; an id needs no file, its user then has no home and no further groups.
///
/// # Errors
/// The part at fault with the rule: an unknown name, a number above [`MAX_ID`], a line with ids that are not
/// numbers, more than [`MAX_GROUPS`] groups, a file that cannot be read.
pub fn resolve(
    user: &str,
    additional_groups: &[String],
    passwd: Source<'_>,
    group: Source<'_>,
) -> Result<Identity, UserError> {
    let (user_text, group_text) = user.split_once(':').unwrap_or((user, ""));
    if group_text.contains(':') {
        return Err(UserError::new(user, "more than one colon"));
    }
    let line = find_user(user_text, passwd)?;
    // Read late and kept: most starts need it once, many not at all.
    let mut groups_file: Option<Result<Vec<u8>, String>> = None;
    let mut lines_of_groups = || groups_file.get_or_insert_with(group).clone();

    let gid = match group_text {
        "" => line.gid?,
        text => find_group(text, &mut lines_of_groups)?,
    };
    let mut groups = vec![gid];
    if group_text.is_empty() {
        if let Some(name) = &line.name {
            match lines_of_groups() {
                Ok(bytes) => groups.extend(groups_with_member(&bytes, name)),
                Err(_) if is_number(user_text) || user_text.is_empty() => {}
                Err(reason) => {
                    return Err(UserError::new(user, format!("/etc/group cannot be read: {reason}")))
                }
            }
        }
    }
    for text in additional_groups {
        groups.push(find_group(text, &mut lines_of_groups)?);
    }
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > MAX_GROUPS {
        return Err(UserError::new(user, format!("more than MAX_GROUPS ({MAX_GROUPS}) groups")));
    }
    Ok(Identity { uid: line.uid, gid, groups, home: line.home })
}

struct Line {
    name: Option<Vec<u8>>,
    uid: u32,
    // An unusable gid matters only where no group is given.
    gid: Result<u32, UserError>,
    home: Vec<u8>,
}

fn find_user(text: &str, passwd: Source<'_>) -> Result<Line, UserError> {
    if text.is_empty() || is_number(text) {
        let uid = if text.is_empty() { 0 } else { parse_id(text)? };
        let bytes = passwd().unwrap_or_default();
        let found = lines(&bytes).find(|fields| fields.get(2).copied().and_then(id_of) == Some(uid));
        return match found {
            Some(fields) => line_of(&fields, uid, text),
            None => Ok(Line { name: None, uid, gid: Ok(0), home: b"/".to_vec() }),
        };
    }
    let bytes =
        passwd().map_err(|reason| UserError::new(text, format!("/etc/passwd cannot be read: {reason}")))?;
    let fields = lines(&bytes)
        .find(|fields| fields[0] == text.as_bytes())
        .ok_or_else(|| UserError::new(text, "no such user in the image's /etc/passwd"))?;
    let uid = fields.get(2).copied().and_then(id_of).ok_or_else(|| {
        UserError::new(text, format!("its line in /etc/passwd has no uid from 0 to MAX_ID ({MAX_ID})"))
    })?;
    line_of(&fields, uid, text)
}

fn line_of(fields: &[&[u8]], uid: u32, text: &str) -> Result<Line, UserError> {
    let gid = fields.get(3).copied().and_then(id_of).ok_or_else(|| {
        UserError::new(text, format!("its line in /etc/passwd has no gid from 0 to MAX_ID ({MAX_ID})"))
    });
    let home = match fields.get(5) {
        Some(home) if home.contains(&0) => {
            return Err(UserError::new(text, "its home directory in /etc/passwd has a NUL byte"))
        }
        Some(home) if !home.is_empty() => home.to_vec(),
        _ => b"/".to_vec(),
    };
    Ok(Line { name: Some(fields[0].to_vec()), uid, gid, home })
}

fn find_group(text: &str, file: &mut dyn FnMut() -> Result<Vec<u8>, String>) -> Result<u32, UserError> {
    if is_number(text) {
        return parse_id(text);
    }
    if text.is_empty() {
        return Err(UserError::new(text, "a group has no name"));
    }
    let bytes =
        file().map_err(|reason| UserError::new(text, format!("/etc/group cannot be read: {reason}")))?;
    let fields = lines(&bytes)
        .find(|fields| fields[0] == text.as_bytes())
        .ok_or_else(|| UserError::new(text, "no such group in the image's /etc/group"))?;
    fields.get(2).copied().and_then(id_of).ok_or_else(|| {
        UserError::new(text, format!("its line in /etc/group has no gid from 0 to MAX_ID ({MAX_ID})"))
    })
}

fn groups_with_member(bytes: &[u8], name: &[u8]) -> Vec<u32> {
    lines(bytes)
        .filter(|fields| {
            fields
                .get(3)
                .is_some_and(|members| members.split(|byte| *byte == b',').any(|m| m.trim_ascii() == name))
        })
        // A group whose gid is no number gives nothing; it must not stand for group 0.
        .filter_map(|fields| fields.get(2).copied().and_then(id_of))
        .collect()
}

/// The lines that name somebody, split into fields; comments and lines of NIS are passed over.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !matches!(line[0], b'#' | b'+' | b'-' | b':'))
        .map(|line| line.split(|byte| *byte == b':').collect())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn id_of(field: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(field.trim_ascii()).ok()?;
    if !is_number(text) {
        return None;
    }
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

fn parse_id(text: &str) -> Result<u32, UserError> {
    id_of(text.as_bytes()).ok_or_else(|| UserError::new(text, format!("an id is at most MAX_ID ({MAX_ID})")))
}

#[cfg(test)]
mod tests;
