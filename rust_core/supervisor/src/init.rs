//! The tiny init that a container's process 1 is when it asks for one: it executes the command, hands signals on to it,
//! reaps whatever ends, and ends as the command ended. It is this program under another name, bound into the container.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{wait as wait_any, WaitOptions};

/// The name that the program is executed by; `server/fluytd/containers/root_mounts.py` has the same.
pub const NAME: &str = "fluyt-init";
/// Exit codes of a command that cannot be executed and of one that is not there. Source: POSIX shells, and Docker.
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended the command.
const SIGNALLED: i32 = 128;

/// First argument of the child that becomes the command.
const BECOME: &str = "--become";

/// Runs the arguments after the name as the only command of a container and returns its exit code.
pub fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(this_program) = args.next() else { return ExitCode::from(CANNOT_EXECUTE) };
    let mut args = args.peekable();
    if args.next_if(|argument| argument == BECOME).is_some() {
        return become_command(args);
    }
    // Before there is a child, so that none of its ends and no signal is missed. The child inherits it, and so takes it
    // back itself before it becomes the command.
    sys::signals::block_all();
    let rest = args.skip_while(|argument| argument == "--");
    let child = match Command::new(&this_program).arg(BECOME).args(rest).spawn() {
        Ok(child) => child,
        Err(error) => return refused(&this_program, &error),
    };
    let command = child.id();
    loop {
        let signal = sys::signals::wait();
        if signal.is_child() {
            if let Some(code) = reap(command) {
                return ExitCode::from(code);
            }
        } else if !signal.is_from_kernel {
            // What a terminal sends, it sends to the command too. The command may have ended: the next signal tells.
            let _ = sys::signals::send(command, signal.number);
        }
    }
}

/// Executes the command; returns only if that cannot be.
fn become_command(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(program) = args.next() else { return ExitCode::from(NOT_FOUND) };
    sys::signals::unblock_all();
    let error = Command::new(&program).args(args).exec();
    refused(&program, &error)
}

fn refused(program: &OsStr, error: &std::io::Error) -> ExitCode {
    eprintln!("{NAME}: {}: {error}", program.to_string_lossy());
    ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE })
}

/// Reaps all that have ended; the exit code of the command, if it is among them.
fn reap(command: u32) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait_any(WaitOptions::NOHANG) {
        if u32::try_from(pid.as_raw_nonzero().get()) != Ok(command) {
            continue;
        }
        let ended =
            status.exit_status().or_else(|| status.terminating_signal().map(|number| SIGNALLED + number));
        code = ended.and_then(|number| u8::try_from(number).ok());
    }
    code
}
