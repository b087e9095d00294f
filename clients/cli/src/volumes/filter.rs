//! `--filter` of volumes.

use crate::api::v1::VolumeFilter;
use crate::failure::Failure;

/// The filter of these `NAME=VALUE`s.
///
/// # Errors
/// A filter that is not known, or a value that is none.
pub fn parse(items: &[String]) -> Result<VolumeFilter, Failure> {
    let mut filter = VolumeFilter::default();
    for item in items {
        match item.split_once('=') {
            Some(("name", value)) => filter.names.push(value.to_owned()),
            Some(("label", value)) => filter.labels.push(value.to_owned()),
            Some(("driver", value)) => filter.drivers.push(value.to_owned()),
            Some(("dangling", "true" | "1")) => filter.is_dangling = Some(true),
            Some(("dangling", "false" | "0")) => filter.is_dangling = Some(false),
            _ => {
                return Err(Failure::usage(
                    format!("--filter {item} is not known"),
                    "write name=PART, label=NAME[=VALUE], driver=DRIVER or dangling=true|false",
                ))
            }
        }
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_taken_by_name() {
        let items = ["name=a", "label=b=c", "driver=local", "dangling=1"].map(str::to_owned);
        let filter = parse(&items).unwrap();
        assert_eq!(
            (filter.names, filter.labels, filter.drivers),
            (vec!["a".into()], vec!["b=c".into()], vec!["local".into()])
        );
        assert_eq!(filter.is_dangling, Some(true));
        for text in ["name", "dangling=maybe", "until=1h"] {
            assert!(parse(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
