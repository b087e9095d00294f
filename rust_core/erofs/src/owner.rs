//! Owners, permissions and extended attributes: many files share them, so that each distinct set is kept once.

use std::collections::HashMap;

use crate::error::{narrow, ImageError};
use crate::xattr::XattrSet;

/// What one distinct set costs in memory, with its place in the table and the slack of growing ones.
pub const OWNER_BYTES: u64 = 80;

/// What files have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub uid: u32,
    pub gid: u32,
    pub xattrs: XattrSet,
    pub mode: u16,
}

/// All distinct sets of a tree.
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
        let next = narrow("owners", self.all.len() as u64)?;
        self.last = *self.numbers.entry(owner).or_insert(next);
        if self.last == next {
            self.all.push(owner);
        }
        Ok(self.last)
    }

    /// The set of a number.
    pub fn get(&self, number: u32) -> &Owner {
        &self.all[number as usize]
    }

    /// How many distinct ones there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
