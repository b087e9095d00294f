//! Writes an [`Entry`] as tar headers: ustar, with a PAX header in front only where ustar cannot hold it.
//!
//! The same entry gives the same bytes. It writes no data: the caller sends as many bytes as the header announces,
//! then [`padding`].
//!
//! Source: POSIX pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Storing Sparse Files"
//! (PAX format 1.0); OCI image-spec layer.md, "Whiteouts"; star(4) for `SCHILY.xattr`.

use super::{Fault, BLOCK_BYTES};
use crate::error::shown;
use crate::{Entry, EntryKind, Extent, LayerError, Limits, Rule, Time};

const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
/// The largest number in 7 and in 11 octal digits.
const OCTAL_7_MAX: u64 = 0o777_7777;
const OCTAL_11_MAX: u64 = 0o777_7777_7777;
/// What a PAX header is called: readers that do not know PAX would make a file of it.
const PAX_NAME: &[u8] = b"PaxHeaders.0/entry";
/// The directory that GNU tar names the data of sparse files by, for readers that do not know them.
const SPARSE_DIRECTORY: &[u8] = b"GNUSparseFile.0/";
const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// The two blocks of zeros that end an archive.
pub const END: [u8; 2 * BLOCK_BYTES as usize] = [0; 2 * BLOCK_BYTES as usize];

