//! The pipe between the starting child and its parent: clamps, one failure, and the word that exec comes next.
//!
//! Each message is one write of at most PIPE_BUF bytes, so that none is torn. The pipe is CLOEXEC: its end after the
//! word `exec` means that execve has succeeded; its end without it, that the child died on the way.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::failure::StartFailure;
use crate::step::Step;

/// PIPE_BUF of linux/limits.h: a write of this size or less reaches the pipe as one piece.
const MAX_MESSAGE_BYTES: usize = 4096;
/// The longest text in a message; longer ones are cut, since they only inform.
const MAX_TEXT_BYTES: usize = 1500;
/// The most bytes that a parent reads of one start: all messages of a child that clamps every limit there is.
const MAX_REPORT_BYTES: usize = 256 * 1024;

const KIND_CLAMP: u8 = 1;
const KIND_FAILURE: u8 = 2;
const KIND_EXEC: u8 = 3;

/// The child's end.
pub(crate) struct Reporter {
    pipe: OwnedFd,
}

impl Reporter {
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self { pipe }
    }

    /// What was asked and could not be given in full, as `field: reason`.
    pub(crate) fn clamp(&self, text: &str) {
        let mut message = vec![KIND_CLAMP];
        push_text(&mut message, text);
        self.write(&message);
    }

    /// The start has failed.
    pub(crate) fn failure(&self, failure: &StartFailure) {
        let mut message = vec![KIND_FAILURE, failure.step as u8, failure.exit_code];
        message.extend_from_slice(&failure.errno.to_le_bytes());
        push_text(&mut message, &failure.path);
        push_text(&mut message, &failure.detail);
        self.write(&message);
    }

    /// Nothing but execve follows.
    pub(crate) fn exec_is_next(&self) {
        self.write(&[KIND_EXEC]);
    }

    /// True once nobody can read this pipe any more: the parent has died.
    pub(crate) fn parent_is_gone(&self) -> bool {
        use rustix::event::{poll, PollFd, PollFlags, Timespec};
        let mut fds = [PollFd::new(&self.pipe, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut fds, Some(&now)), Ok(1..)) && fds[0].revents().contains(PollFlags::ERR)
    }

    // A parent that no longer reads is dead, and this process dies with it: there is nobody to tell.
    fn write(&self, message: &[u8]) {
        debug_assert!(message.len() <= MAX_MESSAGE_BYTES);
        while rustix::io::write(&self.pipe, message) == Err(Errno::INTR) {}
    }
}

fn push_text(message: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    message.extend_from_slice(&(end as u16).to_le_bytes());
    message.extend_from_slice(&text.as_bytes()[..end]);
}

/// What a child has told until its end of the pipe was closed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) clamps: Vec<String>,
    pub(crate) failure: Option<StartFailure>,
    pub(crate) has_reached_exec: bool,
}

/// Reads until the child has executed or died. Blocking.
pub(crate) fn read(pipe: impl AsFd) -> Result<Report, Errno> {
    // The pipe blocks, so that there is no answer before the end.
    Collector::default().collect(pipe).map(Option::unwrap_or_default)
}

/// What a child has told so far.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    bytes: Vec<u8>,
}

impl Collector {
    /// The report, once the child has executed or died; None if a pipe that does not block is empty before that.
    pub(crate) fn collect(&mut self, pipe: impl AsFd) -> Result<Option<Report>, Errno> {
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        loop {
            match rustix::io::read(pipe.as_fd(), &mut buffer) {
                Ok(0) => return Ok(Some(parse(&self.bytes))),
                Ok(_) if self.bytes.len() > MAX_REPORT_BYTES => {}
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Report {
    let mut report = Report::default();
    let mut rest = Cursor { bytes };
    while let Some(kind) = rest.byte() {
        let is_whole = match kind {
            KIND_CLAMP => rest.text().map(|text| report.clamps.push(text)).is_some(),
            KIND_FAILURE => rest.failure().map(|failure| report.failure = Some(failure)).is_some(),
            KIND_EXEC => {
                report.has_reached_exec = true;
                true
            }
            _ => false,
        };
        if !is_whole {
            break;
        }
    }
    report
}

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl Cursor<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (head, tail) = self.bytes.split_at_checked(count)?;
        self.bytes = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn text(&mut self) -> Option<String> {
        let length = self.take(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))?;
        self.take(usize::from(length)).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn failure(&mut self) -> Option<StartFailure> {
        let step = Step::from_byte(self.byte()?)?;
        let exit_code = self.byte()?;
        let errno = self.take(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]))?;
        Some(StartFailure { step, errno, path: self.text()?, detail: self.text()?, exit_code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_child_tells_arrives_whole() {
        let (read_end, write_end) = rustix::pipe::pipe().expect("a pipe");
        let reporter = Reporter::new(write_end);
        let failure = StartFailure::kernel(Step::Exec, "/bin/nope", Errno::NOENT).with_exit_code(127);
        assert!(!reporter.parent_is_gone());
        reporter.clamp("rlimits[nofile].hard: lowered");
        reporter.exec_is_next();
        reporter.failure(&failure);
        drop(reporter);
        let report = read(&read_end).expect("a report");
        assert_eq!(report.clamps, ["rlimits[nofile].hard: lowered"]);
        assert_eq!(report.failure, Some(failure));
        assert!(report.has_reached_exec);
    }

    #[test]
    fn a_long_path_is_cut_and_does_not_tear_the_message() {
        let (read_end, write_end) = rustix::pipe::pipe().expect("a pipe");
        let reporter = Reporter::new(write_end);
        reporter.failure(&StartFailure::rule(Step::Cwd, "é".repeat(5000), "x".repeat(9000)));
        drop(reporter);
        let failure = read(&read_end).expect("a report").failure.expect("a failure");
        assert_eq!((failure.path.len(), failure.detail.len()), (MAX_TEXT_BYTES, MAX_TEXT_BYTES));
    }

    #[test]
    fn a_child_sees_that_its_parent_has_gone() {
        let (read_end, write_end) = rustix::pipe::pipe().expect("a pipe");
        let reporter = Reporter::new(write_end);
        drop(read_end);
        assert!(reporter.parent_is_gone());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
