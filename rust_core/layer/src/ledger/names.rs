//! Names of one directory, close together in memory: a layer can hide a million of them.

/// Such names, in no order until they are sorted.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    /// Where each begins, and how long it is. What a layer may hold in memory (`pending_bytes`) is far below 4 GiB.
    places: Vec<(u32, u32)>,
    is_sorted: bool,
}

impl Names {
    /// One more, perhaps again.
    pub fn insert(&mut self, name: &[u8]) {
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.places.push((narrow(self.bytes.len()), narrow(name.len())));
        self.bytes.extend_from_slice(name);
        self.is_sorted = false;
    }

    /// Each is there once, and `iter` gives them by their bytes.
    pub fn sort(&mut self) {
        let Self { bytes, places, .. } = self;
        places.sort_unstable_by(|one, other| at(bytes, *one).cmp(at(bytes, *other)));
        places.dedup_by(|one, other| at(bytes, *one) == at(bytes, *other));
        self.is_sorted = true;
    }

    /// Whether the name is among them; quick once they are sorted.
    pub fn contains(&self, name: &[u8]) -> bool {
        if self.is_sorted {
            return self.places.binary_search_by(|place| at(&self.bytes, *place).cmp(name)).is_ok();
        }
        self.iter().any(|own| own == name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| at(&self.bytes, *place))
    }
}

fn at(bytes: &[u8], (start, len): (u32, u32)) -> &[u8] {
    bytes.get(start as usize..).and_then(|rest| rest.get(..len as usize)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_there_once_and_in_order_after_a_sort_and_are_found_before_and_after() {
        let mut names = Names::default();
        for name in ["b", "", "a", "b", "ab", "\u{ff}", "a"] {
            names.insert(name.as_bytes());
        }
        for _ in 0..2 {
            assert!(["a", "b", "ab", ""].iter().all(|name| names.contains(name.as_bytes())));
            assert!(["c", "aa", "abc"].iter().all(|name| !names.contains(name.as_bytes())));
            names.sort();
        }
        let found: Vec<&[u8]> = names.iter().collect();
        assert_eq!(found, [&b""[..], b"a", b"ab", b"b", "\u{ff}".as_bytes()]);
        names.insert(b"0");
        assert!(names.contains(b"0") && names.contains(b"a"));
    }
}
