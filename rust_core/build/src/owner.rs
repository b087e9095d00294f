//! Users and groups by the /etc/passwd and /etc/group of a tree.

use process::users;

use crate::tree::{read_file, Tree};
use crate::BuildError;

/// uid and gid of `text` (`uid`, `uid:gid`, `name`, `name:group`) in `tree`; a lone number is both (case B02).
///
/// # Errors
/// `USER_INVALID`; what the tree raises.
///
/// Source: Docker's reference, COPY --chown.
pub fn owner_of(tree: &dyn Tree, text: &str) -> Result<(u32, u32), BuildError> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let text = if is_number { format!("{text}:{text}") } else { text.to_owned() };
    user_of(tree, &text)
}

/// uid and gid of a USER.
pub(crate) fn user_of(tree: &dyn Tree, text: &str) -> Result<(u32, u32), BuildError> {
    let read = |path: &'static [u8]| {
        move || {
            read_file(tree, path, process::MAX_USER_FILE_BYTES, "MAX_USER_FILE_BYTES")
                .map(Option::unwrap_or_default)
                .map_err(|error| error.to_string())
        }
    };
    let (passwd, group) = (read(b"etc/passwd"), read(b"etc/group"));
    users::resolve(text, &[], &passwd, &group)
        .map(|identity| (identity.uid, identity.gid))
        .map_err(|error| BuildError::UserInvalid { user: error.subject, rule: error.rule })
}
