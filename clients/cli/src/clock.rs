//! The clock of the caller's host, and ages by it.

use crate::units;

/// Seconds of the epoch, now.
pub fn now_seconds() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |span| i64::try_from(span.as_secs()).unwrap_or(i64::MAX))
}

/// An age for people, `3 days ago`; `N/A` of no time.
pub fn ago(time: Option<&prost_types::Timestamp>, now: i64) -> String {
    time.map_or_else(
        || "N/A".to_owned(),
        |time| format!("{} ago", units::human_span(now.saturating_sub(time.seconds))),
    )
}

/// A point in time as Go prints it: `2026-11-28 01:02:03 +0000 UTC`.
pub fn point(time: &prost_types::Timestamp) -> String {
    let text = units::format_time(time.seconds, time.nanos);
    format!("{} {} +0000 UTC", &text[..10], &text[11..19])
}

/// A point in time as a flag has it: RFC 3339, seconds of the epoch, or a span back from now.
///
/// # Errors
/// A sentence that says what a time looks like.
pub fn parse_timestamp(text: &str) -> Result<prost_types::Timestamp, String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos =
        units::parse_time(text, now.map_or(0, |span| i128::try_from(span.as_nanos()).unwrap_or(i128::MAX)))?;
    Ok(prost_types::Timestamp {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    })
}
