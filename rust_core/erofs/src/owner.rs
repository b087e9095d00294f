//! Owners, permissions and extended attributes: many files share them, so that each distinct set is kept once.

use std::collections::HashMap;

use crate::error::{narrow, ImageError};
use crate::xattr::XattrSet;

/// What one distinct set costs in memory, with its place in the table and the slack of growing ones.
pub const OWNER_BYTES: u64 = 80;

/// Distinct sets among which a further one is looked for; beyond these, each that is not the last one is another.
const KNOWN_MAX: usize = 65_536;

/// What files have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub uid: u32,
    pub gid: u32,
    pub xattrs: XattrSet,
    pub mode: u16,
}

/// All sets of a tree.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    all: Vec<Owner>,
    numbers: HashMap<Owner, u32>,
    /// The one that was asked for last: an archive's entries mostly have the owner of the one before.
    last: u32,
}

impl Owners {
    /// The number of a set.
    ///
    /// # Errors
    /// [`ImageError::Full`].
    pub fn number(&mut self, owner: Owner) -> Result<u32, ImageError> {
        if self.all.get(self.last as usize) == Some(&owner) {
            return Ok(self.last);
        }
        if let Some(number) = self.numbers.get(&owner) {
            self.last = *number;
            return Ok(self.last);
        }
        self.last = narrow("owners", self.all.len() as u64)?;
        self.all.push(owner);
        if self.numbers.len() < KNOWN_MAX {
            self.numbers.insert(owner, self.last);
        }
        Ok(self.last)
    }

    /// The set of a number.
    pub fn get(&self, number: u32) -> &Owner {
        &self.all[number as usize]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_are_all_known_by_their_number() {
        let mut owners = Owners::default();
        let owner = |uid| Owner { uid, gid: 7, xattrs: XattrSet::default(), mode: 0o644 };
        let count = KNOWN_MAX as u32 + 10;
        let numbers: Vec<u32> = (0..count).map(|uid| owners.number(owner(uid)).unwrap()).collect();
        assert!((0..count).all(|uid| *owners.get(numbers[uid as usize]) == owner(uid)));
        let (len, last) = (owners.len(), *numbers.last().unwrap());
        assert_eq!(owners.number(owner(count - 1)).unwrap(), last);
        assert_eq!(owners.number(owner(3)).unwrap(), numbers[3]);
        assert_eq!(owners.len(), len);
    }

    #[test]
    fn equal_sets_are_kept_once() {
        let mut owners = Owners::default();
        let owner = |uid, mode| Owner { uid, gid: 7, xattrs: XattrSet::default(), mode };
        let asked = [owner(0, 0o644), owner(0, 0o644), owner(1, 0o644), owner(0, 0o755), owner(0, 0o644)];
        let numbers = asked.map(|owner| owners.number(owner).unwrap());
        assert_eq!(numbers, [0, 0, 1, 2, 0]);
        assert_eq!(owners.len(), 3);
        assert_eq!(numbers.map(|number| *owners.get(number)), asked);
    }
}
