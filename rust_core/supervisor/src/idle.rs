//! A supervisor that was executed before there is a container for it: what it makes ready meanwhile, and the name that it
//! takes on later.

use std::os::fd::{AsFd, OwnedFd};

use control::peer;
use control::wire::Report;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{open, Mode, OFlags};
use rustix::io::Errno;
use sys::user_namespace::Draft;

/// Longest /proc/self/stat that is read.
const MAX_STAT_BYTES: usize = 4096;
/// Of the fields after the command's name, where the arguments begin and end. Source: proc_pid_stat(5), fields 48, 49.
const ARG_START: usize = 45;

/// Namespaces of the container to come.
pub struct Ahead {
    /// Of the network.
    pub network: OwnedFd,
    /// Of users, to which that one belongs; its ids are not known yet.
    pub user: Option<Draft>,
}

/// Namespaces of the container to come, made while nothing is asked, and told of; None if a plan is there already.
///
/// # Errors
/// See `sys::network::new_namespace` and `Draft::new`: the supervisor must end.
pub fn make_namespaces(daemon: &OwnedFd, has_users: bool) -> Result<Option<Ahead>, Errno> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut [PollFd::new(daemon, PollFlags::IN)], Some(&now))? > 0 {
        return Ok(None);
    }
    let user = if has_users { Some(Draft::new(true)?) } else { None };
    let made = match &user {
        Some(user) => sys::network::furnish_namespace(user.network()?)?,
        None => sys::network::new_namespace()?,
    };
    peer::send(daemon, &Report::Namespace, &[made.namespace.as_fd(), made.route.as_fd()])?;
    Ok(Some(Ahead { network: made.namespace, user }))
}

/// Sockets in `namespace` are the daemon's.
///
/// # Errors
/// See `sys::network::open_sockets_in`: the supervisor must end.
pub fn open_sockets(daemon: &OwnedFd, namespace: &OwnedFd) -> Result<(), Errno> {
    let made = sys::network::open_sockets_in(namespace.as_fd())?;
    peer::send(
        daemon,
        &Report::Sockets,
        &[made.route.as_fd(), made.udp.as_fd(), made.tcp.as_fd(), made.filter.as_fd()],
    )
}

/// The container's id is this program's argument, as `ps` shows it, whatever stood there. Nothing depends on it.
pub fn take_name(container_id: &str) {
    // Through the file of its own memory, the kernel checks the place.
    let _ = write_argument(container_id);
}

fn write_argument(text: &str) -> Option<()> {
    let (start, end) = argument_range(&read_stat()?)?;
    let program = std::env::args_os().next()?.len() as u64 + 1;
    let room = usize::try_from(end.checked_sub(start + program)?.checked_sub(1)?).ok()?;
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(room, 0);
    let memory = open("/proc/self/mem", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    rustix::io::pwrite(&memory, &bytes, start + program).ok()?;
    Some(())
}

fn read_stat() -> Option<String> {
    let file = open("/proc/self/stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = [0; MAX_STAT_BYTES];
    let length = rustix::io::read(&file, &mut bytes).ok()?;
    String::from_utf8(bytes[..length].to_vec()).ok()
}

fn argument_range(stat: &str) -> Option<(u64, u64)> {
    // The command's name may hold anything, a bracket and spaces too.
    let fields = stat.rsplit_once(')')?.1;
    let mut fields = fields.split_ascii_whitespace().skip(ARG_START);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_found_behind_any_name() {
        let fields: Vec<String> = (3..=52).map(|number| (number * 10).to_string()).collect();
        for name in ["a", "a) b (", "x y"] {
            let stat = format!("7 ({name}) {}", fields.join(" "));
            assert_eq!(argument_range(&stat), Some((480, 490)));
        }
        assert_eq!(argument_range("7 (a) 1 2"), None);
    }
}
