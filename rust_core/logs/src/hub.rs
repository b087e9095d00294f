//! One descriptor that tells which of many followed logs may have grown.
//!
//! Closing an inotify instance waits for a grace period of the kernel, 5 to 25 ms: an instance a reader would put that
//! on the path of every run, and a host grants only 128 of them to a user. So all readers of a process share one, whose
//! watches come and go at no cost. Source: fs/notify/group.c, `fsnotify_destroy_group`; inotify(7).

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use errors::IoError;
use rustix::event::epoll;
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// How often logs are looked at that the host grants no watch (`fs.inotify.max_user_watches`).
pub const POLL_FALLBACK_MILLIS: u32 = 50;
/// Bytes of events that are taken at once.
const EVENT_BYTES: usize = 16 * 1024;

/// What is told of a directory: a segment in it is written to, made or unlinked.
const EVENTS: inotify::WatchFlags =
    inotify::WatchFlags::MODIFY.union(inotify::WatchFlags::CREATE).union(inotify::WatchFlags::DELETE);

/// Tells readers that their log may have grown. Shared by threads; each reader holds a [`Subscription`].
#[derive(Debug, Clone)]
pub struct LogHub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Readable when `inotify` or `timer` is.
    epoll: OwnedFd,
    inotify: OwnedFd,
    /// Runs while there are logs without a watch.
    timer: OwnedFd,
    logs: Mutex<Logs>,
}

#[derive(Debug, Default)]
struct Logs {
    last_token: u64,
    /// By watch descriptor: one for all readers of a directory.
    watched: HashMap<i32, Vec<Reader>>,
    unwatched: Vec<Reader>,
}

#[derive(Debug, Clone)]
struct Reader {
    token: u64,
    has_news: Arc<AtomicBool>,
}

/// One reader's part in the hub; ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    reader: Reader,
    /// None where the host granted no watch.
    watch: Option<i32>,
}

impl LogHub {
    /// A hub that watches nothing yet.
    ///
    /// # Errors
    /// The system call that failed: EMFILE where the host grants no further inotify instance.
    pub fn new() -> Result<Self, IoError> {
        let fail = |operation| move |errno: Errno| IoError::new(operation, "", errno.raw_os_error());
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let inotify = inotify::init(flags).map_err(fail("inotify_init1"))?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).map_err(fail("timerfd_create"))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(fail("epoll_create1"))?;
        for fd in [&inotify, &timer] {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
                .map_err(fail("epoll_ctl"))?;
        }
        Ok(Self { shared: Arc::new(Shared { epoll, inotify, timer, logs: Mutex::default() }) })
    }

    /// Readable when `take` has something to tell. Owned by the hub.
    pub fn fileno(&self) -> BorrowedFd<'_> {
        self.shared.epoll.as_fd()
    }

    /// From now on this reader is told when the log in `dir` may have grown.
    ///
    /// # Errors
    /// The inotify_add_watch(2) error; a host that grants no further watch is none: the log is then looked at every
    /// [`POLL_FALLBACK_MILLIS`].
    pub fn subscribe(&self, dir: &Path) -> Result<Subscription, IoError> {
        let mut logs = self.shared.lock();
        let watch = match inotify::add_watch(&self.shared.inotify, dir, EVENTS) {
            Ok(watch) => Some(watch),
            Err(Errno::NOSPC) => None,
            Err(errno) => return Err(IoError::new("inotify_add_watch", dir, errno.raw_os_error())),
        };
        logs.last_token += 1;
        let reader = Reader { token: logs.last_token, has_news: Arc::default() };
        match watch {
            Some(watch) => logs.watched.entry(watch).or_default().push(reader.clone()),
            None => {
                logs.unwatched.push(reader.clone());
                self.shared.set_timer(true)?;
            }
        }
        Ok(Subscription { shared: Arc::clone(&self.shared), reader, watch })
    }

    /// Takes all pending events: the tokens of the readers that have news since they were last told, in no order.
    /// Never blocks.
    ///
    /// # Errors
    /// The read(2) error.
    pub fn take(&self) -> Result<Vec<u64>, IoError> {
        let logs = self.shared.lock();
        let mut told = Vec::new();
        let mut tell = |reader: &Reader| {
            if !reader.has_news.swap(true, Ordering::AcqRel) {
                told.push(reader.token);
            }
        };
        let mut buffer = [std::mem::MaybeUninit::uninit(); EVENT_BYTES];
        let mut events = inotify::Reader::new(&self.shared.inotify, &mut buffer);
        loop {
            match events.next() {
                // The queue was too short for all that happened: anything may have.
                Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => {
                    logs.watched.values().flatten().for_each(&mut tell);
                }
                Ok(event) => logs.watched.get(&event.wd()).into_iter().flatten().for_each(&mut tell),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(IoError::new("read", "inotify", errno.raw_os_error())),
            }
        }
        if !logs.unwatched.is_empty() {
            let mut count = [0u8; 8];
            match rustix::io::read(&self.shared.timer, &mut count) {
                Ok(_) => logs.unwatched.iter().for_each(&mut tell),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(IoError::new("read", "timerfd", errno.raw_os_error())),
            }
        }
        Ok(told)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Logs> {
        // Nothing panics while it holds this; the value is whole in any case.
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_timer(&self, runs: bool) -> Result<(), IoError> {
        let nanos = if runs { i64::from(POLL_FALLBACK_MILLIS) * 1_000_000 } else { 0 };
        let every = Timespec { tv_sec: 0, tv_nsec: nanos };
        let interval = Itimerspec { it_interval: every, it_value: every };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &interval)
            .map_err(|errno| IoError::new("timerfd_settime", "", errno.raw_os_error()))?;
        Ok(())
    }
}

