//! The keys that leave a process without ending it, found in what is typed. Pure.

/// Docker's keys, for a process on a terminal.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";
/// Most keys in one sequence.
const MAX_DETACH_KEYS: usize = 16;

/// A sequence of keys, and how much of it has been typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    typed: Vec<u8>,
}

impl DetachKeys {
    /// No keys: everything typed is input.
    pub fn none() -> Self {
        Self { keys: Vec::new(), typed: Vec::new() }
    }

    /// Parses keys as Docker writes them: characters, or `ctrl-` and one of `a-z @ [ \ ] ^ _`, commas between. An empty
    /// text stands for no keys.
    ///
    /// # Errors
    /// A sentence that says what such keys look like, or names `MAX_DETACH_KEYS`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::none());
        }
        let keys: Vec<u8> = text.split(',').map(key).collect::<Result<_, _>>()?;
        if keys.len() > MAX_DETACH_KEYS {
            return Err(format!("{} keys are more than MAX_DETACH_KEYS, {MAX_DETACH_KEYS}", keys.len()));
        }
        Ok(Self { keys, typed: Vec::new() })
    }

    /// What of `input` is for the process, and whether the keys were typed; what follows them is dropped. Keys that
    /// may begin the sequence are held back until the next input tells.
    pub fn feed(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (input.to_vec(), false);
        }
        let mut through = Vec::with_capacity(input.len());
        for byte in input {
            self.typed.push(*byte);
            while !self.keys.starts_with(&self.typed) {
                through.push(self.typed.remove(0));
            }
            if self.typed == self.keys {
                self.typed.clear();
                return (through, true);
            }
        }
        (through, false)
    }

    /// What was held back when the input is over.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.typed)
    }
}

fn key(text: &str) -> Result<u8, String> {
    let wrong =
        || format!("`{text}` is not a key; write one character, or ctrl- and one of a-z @ [ \\ ] ^ _");
    match text.as_bytes() {
        [plain] => Ok(*plain),
        [b'c', b't', b'r', b'l', b'-', held] => match held.to_ascii_uppercase() {
            upper @ b'@'..=b'_' => Ok(upper - b'@'),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_dockers() {
        for (text, keys) in [
            (DEFAULT, &b"\x10\x11"[..]),
            ("ctrl-@", b"\0"),
            ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
            ("a,B,9", b"aB9"),
            ("ctrl-A", b"\x01"),
            ("", b""),
        ] {
            assert_eq!(DetachKeys::parse(text).unwrap().keys, keys, "{text}");
        }
        for text in ["ctrl-", "ctrl-1", "ctrl-ab", "ab", ",", "a,", "é", "alt-a"] {
            assert!(DetachKeys::parse(text).is_err(), "{text}");
        }
        let many = vec!["a"; MAX_DETACH_KEYS + 1].join(",");
        assert!(DetachKeys::parse(&many).unwrap_err().contains("MAX_DETACH_KEYS"));
    }

    #[test]
    fn keys_are_found_wherever_the_input_is_cut() {
        let mut keys = DetachKeys::parse("a,a,b").unwrap();
        assert_eq!(keys.feed(b"xaa"), (b"x".to_vec(), false));
        assert_eq!(keys.feed(b"a"), (b"a".to_vec(), false));
        assert_eq!(keys.feed(b"b rest"), (Vec::new(), true));
    }

    #[test]
    fn a_sequence_that_goes_on_otherwise_is_input() {
        let mut keys = DetachKeys::parse(DEFAULT).unwrap();
        assert_eq!(keys.feed(b"\x10"), (Vec::new(), false));
        assert_eq!(keys.feed(b"l\x11\x10"), (b"\x10l\x11".to_vec(), false));
        assert_eq!(keys.rest(), b"\x10");
        assert_eq!(DetachKeys::none().feed(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
