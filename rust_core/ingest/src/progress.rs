//! Counters of one blob on its way in.

use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};

/// What happens to a blob now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nothing yet, or another caller does the same work.
    Waiting,
    /// Bytes arrive and are stored; a layer is unpacked meanwhile.
    Downloading,
    /// Bytes that were there are hashed.
    Verifying,
    /// All bytes are stored; the layer is unpacked.
    Extracting,
    /// Everything asked for was done.
    Done,
    /// Everything asked for was there.
    Present,
}

impl Phase {
    /// The name that the API shows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::Extracting => "extracting",
            Self::Done => "done",
            Self::Present => "present",
        }
    }
}

/// Counters of one blob, readable at any time from any thread. Nothing here blocks.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    fetched_bytes: AtomicU64,
    fetch_requests: AtomicU64,
    extracted_bytes: AtomicU64,
}

impl Progress {
    /// All counters at zero, waiting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What happens now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        const ALL: [Phase; 6] = [
            Phase::Waiting,
            Phase::Downloading,
            Phase::Verifying,
            Phase::Extracting,
            Phase::Done,
            Phase::Present,
        ];
        ALL[usize::from(self.phase.load(Ordering::Relaxed)).min(ALL.len() - 1)]
    }

    /// Bytes of the blob stored so far, those of an earlier call included.
    #[must_use]
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// Requests sent for the blob so far.
    #[must_use]
    pub fn fetch_requests(&self) -> u64 {
        self.fetch_requests.load(Ordering::Relaxed)
    }

    /// Uncompressed bytes read so far.
    #[must_use]
    pub fn extracted_bytes(&self) -> u64 {
        self.extracted_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn set_fetched(&self, bytes: u64) {
        self.fetched_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_requests(&self, count: u64) {
        self.fetch_requests.fetch_add(count, Ordering::Relaxed);
    }

    /// The counter that the layer store adds to, at zero.
    pub(crate) fn restart_extraction(&self) -> &AtomicU64 {
        self.extracted_bytes.store(0, Ordering::Relaxed);
        &self.extracted_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_was_entered_is_the_one_that_is_read() {
        let progress = Progress::new();
        assert_eq!(progress.phase().name(), "waiting");
        for phase in [Phase::Downloading, Phase::Verifying, Phase::Extracting, Phase::Done, Phase::Present] {
            progress.enter(phase);
            assert_eq!(progress.phase(), phase);
        }
    }
}