impl Subscription {
    /// What [`LogHub::take`] calls this reader.
    pub fn token(&self) -> u64 {
        self.reader.token
    }

    /// True if the log may have grown since `clear`, as far as [`LogHub::take`] was called.
    pub fn has_news(&self) -> bool {
        self.watch.is_none() || self.reader.has_news.load(Ordering::Acquire)
    }

    /// The log is about to be read: what is written from now on is news.
    pub fn clear(&self) {
        self.reader.has_news.store(false, Ordering::Release);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut logs = self.shared.lock();
        let Some(watch) = self.watch else {
            logs.unwatched.retain(|reader| reader.token != self.reader.token);
            if logs.unwatched.is_empty() {
                // A timer that runs on for nothing does no harm.
                let _ = self.shared.set_timer(false);
            }
            return;
        };
        let Some(readers) = logs.watched.get_mut(&watch) else { return };
        readers.retain(|reader| reader.token != self.reader.token);
        if readers.is_empty() {
            logs.watched.remove(&watch);
            // Fails where the directory has gone, and its watch with it.
            let _ = inotify::remove_watch(&self.shared.inotify, watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(hub: &LogHub) -> bool {
        let fd = hub.fileno();
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
    }

    #[test]
    fn only_the_readers_of_a_log_that_grew_are_told_and_only_once() {
        let (hub, first, second) =
            (LogHub::new().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = hub.subscribe(first.path()).unwrap();
        let two = hub.subscribe(first.path()).unwrap();
        let other = hub.subscribe(second.path()).unwrap();
        assert!(!is_readable(&hub));
        std::fs::write(first.path().join("1"), "x").unwrap();
        assert!(is_readable(&hub));
        let mut told = hub.take().unwrap();
        told.sort_unstable();
        assert_eq!(told, [one.token(), two.token()]);
        assert!(one.has_news() && two.has_news() && !other.has_news() && !is_readable(&hub));
        std::fs::write(first.path().join("1"), "y").unwrap();
        assert_eq!(hub.take().unwrap(), [] as [u64; 0]);
        one.clear();
        std::fs::write(first.path().join("1"), "z").unwrap();
        assert_eq!(hub.take().unwrap(), [one.token()]);
    }

    #[test]
    fn a_directory_is_watched_until_its_last_reader_has_gone() {
        let (hub, dir) = (LogHub::new().unwrap(), tempfile::tempdir().unwrap());
        let one = hub.subscribe(dir.path()).unwrap();
        drop(hub.subscribe(dir.path()).unwrap());
        std::fs::write(dir.path().join("1"), "x").unwrap();
        assert_eq!(hub.take().unwrap(), [one.token()]);
        drop(one);
        hub.take().unwrap();
        std::fs::write(dir.path().join("1"), "y").unwrap();
        assert!(!is_readable(&hub));
    }

    #[test]
    fn a_reader_that_came_after_a_directory_was_removed_and_made_again_is_told() {
        let (hub, root) = (LogHub::new().unwrap(), tempfile::tempdir().unwrap());
        let dir = root.path().join("log");
        std::fs::create_dir(&dir).unwrap();
        let old = hub.subscribe(&dir).unwrap();
        std::fs::remove_dir(&dir).unwrap();
        std::fs::create_dir(&dir).unwrap();
        let new = hub.subscribe(&dir).unwrap();
        drop(old);
        std::fs::write(dir.join("1"), "x").unwrap();
        assert!(hub.take().unwrap().contains(&new.token()));
    }
}
