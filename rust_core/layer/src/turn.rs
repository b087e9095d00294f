//! Which layer may hold much in memory: one of all that are being written, so that what a pull takes does not grow with
//! the number of its layers.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What each layer may hold in memory beside the others: the index of some 150,000 files.
pub(crate) const FREE_BYTES: u64 = 16 * 1024 * 1024;
/// How long a waiting layer sleeps before it looks at its cancel flag again.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// The turn of this process, whose memory it is about.
pub(crate) static LARGE: Turn = Turn::new();

/// The right to hold more than [`FREE_BYTES`].
#[derive(Debug)]
pub(crate) struct Turn {
    is_taken: Mutex<bool>,
    given_back: Condvar,
}

/// A turn taken; when dropped, free memory goes back to the kernel and the turn to the next layer.
#[derive(Debug)]
pub(crate) struct Taken<'t>(&'t Turn);

impl Turn {
    const fn new() -> Self {
        Self { is_taken: Mutex::new(false), given_back: Condvar::new() }
    }

    /// Waits for the turn, also while nobody reads what a source sends meanwhile; `None` once `is_cancelled`. Who has
    /// it waits for no other layer, so that it always comes back. Blocking.
    pub fn take(&self, is_cancelled: &dyn Fn() -> bool) -> Option<Taken<'_>> {
        let mut is_taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *is_taken {
            if is_cancelled() {
                return None;
            }
            let waited = self.given_back.wait_timeout(is_taken, CANCEL_POLL);
            is_taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *is_taken = true;
        drop(is_taken);
        // What threads before this one have left in their heaps.
        sys::memory::trim();
        Some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // What the layer held lies free in the heap of its own thread, where the next one's cannot use it.
        sys::memory::trim();
        *self.0.is_taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_has_the_turn_and_all_come_to_it() {
        let turn = Turn::new();
        let (inside, most, count) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _taken = turn.take(&|| false);
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    count.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!((most.into_inner(), count.into_inner()), (1, 8));
    }

    #[test]
    fn who_is_cancelled_waits_no_longer() {
        let turn = Turn::new();
        let taken = turn.take(&|| false);
        let is_cancelled = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turn.take(&|| is_cancelled.load(Ordering::SeqCst)).is_none());
            is_cancelled.store(true, Ordering::SeqCst);
            assert!(waiting.join().unwrap());
        });
        drop(taken);
        assert!(turn.take(&|| true).is_some(), "a free turn is taken whatever the flag says");
    }
}
