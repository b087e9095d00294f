//! The caller's terminal: raw while a process in a container has it, as it was on every way out.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{isatty, tcgetattr, tcgetwinsize, tcsetattr, OptionalActions, Termios};

use crate::api::v1::types::TerminalSize;
use crate::failure::Failure;

/// The terminal that is raw now, and its attributes before.
static RAW: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);
static RESTORE_ON_PANIC: Once = Once::new();

/// A terminal in raw mode: each key is input, none is a signal. It is as it was once this is dropped, on a panic, and
/// by [`restore`] where the program ends without dropping.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Makes standard input raw. At most one of these lives at a time.
    ///
    /// # Errors
    /// It is no terminal, or its attributes cannot be set.
    pub fn enter() -> Result<Self, Failure> {
        Self::enter_on(std::io::stdin())
    }

    fn enter_on(terminal: impl AsFd) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::new(format!("cannot make the terminal raw: {error}"), "");
        let terminal = terminal.as_fd().try_clone_to_owned().map_err(failed)?;
        let before = tcgetattr(&terminal).map_err(|error| failed(error.into()))?;
        RESTORE_ON_PANIC.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                previous(info);
            }));
        });
        let mut raw = before.clone();
        raw.make_raw();
        let kept = terminal.try_clone().map_err(failed)?;
        *RAW.lock().unwrap_or_else(PoisonError::into_inner) = Some((kept, before));
        let guard = Self(());
        tcsetattr(&terminal, OptionalActions::Now, &raw).map_err(|error| failed(error.into()))?;
        Ok(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// The terminal is as it was before [`RawMode::enter`]; nothing happens where it is already. Needed before
/// `std::process::exit`, which drops nothing.
pub fn restore() {
    if let Some((terminal, before)) = RAW.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // It fails for a terminal that is gone, which needs nothing.
        let _ = tcsetattr(terminal, OptionalActions::Now, &before);
    }
}

/// Whether keys are typed into standard input.
pub fn is_input() -> bool {
    isatty(std::io::stdin())
}

/// The size of the terminal at standard input, output or error, the first that is one; none if none is, or if it does
/// not know its size.
pub fn size() -> Option<TerminalSize> {
    [tcgetwinsize(std::io::stdin()), tcgetwinsize(std::io::stdout()), tcgetwinsize(std::io::stderr())]
        .into_iter()
        .find_map(Result::ok)
        .filter(|size| size.ws_col > 0 && size.ws_row > 0)
        .map(|size| TerminalSize { width: size.ws_col.into(), height: size.ws_row.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{open, Mode, OFlags};
    use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
    use rustix::termios::LocalModes;

    fn pair() -> (OwnedFd, OwnedFd) {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let theirs =
            open(ptsname(&ours, Vec::new()).unwrap(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        (ours, theirs)
    }

    fn is_raw(terminal: &OwnedFd) -> bool {
        !tcgetattr(terminal).unwrap().local_modes.intersects(LocalModes::ECHO | LocalModes::ISIG)
    }

    // One test, since the raw terminal is one of the whole program.
    #[test]
    fn the_terminal_is_as_it_was_after_a_drop_a_panic_and_a_restore() {
        let (_ours, theirs) = pair();
        let guard = RawMode::enter_on(&theirs).unwrap();
        assert!(is_raw(&theirs));
        drop(guard);
        assert!(!is_raw(&theirs));

        let guard = RawMode::enter_on(&theirs).unwrap();
        let panicked = std::thread::spawn(|| panic!("on purpose")).join();
        assert!(panicked.is_err());
        assert!(!is_raw(&theirs), "the guard of another thread lives still");
        drop(guard);

        let guard = RawMode::enter_on(&theirs).unwrap();
        restore();
        assert!(!is_raw(&theirs));
        drop(guard);
        assert!(RawMode::enter_on(open("/dev/null", OFlags::RDWR, Mode::empty()).unwrap()).is_err());
    }
}
