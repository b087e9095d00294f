//! Extended attributes as they stand behind an inode: each distinct set is encoded and kept once.

use std::collections::HashMap;

use crate::error::{narrow, ImageError};
use crate::format::{XATTR_BODY_BYTES_MAX, XATTR_HEADER_BYTES, XATTR_VALUE_BYTES_MAX};
use crate::records::{Records, Window};

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

/// Bytes of sets that are kept in memory, each once. Those of a tree are few; where every file has another one, the later
/// ones lie in the file of records, and equal ones are found only where they follow each other.
const KEPT_BYTES: usize = 1024 * 1024;
/// What a kept set takes beside its bytes.
const KEPT_OVERHEAD_BYTES: usize = 64;

/// A set that lies among the records.
#[derive(Debug, Clone, Copy)]
struct Lying {
    place: u32,
    /// Below [`XATTR_BODY_BYTES_MAX`].
    len: u16,
}

/// All sets of a tree; number 0 is the empty one.
#[derive(Debug, Default)]
pub(crate) struct Xattrs {
    /// The first ones.
    bodies: Vec<Box<[u8]>>,
    numbers: HashMap<Box<[u8]>, u32>,
    kept_bytes: usize,
    /// Those behind them.
    lying: Vec<Lying>,
    /// The last of these.
    last: Vec<u8>,
}

impl Xattrs {
    /// How long the encoded set is.
    pub fn len(&self, set: XattrSet) -> usize {
        match self.find(set) {
            Found::Empty => 0,
            Found::Kept(body) => body.len(),
            Found::Lying(lying) => lying.len.into(),
        }
    }

    /// The encoded set: header, then entries; empty for the empty set.
    pub fn body<'b>(
        &'b self,
        set: XattrSet,
        records: &Records,
        window: &'b mut Window,
    ) -> Result<&'b [u8], ImageError> {
        match self.find(set) {
            Found::Empty => Ok(&[]),
            Found::Kept(body) => Ok(body),
            Found::Lying(lying) => Ok(window.get(records, lying.place)?.bytes()),
        }
    }

    fn find(&self, set: XattrSet) -> Found<'_> {
        let Some(index) = set.0.checked_sub(1) else { return Found::Empty };
        let index = index as usize;
        match self.bodies.get(index) {
            Some(body) => Found::Kept(body),
            None => Found::Lying(self.lying[index - self.bodies.len()]),
        }
    }

    /// The set `base` with these attributes behind it.
    pub fn extend<'x>(
        &mut self,
        base: XattrSet,
        added: impl IntoIterator<Item = (&'x [u8], &'x [u8])>,
        records: &mut Records,
    ) -> Result<XattrSet, ImageError> {
        let mut body = self.body(base, records, &mut Window::default())?.to_vec();
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
        let count = self.bodies.len() + self.lying.len();
        if !self.lying.is_empty() && self.last == body {
            return Ok(XattrSet(narrow("sets of extended attributes", count as u64)?));
        }
        let number = narrow("sets of extended attributes", count as u64 + 1)?;
        self.kept_bytes += 2 * body.len() + KEPT_OVERHEAD_BYTES;
        if self.lying.is_empty() && self.kept_bytes <= KEPT_BYTES {
            let body = body.into_boxed_slice();
            self.bodies.push(body.clone());
            self.numbers.insert(body, number);
        } else {
            let len = u16::try_from(body.len()).map_err(|_| ImageError::XattrSize)?;
            self.lying.push(Lying { place: records.add_bytes(&body)?, len });
            self.last = body;
        }
        Ok(XattrSet(number))
    }
}

/// Where a set is.
enum Found<'x> {
    Empty,
    Kept(&'x [u8]),
    Lying(Lying),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Records {
        Records::new(tempfile::tempfile().unwrap())
    }

    #[test]
    fn equal_sets_are_kept_once_and_an_added_one_is_another() {
        let (mut all, mut records) = (Xattrs::default(), records());
        let mut window = Window::default();
        let pair = |name: &'static str| (name.as_bytes(), &b"v"[..]);
        let one = all.extend(XattrSet::default(), [pair("user.a"), pair("trusted.b")], &mut records).unwrap();
        assert_eq!(
            all.extend(XattrSet::default(), [pair("user.a"), pair("trusted.b")], &mut records).unwrap(),
            one
        );
        let more = all.extend(one, [pair("security.c")], &mut records).unwrap();
        assert_eq!((all.bodies.len(), all.len(more)), (2, 12 + 8 + 8 + 8));
        let whole = all.body(more, &records, &mut window).unwrap().to_vec();
        assert!(whole.starts_with(all.body(one, &records, &mut window).unwrap()));
        assert_eq!(all.extend(XattrSet::default(), [], &mut records).unwrap(), XattrSet::default());
        assert!(records.is_empty());
    }

    #[test]
    fn very_many_sets_lie_among_the_records_and_are_read_back_and_extended() {
        let (mut all, mut records) = (Xattrs::default(), records());
        let count = u32::try_from(2 * KEPT_BYTES / KEPT_OVERHEAD_BYTES).unwrap();
        let value = |number: u32| number.to_le_bytes().repeat(1 + number as usize % 50);
        let mut add = |all: &mut Xattrs, base, number| {
            all.extend(base, [(&b"user.n"[..], value(number).as_slice())], &mut records).unwrap()
        };
        let sets: Vec<XattrSet> =
            (0..count).map(|number| add(&mut all, XattrSet::default(), number)).collect();
        assert!(!all.bodies.is_empty() && !all.lying.is_empty());
        // One that is kept is found again; of the others the last.
        assert_eq!(add(&mut all, XattrSet::default(), 7), sets[7]);
        assert_eq!(add(&mut all, XattrSet::default(), count - 1), sets[count as usize - 1]);
        let more = add(&mut all, sets[count as usize - 2], 3);
        let mut window = Window::default();
        for number in (0..count).rev().step_by(3).chain(0..count) {
            let set = sets[number as usize];
            let body = all.body(set, &records, &mut window).unwrap();
            let value = value(number);
            assert_eq!(body[XATTR_HEADER_BYTES..][..4], [1, 1, value.len() as u8, (value.len() >> 8) as u8]);
            assert_eq!(
                (&body[XATTR_HEADER_BYTES + 4..][1..=value.len()], body.len()),
                (&value[..], all.len(set))
            );
        }
        let whole = all.body(more, &records, &mut window).unwrap().to_vec();
        let base = all.body(sets[count as usize - 2], &records, &mut window).unwrap();
        assert!(whole.starts_with(base) && whole.len() == base.len() + 24);
    }

    #[test]
    fn names_without_a_place_and_values_too_long_are_refused() {
        let (mut all, mut records) = (Xattrs::default(), records());
        for name in ["user.", "user", "system.other", "system.posix_acl_accessx", "nothing.a"] {
            let result = all.extend(XattrSet::default(), [(name.as_bytes(), &b""[..])], &mut records);
            assert!(matches!(result, Err(ImageError::XattrName)), "{name}");
        }
        let long = vec![0; XATTR_VALUE_BYTES_MAX + 1];
        let result = all.extend(XattrSet::default(), [(&b"user.a"[..], &long[..])], &mut records);
        assert!(matches!(result, Err(ImageError::XattrSize)));
        let names: Vec<String> = (0..5).map(|n| format!("user.{n}")).collect();
        let many = names.iter().map(|name| (name.as_bytes(), &long[..16_000]));
        assert!(matches!(all.extend(XattrSet::default(), many, &mut records), Err(ImageError::XattrSize)));
    }
}
