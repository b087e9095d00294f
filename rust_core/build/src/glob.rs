//! Go's `filepath.Match` on one path component: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
//!
//! Source: https://pkg.go.dev/path/filepath#Match

/// A malformed pattern.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// True if `part` has a character with a meaning.
pub(crate) fn has_meta(part: &[u8]) -> bool {
    part.iter().any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'))
}

/// Whether `pattern` matches the whole of `name`. Linear in both but for `*`, which goes back to the last one only.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, Malformed> {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        let step = if p == pattern.len() {
            if n == name.len() {
                return Ok(true);
            }
            None
        } else {
            one(&pattern[p..], &name[n..])?
        };
        match (step, star) {
            (Some((pattern_bytes, name_bytes)), _) => {
                p += pattern_bytes;
                n += name_bytes;
            }
            (None, Some((after, at))) if at < name.len() => {
                star = Some((after, at + 1));
                p = after;
                n = at + 1;
            }
            // A malformed rest is malformed whether or not it is reached.
            (None, _) => return check(&pattern[p..]).map(|()| false),
        }
    }
}

fn check(mut pattern: &[u8]) -> Result<(), Malformed> {
    while !pattern.is_empty() {
        let used = if pattern[0] == b'*' { 1 } else { token(pattern)?.0 };
        pattern = &pattern[used..];
    }
    Ok(())
}

/// How many bytes of pattern and name one token takes; `None` if it does not match.
fn one(pattern: &[u8], name: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let (used, token) = token(pattern)?;
    let Some((character, width)) = first(name) else { return Ok(None) };
    let is_match = match token {
        Token::Any => true,
        Token::Literal(wanted) => wanted == character,
        Token::Set { is_negated, ranges } => {
            ranges.iter().any(|(from, to)| (*from..=*to).contains(&character)) != is_negated
        }
    };
    Ok(is_match.then_some((used, width)))
}

enum Token {
    Any,
    Literal(u32),
    Set { is_negated: bool, ranges: Vec<(u32, u32)> },
}

fn token(pattern: &[u8]) -> Result<(usize, Token), Malformed> {
    match pattern[0] {
        b'?' => Ok((1, Token::Any)),
        b'[' => {
            let mut at = 1;
            let is_negated = pattern.get(1) == Some(&b'^');
            if is_negated {
                at = 2;
            }
            let mut ranges = Vec::new();
            while pattern.get(at) != Some(&b']') || ranges.is_empty() {
                let (from, width) = set_character(&pattern[at.min(pattern.len())..])?;
                at += width;
                let mut to = from;
                if pattern.get(at) == Some(&b'-') {
                    let (end, width) = set_character(&pattern[at + 1..])?;
                    to = end;
                    at += 1 + width;
                }
                ranges.push((from, to));
            }
            Ok((at + 1, Token::Set { is_negated, ranges }))
        }
        b'\\' => {
            let (character, width) = first(&pattern[1..]).ok_or(Malformed)?;
            Ok((1 + width, Token::Literal(character)))
        }
        _ => {
            let (character, width) = first(pattern).ok_or(Malformed)?;
            Ok((width, Token::Literal(character)))
        }
    }
}

fn set_character(pattern: &[u8]) -> Result<(u32, usize), Malformed> {
    match pattern.first() {
        None | Some(b'-' | b']') => Err(Malformed),
        Some(b'\\') => first(&pattern[1..]).map(|(character, width)| (character, width + 1)).ok_or(Malformed),
        Some(_) => first(pattern).ok_or(Malformed),
    }
}

/// The first character and its bytes; a byte that is no text stands for itself, apart from all characters.
fn first(bytes: &[u8]) -> Option<(u32, usize)> {
    let width = match bytes.first()? {
        0..=0x7f => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    let text = bytes.get(..width).and_then(|part| std::str::from_utf8(part).ok());
    Some(match text.and_then(|text| text.chars().next()) {
        Some(character) => (character.into(), width),
        None => (0x11_0000 + u32::from(bytes[0]), 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos_do() {
        let rows: &[(&str, &str, Result<bool, Malformed>)] = &[
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "a", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[e-g]", "abc", Ok(false)),
            ("ab[^e-g]", "abc", Ok(true)),
            ("a\\*b", "a*b", Ok(true)),
            ("a?b", "a☺b", Ok(true)),
            ("a[^a]b", "a☺b", Ok(true)),
            ("[\\]a]", "]", Ok(true)),
            ("[x\\-]", "-", Ok(true)),
            ("[]a]", "]", Err(Malformed)),
            ("[-]", "-", Err(Malformed)),
            ("[a-b-c]", "a", Err(Malformed)),
            ("[", "a", Err(Malformed)),
            ("a[", "ab", Err(Malformed)),
            ("*x", "xxx", Ok(true)),
            ("*", "", Ok(true)),
            ("?", "", Ok(false)),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), *expected, "{pattern} {name}");
        }
    }
}
