//! Which side of `cp` is a container's, and what its paths mean.
//!
//! Source: the manual of `docker cp`, and docker/cli `cli/command/container/cp.go` for what it leaves open.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a container.
    Container(ContainerPath),
    /// On this host; `-` is a stream.
    Local(OsString),
}

/// A path in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPath {
    /// Id, unique beginning of one, or name.
    pub container: String,
    /// Absolute.
    pub path: Vec<u8>,
}

impl Place {
    /// `CONTAINER:PATH`, unless the text begins with `/` or `.`, or what stands before the colon is no text.
    pub fn parse(argument: &OsStr) -> Self {
        let bytes = argument.as_bytes();
        let local = || Self::Local(argument.to_owned());
        if bytes.starts_with(b"/") || bytes.starts_with(b".") {
            return local();
        }
        let Some(colon) = bytes.iter().position(|b| *b == b':') else { return local() };
        let Ok(container) = std::str::from_utf8(&bytes[..colon]) else { return local() };
        let mut path = bytes[colon + 1..].to_vec();
        if !path.starts_with(b"/") {
            path.insert(0, b'/');
        }
        Self::Container(ContainerPath { container: container.to_owned(), path })
    }
}

/// True for `DIR/.`: the content of the directory is meant, not the directory.
pub fn means_content(path: &[u8]) -> bool {
    path == b"." || path.ends_with(b"/.")
}

/// True for what only a directory can be.
pub fn means_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || means_content(path)
}

/// The directory that holds the path, and its name there; the name of `/`, of `..` and of what ends in it is empty.
pub fn split(path: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut end = path.len();
    loop {
        let kept = &path[..end];
        if kept.ends_with(b"/") {
            end -= 1;
        } else if kept.ends_with(b"/.") {
            end -= 2;
        } else {
            break;
        }
    }
    let kept = &path[..end];
    let slash = kept.iter().rposition(|b| *b == b'/');
    let (parent, name) = match slash {
        Some(slash) => (&kept[..=slash], &kept[slash + 1..]),
        None => (&b""[..], kept),
    };
    match name {
        b"." | b".." | b"" => (kept.to_vec(), Vec::new()),
        name => (parent.to_vec(), name.to_vec()),
    }
}

/// Where a link at `path` leads.
pub fn follow(path: &[u8], target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") {
        return target.to_vec();
    }
    let (mut at, _) = split(path);
    at.push(b'/');
    at.extend_from_slice(target);
    at
}

/// What is known of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A directory.
    Directory,
    /// Anything else that is there.
    File,
    /// Nothing is there.
    Absent,
}

/// Where the copy goes: into which directory, and under what name; an empty name puts content there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    /// The directory.
    pub directory: Vec<u8>,
    /// The name.
    pub name: Vec<u8>,
}

/// Docker's rules. `source` is the path copied, of which `source_name` is the last part, and `is_directory` its kind.
///
/// # Errors
/// The rule that stands against it, as a sentence.
pub fn aim(
    source_name: &[u8],
    is_content: bool,
    is_directory: bool,
    destination: &[u8],
    found: Destination,
) -> Result<Aim, String> {
    let shown = String::from_utf8_lossy(destination);
    let (parent, base) = split(destination);
    let into = |directory: Vec<u8>, name: &[u8]| Ok(Aim { directory, name: name.to_vec() });
    match (is_directory, found) {
        (true, Destination::File) => Err(format!("a directory cannot be copied to {shown}, which is a file")),
        (true, Destination::Directory) if is_content => into(destination.to_vec(), b""),
        (_, Destination::Directory) => into(destination.to_vec(), source_name),
        (false, Destination::Absent) if means_directory(destination) => {
            Err(format!("there is no directory {shown}"))
        }
        _ if base.is_empty() => Err(format!("there is no {shown}")),
        _ => into(if parent.is_empty() { b".".to_vec() } else { parent }, &base),
    }
}

/// Bytes as a path of this host.
pub fn os(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_parts_container_and_path_unless_the_text_is_plainly_a_path() {
        let place = |text: &str| Place::parse(OsStr::new(text));
        let inside = |container: &str, path: &str| {
            Place::Container(ContainerPath { container: container.into(), path: path.as_bytes().to_vec() })
        };
        assert_eq!(place("web:/etc"), inside("web", "/etc"));
        assert_eq!(place("web:etc/x"), inside("web", "/etc/x"));
        assert_eq!(place("web:"), inside("web", "/"));
        assert_eq!(place("web:a:b"), inside("web", "/a:b"));
        for local in ["/a:b", "./a:b", "../a:b", "plain", "-", "."] {
            assert_eq!(place(local), Place::Local(local.into()), "{local}");
        }
    }

    #[test]
    fn paths_are_split_where_their_last_name_begins() {
        let cases = [
            ("/a/b", "/a/", "b"),
            ("/a/b/", "/a/", "b"),
            ("/a/b/.", "/a/", "b"),
            ("/a/./", "/", "a"),
            ("a", "", "a"),
            ("/", "", ""),
            ("/a/..", "/a/..", ""),
            (".", ".", ""),
            ("..", "..", ""),
        ];
        for (path, parent, name) in cases {
            assert_eq!(
                split(path.as_bytes()),
                (parent.as_bytes().to_vec(), name.as_bytes().to_vec()),
                "{path}"
            );
        }
    }

    #[test]
    fn where_a_copy_goes_follows_dockers_rules() {
        use Destination::{Absent, Directory, File};
        type Case =
            (&'static str, bool, bool, &'static str, Destination, Result<(&'static str, &'static str), ()>);
        let cases: [Case; 14] = [
            ("f", false, false, "/new", Absent, Ok(("/", "new"))),
            ("f", false, false, "/new/", Absent, Err(())),
            ("f", false, false, "/new/.", Absent, Err(())),
            ("f", false, false, "/old", File, Ok(("/", "old"))),
            ("f", false, false, "/dir", Directory, Ok(("/dir", "f"))),
            ("f", false, false, "/", Directory, Ok(("/", "f"))),
            ("d", false, true, "/new", Absent, Ok(("/", "new"))),
            ("d", false, true, "/new/", Absent, Ok(("/", "new"))),
            ("d", true, true, "/new", Absent, Ok(("/", "new"))),
            ("d", false, true, "/old", File, Err(())),
            ("d", true, true, "/old", File, Err(())),
            ("d", false, true, "/dir", Directory, Ok(("/dir", "d"))),
            ("d", true, true, "/dir", Directory, Ok(("/dir", ""))),
            ("f", false, false, "new", Absent, Ok((".", "new"))),
        ];
        for (name, is_content, is_directory, destination, found, expected) in cases {
            let aimed = aim(name.as_bytes(), is_content, is_directory, destination.as_bytes(), found);
            let expected =
                expected.map(|(directory, name)| Aim { directory: directory.into(), name: name.into() });
            assert_eq!(aimed.map_err(|_| ()), expected, "{name} to {destination}");
        }
    }

    #[test]
    fn a_link_leads_from_the_directory_that_holds_it() {
        assert_eq!(follow(b"/a/link", b"/etc"), b"/etc");
        assert_eq!(follow(b"/a/link", b"x"), b"/a//x");
    }
}
