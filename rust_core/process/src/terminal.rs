//! A terminal of the container's own /dev/pts for one of its processes, and the way of its master side to the parent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use mount::Want;
use rustix::fs::{fchown, fstat, fstatfs, FileType, OFlags};
use rustix::io::Errno;
use rustix::net::{socketpair, AddressFamily, SocketFlags, SocketType};
use rustix::process::{ioctl_tiocsctty, Uid};
use rustix::pty::{ioctl_tiocgptpeer, unlockpt, OpenptFlags};
use rustix::termios::{tcsetwinsize, Winsize};

use crate::at::{At, Outcome};
use crate::failure::StartFailure;
use crate::paths;
use crate::spec::TerminalSize;
use crate::step::Step;

const PTMX: &str = "/dev/pts/ptmx";
const CONSOLE: &str = "/dev/console";
/// Type of the file system that only terminals are on. Source: linux/magic.h, DEVPTS_SUPER_MAGIC.
const DEVPTS_MAGIC: u64 = 0x1cd1;
/// The device that makes a terminal each time it is opened. Source: linux Documentation/admin-guide/devices.txt.
const PTMX_NUMBER: (u32, u32) = (5, 2);

/// The socket over which a child hands its terminal's master side to its parent: only inside the container can the
/// terminal be made, only outside can its output be read.
#[derive(Debug)]
pub(crate) struct Passage {
    parent: OwnedFd,
    pub(crate) child: OwnedFd,
}

impl Passage {
    pub(crate) fn new() -> Outcome<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (parent, child) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .at(Step::Stdio, "socketpair")?;
        Ok(Self { parent, child })
    }

    /// The master side that a child sent before it executed its program.
    pub(crate) fn take(self) -> Outcome<OwnedFd> {
        let (_, fds) = sys::fd_passing::receive(&self.parent, &mut [0; 8]).at(Step::Stdio, PTMX)?;
        fds.into_iter().next().ok_or_else(|| StartFailure::kernel(Step::Stdio, PTMX, Errno::BADF))
    }
}

/// Another open file of the side of a terminal that processes have, for the holder of `master`.
///
/// # Errors
/// The step Stdio, with the ioctl(2) error.
pub fn peer(master: &OwnedFd) -> Result<OwnedFd, StartFailure> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    ioctl_tiocgptpeer(master, flags).at(Step::Stdio, PTMX)
}

/// Both sides of a new terminal.
pub(crate) struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// A terminal of the container's /dev/pts, of this size from the beginning on, that belongs to `uid`.
    ///
    /// The container may have put anything at that path: what is no terminal multiplexer is refused, and the slave side
    /// is had by the master, not by a name.
    pub(crate) fn open(root: BorrowedFd<'_>, size: TerminalSize, uid: u32) -> Outcome<Self> {
        // The flag stays on the master side, which the parent reads; the slave side is another open file.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
        let master = paths::open(root, PTMX, flags).at(Step::Stdio, PTMX)?;
        let status = fstat(&master).at(Step::Stdio, PTMX)?;
        let number = (rustix::fs::major(status.st_rdev), rustix::fs::minor(status.st_rdev));
        let is_device = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice;
        let is_devpts = fstatfs(&master).at(Step::Stdio, PTMX)?.f_type as u64 == DEVPTS_MAGIC;
        if !is_device || number != PTMX_NUMBER || !is_devpts {
            return Err(StartFailure::rule(Step::Stdio, PTMX, "it is not the terminal multiplexer"));
        }
        unlockpt(&master).at(Step::Stdio, PTMX)?;
        let slave = peer(&master)?;
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).at(Step::Stdio, PTMX)?;
        fchown(&slave, Some(Uid::from_raw(uid)), None).at(Step::Stdio, PTMX)?;
        Ok(Self { master, slave })
    }

    /// The terminal is the container's /dev/console. Source: OCI runtime-spec config-linux.md, Default Devices.
    pub(crate) fn show_as_console(&self, root: BorrowedFd<'_>) -> Outcome<()> {
        let path = Path::new(CONSOLE);
        let target = mount::resolve_in_root(root, path, Want::File, true).at(Step::Mount, path)?;
        let slave = mount::bind_detached(self.slave.as_fd(), false).at(Step::Mount, path)?;
        mount::attach(slave.as_fd(), target.as_fd(), path).at(Step::Mount, path)
    }

    /// It is descriptors 0, 1 and 2 and the controlling terminal of this process, which leads its session; the parent
    /// has the master side.
    pub(crate) fn become_stdio(self, parent: &OwnedFd) -> Outcome<()> {
        sys::fd_passing::send(parent, b"t", &[self.master.as_fd()]).at(Step::Stdio, PTMX)?;
        rustix::stdio::dup2_stdin(&self.slave).at(Step::Stdio, "stdin")?;
        rustix::stdio::dup2_stdout(&self.slave).at(Step::Stdio, "stdout")?;
        rustix::stdio::dup2_stderr(&self.slave).at(Step::Stdio, "stderr")?;
        ioctl_tiocsctty(&self.slave).at(Step::Session, PTMX)
    }
}
