//! `--filter` of the commands that choose images. Pure but for `until`, which reads the clock.

use crate::api::v1::ImageFilter;
use crate::clock::parse_timestamp;
use crate::failure::Failure;

/// The API's filter of what people write.
///
/// # Errors
/// A filter that is not known, or a value that makes no sense.
pub fn parse(texts: &[String]) -> Result<ImageFilter, Failure> {
    let mut filter = ImageFilter::default();
    for text in texts {
        match text.split_once('=') {
            Some(("reference", value)) => filter.references.push(value.to_owned()),
            Some(("label", value)) => filter.labels.push(value.to_owned()),
            // `label!=a` is split at its `=`, behind the mark.
            Some(("label!", value)) => filter.excluded_labels.push(value.to_owned()),
            Some(("dangling", value)) => filter.is_dangling = Some(truth(text, value)?),
            Some(("before", value)) => value.clone_into(&mut filter.before_image),
            Some(("since", value)) => value.clone_into(&mut filter.since_image),
            Some(("until", value)) => {
                let time = parse_timestamp(value).map_err(|message| Failure::usage(message, ""))?;
                filter.before_time = Some(time);
            }
            _ => {
                return Err(Failure::usage(
                    format!("--filter {text} is not known"),
                    "write reference=, label=, label!=, dangling=, before=, since= or until=",
                ));
            }
        }
    }
    Ok(filter)
}

fn truth(text: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Failure::usage(format!("--filter {text} is neither true nor false"), "write dangling=true")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ImageFilter, Failure> {
        parse(&[text.to_owned()])
    }

    #[test]
    fn filters_are_dockers() {
        assert_eq!(parsed("reference=a/*").unwrap().references, ["a/*"]);
        assert_eq!(parsed("label=a=b=c").unwrap().labels, ["a=b=c"]);
        assert_eq!(parsed("label!=a=b=c").unwrap().excluded_labels, ["a=b=c"]);
        assert_eq!(parsed("label!=a").unwrap().excluded_labels, ["a"]);
        assert_eq!(parsed("dangling=0").unwrap().is_dangling, Some(false));
        assert_eq!(parsed("until=1.5").unwrap().before_time.unwrap().nanos, 500_000_000);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in ["", "reference", "colour=red", "colour!=red", "dangling=perhaps", "until=yesterday"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
