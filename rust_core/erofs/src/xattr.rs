//! Extended attributes as they stand behind an inode: each distinct set is encoded and kept once.

use std::collections::HashMap;

use crate::error::{narrow, ImageError};
use crate::format::{XATTR_BODY_BYTES_MAX, XATTR_HEADER_BYTES, XATTR_VALUE_BYTES_MAX};

/// A set of extended attributes that a [`Tree`](crate::Tree) keeps; the default is the empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct XattrSet(pub(crate) u32);

/// The numbers of EROFS for the beginnings of names (EROFS_XATTR_INDEX_*); the two lists are whole names.
const PREFIXES: [(&[u8], u8, bool); 5] = [
    (b"user.", 1, false),
    (b"system.posix_acl_access", 2, true),
    (b"system.posix_acl_default", 3, true),
    (b"trusted.", 4, false),
    (b"security.", 6, false),
];

/// The number of a name's beginning and what follows it.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(prefix, index, is_whole)| {
        let rest = name.strip_prefix(*prefix)?;
        let is_fit = if *is_whole { rest.is_empty() } else { !rest.is_empty() };
        (is_fit && rest.len() <= usize::from(u8::MAX)).then_some((*index, rest))
    })
}

/// All sets of a tree, each once; number 0 is the empty one.
#[derive(Debug, Default)]
pub(crate) struct Xattrs {
    bodies: Vec<Box<[u8]>>,
    numbers: HashMap<Box<[u8]>, u32>,
}

impl Xattrs {
    /// The encoded set: header, then entries; empty for the empty set.
    pub fn body(&self, set: XattrSet) -> &[u8] {
        match set.0.checked_sub(1) {
            Some(index) => &self.bodies[index as usize],
            None => &[],
        }
    }

    /// The set `base` with these attributes behind it.
    pub fn extend<'x>(
        &mut self,
        base: XattrSet,
        added: impl IntoIterator<Item = (&'x [u8], &'x [u8])>,
    ) -> Result<XattrSet, ImageError> {
        let mut body = self.body(base).to_vec();
        for (name, value) in added {
            let (index, rest) = split(name).ok_or(ImageError::XattrName)?;
            if value.len() > XATTR_VALUE_BYTES_MAX {
                return Err(ImageError::XattrSize);
            }
            if body.is_empty() {
                body.resize(XATTR_HEADER_BYTES, 0);
            }
            // struct erofs_xattr_entry; both lengths were checked against their fields.
            body.push(u8::try_from(rest.len()).unwrap_or(u8::MAX));
            body.push(index);
            body.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
            body.extend_from_slice(rest);
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
            if body.len() > XATTR_BODY_BYTES_MAX {
                return Err(ImageError::XattrSize);
            }
        }
        if body.is_empty() {
            return Ok(XattrSet::default());
        }
        if let Some(number) = self.numbers.get(body.as_slice()) {
            return Ok(XattrSet(*number));
        }
        let body = body.into_boxed_slice();
        self.bodies.push(body.clone());
        let number = narrow("sets of extended attributes", self.bodies.len() as u64)?;
        self.numbers.insert(body, number);
        Ok(XattrSet(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_kept_once_and_an_added_one_is_another() {
        let mut all = Xattrs::default();
        let pair = |name: &'static str| (name.as_bytes(), &b"v"[..]);
        let one = all.extend(XattrSet::default(), [pair("user.a"), pair("trusted.b")]).unwrap();
        assert_eq!(all.extend(XattrSet::default(), [pair("user.a"), pair("trusted.b")]).unwrap(), one);
        let more = all.extend(one, [pair("security.c")]).unwrap();
        assert_eq!((all.bodies.len(), all.body(more).len()), (2, 12 + 8 + 8 + 8));
        assert!(all.body(more).starts_with(all.body(one)));
        assert_eq!(all.extend(XattrSet::default(), []).unwrap(), XattrSet::default());
    }

    #[test]
    fn names_without_a_place_and_values_too_long_are_refused() {
        let mut all = Xattrs::default();
        for name in ["user.", "user", "system.other", "system.posix_acl_accessx", "nothing.a"] {
            let result = all.extend(XattrSet::default(), [(name.as_bytes(), &b""[..])]);
            assert!(matches!(result, Err(ImageError::XattrName)), "{name}");
        }
        let long = vec![0; XATTR_VALUE_BYTES_MAX + 1];
        let result = all.extend(XattrSet::default(), [(&b"user.a"[..], &long[..])]);
        assert!(matches!(result, Err(ImageError::XattrSize)));
        let names: Vec<String> = (0..5).map(|n| format!("user.{n}")).collect();
        let many = names.iter().map(|name| (name.as_bytes(), &long[..16_000]));
        assert!(matches!(all.extend(XattrSet::default(), many), Err(ImageError::XattrSize)));
    }
}
