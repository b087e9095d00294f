//! Sizes, spans and times as people type and read them. Pure.

use std::time::Duration;

/// 9999-12-31T23:59:59Z, the last second of a `google.protobuf.Timestamp`.
const MAX_EPOCH_SECONDS: i128 = 253_402_300_799;

/// Parses a size such as `512m`, `1.5g`, `64KiB` or `1048576`: units are powers of 1024, as Docker's `-m` has them.
///
/// # Errors
/// A sentence that says what a size looks like.
pub fn parse_bytes(text: &str) -> Result<i64, String> {
    let wrong =
        || format!("`{text}` is not a size; write a number and b, k, m, g, t or p, as in 512m or 1.5g");
    let text_lower = text.trim().to_ascii_lowercase();
    let digits_end = text_lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text_lower.len());
    let (number, unit) = text_lower.split_at(digits_end);
    let scale: f64 = match unit.trim() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "t" | "tb" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "p" | "pb" | "pib" => 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let value = number.parse::<f64>().map_err(|_| wrong())? * scale;
    if !value.is_finite() || value >= i64::MAX as f64 {
        return Err(wrong());
    }
    Ok(value as i64)
}

/// As [`parse_bytes`]; `-1` stands for no limit.
///
/// # Errors
/// As [`parse_bytes`].
pub fn parse_bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text.trim() == "-1" {
        Ok(-1)
    } else {
        parse_bytes(text)
    }
}

/// Parses `--cpus`, a decimal number of processors, into billionths of one; 0 is no limit, as in Docker.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_cpus(text: &str) -> Result<i64, String> {
    let value: f64 =
        text.parse().map_err(|_| format!("`{text}` is not a number of processors, as in 0.5 or 2"))?;
    if !(0.0..=1_000_000.0).contains(&value) {
        return Err(format!("`{text}` is not 0 to 1000000"));
    }
    let billionths = (value * 1e9).round();
    if (value * 1e9 - billionths).abs() > 1e-3 {
        return Err(format!("`{text}` is finer than a billionth of a processor"));
    }
    Ok(billionths as i64)
}

/// How long a stop waits before it kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// So long.
    Span(Duration),
    /// Until the container has ended.
    ForEver,
}

impl Grace {
    /// As the API has it: a negative one is for ever.
    pub fn message(self) -> Option<prost_types::Duration> {
        match self {
            Self::Span(span) => span.try_into().ok(),
            Self::ForEver => Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        }
    }
}

/// Parses the time that a stop waits: a span as [`parse_span`] takes it, or -1 for ever.
///
/// # Errors
/// A sentence that says what a span looks like.
pub fn parse_grace(text: &str) -> Result<Grace, String> {
    if text == "-1" {
        return Ok(Grace::ForEver);
    }
    parse_span(text).map(Grace::Span)
}

/// Parses a span: `10s`, `1m30s`, `1h`, `250ms`, or a bare number of seconds.
///
/// # Errors
/// A sentence that says what a span looks like.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a span of time; write 90, 10s, 250ms or 1m30s");
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| wrong());
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(wrong()),
        };
        let seconds = number.parse::<f64>().map_err(|_| wrong())? * scale;
        total = Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|span| total.checked_add(span))
            .ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Ok(total)
}

/// A point in time as `--since` takes it, in nanoseconds of the epoch: seconds of the epoch (`1700000000.5`), a span
/// back from `now_nanos` (`10m`; never before the epoch), or RFC 3339 (`2026-01-31T10:00:00Z`, also a date alone or
/// without seconds, also an offset; UTC if it has none).
///
/// # Errors
/// A sentence that says what a time looks like.
pub fn parse_time(text: &str, now_nanos: i128) -> Result<i128, String> {
    if let Some(nanos) = parse_epoch(text) {
        return Ok(nanos);
    }
    // A bare number that is no time of the epoch, as 1e9 or inf, is not meant as a span either.
    if text.parse::<f64>().is_err() {
        if let Ok(span) = parse_span(text) {
            return Ok((now_nanos - span.as_nanos() as i128).max(0));
        }
    }
    parse_rfc3339(text).ok_or_else(|| {
        format!(
            "`{text}` is not a time; write 2026-01-31T10:00:00Z, seconds of the epoch, or a span back as 10m"
        )
    })
}

/// Seconds with up to nine decimals, exactly; a float would lose the last ones.
fn parse_epoch(text: &str) -> Option<i128> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    // Twelve digits end behind the year 9999, the last that the API can name.
    if seconds.is_empty()
        || seconds.len() > 12
        || fraction.len() > 9
        || !is_digits(seconds)
        || !is_digits(fraction)
    {
        return None;
    }
    let seconds = seconds.parse::<i128>().ok().filter(|seconds| *seconds <= MAX_EPOCH_SECONDS)?;
    Some(seconds * 1_000_000_000 + format!("{fraction:0<9}").parse::<i128>().ok()?)
}

