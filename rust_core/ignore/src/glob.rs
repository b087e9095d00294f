//! Patterns with wildcards, as automata whose states are bits: one pass over a path, whatever the pattern.
//!
//! The syntax is that of Go's `filepath.Match`, with `**`. A class `[...]` may match a `/`, as it does for Docker.

use std::ops::RangeInclusive;

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(char),
    /// `?`: any character but `/`.
    Any,
    /// `*`: any number of characters but `/`.
    Star,
    /// `**` before more: nothing, or anything up to a `/`. Two states: this one is left at once.
    Enter,
    /// Within the part that `**` stands for; a `/` leaves it.
    Inside,
    /// `**` at the end: anything.
    Rest,
    /// `[a-z]`, `[^a-z]`.
    Class { is_negated: bool, ranges: Vec<RangeInclusive<char>> },
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
    /// What every match begins and ends with; most paths are told apart by these alone.
    prefix: String,
    suffix: String,
}

/// The states that are reached: bit i means that i tokens have matched.
type States = Vec<u64>;

impl Glob {
    /// Compiles a cleaned pattern.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub(crate) fn new(pattern: &str) -> Result<Self, &'static str> {
        let tokens = tokens(pattern)?;
        let literal = |token: &Token| match token {
            Token::Literal(char) => Some(*char),
            _ => None,
        };
        let prefix = tokens.iter().map_while(literal).collect();
        let suffix: Vec<char> = tokens.iter().rev().map_while(literal).collect();
        Ok(Self { prefix, suffix: suffix.into_iter().rev().collect(), tokens })
    }

    /// Whether the pattern matches the whole path.
    pub(crate) fn matches(&self, path: &str) -> bool {
        if !path.starts_with(&self.prefix) || !path.ends_with(&self.suffix) {
            return false;
        }
        let states = self.run(path);
        has(&states, self.tokens.len())
    }

    /// Whether the pattern can match something below this directory.
    pub(crate) fn can_match_below(&self, directory: &str) -> bool {
        let mut states = self.run(directory);
        states = self.step(&states, '/');
        let accepting = self.tokens.len();
        (0..accepting).any(|state| has(&states, state))
    }

    fn run(&self, text: &str) -> States {
        let mut states = vec![0; self.tokens.len() / 64 + 1];
        self.reach(&mut states, 0);
        for char in text.chars() {
            states = self.step(&states, char);
            if states.iter().all(|word| *word == 0) {
                break;
            }
        }
        states
    }

    /// The states after one more character.
    fn step(&self, states: &States, char: char) -> States {
        let mut next = vec![0; states.len()];
        for (index, word) in states.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                let state = index * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                self.advance(&mut next, state, char);
            }
        }
        next
    }

    fn advance(&self, next: &mut States, state: usize, char: char) {
        let Some(token) = self.tokens.get(state) else { return };
        match token {
            Token::Literal(literal) if *literal == char => self.reach(next, state + 1),
            Token::Any if char != '/' => self.reach(next, state + 1),
            Token::Star if char != '/' => self.reach(next, state),
            Token::Rest => self.reach(next, state),
            Token::Inside => {
                self.reach(next, state);
                if char == '/' {
                    self.reach(next, state + 1);
                }
            }
            Token::Class { is_negated, ranges } => {
                if ranges.iter().any(|range| range.contains(&char)) != *is_negated {
                    self.reach(next, state + 1);
                }
            }
            Token::Literal(_) | Token::Any | Token::Star | Token::Enter => {}
        }
    }

    /// Marks a state, and those that follow from it without a character.
    fn reach(&self, states: &mut States, state: usize) {
        if has(states, state) {
            return;
        }
        states[state / 64] |= 1 << (state % 64);
        match self.tokens.get(state) {
            Some(Token::Star | Token::Rest) => self.reach(states, state + 1),
            Some(Token::Enter) => {
                self.reach(states, state + 1);
                self.reach(states, state + 2);
            }
            _ => {}
        }
    }
}

fn has(states: &States, state: usize) -> bool {
    states[state / 64] & (1 << (state % 64)) != 0
}

fn tokens(pattern: &str) -> Result<Vec<Token>, &'static str> {
    let mut found = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    found.push(Token::Rest);
                } else {
                    found.extend([Token::Enter, Token::Inside]);
                }
            }
            // Two stars in a row that are no `**` mean what one means.
            '*' if found.last() == Some(&Token::Star) => {}
            '*' => found.push(Token::Star),
            '?' => found.push(Token::Any),
            '[' => found.push(class(&mut chars)?),
            '\\' => {
                found.push(Token::Literal(chars.next().ok_or("a backslash stands at the end")?));
            }
            _ => found.push(Token::Literal(char)),
        }
    }
    Ok(found)
}

/// The rest of a class, `[` taken off.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    let is_negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Token::Class { is_negated, ranges });
        }
        let low = class_char(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { class_char(chars)? } else { low };
        if low > high {
            return Err("a range in [...] runs backwards");
        }
        ranges.push(low..=high);
    }
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, &'static str> {
    match chars.next() {
        None => Err("'[' is not closed"),
        Some('-' | ']') => Err("'-' and ']' need a backslash in [...]"),
        Some('\\') => chars.next().ok_or("a backslash stands at the end"),
        Some(char) => Ok(char),
    }
}
