//! A build as lines, in the order in which a reader wants them: a step's name, what it writes, how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write;

use super::show::{changed, line_of, title};
use super::written::Written;
use crate::api::v1::types::build_step::State;
use crate::api::v1::types::BuildStep;

/// Pieces of output that are kept back; beyond them the names of steps are waited for first.
const MAX_EARLY_PIECES: usize = 64;

/// The lines of one build, written to `W`. What cannot be written is lost: who reads no more needs none.
pub struct Lines<W> {
    to: W,
    /// What is written next, by one call: short lines without end come as fast as they are written.
    text: String,
    states: BTreeMap<u32, i32>,
    /// Steps whose name was told.
    named: BTreeSet<u32>,
    /// What steps wrote whose name is not known yet: it comes by another stream.
    early: Vec<(u32, String)>,
    /// The step whose line is not ended.
    open: Option<u32>,
    written: Written,
}

impl<W: Write> Lines<W> {
    /// Nothing yet.
    pub fn new(to: W) -> Self {
        Self {
            to,
            text: String::new(),
            states: BTreeMap::new(),
            named: BTreeSet::new(),
            early: Vec::new(),
            open: None,
            written: Written::default(),
        }
    }

    /// The steps as they are now.
    pub fn show(&mut self, steps: &[BuildStep]) {
        let mut states = std::mem::take(&mut self.states);
        for step in changed(&mut states, steps) {
            let has_begun = matches!(step.state(), State::Running | State::Done | State::Failed);
            if has_begun && self.named.insert(step.number) {
                self.line(step.number, &title(step));
                let (own, others) = std::mem::take(&mut self.early)
                    .into_iter()
                    .partition::<Vec<_>, _>(|(number, _)| *number == step.number);
                self.early = others;
                for (number, text) in own {
                    self.put(number, &text);
                }
            }
            if let Some(text) = line_of(step) {
                self.line(step.number, &text);
            }
        }
        self.states = states;
        self.flush();
    }

    /// What came of a step.
    pub fn write(&mut self, step: u32, text: String) {
        if self.named.contains(&step) {
            self.put(step, &text);
            self.flush();
        } else {
            self.early.push((step, text));
        }
    }

    /// Much is kept back until the name of its step is known.
    pub fn waits_for_a_name(&self) -> bool {
        self.early.len() > MAX_EARLY_PIECES
    }

    /// Nothing more comes.
    pub fn end(&mut self) {
        for (step, text) in std::mem::take(&mut self.early) {
            self.put(step, &text);
        }
        self.end_line();
        self.flush();
    }

    fn flush(&mut self) {
        let _ = self.to.write_all(self.text.as_bytes());
        self.text.clear();
    }

    fn put(&mut self, step: u32, text: &str) {
        if self.open.is_some_and(|open| open != step) {
            self.end_line();
        }
        for part in self.written.parts(step, text) {
            if self.open.is_none() {
                let _ = write!(self.text, "#{step} ");
            }
            self.text += &part.text;
            self.open = Some(step);
            if part.is_ended {
                self.end_line();
            }
        }
    }

    fn line(&mut self, step: u32, text: &str) {
        self.end_line();
        let _ = writeln!(self.text, "#{step} {text}");
    }

    fn end_line(&mut self) {
        if self.open.take().is_some() {
            self.text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: u32, state: State) -> BuildStep {
        let instruction = format!("RUN {number}");
        let mut step = BuildStep { number, stage: "s".into(), instruction, ..Default::default() };
        step.set_state(state);
        step
    }

    #[test]
    fn a_step_is_named_before_what_it_writes_and_that_comes_before_its_end() {
        let mut lines = Lines::new(Vec::new());
        lines.write(2, "early\nhalf".to_owned());
        lines.write(3, "of another\n".to_owned());
        assert!(!lines.waits_for_a_name());
        lines.show(&[step(1, State::Cached), step(2, State::Running), step(3, State::Pending)]);
        lines.write(2, " a line\n".to_owned());
        lines.write(2, "open".to_owned());
        lines.show(&[step(2, State::Done), step(3, State::Failed)]);
        assert!(!lines.waits_for_a_name());
        lines.write(9, "of no step\n".to_owned());
        (0..MAX_EARLY_PIECES).for_each(|_| lines.write(9, String::new()));
        assert!(lines.waits_for_a_name());
        lines.end();
        let told = String::from_utf8(lines.to).unwrap();
        let expected = "\
#1 CACHED [s] RUN 1
#2 [s] RUN 2
#2 early
#2 half a line
#2 open
#2 DONE [s] RUN 2 0.0s
#3 [s] RUN 3
#3 of another
#3 ERROR [s] RUN 3
#9 of no step
";
        assert_eq!(told, expected);
    }
}
