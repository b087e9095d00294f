//! Builds archives entry by entry, well-formed or not, so that a test says exactly what stands in them.

/// One entry to be written.
#[derive(Debug, Clone)]
pub struct Item {
    pub name: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: i64,
    pub link: Vec<u8>,
    pub data: Vec<u8>,
    pub device: (u32, u32),
    pub pax: Vec<(Vec<u8>, Vec<u8>)>,
    /// GNU magic, long names as `L` and `K` entries, large numbers in base 256.
    pub is_gnu: bool,
    /// Neither magic nor anything behind the link name.
    pub is_v7: bool,
}

impl Item {
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_000_000_000,
            link: Vec::new(),
            data: Vec::new(),
            device: (0, 0),
            pax: Vec::new(),
            is_gnu: false,
            is_v7: false,
        }
    }

    pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        Self { data: data.as_ref().to_vec(), ..Self::new(b'0', name) }
    }

    pub fn dir(name: impl AsRef<[u8]>) -> Self {
        Self { mode: 0o755, ..Self::new(b'5', name) }
    }

    pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), mode: 0o777, ..Self::new(b'2', name) }
    }

    pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), ..Self::new(b'1', name) }
    }

    pub fn device(kind: u8, name: impl AsRef<[u8]>, device: (u32, u32)) -> Self {
        Self { device, ..Self::new(kind, name) }
    }

    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub fn owner(self, uid: u64, gid: u64) -> Self {
        Self { uid, gid, ..self }
    }

    pub fn mtime(self, mtime: i64) -> Self {
        Self { mtime, ..self }
    }

    pub fn gnu(self) -> Self {
        Self { is_gnu: true, ..self }
    }

    pub fn v7(self) -> Self {
        Self { is_v7: true, ..self }
    }

    pub fn pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax(format!("SCHILY.xattr.{name}"), value)
    }
}

/// An archive being written.
#[derive(Debug, Clone, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

/// Writes the items with an end marker.
pub fn tar(items: &[Item]) -> Vec<u8> {
    items.iter().fold(Tar::default(), |tar, item| tar.add(item)).end()
}

impl Tar {
    pub fn add(mut self, item: &Item) -> Self {
        if item.is_gnu && item.name.len() > 100 {
            self.add_gnu_long(b'L', &item.name);
        }
        if item.is_gnu && item.link.len() > 100 {
            self.add_gnu_long(b'K', &item.link);
        }
        if !item.pax.is_empty() {
            let body: Vec<u8> = item.pax.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
            self.add_raw(&header(&Item::file("PaxHeaders/x", &body), b'x'), &body);
        }
        self.add_raw(&header(item, item.kind), &item.data);
        self
    }

    fn add_gnu_long(&mut self, kind: u8, name: &[u8]) {
        let body = [name, b"\0"].concat();
        self.add_raw(&header(&Item::file("././@LongLink", &body).gnu(), kind), &body);
    }

    /// Adds a header block as it is, and data with its padding.
    pub fn add_raw(&mut self, header: &[u8], data: &[u8]) {
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    /// The bytes with an end marker.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    /// The bytes so far.
    pub fn cut(self) -> Vec<u8> {
        self.bytes
    }
}

fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    [len.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// A header block with the right checksum.
pub fn header(item: &Item, kind: u8) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    let mut put = |at: usize, bytes: &[u8], max: usize| {
        let len = bytes.len().min(max);
        block[at..at + len].copy_from_slice(&bytes[..len]);
    };
    put(0, &item.name, 100);
    put(100, &octal(item.mode.into(), 8, item.is_gnu), 8);
    put(108, &octal(item.uid.into(), 8, item.is_gnu), 8);
    put(116, &octal(item.gid.into(), 8, item.is_gnu), 8);
    put(124, &octal(item.data.len() as i128, 12, item.is_gnu), 12);
    put(136, &octal(item.mtime.into(), 12, item.is_gnu), 12);
    put(156, &[kind], 1);
    put(157, &item.link, 100);
    if !item.is_v7 {
        put(257, if item.is_gnu { b"ustar  \0" } else { b"ustar\x0000" }, 8);
        put(329, &octal(item.device.0.into(), 8, false), 8);
        put(337, &octal(item.device.1.into(), 8, false), 8);
    }
    seal(&mut block);
    block
}

/// Sets the checksum of a header block.
pub fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn octal(value: i128, width: usize, is_gnu: bool) -> Vec<u8> {
    let text = format!("{:0width$o}\0", value.max(0), width = width - 1);
    if text.len() <= width && value >= 0 {
        return text.into_bytes();
    }
    if !is_gnu {
        // Where the number does not fit, a PAX record holds it.
        return vec![b'0'; width - 1];
    }
    let mut bytes = value.to_be_bytes()[16 - width..].to_vec();
    bytes[0] |= 0x80;
    bytes
}
