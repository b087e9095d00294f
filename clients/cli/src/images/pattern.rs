//! Which of an image's references fit a pattern, as the engine decides for the image: of an image that is listed for one
//! of its names, the other names are not shown, as Docker does.

/// True if `pattern` fits the reference in full or as it is shortened, with its tag or without.
/// Source: moby, reference.FamiliarMatch; Go, path.Match.
pub fn fits(reference: &str, pattern: &str) -> bool {
    let short = super::list::shortened(reference);
    [reference, short].into_iter().any(|name| {
        let bare = match name.rsplit_once(':') {
            Some((bare, tag)) if !tag.contains('/') => bare,
            _ => name,
        };
        [name, bare].into_iter().any(|text| glob(text, pattern))
    })
}

/// One place of a pattern.
enum Part {
    /// Any run without a slash.
    Run,
    /// A character of these ranges, or of none of them.
    Set(Vec<(char, char)>, bool),
}

fn glob(text: &str, pattern: &str) -> bool {
    let Some(parts) = parts(pattern) else { return false };
    // Whether the text until here can be what the parts until `index` fit.
    let mut reached = vec![false; parts.len() + 1];
    reached[0] = true;
    spread(&parts, &mut reached);
    for character in text.chars() {
        let mut next = vec![false; parts.len() + 1];
        for (index, part) in parts.iter().enumerate().filter(|(index, _)| reached[*index]) {
            match part {
                Part::Run => next[index] |= character != '/',
                Part::Set(ranges, is_inverted) => {
                    let is_in = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                    next[index + 1] |= is_in != *is_inverted;
                }
            }
        }
        spread(&parts, &mut next);
        reached = next;
    }
    reached[parts.len()]
}

/// A run may be empty.
fn spread(parts: &[Part], reached: &mut [bool]) {
    for (index, part) in parts.iter().enumerate() {
        if reached[index] && matches!(part, Part::Run) {
            reached[index + 1] = true;
        }
    }
}

/// `None` for a pattern that breaks off within a set or after a backslash.
fn parts(pattern: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(first) = rest.next() {
        parts.push(match first {
            '*' => Part::Run,
            '?' => Part::Set(vec![('/', '/')], true),
            '[' => {
                let is_inverted = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
                    let low = escaped(rest.next()?, &mut rest)?;
                    let high = match rest.next_if_eq(&'-') {
                        Some(_) => escaped(rest.next()?, &mut rest)?,
                        None => low,
                    };
                    ranges.push((low, high));
                }
                Part::Set(ranges, is_inverted)
            }
            other => {
                let other = escaped(other, &mut rest)?;
                Part::Set(vec![(other, other)], false)
            }
        });
    }
    Some(parts)
}

fn escaped(first: char, rest: &mut impl Iterator<Item = char>) -> Option<char> {
    if first == '\\' {
        rest.next()
    } else {
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_in_full_and_in_short_with_a_tag_and_without() {
        let library = "docker.io/library/debian:12";
        for pattern in
            ["debian", "debian:12", "deb*", "debian:1?", "docker.io/library/*", "d[a-e]bian", "d[^f]bian"]
        {
            assert!(fits(library, pattern), "{pattern}");
        }
        for pattern in
            ["ebian", "debian:13", "*/debian", "debian:", "d[f]bian", "deb[", "debian\\", "", "docker.io/*"]
        {
            assert!(!fits(library, pattern), "{pattern}");
        }
        assert!(fits("localhost:5000/a/b:1", "localhost:5000/a/b"));
        assert!(fits("localhost:5000/a/b:1", "*/a/*"));
        assert!(!fits("docker.io/library/b:1", "*/a/*"));
        assert!(fits("localhost:5000/a/b:1", "localhost:5000/?/\\b:[0-9]"));
    }

    #[test]
    fn a_pattern_of_many_runs_takes_no_time_that_grows_with_their_power() {
        assert!(!glob(&"a".repeat(4_000), &format!("{}b", "*a".repeat(40))));
    }
}