fn parse_rfc3339(text: &str) -> Option<i128> {
    let (date, clock) = match text.split_once(['T', 't', ' ']) {
        Some((date, clock)) => (date, clock),
        None => (text.trim_end_matches(['Z', 'z']), "00:00:00Z"),
    };
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    if !(1..=12).contains(&month) || !(1970..=9999).contains(&year) {
        return None;
    }
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let month_days = days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1);
    if !(1..=month_days).contains(&day) {
        return None;
    }
    let zone_at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone_at);
    let offset = match zone {
        "" | "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let hours = hours.parse::<i64>().ok().filter(|hours| (0..24).contains(hours))?;
            let minutes = minutes.parse::<i64>().ok().filter(|minutes| (0..60).contains(minutes))?;
            let seconds = hours * 3600 + minutes * 60;
            if zone.starts_with('-') {
                -seconds
            } else {
                seconds
            }
        }
    };
    let mut fields = clock.splitn(3, ':');
    let hour: i64 = fields.next()?.parse().ok()?;
    let minute: i64 = fields.next().unwrap_or("0").parse().ok()?;
    let second: f64 = fields.next().unwrap_or("0").parse().ok()?;
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..61.0).contains(&second) {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 - offset;
    Some(i128::from(seconds) * 1_000_000_000 + (second * 1e9).round() as i128)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of a year.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// RFC 3339 in UTC with nanoseconds.
pub fn format_time(seconds: i64, nanos: i32) -> String {
    let days = seconds.div_euclid(86400);
    let clock = seconds.rem_euclid(86400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z",
        clock / 3600,
        clock / 60 % 60,
        clock % 60
    )
}

/// A size for people: `0B`, `1.5kB`, `335MB`, in powers of 1000, as `docker images` prints.
pub fn human_bytes(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes.max(0) as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0}{}", UNITS[unit])
    } else if value >= 9.995 {
        format!("{value:.1}{}", UNITS[unit])
    } else {
        format!("{value:.2}{}", UNITS[unit])
    }
}

/// A span for people: `Less than a second`, `1 second`, `5 minutes`, `About an hour`, as `docker ps` prints.
pub fn human_span(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        ..=0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..=59 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_dockers() {
        for (text, bytes) in [
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("64KiB", 65536),
            ("10", 10),
            ("1b", 1),
            ("2T", 2 << 40),
            ("1p", 1 << 50),
            ("1 kB", 1024),
            (".5k", 512),
            ("0", 0),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "m",
            "-1",
            "1x",
            "1.2.3g",
            "9e99",
            "99999999999t",
            "inf",
            "nan",
            "1bb",
            "1ki",
            "1kbb",
            "0x10",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(parse_bytes_or_unlimited("-1"), Ok(-1));
    }

    #[test]
    fn spans_may_be_composed() {
        assert_eq!(parse_span("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_span("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_span("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_span("1h1m1s1ms"), Ok(Duration::from_millis(3_661_001)));
        for text in
            ["", "s", "10x", "-1", "1m30", "1 m", "inf", "nan", "1..5s", "1h-5m", "99999999999999999999h"]
        {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_in_every_spelling() {
        let epoch = |text| parse_time(text, 1_000_000_000_000).unwrap();
        assert_eq!(epoch("1970-01-02T00:00:00Z"), 86_400_000_000_000);
        assert_eq!(epoch("1970-01-02"), 86_400_000_000_000);
        assert_eq!(epoch("1970-01-01T02:00:00+02:00"), 0);
        assert_eq!(epoch("2024-02-29T12:30:01.5Z"), 1_709_209_801_500_000_000);
        assert_eq!(epoch("1.5"), 1_500_000_000);
        assert_eq!(epoch("10s"), 990_000_000_000);
        assert_eq!(epoch("1700000000.123456789"), 1_700_000_000_123_456_789);
        assert_eq!(epoch("1970-01-01T01"), 3_600_000_000_000);
        assert_eq!(epoch("1970-01-01T00:01Z"), 60_000_000_000);
        assert_eq!(epoch("1970-01-02Z"), 86_400_000_000_000);
        for text in [
            "",
            "yesterday",
            "2024-13-01",
            "2023-02-29",
            "2024-04-31",
            "2024-01-00",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00+99:00",
            "inf",
            "nan",
            "1e9",
            "-5",
            "1.2.3",
            "9999999999999",
            "1.0000000001",
        ] {
            assert!(parse_time(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_back_counts_from_now_and_ends_at_the_epoch() {
        let now = 1_000_000_000_500;
        assert_eq!(parse_time("1m30s", now), Ok(now - 90_000_000_000));
        assert_eq!(parse_time("250ms", now), Ok(now - 250_000_000));
        assert_eq!(parse_time("0s", now), Ok(now));
        assert_eq!(parse_time("1000000h", now), Ok(0));
    }

    #[test]
    fn a_time_printed_is_the_time_read() {
        for seconds in [0, 86_399, 951_782_400, 1_709_209_801, 4_102_444_800] {
            let text = format_time(seconds, 7);
            assert_eq!(parse_time(&text, 0), Ok(i128::from(seconds) * 1_000_000_000 + 7), "{text}");
        }
    }

    #[test]
    fn people_read_short_numbers() {
        assert_eq!(human_bytes(0), "0B");
        assert_eq!(human_bytes(1500), "1.50kB");
        assert_eq!(human_bytes(334_900_000), "335MB");
        assert_eq!(human_bytes(999_999), "1.00MB");
        assert_eq!(human_span(0), "Less than a second");
        assert_eq!(human_span(61), "About a minute");
        assert_eq!(human_span(7200), "2 hours");
    }

    #[test]
    fn a_stop_waits_for_a_span_or_for_ever() {
        assert_eq!(parse_grace("1.5"), Ok(Grace::Span(Duration::from_millis(1500))));
        let for_ever = parse_grace("-1").unwrap();
        assert_eq!(for_ever.message().unwrap().seconds, -1);
        for text in ["-2", "-1s", "x"] {
            assert!(parse_grace(text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors_become_billionths() {
        assert_eq!(parse_cpus("0.5"), Ok(500_000_000));
        assert_eq!(parse_cpus("2"), Ok(2_000_000_000));
        assert_eq!(parse_cpus("0.000000001"), Ok(1));
        assert_eq!(parse_cpus("0"), Ok(0));
        for text in ["", "-1", "x", "inf", "nan", "0.0000000001", "1.00000000001", "1000001"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }
}
