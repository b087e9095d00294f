//! Values of flags that people write as in Docker: resource limits, names with values, env files. Pure.

use std::collections::BTreeMap;

use crate::api::v1::types;

/// The variables of an env file, `NAME=value`: literal, quotes and `#` inside kept; blank lines and lines that begin
/// with `#` skipped; a bare NAME is taken from `environment` or, absent there, left out.
///
/// # Errors
/// The number of a line without a name, or with white space in it, and what is wrong.
pub fn env_file_items(
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let mut items = Vec::new();
    // Editors of other systems begin a file with a byte order mark.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.is_empty() {
            return Err(format!("line {} has no name before `=`", index + 1));
        }
        if name.contains([' ', '\t']) {
            return Err(format!("line {}: the name `{name}` holds white space", index + 1));
        }
        if line.contains('=') {
            items.push(line.to_owned());
        } else if let Some(value) = environment(name) {
            items.push(format!("{name}={value}"));
        }
    }
    Ok(items)
}

/// `NAME=value`s by name, the last of a name winning; a bare NAME has an empty value.
pub fn pairs(items: &[String]) -> BTreeMap<String, String> {
    items
        .iter()
        .map(|item| match item.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (item.clone(), String::new()),
        })
        .collect()
}

/// Parses `--ulimit`, `NAME=SOFT[:HARD]`; `unlimited` and -1 stand for no limit. The engine knows the names.
///
/// # Errors
/// A sentence that says what a resource limit looks like.
pub fn parse_ulimit(text: &str) -> Result<types::Rlimit, String> {
    let wrong = || format!("`{text}` is not a resource limit; write nofile=1024 or nofile=1024:2048");
    let (name, values) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |value: &str| match value {
        "unlimited" | "-1" => Ok(-1),
        _ => value.parse::<i64>().ok().filter(|number| *number >= 0).ok_or_else(wrong),
    };
    Ok(types::Rlimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn an_env_file_is_literal() {
        let text = "\u{feff}A=1\r\n# comment\n\n  B=\"q\" # kept \n\tC=\nD=x=y\nHOME\nABSENT\nE=$A 'b'";
        assert_eq!(
            env_file_items(text, caller).unwrap(),
            ["A=1", "B=\"q\" # kept ", "C=", "D=x=y", "HOME=/root", "E=$A 'b'"]
        );
    }

    #[test]
    fn a_line_of_an_env_file_without_a_plain_name_is_refused_by_its_number() {
        for text in ["A=1\n=x", "A=1\nA B=x", "\nexport A=1", "\nA\t=1", "#\nbare words"] {
            let message = env_file_items(text, caller).unwrap_err();
            assert!(message.contains("line 2"), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_pair_is_cut_at_the_first_equals_sign_and_the_last_of_a_name_wins() {
        let items = ["a=1", "b", "c=x=y", "a=2", "d="].map(str::to_owned);
        let found = pairs(&items);
        let expected = [("a", "2"), ("b", ""), ("c", "x=y"), ("d", "")];
        assert_eq!(found.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn resource_limits_are_read_as_dockers() {
        for (text, soft, hard) in [
            ("nofile=1024", 1024, 1024),
            ("nofile=1024:2048", 1024, 2048),
            ("core=-1", -1, -1),
            ("core=unlimited", -1, -1),
            ("nproc=5:-1", 5, -1),
            ("memlock=0", 0, 0),
        ] {
            let limit = parse_ulimit(text).unwrap();
            assert_eq!((limit.soft, limit.hard), (soft, hard), "{text}");
        }
        for text in [
            "",
            "nofile",
            "nofile=",
            "=5",
            "nofile=a",
            "nofile=1:",
            "nofile=1:2:3",
            "nofile=-2",
            "nofile=1.5",
        ] {
            assert!(parse_ulimit(text).is_err(), "{text}");
        }
    }
}
