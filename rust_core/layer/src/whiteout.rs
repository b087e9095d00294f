//! The names by which a layer hides what lies below it, told apart from files.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>; the AUFS names are those of
//! moby's `pkg/archive/whiteouts.go`.

use crate::entry::{components, join};
use crate::{Entry, EntryKind, EntryPath, Rule};

const PREFIX: &[u8] = b".wh.";
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// The entry as it is meant: a whiteout or opaque marker for names that say so, `None` for the bookkeeping of AUFS
/// (X27) and for a device that would be overlayfs's own whiteout, else the entry itself.
pub(crate) fn interpret(mut entry: Entry) -> Result<Option<Entry>, Rule> {
    if matches!(entry.kind, EntryKind::CharDevice { major: 0, minor: 0 }) {
        return Ok(None);
    }
    let Some((parent, name)) = entry.path.split_last() else { return Ok(Some(entry)) };
    for component in components(parent) {
        if component.starts_with(AUFS_PREFIX) {
            return Ok(None);
        }
        if component.starts_with(PREFIX) {
            return Err(Rule::WhiteoutName);
        }
    }
    if name == OPAQUE_NAME {
        entry.path = EntryPath::from_normalised(parent.to_vec());
        entry.kind = EntryKind::Opaque;
    } else if name.starts_with(AUFS_PREFIX) {
        return Ok(None);
    } else if let Some(hidden) = name.strip_prefix(PREFIX) {
        if matches!(hidden, b"" | b"." | b"..") {
            if sys::weakened::lacks("layer-names") {
                return Ok(Some(entry));
            }
            return Err(Rule::WhiteoutName);
        }
        entry.path = EntryPath::from_normalised(join(parent, hidden));
        entry.kind = EntryKind::Whiteout;
    }
    Ok(Some(entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;

    fn file(path: &str) -> Entry {
        Entry {
            path: EntryPath::from_normalised(path.into()),
            kind: EntryKind::File { size_bytes: 0, extents: None },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
            data_offset_bytes: 0,
            data_size_bytes: 0,
        }
    }

    fn meaning(path: &str) -> Result<Option<(EntryKind, String)>, Rule> {
        let text = |entry: Entry| (entry.kind, String::from_utf8(entry.path.as_bytes().to_vec()).unwrap());
        interpret(file(path)).map(|entry| entry.map(text))
    }

    #[test]
    fn z02_whiteouts_of_no_name_are_refused() {
        for bad in [".wh.", ".wh..", ".wh...", "x/.wh..", "x/.wh...", ".wh.a/b"] {
            assert_eq!(meaning(bad), Err(Rule::WhiteoutName), "{bad}");
        }
    }

    #[test]
    fn whiteouts_and_markers_name_what_they_hide() {
        assert_eq!(meaning("a/.wh.b"), Ok(Some((EntryKind::Whiteout, "a/b".into()))));
        assert_eq!(meaning(".wh.b"), Ok(Some((EntryKind::Whiteout, "b".into()))));
        assert_eq!(meaning("a/.wh..wh..opq"), Ok(Some((EntryKind::Opaque, "a".into()))));
        assert_eq!(meaning(".wh..wh..opq"), Ok(Some((EntryKind::Opaque, String::new()))));
        assert_eq!(meaning(".wh....").unwrap().unwrap().1, "...");
    }

    #[test]
    fn x27_bookkeeping_of_aufs_is_dropped() {
        for path in [".wh..wh.plnk", ".wh..wh.plnk/12.34", "a/.wh..wh.aufs", ".wh..wh.orph/x/y"] {
            assert_eq!(meaning(path), Ok(None), "{path}");
        }
    }
}
