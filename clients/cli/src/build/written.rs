//! What steps of a build write, made fit for a terminal that is not theirs.

/// The output of steps, cut into lines as it comes.
#[derive(Debug, Default)]
pub struct Written {
    /// The step whose last byte was a carriage return: a line feed after it ends no further line.
    returned: Option<u32>,
}

/// A line, or the part of one that there is so far.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// Without its end.
    pub text: String,
    /// Nothing more comes of the line.
    pub is_ended: bool,
}

impl Written {
    /// What came of the step. A line ends with a line feed, a carriage return or both: bars that draw themselves anew
    /// stand one below the other, since other steps may write in between.
    pub fn parts(&mut self, step: u32, text: &str) -> Vec<Part> {
        let mut rest = text;
        if self.returned.take() == Some(step) {
            rest = rest.strip_prefix('\n').unwrap_or(rest);
        }
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let Some(end) = rest.find(['\n', '\r']) else {
                parts.push(Part { text: shown(rest), is_ended: false });
                break;
            };
            parts.push(Part { text: shown(&rest[..end]), is_ended: true });
            let is_return = rest.as_bytes()[end] == b'\r';
            rest = &rest[end + 1..];
            if is_return {
                if rest.is_empty() {
                    self.returned = Some(step);
                }
                rest = rest.strip_prefix('\n').unwrap_or(rest);
            }
        }
        parts
    }
}

/// A line without what could steer a terminal: tabs stay, sequences of control (colours and the like) go, any other
/// control character shows that it was there.
///
/// Source: ECMA-48, section 5.4: `ESC [`, parameters (0x30-0x3f), intermediates (0x20-0x2f), one final (0x40-0x7e).
fn shown(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' && chars.peek() == Some(&'[') {
            chars.next();
            while chars.next_if(|char| ('\u{20}'..='\u{3f}').contains(char)).is_some() {}
            chars.next_if(|char| ('\u{40}'..='\u{7e}').contains(char));
        } else if char.is_control() && char != '\t' {
            text.push('\u{fffd}');
        } else {
            text.push(char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(written: &mut Written, step: u32, text: &str) -> Vec<(String, bool)> {
        written.parts(step, text).into_iter().map(|part| (part.text, part.is_ended)).collect()
    }

    #[test]
    fn lines_end_with_a_feed_a_return_or_both() {
        let mut written = Written::default();
        let ended = |text: &str| (text.to_owned(), true);
        assert_eq!(
            lines(&mut written, 1, "a\n\nb\r\nc"),
            [ended("a"), ended(""), ended("b"), ("c".into(), false)]
        );
        assert_eq!(lines(&mut written, 1, "10%\r20%\r"), [ended("10%"), ended("20%")]);
        assert_eq!(lines(&mut written, 1, "\nd\n"), [ended("d")]);
        assert_eq!(lines(&mut written, 1, "e\r"), [ended("e")]);
        assert_eq!(lines(&mut written, 2, "\n"), [ended("")]);
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(shown("a\tb"), "a\tb");
        assert_eq!(shown("\u{1b}[1;31mred\u{1b}[0m"), "red");
        assert_eq!(shown("x\u{1b}[2J\u{7}\u{1b}]0;t\u{9b}2J"), "x\u{fffd}\u{fffd}]0;t\u{fffd}2J");
        assert_eq!(shown("cut \u{1b}[3"), "cut ");
    }
}