/// How many zeros follow `size` bytes of data.
pub fn padding(size: u64) -> u64 {
    (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES
}

/// The header blocks of `entry`, with the map of a sparse file behind them. `entry.data_size_bytes` bytes of data are
/// to follow, and their [`padding`].
///
/// # Errors
/// `xattr` for an attribute whose name no record can hold; `extended_header_bytes`, `sparse_map_bytes`.
pub(crate) fn headers(entry: &Entry, limits: &Limits) -> Result<Vec<u8>, Fault> {
    let name = name_of(entry);
    let mut fields = Fields::of(entry);
    let mut records = Records::default();
    let mut map = Vec::new();
    if let EntryKind::File { size_bytes, extents: Some(extents) } = &entry.kind {
        map = sparse_map(extents);
        Fault::check("sparse_map_bytes", limits.sparse_map_bytes, map.len() as u64)?;
        fields.size += map.len() as u64;
        records.add(b"GNU.sparse.major", b"1");
        records.add(b"GNU.sparse.minor", b"0");
        records.add(b"GNU.sparse.name", &name);
        records.add(b"GNU.sparse.realsize", size_bytes.to_string().as_bytes());
        let last = name.rsplit(|b| *b == b'/').next().unwrap_or(&name);
        fields.place_name(&[SPARSE_DIRECTORY, last].concat());
    } else if !fields.place_name(&name) {
        records.add(b"path", &name);
    }
    if !fields.place_link() {
        records.add(b"linkpath", fields.link);
    }
    if fields.size > OCTAL_11_MAX {
        records.add(b"size", fields.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], fields.uid), (b"gid", fields.gid)] {
        if id > OCTAL_7_MAX {
            records.add(key, id.to_string().as_bytes());
        }
    }
    let is_plain_time = u64::try_from(fields.mtime.seconds).is_ok_and(|seconds| seconds <= OCTAL_11_MAX);
    if !is_plain_time || fields.mtime.nanos > 0 {
        records.add(b"mtime", time_text(fields.mtime).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        // A record's key ends at its first `=`.
        if name.contains(&b'=') {
            return Err(Fault::Rule(Rule::XattrName));
        }
        records.add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    Fault::check("extended_header_bytes", limits.extended_header_bytes, records.bytes.len() as u64)?;
    let mut bytes = Vec::with_capacity(BLOCK_BYTES as usize * 3);
    if !records.bytes.is_empty() {
        let mut pax = Fields::file(records.bytes.len() as u64);
        pax.flag = b'x';
        pax.place_name(PAX_NAME);
        bytes.extend_from_slice(&pax.block());
        bytes.extend_from_slice(&records.bytes);
        bytes.resize(bytes.len() + usize::try_from(padding(records.bytes.len() as u64)).unwrap_or(0), 0);
    }
    bytes.extend_from_slice(&fields.block());
    bytes.extend_from_slice(&map);
    Ok(bytes)
}

/// The header blocks of `entry`, under the default rules of layers; its data and their [`padding`] are to follow.
///
/// # Errors
/// `FILE_UNREPRESENTABLE` for an attribute that no record can hold; `LIMIT_EXCEEDED`.
pub fn entry_headers(entry: &Entry, limits: &Limits) -> Result<Vec<u8>, LayerError> {
    headers(entry, limits).map_err(|fault| {
        let path = shown(entry.path.as_bytes());
        match fault {
            Fault::Rule(rule) => LayerError::Unrepresentable { path, rule },
            Fault::Malformed(what) => LayerError::Corrupt { digest: path, detail: what.to_owned() },
            Fault::Limit(limit, limit_value, actual) => {
                LayerError::LimitExceeded { limit, limit_value, actual, subject: path }
            }
        }
    })
}

/// The name in the archive: of a directory with a slash, of a marker with its prefix.
fn name_of(entry: &Entry) -> Vec<u8> {
    let path = entry.path.as_bytes();
    match entry.kind {
        EntryKind::Directory if path.is_empty() => b"./".to_vec(),
        EntryKind::Directory => [path, b"/"].concat(),
        EntryKind::Opaque if path.is_empty() => OPAQUE_NAME.to_vec(),
        EntryKind::Opaque => [path, b"/", OPAQUE_NAME].concat(),
        EntryKind::Whiteout => {
            let (parent, name) = crate::entry::split_last(path);
            let slash: &[u8] = if parent.is_empty() { b"" } else { b"/" };
            [parent, slash, WHITEOUT_PREFIX, name].concat()
        }
        _ => path.to_vec(),
    }
}

/// The blocks of PAX format 1.0 that tell where a sparse file's data goes.
fn sparse_map(extents: &[Extent]) -> Vec<u8> {
    let mut text = format!("{}\n", extents.len());
    for extent in extents {
        text.push_str(&format!("{}\n{}\n", extent.offset_bytes, extent.size_bytes));
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK_BYTES as usize), 0);
    map
}

/// `[-]seconds[.fraction]`, the fraction without zeros at its end.
fn time_text(time: Time) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    // Nanoseconds count forwards, the text counts away from zero: 0.75 after -2 is -1.25.
    let (sign, seconds, nanos) = match time.seconds {
        0.. => ("", time.seconds.unsigned_abs(), time.nanos),
        _ => ("-", time.seconds.unsigned_abs() - 1, 1_000_000_000 - time.nanos),
    };
    let fraction = format!("{nanos:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}

#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
}

impl Records {
    /// Adds `length key=value\n`, whose length counts its own digits.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while rest + len.to_string().len() != len {
            len = rest + len.to_string().len();
        }
        self.bytes.extend_from_slice(len.to_string().as_bytes());
        for part in [b" ", key, b"=", value, b"\n"] {
            self.bytes.extend_from_slice(part);
        }
    }
}

/// What one header block says.
struct Fields<'a> {
    flag: u8,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: Time,
    link: &'a [u8],
    device: Option<(u32, u32)>,
    name_field: [u8; NAME_BYTES],
    prefix_field: [u8; PREFIX_BYTES],
    link_field: [u8; NAME_BYTES],
}

impl<'a> Fields<'a> {
    fn file(size: u64) -> Self {
        Self {
            flag: b'0',
            mode: 0,
            uid: 0,
            gid: 0,
            size,
            mtime: Time::default(),
            link: &[],
            device: None,
            name_field: [0; NAME_BYTES],
            prefix_field: [0; PREFIX_BYTES],
            link_field: [0; NAME_BYTES],
        }
    }

