//! Reads Content-Range. Source: RFC 9110 section 14.4.

/// The bytes that an answer holds, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// First and last byte, both inclusive; `None` where the range could not be satisfied.
    pub span: Option<(u64, u64)>,
    /// Size of the whole, if told.
    pub total: Option<u64>,
}

/// `bytes A-B/N`, `bytes A-B/*` or `bytes */N`; `None` for anything else.
pub(crate) fn parse(value: &str) -> Option<ContentRange> {
    let (unit, rest) = value.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (span, total) = rest.trim().split_once('/')?;
    let total = if total == "*" { None } else { Some(number(total)?) };
    if span == "*" {
        return total.map(|total| ContentRange { span: None, total: Some(total) });
    }
    let (first, last) = span.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let is_valid = first <= last && total.is_none_or(|total| last < total);
    is_valid.then_some(ContentRange { span: Some((first, last)), total })
}

/// `A-B`, both inclusive, with or without `bytes=` before it: what a registry says it has of an upload.
///
/// Source: distribution-spec spec.md, "Pushing a blob in chunks".
pub(crate) fn parse_inclusive(value: &str) -> Option<(u64, u64)> {
    let value = value.trim();
    let (first, last) = value.strip_prefix("bytes=").unwrap_or(value).split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Digits only: `parse` would also take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_read() {
        assert_eq!(parse("bytes 5-9/10"), Some(ContentRange { span: Some((5, 9)), total: Some(10) }));
        assert_eq!(parse("Bytes 0-0/*"), Some(ContentRange { span: Some((0, 0)), total: None }));
        assert_eq!(parse("bytes */10"), Some(ContentRange { span: None, total: Some(10) }));
    }

    #[test]
    fn the_range_of_an_upload_is_two_numbers() {
        assert_eq!(parse_inclusive("0-99"), Some((0, 99)));
        assert_eq!(parse_inclusive("bytes=0-0"), Some((0, 0)));
        for value in ["", "-", "0-", "-1", "2-1", "0-1/2", "a-b", "0-18446744073709551616"] {
            assert_eq!(parse_inclusive(value), None, "{value}");
        }
    }

    #[test]
    fn what_is_not_a_range_is_none() {
        let bad = [
            "",
            "bytes",
            "bytes 5-4/10",
            "bytes 5-10/10",
            "items 0-1/2",
            "bytes +1-2/3",
            "bytes */*",
            "bytes -1/2",
            "bytes 0-99999999999999999999/*",
        ];
        for value in bad {
            assert_eq!(parse(value), None, "{value}");
        }
    }
}
