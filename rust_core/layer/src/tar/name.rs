//! Names in an archive: made relative to the layer's root, or refused.

use super::Fault;
use crate::{EntryPath, Limits, Rule};

/// The path that `name` means below the root: leading `/`, `.` and empty components do not count, `..` takes back the
/// component before it and may not lead above the root (Z01).
pub(crate) fn normalise(name: &[u8], limits: &Limits) -> Result<EntryPath, Fault> {
    if name.is_empty() {
        return Err(Fault::Rule(Rule::NameEmpty));
    }
    if name.contains(&0) {
        return Err(Fault::Rule(Rule::NameNul));
    }
    let mut path: Vec<u8> = Vec::with_capacity(name.len());
    let mut depth = 0;
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if depth == 0 && sys::weakened::lacks("layer-names") {
                    continue;
                }
                if depth == 0 {
                    return Err(Fault::Rule(Rule::NameEscapes));
                }
                depth -= 1;
                path.truncate(path.iter().rposition(|b| *b == b'/').unwrap_or(0));
            }
            _ => {
                Fault::check("name_bytes", limits.name_bytes, component.len() as u64)?;
                if depth > 0 {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
                depth += 1;
            }
        }
    }
    Fault::check("path_bytes", limits.path_bytes, path.len() as u64)?;
    Fault::check("path_depth", limits.path_depth, depth)?;
    Ok(EntryPath::from_normalised(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(name: &[u8]) -> Result<Vec<u8>, Fault> {
        normalise(name, &Limits::default()).map(|p| p.as_bytes().to_vec())
    }

    #[test]
    fn spellings_of_one_path_are_one() {
        for name in ["a/b", "./a/b", "/a/b", "a//b/", "a/./b", "a/c/../b", "//./a/b/."] {
            assert_eq!(path(name.as_bytes()).unwrap(), b"a/b", "{name}");
        }
        for name in ["/", ".", "./", "a/..", "//"] {
            assert_eq!(path(name.as_bytes()).unwrap(), b"", "{name}");
        }
    }

    #[test]
    fn z01_names_that_leave_the_root_are_refused() {
        for name in ["..", "../x", "a/../../x", "/../x", "./../x", "a/b/../../.."] {
            assert_eq!(path(name.as_bytes()), Err(Fault::Rule(Rule::NameEscapes)), "{name}");
        }
    }

    #[test]
    fn long_and_deep_names_meet_named_limits() {
        assert!(matches!(path(&[b'a'; 256]), Err(Fault::Limit("name_bytes", 255, 256))));
        assert!(matches!(path("a/".repeat(201).as_bytes()), Err(Fault::Limit("path_depth", 200, 201))));
        let long = format!("{}/", "a".repeat(200)).repeat(21);
        assert!(matches!(path(long.as_bytes()), Err(Fault::Limit("path_bytes", ..))));
    }

    proptest! {
        #[test]
        fn a_normalised_path_has_only_real_components(name in "[a.\\x00/]{0,30}") {
            if let Ok(path) = path(name.as_bytes()) {
                let text = String::from_utf8(path).unwrap();
                prop_assert!(text.is_empty() || text.split('/').all(|c| !matches!(c, "" | "." | "..")));
                prop_assert!(!text.contains('\0'));
            }
        }
    }
}
