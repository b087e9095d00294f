//! What is kept in memory of each name, 12 bytes, and the table by which names are found.

use hashbrown::HashTable;

use crate::error::ImageError;
use crate::file::Kind;

const NEXT_BITS: u32 = 28;
/// In place of a slot's number: there is none.
pub(crate) const NONE: u32 = (1 << NEXT_BITS) - 1;
const ROLE_BITS: u32 = 3;
const ROLE_MASK: u32 = (1 << ROLE_BITS) - 1;
const REMOVED: u32 = 1 << (NEXT_BITS + ROLE_BITS);

/// By the numbers of roles; the next one is that of a further name.
const KINDS: [Kind; 6] =
    [Kind::Directory, Kind::File, Kind::Symlink, Kind::CharDevice, Kind::BlockDevice, Kind::Fifo];

/// What a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An inode with its first name.
    Inode(Kind),
    /// A further name of an inode, which its record tells.
    Alias,
}

/// A name, and the inode that was made with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    /// A hash of the name and its directory; once the image is laid out, where the inode stands in it.
    pub key: u32,
    /// Where the record is; a directory's number among the folders.
    pub place: u32,
    /// The next name of the directory, the role, and whether the name is removed.
    bits: u32,
}

impl Slot {
    pub fn new(role: Role, key: u32, place: u32, next: u32) -> Self {
        let role = match role {
            // In the order of KINDS.
            Role::Inode(kind) => kind as u32,
            Role::Alias => KINDS.len() as u32,
        };
        Self { key, place, bits: next.min(NONE) | role << NEXT_BITS }
    }

    pub fn role(self) -> Role {
        let number = self.bits >> NEXT_BITS & ROLE_MASK;
        KINDS.get(number as usize).map_or(Role::Alias, |kind| Role::Inode(*kind))
    }

    pub fn is_directory(self) -> bool {
        self.role() == Role::Inode(Kind::Directory)
    }

    /// The next name of the same directory.
    pub fn next(self) -> Option<u32> {
        Some(self.bits & NONE).filter(|next| *next != NONE)
    }

    pub fn set_next(&mut self, next: u32) {
        self.bits = self.bits & !NONE | next.min(NONE);
    }

    pub fn is_removed(self) -> bool {
        self.bits & REMOVED != 0
    }

    pub fn set_removed(&mut self) {
        self.bits |= REMOVED;
    }
}

/// The number of the next slot where there are `count`.
pub(crate) fn next_number(count: usize) -> Result<u32, ImageError> {
    let full = ImageError::Full { what: "names", limit: NONE.into() };
    u32::try_from(count).ok().filter(|number| *number < NONE).ok_or(full)
}

const SHARD_COUNT: usize = 16;

/// Numbers of slots by their keys. It grows one part after the other: a table that doubles is in memory twice meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Table {
    shards: [HashTable<u32>; SHARD_COUNT],
}

/// The place within a shard is taken from the low bits and its check from the high ones; those of the shard's number lie
/// between.
fn shard(key: u32) -> usize {
    (key >> 20) as usize % SHARD_COUNT
}

fn spread(key: u32) -> u64 {
    u64::from(key) << 32 | u64::from(key)
}

impl Table {
    /// The number of the slot with this key that is the one looked for.
    pub fn find(&self, key: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.shards[shard(key)].find(spread(key), |number| is_it(*number)).copied()
    }

    /// Adds a number; `key_of` tells the keys of those before.
    pub fn insert(&mut self, key: u32, number: u32, key_of: impl Fn(u32) -> u32) {
        self.shards[shard(key)].insert_unique(spread(key), number, |number| spread(key_of(*number)));
    }

    pub fn remove(&mut self, key: u32, number: u32) {
        if let Ok(entry) = self.shards[shard(key)].find_entry(spread(key), |found| *found == number) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_what_it_is_given() {
        for role in KINDS.map(Role::Inode).into_iter().chain([Role::Alias]) {
            for next in [0, 7, NONE - 1] {
                let mut slot = Slot::new(role, 1, 2, NONE);
                assert_eq!((slot.role(), slot.next(), slot.is_removed()), (role, None, false));
                slot.set_removed();
                slot.set_next(next);
                assert_eq!((slot.role(), slot.next(), slot.is_removed()), (role, Some(next), true));
                assert_eq!((slot.key, slot.place), (1, 2));
            }
        }
        assert_eq!(size_of::<Slot>(), 12);
    }

    #[test]
    fn more_names_than_have_a_number_are_refused() {
        assert_eq!(next_number(NONE as usize - 1).unwrap(), NONE - 1);
        let error = next_number(NONE as usize).unwrap_err();
        assert!(matches!(error, ImageError::Full { what: "names", limit } if limit == u64::from(NONE)));
    }

    #[test]
    fn numbers_are_found_by_keys_that_others_have_too() {
        let mut table = Table::default();
        // Neighbours share keys.
        let key_of = |number: u32| (number / 2).wrapping_mul(0x9e37_79b9);
        for number in 0..20_000 {
            table.insert(key_of(number), number, key_of);
        }
        for number in (0..20_000).step_by(4) {
            table.remove(key_of(number), number);
        }
        for number in 0..20_000 {
            let found = table.find(key_of(number), |found| found == number);
            assert_eq!(found, (number % 4 != 0).then_some(number));
        }
    }
}
