//! Owners of a container that runs in a user namespace, seen from outside it: what its files show is shifted, on disk and in
//! archives it is not.

use crate::Xattr;

/// What shows for an id that the container does not have. Source: user_namespaces(7), overflowuid.
const NOBODY: u32 = 65_534;
const CAPABILITY: &[u8] = b"security.capability";
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
/// struct vfs_cap_data and vfs_ns_cap_data of linux/capability.h: their sizes, and the revision in the highest byte.
const REVISION_2: (usize, u8) = (20, 2);
const REVISION_3: (usize, u8) = (24, 3);
/// struct posix_acl_xattr_entry of linux/posix_acl_xattr.h after a header of 4 bytes; tags that have an id.
const ACL_HEADER_BYTES: usize = 4;
const ACL_ENTRY_BYTES: usize = 8;
const ACL_TAGS_WITH_ID: [u16; 2] = [0x02, 0x08];

/// Ids 0 to `count - 1` inside are `first_id` and those after it outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The first one outside.
    pub first_id: u32,
    /// How many there are.
    pub count: u32,
}

impl Ids {
    /// The id inside that `id` outside is; that of nobody for one that the container does not have.
    pub fn inside(self, id: u32) -> u32 {
        id.checked_sub(self.first_id).filter(|id| *id < self.count).unwrap_or(NOBODY)
    }

    /// The id outside that `id` inside is, if the container has it.
    pub fn outside(self, id: u32) -> Option<u32> {
        (id < self.count).then(|| self.first_id + id)
    }

    /// The attribute as it is inside.
    pub(crate) fn attribute_inside(self, (name, value): Xattr) -> Xattr {
        if name == CAPABILITY && (value.len(), value.get(3).copied()) == (REVISION_3.0, Some(REVISION_3.1)) {
            let root = u32::from_le_bytes([value[20], value[21], value[22], value[23]]);
            if root == self.first_id {
                let mut value = value[..REVISION_2.0].to_vec();
                value[3] = REVISION_2.1;
                return (name, value);
            }
        }
        let value = self.acl(&name, value, |id| Some(self.inside(id)));
        // What is inside always has a place outside.
        (name, value.unwrap_or_default())
    }

    /// The attribute as it is outside; None if it names an id that the container does not have.
    pub(crate) fn attribute_outside(self, (name, mut value): Xattr) -> Option<Xattr> {
        if name == CAPABILITY && (value.len(), value.get(3).copied()) == (REVISION_2.0, Some(REVISION_2.1)) {
            value[3] = REVISION_3.1;
            value.extend(self.first_id.to_le_bytes());
            return Some((name, value));
        }
        let value = self.acl(&name, value, |id| self.outside(id))?;
        Some((name, value))
    }

    fn acl(self, name: &[u8], mut value: Vec<u8>, change: impl Fn(u32) -> Option<u32>) -> Option<Vec<u8>> {
        if !ACLS.contains(&name) || value.len() < ACL_HEADER_BYTES {
            return Some(value);
        }
        for entry in value[ACL_HEADER_BYTES..].chunks_exact_mut(ACL_ENTRY_BYTES) {
            if ACL_TAGS_WITH_ID.contains(&u16::from_le_bytes([entry[0], entry[1]])) {
                let id = change(u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]))?;
                entry[4..].copy_from_slice(&id.to_le_bytes());
            }
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: Ids = Ids { first_id: 1 << 30, count: 65_536 };

    #[test]
    fn ids_go_out_and_come_back_and_others_are_nobody() {
        assert_eq!(IDS.outside(7), Some((1 << 30) + 7));
        assert_eq!(IDS.inside((1 << 30) + 7), 7);
        assert_eq!((IDS.outside(65_536), IDS.outside(u32::MAX)), (None, None));
        assert_eq!((IDS.inside(7), IDS.inside((1 << 30) + 65_536)), (NOBODY, NOBODY));
    }

    #[test]
    fn capabilities_and_lists_change_with_the_ids() {
        let mut capability = vec![0; REVISION_2.0];
        capability[3] = REVISION_2.1;
        let inside = (CAPABILITY.to_vec(), capability);
        let outside = IDS.attribute_outside(inside.clone()).unwrap();
        assert_eq!(outside.1.len(), REVISION_3.0);
        assert_eq!(IDS.attribute_inside(outside), inside);

        let list = |id: u32| {
            let mut value = vec![2, 0, 0, 0, 0x02, 0, 6, 0];
            value.extend(id.to_le_bytes());
            // The owner's entry has no id.
            value.extend([0x01, 0, 7, 0, 0xff, 0xff, 0xff, 0xff]);
            (ACLS[0].to_vec(), value)
        };
        assert_eq!(IDS.attribute_outside(list(5)), Some(list((1 << 30) + 5)));
        assert_eq!(IDS.attribute_inside(list((1 << 30) + 5)), list(5));
        assert_eq!(IDS.attribute_outside(list(70_000)), None);
        let other = (b"user.x".to_vec(), b"y".to_vec());
        assert_eq!(IDS.attribute_outside(other.clone()), Some(other));
    }
}
