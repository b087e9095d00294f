//! One 512-byte header block: its fields as they stand, numbers decoded, nothing interpreted.

use super::{Fault, BLOCK_BYTES};

/// A header block whose checksum is right.
pub(crate) struct Header<'a> {
    block: &'a [u8; BLOCK_BYTES as usize],
}

/// Which of the header layouts a block has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// No magic: nothing after the link name counts.
    V7,
    /// POSIX: 155 bytes of prefix.
    Ustar,
    /// Schily's star: 131 bytes of prefix, times behind them.
    Star,
    /// GNU: times and the sparse map where the prefix would be.
    Gnu,
}

impl<'a> Header<'a> {
    /// Takes a block whose checksum is right, by unsigned bytes as POSIX has it or by signed ones as old tars did.
    pub fn parse(block: &'a [u8; BLOCK_BYTES as usize]) -> Result<Self, Fault> {
        let header = Self { block };
        let stored = number(header.field(148, 8))?;
        let others = || block.iter().enumerate().filter(|(at, _)| !(148..156).contains(at)).map(|(_, b)| *b);
        let blanks = 8 * i64::from(b' ');
        let unsigned = others().map(i64::from).sum::<i64>() + blanks;
        if stored != unsigned && stored != others().map(|b| i64::from(b as i8)).sum::<i64>() + blanks {
            return Err(Fault::Malformed("a header's checksum is wrong"));
        }
        Ok(header)
    }

    fn field(&self, at: usize, len: usize) -> &'a [u8] {
        &self.block[at..at + len]
    }

    fn format(&self) -> Format {
        match (self.field(257, 6), self.field(263, 2)) {
            (b"ustar\0", _) if self.field(508, 4) == b"tar\0" => Format::Star,
            (b"ustar\0", _) => Format::Ustar,
            (b"ustar ", b" \0") => Format::Gnu,
            _ => Format::V7,
        }
    }

    /// The name with its prefix.
    pub fn name(&self) -> Vec<u8> {
        let prefix = match self.format() {
            Format::Ustar => until_nul(self.field(345, 155)),
            Format::Star => until_nul(self.field(345, 131)),
            Format::V7 | Format::Gnu => &[],
        };
        let name = until_nul(self.field(0, 100));
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// The link's target.
    pub fn link_name(&self) -> Vec<u8> {
        until_nul(self.field(157, 100)).to_vec()
    }

    /// The type byte.
    pub fn type_flag(&self) -> u8 {
        self.block[156]
    }

    /// Mode bits, file type bits of old tars included.
    pub fn mode(&self) -> Result<i64, Fault> {
        number(self.field(100, 8))
    }

    /// Owner.
    pub fn uid(&self) -> Result<i64, Fault> {
        number(self.field(108, 8))
    }

    /// Group.
    pub fn gid(&self) -> Result<i64, Fault> {
        number(self.field(116, 8))
    }

    /// Bytes of data that follow.
    pub fn size(&self) -> Result<i64, Fault> {
        number(self.field(124, 12))
    }

    /// Modification time in seconds.
    pub fn mtime(&self) -> Result<i64, Fault> {
        number(self.field(136, 12))
    }

    /// Major and minor device number.
    pub fn device(&self) -> Result<(i64, i64), Fault> {
        if self.format() == Format::V7 {
            return Ok((0, 0));
        }
        Ok((number(self.field(329, 8))?, number(self.field(337, 8))?))
    }

    /// The map of an old GNU sparse file: the offset and size fields of its four slots, whether more blocks of slots
    /// follow, and the file's real size.
    pub fn gnu_sparse(&self) -> Result<(&'a [u8], bool, i64), Fault> {
        if self.format() != Format::Gnu {
            return Err(Fault::Malformed("a GNU sparse entry without the GNU magic"));
        }
        Ok((self.field(386, 96), self.block[482] != 0, number(self.field(483, 12))?))
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

/// A numeric field: octal digits between blanks or NULs, or GNU's base-256 with the first bit set.
pub(crate) fn number(field: &[u8]) -> Result<i64, Fault> {
    const BAD: Fault = Fault::Malformed("a header's number is malformed");
    if field[0] & 0x80 != 0 {
        // Two's complement over the field without its marker bit.
        let mut value: i128 = if field[0] & 0x40 != 0 { -1 } else { 0 };
        value = (value << 6) | i128::from(field[0] & 0x3f);
        for byte in &field[1..] {
            value = (value << 8) | i128::from(*byte);
        }
        return i64::try_from(value).map_err(|_| BAD);
    }
    let is_blank = |b: &u8| matches!(*b, b' ' | 0);
    let start = field.iter().position(|b| !is_blank(b)).unwrap_or(field.len());
    let end = field[start..].iter().position(is_blank).map_or(field.len(), |len| start + len);
    field[start..end].iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).and_then(|v| v.checked_add(i64::from(digit - b'0'))).ok_or(BAD),
        _ => Err(BAD),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Ok(0o644));
        assert_eq!(number(b"   644 \0"), Ok(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Ok(0));
        assert_eq!(number(b"12345678"), Err(Fault::Malformed("a header's number is malformed")));
        assert_eq!(number(&[0x80, 0, 0, 0, 0xee, 0x6b, 0x28, 0]), Ok(4_000_000_000));
        assert_eq!(number(&[0xff; 12]), Ok(-1));
        assert!(number(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
