//! Whether a layer that was stored by itself can be used over given layers as it is.

use std::os::fd::AsFd;

use crate::lower::{attributes_of, LowerNode};
use crate::{Facts, LayerError, LowerView};

/// Mode, owner and group that an implied parent gets when no layer below has it (X07).
pub(crate) const IMPLIED_MODE: u32 = 0o755;

/// True if staging the layer again with [`Finish`](crate::Finish) over `lowers` would give another tree than the one
/// that was stored by itself: a hard link waits for its target (X10), a parent without an entry is a symbolic link
/// below (X05) or a directory with other attributes than 0755 root:root, the root itself is opaque, or a whiteout would show as a device since
/// nothing below merges with its directory (X25). Costs a look-up for each recorded fact. Blocking.
///
/// # Errors
/// `IO_FAILED`.
pub fn needs_finish(facts: &Facts, lowers: &LowerView) -> Result<bool, LayerError> {
    if !facts.missing_links.is_empty() || (facts.is_root_opaque && !lowers.is_empty()) {
        return Ok(true);
    }
    for directory in &facts.whiteout_directories {
        if !matches!(lowers.find(&directory.0)?, LowerNode::Directory(_)) {
            return Ok(true);
        }
    }
    for parent in &facts.implied_parents {
        match lowers.find(&parent.0)? {
            LowerNode::Symlink(..) => return Ok(true),
            LowerNode::Directory(fd) => {
                let (status, xattrs) = attributes_of(fd.as_fd(), &parent.0)?;
                let is_plain = status.st_mode & 0o7777 == IMPLIED_MODE
                    && (status.st_uid, status.st_gid) == (0, 0)
                    && xattrs.is_empty();
                if !is_plain {
                    return Ok(true);
                }
            }
            LowerNode::Absent | LowerNode::File(_) | LowerNode::Other(_) => {}
        }
    }
    Ok(false)
}