    fn of(entry: &'a Entry) -> Self {
        let (flag, link, device): (u8, &[u8], _) = match &entry.kind {
            EntryKind::Directory => (b'5', &[], None),
            EntryKind::Symlink { target } => (b'2', target, None),
            EntryKind::Hardlink { target } => (b'1', target.as_bytes(), None),
            EntryKind::CharDevice { major, minor } => (b'3', &[], Some((*major, *minor))),
            EntryKind::BlockDevice { major, minor } => (b'4', &[], Some((*major, *minor))),
            EntryKind::Fifo => (b'6', &[], None),
            EntryKind::File { .. } | EntryKind::Whiteout | EntryKind::Opaque => (b'0', &[], None),
        };
        Self {
            flag,
            mode: entry.mode,
            uid: entry.uid.into(),
            gid: entry.gid.into(),
            mtime: entry.mtime,
            link,
            device,
            ..Self::file(entry.data_size_bytes)
        }
    }

    /// Puts `name` where ustar has it; false if it does not fit, and is cut.
    fn place_name(&mut self, name: &[u8]) -> bool {
        if name.len() > NAME_BYTES {
            // The prefix ends before a slash, and what follows the slash fits the name and is not empty.
            let from = name.len() - NAME_BYTES - 1;
            let to = PREFIX_BYTES.min(name.len() - 2);
            let slash = (from..=to).find(|at| name.get(*at) == Some(&b'/')).filter(|at| *at > 0);
            if let Some(slash) = slash {
                self.prefix_field[..slash].copy_from_slice(&name[..slash]);
                self.name_field[..name.len() - slash - 1].copy_from_slice(&name[slash + 1..]);
                return true;
            }
        }
        let len = name.len().min(NAME_BYTES);
        self.name_field[..len].copy_from_slice(&name[..len]);
        len == name.len()
    }

    fn place_link(&mut self) -> bool {
        let len = self.link.len().min(NAME_BYTES);
        self.link_field[..len].copy_from_slice(&self.link[..len]);
        len == self.link.len()
    }

