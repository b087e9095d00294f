//! When a failed request is tried again, and how long after.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::RegistryError;

/// The longest wait that a registry may ask for; one that asks for more ends the fetch with `REGISTRY_RATE_LIMITED`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The wait before the second attempt; it doubles with each further one, up to `BACKOFF_MAX`.
const BACKOFF_BASE: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Why one attempt failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Trying again would change nothing.
    Final(RegistryError),
    /// A later attempt may succeed; after the last one `at_last` is told, where it says more than that nothing came.
    Retry { detail: String, after: Option<Duration>, is_rate_limit: bool, at_last: Option<RegistryError> },
}

impl Failure {
    /// A failure of the connection or of the server.
    pub fn retry(detail: impl Into<String>) -> Self {
        Self::Retry { detail: detail.into(), after: None, is_rate_limit: false, at_last: None }
    }

    /// A transfer slower than a limit, which may be quicker on another connection.
    pub fn slow(limit: RegistryError) -> Self {
        Self::Retry { detail: limit.to_string(), after: None, is_rate_limit: false, at_last: Some(limit) }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

/// The attempts of one fetch.
#[derive(Debug)]
pub(crate) struct Retries {
    registry: String,
    max_attempts: u32,
    failed: u32,
}

impl Retries {
    pub fn new(registry: &str, max_attempts: u32) -> Self {
        Self { registry: registry.to_owned(), max_attempts: max_attempts.max(1), failed: 0 }
    }

    /// Attempts are counted anew: the last ones brought the fetch forward.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// Returns when the next attempt is due, or the error that ends the fetch.
    pub async fn wait(&mut self, failure: Failure) -> Result<(), RegistryError> {
        let (detail, after, is_rate_limit, at_last) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Retry { detail, after, is_rate_limit, at_last } => {
                (detail, after, is_rate_limit, at_last)
            }
        };
        self.failed += 1;
        let is_last = self.failed >= self.max_attempts;
        if is_last || after.is_some_and(|after| after > RETRY_AFTER_MAX) {
            let registry = self.registry.clone();
            if let Some(error) = at_last {
                return Err(error);
            }
            return Err(if is_rate_limit {
                RegistryError::RateLimited { registry, retry_after_seconds: after.map_or(0, |a| a.as_secs()) }
            } else {
                RegistryError::Unreachable { registry, attempt_count: self.failed, detail }
            });
        }
        tokio::time::sleep(after.unwrap_or_default().max(backoff(self.failed))).await;
        Ok(())
    }

    /// Runs `attempt` until it succeeds, fails for good, or has failed too often.
    pub async fn run<T>(
        mut self,
        mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, RegistryError> {
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(failure) => self.wait(failure).await?,
            }
        }
    }
}

/// Half of the doubled base and a random part of the other half, so that many clients do not come back as one.
fn backoff(failed: u32) -> Duration {
    let whole = BACKOFF_BASE.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(BACKOFF_MAX);
    // RandomState is seeded anew each time; jitter needs no better source.
    let random = RandomState::new().build_hasher().finish() % 1000;
    whole / 2 + (whole / 2).mul_f64(random as f64 / 1000.0)
}

/// The wait that an answer asks for: seconds, or a date. Source: RFC 9110 section 10.2.3.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let due = UNIX_EPOCH + Duration::from_secs(parse_http_date(value)?);
    Some(due.duration_since(now).unwrap_or_default())
}

/// Seconds since 1970 of a date in each of the three forms that a reader must take: `Sun, 06 Nov 1994 08:49:37 GMT`,
/// and the old `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`. Source: RFC 9110 section 5.6.7.
pub(crate) fn parse_http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (day, name, year, clock) = match words[..] {
        [_, day, month, year, clock, "GMT"] => (day, month, number(year)?, clock),
        [_, date, clock, "GMT"] => {
            let [day, month, year] = date.split('-').collect::<Vec<_>>()[..] else { return None };
            (day, month, full_year(number(year)?)?, clock)
        }
        [_, month, day, clock, year] => (day, month, number(year)?, clock),
        _ => return None,
    };
    let day = number(day)?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let [hour, minute, second] = clock.split(':').map(number).collect::<Option<Vec<_>>>()?[..] else {
        return None;
    };
    let is_valid =
        (1970..=9999).contains(&year) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !is_valid {
        return None;
    }
    // Days since 1970-01-01 with March as the first month, so that the leap day ends a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Digits only: `parse` would also take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The year of two digits, of the years since 1970: what is called so was written at the earliest then.
fn full_year(year: u64) -> Option<u64> {
    match year {
        0..70 => Some(2000 + year),
        70..100 => Some(1900 + year),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(value: &str, now: u64) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().expect("a header value"));
        retry_after(&headers, UNIX_EPOCH + Duration::from_secs(now))
    }

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        assert_eq!(after("2", 0), Some(Duration::from_secs(2)));
        assert_eq!(after("99999999999999999999999", 0), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_770), Some(Duration::from_secs(7)));
        assert_eq!(after("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800), Some(Duration::ZERO));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT", u64::from(u32::MAX)), Some(Duration::ZERO));
        for bad in ["", "-1", "soon", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994"] {
            assert_eq!(after(bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn r08_dates_of_the_old_forms_are_read_too() {
        let seven_before = 784_111_770;
        for date in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun Nov 06 08:49:37 1994"]
        {
            assert_eq!(after(date, seven_before), Some(Duration::from_secs(7)), "{date}");
        }
        assert_eq!(after("Saturday, 01-Jan-00 00:00:05 GMT", 946_684_800), Some(Duration::from_secs(5)));
        for bad in [
            "Sunday, 06-Nov-994 08:49:37 GMT",
            "Sunday, 06-Nov 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49 GMT",
            "Sunday, 06-Nov-94 08:49:37 CET",
            "Sun Nov  6 08:49:37 94",
            "Sun Nov  6 08:49:+7 1994",
            "Sun Nov  6 1994",
        ] {
            assert_eq!(after(bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        for failed in 1..40 {
            let wait = backoff(failed);
            assert!(wait >= BACKOFF_BASE / 2 && wait <= BACKOFF_MAX, "{failed}: {wait:?}");
        }
        assert!(backoff(4) >= BACKOFF_BASE * 4);
    }
}
