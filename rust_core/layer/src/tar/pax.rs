//! PAX extended headers: records of `length key=value\n`.
//!
//! Source: POSIX pax, "pax Extended Header"; GNU tar manual, "Storing Sparse Files"; star(4) for `SCHILY.xattr`.

use super::Fault;
use crate::{Limits, Rule, Time, Xattr};

const SCHILY_XATTR: &[u8] = b"SCHILY.xattr.";

/// What the records of one entry say; later records of a key win, an empty value takes a record back.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Records {
    pub path: Option<Vec<u8>>,
    pub link_path: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub mtime: Option<Time>,
    pub xattrs: Vec<Xattr>,
    pub sparse: SparseRecords,
}

/// GNU's sparse records, of any of its three PAX formats.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct SparseRecords {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// Format 0.1: `offset,size,offset,size…`.
    pub map: Option<Vec<u8>>,
    /// Format 0.0: the numbers of repeated `offset` and `numbytes` records, in order.
    pub numbers: Vec<u64>,
}

impl SparseRecords {
    /// True if the entry is sparse.
    pub fn is_present(&self) -> bool {
        self.major.is_some() || self.map.is_some() || !self.numbers.is_empty() || self.real_size.is_some()
    }
}

impl Records {
    /// Adds the records of one extended header.
    pub fn add(&mut self, mut data: &[u8], limits: &Limits) -> Result<(), Fault> {
        while !data.is_empty() {
            let (key, value, rest) = split_record(data)?;
            self.add_record(key, value, limits)?;
            data = rest;
        }
        Ok(())
    }

    fn add_record(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<(), Fault> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link_path = text(value)?,
            b"size" => self.size = optional(value, decimal)?,
            b"uid" => self.uid = optional(value, signed)?,
            b"gid" => self.gid = optional(value, signed)?,
            b"mtime" => self.mtime = optional(value, time)?,
            b"GNU.sparse.major" => self.sparse.major = optional(value, decimal)?,
            b"GNU.sparse.minor" => self.sparse.minor = optional(value, decimal)?,
            b"GNU.sparse.name" => self.sparse.name = text(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.real_size = optional(value, decimal)?;
            }
            b"GNU.sparse.map" => {
                Fault::check("sparse_map_bytes", limits.sparse_map_bytes, value.len() as u64)?;
                self.sparse.map = Some(value.to_vec());
            }
            b"GNU.sparse.offset" => self.add_sparse_number(0, value)?,
            b"GNU.sparse.numbytes" => self.add_sparse_number(1, value)?,
            _ => {
                if let Some(name) = key.strip_prefix(SCHILY_XATTR) {
                    self.add_xattr(name, value, limits)?;
                }
            }
        }
        Ok(())
    }

    fn add_sparse_number(&mut self, parity: usize, value: &[u8]) -> Result<(), Fault> {
        if self.sparse.numbers.len() % 2 != parity {
            return Err(Fault::Rule(Rule::SparseMap));
        }
        self.sparse.numbers.push(decimal(value)?);
        Ok(())
    }

    fn add_xattr(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<(), Fault> {
        Fault::check("xattr_value_bytes", limits.xattr_value_bytes, value.len() as u64)?;
        if name.is_empty() || name.contains(&0) || name.len() as u64 > limits.name_bytes {
            return Err(Fault::Rule(Rule::Xattr));
        }
        self.xattrs.retain(|(known, _)| known != name);
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Fault::check("xattr_count", limits.xattr_count, self.xattrs.len() as u64)
    }
}

/// Key, value and the bytes that follow the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The first record.
fn split_record(data: &[u8]) -> Result<Record<'_>, Fault> {
    const BAD: Fault = Fault::Malformed("a PAX record is malformed");
    let space = data.iter().take(12).position(|b| *b == b' ').ok_or(BAD)?;
    let len = usize::try_from(decimal(&data[..space])?).map_err(|_| BAD)?;
    let body = data.get(space + 1..len).ok_or(BAD)?;
    let (newline, body) = body.split_last().ok_or(BAD)?;
    let equals = body.iter().position(|b| *b == b'=').ok_or(BAD)?;
    if *newline != b'\n' || equals == 0 {
        return Err(BAD);
    }
    Ok((&body[..equals], &body[equals + 1..], &data[len..]))
}

fn optional<T>(value: &[u8], parse: impl Fn(&[u8]) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    if value.is_empty() {
        return Ok(None);
    }
    parse(value).map(Some)
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    if value.contains(&0) {
        return Err(Fault::Rule(Rule::NameNul));
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// A number of decimal digits only.
pub(crate) fn decimal(value: &[u8]) -> Result<u64, Fault> {
    const BAD: Fault = Fault::Malformed("a decimal number is malformed");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    std::str::from_utf8(value).map_err(|_| BAD)?.parse().map_err(|_| BAD)
}

fn signed(value: &[u8]) -> Result<i64, Fault> {
    const BAD: Fault = Fault::Malformed("a decimal number is malformed");
    let (sign, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, value),
    };
    Ok(sign * i64::try_from(decimal(digits)?).map_err(|_| BAD)?)
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are cut off.
fn time(value: &[u8]) -> Result<Time, Fault> {
    let (whole, fraction) = match value.iter().position(|b| *b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Malformed("a PAX time is malformed"));
    }
    let seconds = signed(whole)?;
    let digit = |at: usize| fraction.get(at).map_or(0, |b| u32::from(b - b'0'));
    let nanos = (0..9).fold(0, |nanos, at| nanos * 10 + digit(at));
    if whole.starts_with(b"-") && nanos > 0 {
        // Nanoseconds count forwards: -1.25 is 0.75 after -2.
        return Ok(Time { seconds: seconds - 1, nanos: 1_000_000_000 - nanos });
    }
    Ok(Time { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(data: &[u8]) -> Result<Records, Fault> {
        let mut records = Records::default();
        records.add(data, &Limits::default())?;
        Ok(records)
    }

    #[test]
    fn later_records_win_and_empty_ones_take_back() {
        let found = records(b"8 uid=1\n8 uid=2\n10 path=a\n8 path=\n").unwrap();
        assert_eq!((found.uid, found.path), (Some(2), None));
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        assert_eq!(time(b"1.5"), Ok(Time { seconds: 1, nanos: 500_000_000 }));
        assert_eq!(time(b"-1.25"), Ok(Time { seconds: -2, nanos: 750_000_000 }));
        assert_eq!(time(b"7.1234567891"), Ok(Time { seconds: 7, nanos: 123_456_789 }));
        assert!(time(b"1.x").is_err() && time(b"").is_err() && time(b"0x1").is_err());
    }

    #[test]
    fn lying_lengths_are_refused() {
        for bad in
            ["5 uid=1\n", "99 uid=1\n", "8uid=1\n", " uid=1\n", "8 uid=1", "3 =\n", "0 a=b\n", "+8 uid=1\n"]
        {
            assert!(records(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = records(&data);
        }
    }
}
