//! Reads WWW-Authenticate. It judges nothing.

/// Longest header value that is read; a longer one holds no challenge for us.
const VALUE_MAX_BYTES: usize = 8 * 1024;

/// Where to get a token, as a registry says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BearerChallenge {
    pub realm: String,
    pub service: Option<String>,
    pub scope: Option<String>,
}

/// The first Bearer challenge with a realm in these header values, each of which may hold several challenges.
///
/// Source: RFC 9110 section 11.6.1; distribution's "Token Authentication Specification".
pub(crate) fn find_bearer<'a>(values: impl Iterator<Item = &'a str>) -> Option<BearerChallenge> {
    values.filter(|value| value.len() <= VALUE_MAX_BYTES).find_map(find_in_value)
}

/// True if one of these header values offers Basic authentication.
///
/// Source: RFC 7617 section 2.
pub(crate) fn offers_basic<'a>(mut values: impl Iterator<Item = &'a str>) -> bool {
    values.any(|value| {
        let mut is_quoted = false;
        let outside: String = value
            .chars()
            .filter(|c| {
                is_quoted ^= *c == '"';
                !is_quoted
            })
            .collect();
        outside.split(',').any(|part| {
            let scheme = part.split_ascii_whitespace().next().unwrap_or_default();
            scheme.eq_ignore_ascii_case("basic")
        })
    })
}

fn find_in_value(value: &str) -> Option<BearerChallenge> {
    let mut rest = value;
    let mut found: Option<BearerChallenge> = None;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        let (token, after) = split_token(rest);
        if token.is_empty() {
            break;
        }
        let after_space = after.trim_start();
        match after_space.strip_prefix('=') {
            Some(after) if !after.starts_with('=') => {
                let (text, after) = split_value(after.trim_start());
                rest = after;
                if let Some(bearer) = &mut found {
                    match token.to_ascii_lowercase().as_str() {
                        "realm" => bearer.realm = text,
                        "service" => bearer.service = Some(text),
                        "scope" => bearer.scope = Some(text),
                        _ => {}
                    }
                }
            }
            _ => {
                // A scheme: the challenge before it is complete.
                if found.as_ref().is_some_and(|bearer| !bearer.realm.is_empty()) {
                    break;
                }
                found = token.eq_ignore_ascii_case("bearer").then(BearerChallenge::default);
                // What follows a scheme that is not a list of parameters (token68) is skipped as a token.
                rest = after.trim_start_matches('=');
            }
        }
    }
    found.filter(|bearer| !bearer.realm.is_empty())
}

fn split_token(text: &str) -> (&str, &str) {
    let is_end = |c: char| c == ',' || c == '=' || c == '"' || c.is_ascii_whitespace();
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

/// A token or a quoted string, and what follows it.
fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, rest) = split_token(text);
        return (token.to_owned(), rest);
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &quoted[at + 1..]),
            '\\' => out.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => out.push(c),
        }
    }
    (out, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(value: &str) -> Option<BearerChallenge> {
        find_bearer([value].into_iter())
    }

    #[test]
    fn the_parameters_of_a_bearer_challenge_are_found() {
        let value = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let found = parse(value).expect("a challenge");
        assert_eq!(found.realm, "https://auth.docker.io/token");
        assert_eq!(found.service.as_deref(), Some("registry.docker.io"));
        assert_eq!(found.scope.as_deref(), Some("repository:a/b:pull,push"));
    }

    #[test]
    fn another_scheme_before_it_and_odd_spelling_do_not_hide_it() {
        let found = parse(r#"Basic realm="x, Bearer realm=y", bearer  Realm = "https://a\"b" , SCOPE=s"#);
        let found = found.expect("a challenge");
        assert_eq!((found.realm.as_str(), found.scope.as_deref()), (r#"https://a"b"#, Some("s")));
        assert_eq!(parse(r#"Negotiate abc==, Bearer realm="r""#).expect("a challenge").realm, "r");
    }

    #[test]
    fn no_bearer_or_no_realm_is_no_challenge() {
        for value in
            ["", "Basic realm=\"x\"", "Bearer", "Bearer service=\"x\"", "Bearer realm=", "\"", "=,=,"]
        {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    #[test]
    fn an_offer_of_basic_authentication_is_found_and_not_made_up() {
        for value in ["Basic realm=\"x\"", "basic", "Bearer realm=\"r\", Basic realm=\"x\""] {
            assert!(offers_basic([value].into_iter()), "{value}");
        }
        for value in ["Bearer realm=\"x, Basic y\"", "Bearer realm=basic", "", "Basics"] {
            assert!(!offers_basic([value].into_iter()), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(value in "[Bbearer ,=\"\\\\a-z]{0,60}") {
            let _ = parse(&value);
        }
    }
}
