//! Access control lists as extended attributes: checked as setxattr(2) would, since nothing else does here.
//!
//! Source: linux/posix_acl_xattr.h; posix_acl_valid(), posix_acl_equiv_mode() in fs/posix_acl.c.

/// The two names.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// POSIX_ACL_XATTR_VERSION.
const VERSION: u32 = 2;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What a well-formed list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acl {
    /// The nine permission bits that the list stands for.
    pub mode: u16,
    /// It says no more than those bits, so that no list is kept.
    pub is_mode_only: bool,
}

/// Reads a list; `None` if it is malformed. What the kernel takes without keeping it is `Some(None)`: a list without
/// entries removes the list, and one of another version is not supported.
pub(super) fn parse(value: &[u8]) -> Option<Option<Acl>> {
    if value.is_empty() {
        return Some(None);
    }
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.is_empty() {
        return Some(None);
    }
    if !entries.len().is_multiple_of(8) {
        return None;
    }
    let (mut last, mut mode, mut mask, mut needs_mask) = (0, 0, None, false);
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let bits = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        // The order is that of the tags; only named users and groups come more than once.
        let is_named = matches!(tag, USER | GROUP);
        if bits > 7 || tag < last || (tag == last && !is_named) || (is_named && id == u32::MAX) {
            return None;
        }
        match tag {
            USER_OBJ => mode |= bits << 6,
            GROUP_OBJ => mode |= bits << 3,
            USER | GROUP => needs_mask = true,
            MASK => mask = Some(bits),
            OTHER => mode |= bits,
            _ => return None,
        }
        last = tag;
    }
    let has = |tag: u16| entries.chunks_exact(8).any(|entry| entry[..2] == tag.to_le_bytes());
    let is_whole = [USER_OBJ, GROUP_OBJ, OTHER].into_iter().all(has) && (mask.is_some() || !needs_mask);
    if let Some(bits) = mask {
        mode = mode & !0o070 | bits << 3;
    }
    is_whole.then_some(Some(Acl { mode, is_mode_only: mask.is_none() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&bits.to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        value
    }

    #[test]
    fn whole_lists_give_their_permission_bits() {
        let plain = list(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (OTHER, 4, 0)]);
        assert_eq!(parse(&plain), Some(Some(Acl { mode: 0o754, is_mode_only: true })));
        let named =
            [(USER_OBJ, 6, 0), (USER, 7, 5), (USER, 7, 6), (GROUP_OBJ, 4, 0), (MASK, 2, 0), (OTHER, 0, 0)];
        assert_eq!(parse(&list(&named)), Some(Some(Acl { mode: 0o620, is_mode_only: false })));
        for nothing in [list(&[]), Vec::new(), b"nonsense".to_vec()] {
            assert_eq!(parse(&nothing), Some(None));
        }
    }

    #[test]
    fn malformed_lists_are_refused() {
        for bad in [
            &[(USER_OBJ, 8, 0), (GROUP_OBJ, 5, 0), (OTHER, 4, 0)][..],
            &[(GROUP_OBJ, 5, 0), (USER_OBJ, 7, 0), (OTHER, 4, 0)],
            &[(USER_OBJ, 7, 0), (USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (OTHER, 4, 0)],
            &[(USER_OBJ, 7, 0), (USER, 7, 1), (GROUP_OBJ, 5, 0), (OTHER, 4, 0)],
            &[(USER_OBJ, 7, 0), (USER, 7, u32::MAX), (GROUP_OBJ, 5, 0), (MASK, 7, 0), (OTHER, 4, 0)],
            &[(USER_OBJ, 7, 0), (OTHER, 4, 0)],
            &[(3, 7, 0)],
        ] {
            assert_eq!(parse(&list(bad)), None, "{bad:?}");
        }
        assert_eq!((parse(b"\x02"), parse(b"\x02\0\0\0xxx")), (None, None));
    }
}