    fn block(&self) -> [u8; BLOCK_BYTES as usize] {
        let mut block = [0; BLOCK_BYTES as usize];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        let octal = |value: u64, digits: usize, max: u64| {
            // What does not fit stands in a record.
            format!("{:0digits$o}\0", if value > max { 0 } else { value })
        };
        put(0, &self.name_field);
        put(100, octal(self.mode.into(), 7, OCTAL_7_MAX).as_bytes());
        put(108, octal(self.uid, 7, OCTAL_7_MAX).as_bytes());
        put(116, octal(self.gid, 7, OCTAL_7_MAX).as_bytes());
        put(124, octal(self.size, 11, OCTAL_11_MAX).as_bytes());
        put(136, octal(u64::try_from(self.mtime.seconds).unwrap_or(0), 11, OCTAL_11_MAX).as_bytes());
        put(148, b"        ");
        put(156, &[self.flag]);
        put(157, &self.link_field);
        put(257, b"ustar\x0000");
        if let Some((major, minor)) = self.device {
            put(329, octal(major.into(), 7, OCTAL_7_MAX).as_bytes());
            put(337, octal(minor.into(), 7, OCTAL_7_MAX).as_bytes());
        }
        put(345, &self.prefix_field);
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::TarReader;
    use crate::{EntryData, EntryPath};
    use proptest::prelude::*;

    fn entry(path: &[u8], kind: EntryKind) -> Entry {
        Entry {
            path: EntryPath::from_normalised(path.to_vec()),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time { seconds: 7, nanos: 0 },
            xattrs: Vec::new(),
            data_offset_bytes: 0,
            data_size_bytes: 0,
        }
    }

    /// What our own reader finds in what was written, its data replaced by zeros.
    fn read_back(written: &Entry) -> Entry {
        let limits = Limits::default();
        let mut bytes = headers(written, &limits).unwrap();
        bytes.resize(bytes.len() + usize::try_from(written.data_size_bytes).unwrap(), 0);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend_from_slice(&END);
        let mut reader = TarReader::new(bytes.as_slice(), "test", &limits);
        let found = reader.next_entry().unwrap().unwrap();
        while let len @ 1.. = reader.chunk().unwrap().len() {
            reader.consume(len);
        }
        assert!(reader.next_entry().unwrap().is_none());
        Entry { data_offset_bytes: 0, ..crate::whiteout::interpret(found).unwrap().unwrap() }
    }

    #[test]
    fn what_ustar_holds_has_no_pax_header() {
        let bytes = headers(&entry(b"a", EntryKind::Fifo), &Limits::default()).unwrap();
        assert_eq!((bytes.len(), bytes[156]), (512, b'6'));
        let long = [vec![b'd'; 150], vec![b'/'], vec![b'n'; 100]].concat();
        assert_eq!(headers(&entry(&long, EntryKind::Fifo), &Limits::default()).unwrap().len(), 512);
    }

    #[test]
    fn times_before_1970_and_large_numbers_are_read_back() {
        let large = Entry {
            uid: 0xffff_fffe,
            gid: 3_000_000,
            mtime: Time { seconds: -2, nanos: 750_000_000 },
            ..entry(b"x", EntryKind::CharDevice { major: 4095, minor: 0xf_ffff })
        };
        assert_eq!(read_back(&large), large);
        assert_eq!(time_text(Time { seconds: -1, nanos: 999_999_999 }), "-0.000000001");
    }

    #[test]
    fn markers_are_read_back() {
        for kind in [EntryKind::Whiteout, EntryKind::Opaque] {
            let marker = entry(b"a/b", kind);
            assert_eq!(read_back(&marker), marker);
        }
    }

    #[test]
    fn an_attribute_with_an_equals_sign_in_its_name_is_refused() {
        let named = Entry {
            xattrs: vec![(b"user.a=b".to_vec(), b"c".to_vec())],
            ..entry(b"x", EntryKind::File { size_bytes: 0, extents: None })
        };
        assert_eq!(headers(&named, &Limits::default()), Err(Fault::Rule(Rule::XattrName)));
    }

    fn kind() -> impl Strategy<Value = EntryKind> {
        let bytes = || proptest::collection::vec(1u8.., 1..300);
        prop_oneof![
            Just(EntryKind::Directory),
            (0u64..5000).prop_map(|size_bytes| EntryKind::File { size_bytes, extents: None }),
            bytes().prop_map(|target| EntryKind::Symlink { target }),
            Just(EntryKind::Hardlink { target: EntryPath::from_normalised(vec![b'h'; 150]) }),
            Just(EntryKind::Fifo),
            proptest::collection::vec((1u64..9000, 1u64..500), 0..200).prop_map(|runs| {
                let mut at = 0;
                let extents = runs
                    .into_iter()
                    .map(|(gap, size_bytes)| {
                        let offset_bytes = at + gap;
                        at = offset_bytes + size_bytes;
                        Extent { offset_bytes, size_bytes }
                    })
                    .collect();
                EntryKind::File { size_bytes: at + 17, extents: Some(extents) }
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_entry_is_read_back_as_it_was(
            names in proptest::collection::vec("[^/\\x00]{1,60}", 1..6),
            kind in kind(),
            mode in 0u32..0o10000,
            uid in 0u32..u32::MAX,
            seconds in -10_000_000_000i64..10_000_000_000,
            nanos in 0u32..1_000_000_000,
            xattrs in proptest::collection::btree_map("user\\.[a-z]{1,20}", proptest::collection::vec(any::<u8>(), 0..40), 0..4),
        ) {
            let names: Vec<String> = names.into_iter().filter(|n| !matches!(n.as_str(), "." | "..") && !n.starts_with(".wh.")).collect();
            prop_assume!(!names.is_empty());
            let mut written = entry(names.join("/").as_bytes(), kind);
            (written.mode, written.uid, written.gid) = (mode, uid, uid / 2);
            written.mtime = Time { seconds, nanos };
            written.xattrs = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            written.data_size_bytes = match &written.kind {
                EntryKind::File { extents: Some(extents), .. } => extents.iter().map(|e| e.size_bytes).sum(),
                EntryKind::File { size_bytes, .. } => *size_bytes,
                _ => 0,
            };
            prop_assert_eq!(read_back(&written), written);
        }
    }
}
