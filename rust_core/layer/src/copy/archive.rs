//! A file or directory of a tree as tar.

use rustix::fs::FileType;

use super::root::{name_of, Root};
use super::walk::{is_kernels, PlainWalk};
use super::CopyError;
use crate::diff::node::mtime;
use crate::diff::stream::Tree;
use crate::diff::walk::Scope;
use crate::diff::TarStream;
use crate::error::shown;
use crate::tree::file_type;
use crate::{Limits, Time};

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Last part of the path, `.` where it has none.
    pub name: Vec<u8>,
    /// Bytes.
    pub size_bytes: u64,
    /// Type and permission bits, as stat(2) has them.
    pub mode: u32,
    /// When its content last changed.
    pub mtime: Time,
    /// Of a symbolic link; else empty.
    pub link_target: Vec<u8>,
}

/// A path, and the tar of it.
#[derive(Debug)]
pub struct Archive {
    /// What the path is.
    pub info: FileInfo,
    /// The tar. Its first entry is called as `info.name`, all others stand below that; `.` is the directory `./`.
    pub stream: TarStream,
}

/// The tar of what stands at `path`, a link itself unless `follow_link` or the path says by `/` at its end that it means
/// a directory. Nothing is read yet but the path. `name`: what it is called instead of its last part.
///
/// Directories of the kernel's own file systems (proc, sysfs and their like) are told without what is in them.
/// Blocking.
///
/// # Errors
/// `PATH_NOT_FOUND`, `PATH_WRONG_KIND`; `FILE_NOT_COPYABLE` for a socket, or a file of the kernel's; `IO_FAILED`. Reading
/// fails as [`TarStream::read`] says.
pub fn open_archive(
    root: &Root,
    path: &[u8],
    follow_link: bool,
    name: Option<&[u8]>,
    limits: &Limits,
    subject: &str,
) -> Result<Archive, CopyError> {
    let found = root.resolve(&root.top(), path, follow_link)?;
    let Some((place, status)) = found.place else { return Err(CopyError::NotFound { path: shown(path) }) };
    let kind = file_type(&status);
    let refused = |rule: String| Err(CopyError::NotCopyable { path: shown(path), rule });
    if kind == FileType::Socket {
        return refused(format!("it is {}, which no tar holds", name_of(kind)));
    }
    if is_kernels(&place, path)? {
        return refused(
            "it is the kernel's (proc, sysfs or the like), to be read by a program in the container".into(),
        );
    }
    let last = last_part(path);
    let link_target = if kind == FileType::Symlink {
        rustix::fs::readlinkat(place.as_fd(), c"", Vec::new())
            .map_err(|errno| CopyError::call("readlinkat", path, errno))?
            .into_bytes()
    } else {
        Vec::new()
    };
    let info = FileInfo {
        name: if last.is_empty() { b".".to_vec() } else { last.to_vec() },
        size_bytes: u64::try_from(status.st_size).unwrap_or(0),
        mode: status.st_mode,
        mtime: mtime(&status),
        link_target,
    };
    let walk = PlainWalk::new(root.clone(), place, name.unwrap_or(last).to_vec(), limits, subject);
    let stream =
        TarStream::new(Tree::Plain(walk), Scope::Whole, limits, subject).seen_from_inside(root.ids());
    Ok(Archive { info, stream })
}

/// The last part of a path, slashes at its end left out; empty for `/`, and for what ends in `.` or `..`.
fn last_part(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    match crate::entry::split_last(&path[..end]).1 {
        b"." | b".." => b"",
        last => last,
    }
}

#[cfg(test)]
mod tests {
    use super::last_part;

    #[test]
    fn the_last_part_is_what_an_archive_calls_a_path() {
        let cases: [(&[u8], &[u8]); 9] = [
            (b"/", b""),
            (b"", b""),
            (b"/a", b"a"),
            (b"/a/b", b"b"),
            (b"/a/b//", b"b"),
            (b"/a/.", b""),
            (b"/a/..", b""),
            (b"/a/./", b""),
            (b"a", b"a"),
        ];
        for (path, last) in cases {
            assert_eq!(last_part(path), last, "{path:?}");
        }
    }
}
