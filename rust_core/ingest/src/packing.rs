//! How a blob is compressed that is made here, and one piece of it compressed so.

use std::io::Write;

use flate2::write::DeflateEncoder;
use flate2::GzBuilder;
use layer::Compression;

/// Bytes of one gzip member: large enough that cutting costs below a hundredth in size.
const GZIP_PIECE_BYTES: usize = 1024 * 1024;
/// Of one zstd frame, which looks further back.
const ZSTD_PIECE_BYTES: usize = 4 * 1024 * 1024;
/// What gzip, pigz and Go take by default. Source: gzip(1), `-6`.
const GZIP_LEVEL: u32 = 6;
/// Source: zstd(1), `-3`.
const ZSTD_LEVEL: i32 = 3;
/// Source: zstd.h, ZSTD_maxCLevel.
const ZSTD_LEVEL_MAX: i32 = 22;
/// Bytes at each of three places of a piece by which it is decided whether it is compressed at all.
const SAMPLE_BYTES: usize = 16 * 1024;
/// Samples that do not lose a sixteenth together are of what is compressed already, or encrypted.
const LEAST_GAIN: usize = 16;
/// "Unknown" system, so that no host can be told from the bytes. Source: RFC 1952, section 2.3, OS.
const SYSTEM_UNKNOWN: u8 = 255;

/// How a blob is compressed. The same bytes and the same of these give the same blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// As gzip, from 0 (stored) to 9.
    Gzip {
        /// The level.
        level: u32,
    },
    /// As zstd, from 1 to 22.
    Zstd {
        /// The level.
        level: i32,
    },
}

impl Default for Packing {
    fn default() -> Self {
        Self::Gzip { level: GZIP_LEVEL }
    }
}

impl Packing {
    /// `gzip`, `zstd` or `uncompressed`, at a level or at that of its own program; `None` for another name, or a level
    /// that it has not.
    pub fn new(name: &str, level: Option<i32>) -> Option<Self> {
        match (name, level) {
            ("uncompressed", None) => Some(Self::Plain),
            ("gzip", None) => Some(Self::default()),
            ("gzip", Some(level @ 0..=9)) => Some(Self::Gzip { level: level.unsigned_abs() }),
            ("zstd", None) => Some(Self::Zstd { level: ZSTD_LEVEL }),
            ("zstd", Some(level @ 1..=ZSTD_LEVEL_MAX)) => Some(Self::Zstd { level }),
            _ => None,
        }
    }

    /// As layers call it.
    pub fn compression(self) -> Compression {
        match self {
            Self::Plain => Compression::None,
            Self::Gzip { .. } => Compression::Gzip,
            Self::Zstd { .. } => Compression::Zstd,
        }
    }

    /// Bytes of one piece; 0 where there are none, and the stream is the blob.
    pub(crate) fn piece_bytes(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Gzip { .. } => GZIP_PIECE_BYTES,
            Self::Zstd { .. } => ZSTD_PIECE_BYTES,
        }
    }

    /// A piece, compressed by itself.
    pub(crate) fn compress(self, piece: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(piece.to_vec()),
            Self::Gzip { level } => gzip(piece, level),
            Self::Zstd { level } => zstd::bulk::compress(piece, level),
        }
    }
}

/// A piece that gains nothing is stored as it is, which is a hundred times as fast; the piece alone decides.
fn gzip(piece: &[u8], level: u32) -> std::io::Result<Vec<u8>> {
    let level = if gains(piece)? { flate2::Compression::new(level) } else { flate2::Compression::none() };
    let mut encoder = GzBuilder::new().operating_system(SYSTEM_UNKNOWN).write(Vec::new(), level);
    encoder.write_all(piece)?;
    encoder.finish()
}

/// Whether three samples get smaller; a small piece is not looked at.
fn gains(piece: &[u8]) -> std::io::Result<bool> {
    if piece.len() < 8 * SAMPLE_BYTES {
        return Ok(true);
    }
    let mut compressed = 0;
    for at in [0, piece.len() / 2, piece.len() - SAMPLE_BYTES] {
        let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&piece[at..at + SAMPLE_BYTES])?;
        compressed += encoder.finish()?.len();
    }
    Ok(compressed < 3 * SAMPLE_BYTES - 3 * SAMPLE_BYTES / LEAST_GAIN)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read;

    use super::*;

    /// What was compressed so.
    pub fn unpacked(packing: Packing, data: &[u8]) -> Vec<u8> {
        let mut back = Vec::new();
        match packing {
            Packing::Plain => back.extend_from_slice(data),
            Packing::Gzip { .. } => {
                flate2::read::MultiGzDecoder::new(data).read_to_end(&mut back).map(drop).unwrap();
            }
            Packing::Zstd { .. } => back = zstd::stream::decode_all(data).unwrap(),
        }
        back
    }

    #[test]
    fn names_and_levels_are_those_of_their_programs() {
        assert_eq!(Packing::new("gzip", None), Some(Packing::Gzip { level: 6 }));
        assert_eq!(Packing::new("gzip", Some(0)), Some(Packing::Gzip { level: 0 }));
        assert_eq!(Packing::new("zstd", Some(22)), Some(Packing::Zstd { level: 22 }));
        assert_eq!(Packing::new("uncompressed", None), Some(Packing::Plain));
        for (name, level) in
            [("gzip", 10), ("gzip", -1), ("zstd", 0), ("zstd", 23), ("uncompressed", 1), ("estargz", 1)]
        {
            assert_eq!(Packing::new(name, Some(level)), None, "{name} {level}");
        }
    }

    #[test]
    fn what_cannot_get_smaller_is_stored_and_what_is_beside_it_is_not() {
        // Source: xorshift64, Marsaglia 2003.
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let noise: Vec<u8> = (0..GZIP_PIECE_BYTES / 8).flat_map(|_| next()).collect();
        let text = b"the same again, ".repeat(GZIP_PIECE_BYTES / 16);
        assert!(!gains(&noise).unwrap());
        // A header before it changes nothing.
        assert!(!gains(&[&text[..1536], &noise[1536..]].concat()).unwrap());
        assert!(gains(&text).unwrap());
        assert!(gains(&[&noise[..GZIP_PIECE_BYTES / 2], &text[..GZIP_PIECE_BYTES / 2]].concat()).unwrap());
        for packing in [Packing::default(), Packing::Zstd { level: 3 }] {
            let packed = [packing.compress(&noise).unwrap(), packing.compress(&text).unwrap()];
            assert!(packed[0].len() < GZIP_PIECE_BYTES + GZIP_PIECE_BYTES / 50, "{}", packed[0].len());
            assert!(packed[1].len() < GZIP_PIECE_BYTES / 50, "{}", packed[1].len());
            assert!(unpacked(packing, &packed.concat()) == [noise.clone(), text.clone()].concat());
        }
    }
}
