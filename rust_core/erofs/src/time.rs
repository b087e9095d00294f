//! Times in 64 bits, of which a tree has one for each inode: most as they are, the few far ones by number.

use crate::error::{narrow, ImageError};

const NANOS_BITS: u32 = 30;
/// In place of nanoseconds, which end below it: the rest is a number of [`Times::far`].
const FAR: u64 = (1 << NANOS_BITS) - 1;
/// Seconds within 272 years of 1970 have room beside nanoseconds.
const NEAR_SECONDS: std::ops::Range<i64> = -(1 << 33)..1 << 33;

/// A time that [`Times`] keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(u64);

/// The times of a tree.
#[derive(Debug, Default)]
pub(crate) struct Times {
    far: Vec<(i64, u32)>,
}

impl Times {
    /// The time of an inode that had the time `old` until now, if it had one.
    pub fn keep(&mut self, seconds: i64, nanos: u32, old: Option<Time>) -> Result<Time, ImageError> {
        debug_assert!(nanos < 1_000_000_000, "nanoseconds of one second");
        if NEAR_SECONDS.contains(&seconds) {
            return Ok(Time(seconds.cast_unsigned() << NANOS_BITS | u64::from(nanos)));
        }
        if let Some(slot) = old.and_then(far_number).and_then(|number| self.far.get_mut(number)) {
            *slot = (seconds, nanos);
            return Ok(old.unwrap_or(Time(0)));
        }
        let number = narrow("times far from ours", self.far.len() as u64)?;
        self.far.push((seconds, nanos));
        Ok(Time(u64::from(number) << NANOS_BITS | FAR))
    }

    /// Seconds since 1970, and nanoseconds.
    pub fn get(&self, time: Time) -> (i64, u32) {
        match far_number(time) {
            Some(number) => self.far[number],
            None => {
                let nanos = u32::try_from(time.0 & FAR).unwrap_or(0);
                (time.0.cast_signed() >> NANOS_BITS, nanos)
            }
        }
    }
}

fn far_number(time: Time) -> Option<usize> {
    (time.0 & FAR == FAR).then(|| usize::try_from(time.0 >> NANOS_BITS).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_given_back() {
        let mut times = Times::default();
        let seconds =
            [0, 1, -1, 1_700_000_000, (1 << 33) - 1, -(1 << 33), 1 << 33, -(1 << 33) - 1, i64::MAX, i64::MIN];
        let all: Vec<(i64, u32)> =
            seconds.into_iter().flat_map(|s| [0, 1, 500_000_000, 999_999_999].map(|n| (s, n))).collect();
        let kept: Vec<Time> = all.iter().map(|(s, n)| times.keep(*s, *n, None).unwrap()).collect();
        assert_eq!(kept.iter().map(|time| times.get(*time)).collect::<Vec<_>>(), all);
        assert_eq!(times.far.len(), 16);
    }

    #[test]
    fn a_far_time_takes_the_place_of_the_one_before() {
        let mut times = Times::default();
        let mut time = times.keep(i64::MAX, 0, None).unwrap();
        for nanos in 0..100 {
            time = times.keep(i64::MIN, nanos, Some(time)).unwrap();
        }
        assert_eq!((times.far.len(), times.get(time)), (1, (i64::MIN, 99)));
        let near = times.keep(7, 8, Some(time)).unwrap();
        assert_eq!(times.get(near), (7, 8));
    }
}
