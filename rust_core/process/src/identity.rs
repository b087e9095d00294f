//! Who the process is: looked up in the container's files, then taken on.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{fchown, fstat, FileType, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    capabilities, set_capabilities, set_keep_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid, CapabilitySet, CapabilitySets,
};

use crate::at::{At, Outcome};
use crate::capabilities::{limit_bounding_set, names_of};
use crate::failure::StartFailure;
use crate::paths;
use crate::report::Reporter;
use crate::spawn::Stdio;
use crate::spec::Ids;
use crate::step::Step;
use crate::users::{self, Identity};

/// The largest /etc/passwd or /etc/group that is read.
pub const MAX_USER_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// The ids that a spec's user has in this root; each is among `ids`.
pub(crate) fn look_up(
    root: BorrowedFd<'_>,
    user: &str,
    additional_groups: &[String],
    ids: Option<Ids>,
) -> Outcome<Identity> {
    let passwd = || read(root, "/etc/passwd");
    let group = || read(root, "/etc/group");
    let identity = users::resolve(user, additional_groups, &passwd, &group)
        .map_err(|error| StartFailure::rule(Step::User, error.subject, error.rule))?;
    let count = ids.map_or(u32::MAX, |ids| ids.count);
    // The highest, so that who asks for as many as it says needs to ask once.
    let highest = identity.groups.iter().fold(identity.uid.max(identity.gid), |highest, id| highest.max(*id));
    if highest < count {
        return Ok(identity);
    }
    let rule = format!(
        "the id {highest} is none of the container's {count} ids; --userns auto:{} or host has it",
        u64::from(highest) + 1
    );
    // A further group may be at fault where no user was asked for.
    let subject = if user.is_empty() { highest.to_string() } else { user.to_owned() };
    Err(StartFailure::rule(Step::User, subject, rule))
}

/// In a user namespace just entered, this process is its root, with all rights there and none outside.
pub(crate) fn become_root() -> Outcome<()> {
    set_thread_groups(&[]).at(Step::Identity, "setgroups")?;
    let gid = Gid::from_raw(0);
    set_thread_res_gid(gid, gid, gid).at(Step::Identity, "setresgid")?;
    let uid = Uid::from_raw(0);
    set_thread_res_uid(uid, uid, uid).at(Step::Identity, "setresuid")
}

/// The pipes of `stdio` belong to the container's root, who can give them to its user then.
pub(crate) fn give_to_root(stdio: &Stdio<'_>, ids: Ids) -> Outcome<()> {
    let (uid, gid) = (Uid::from_raw(ids.first_id), Gid::from_raw(ids.first_id));
    for fd in [stdio.stdin, stdio.stdout, stdio.stderr].into_iter().flatten() {
        let kind = FileType::from_raw_mode(fstat(fd).at(Step::Stdio, "")?.st_mode);
        if kind == FileType::Fifo {
            fchown(fd, Some(uid), Some(gid)).at(Step::Stdio, "")?;
        }
    }
    Ok(())
}

/// The file's bytes; none if it does not exist. It cannot make us wait nor read without end, nor lead outside.
fn read(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match paths::open(root, path, flags) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.to_string()),
    };
    let stat = fstat(&file).map_err(|errno| errno.to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let mut bounded = std::fs::File::from(file).take(MAX_USER_FILE_BYTES + 1);
    bounded.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_USER_FILE_BYTES {
        return Err(format!("larger than MAX_USER_FILE_BYTES ({MAX_USER_FILE_BYTES})"));
    }
    Ok(bytes)
}

/// The capabilities that the process may have: those asked for, less those that this engine has not itself, which
/// is told. The bounding set holds nothing else from here on.
pub(crate) fn bound_capabilities(asked: CapabilitySet, reporter: &Reporter) -> Outcome<CapabilitySet> {
    let held = capabilities(None).at(Step::Identity, "")?.permitted;
    for name in names_of(asked - held) {
        reporter
            .clamp(&format!("security.capabilities[{name}]: left out, the engine does not have it itself"));
    }
    let given = if sys::weakened::lacks("capabilities") { held } else { asked & held };
    limit_bounding_set(given).at(Step::Identity, "capability bounding set")?;
    Ok(given)
}

/// User and groups are those of `identity`, and files are opened with the rights that the program will have: root can
/// use the capabilities of `given`, any other user none. The rest is kept aside until [`drop_rest`].
pub(crate) fn take_on(identity: &Identity, given: CapabilitySet) -> Outcome<()> {
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups).at(Step::Identity, "setgroups")?;
    let gid = Gid::from_raw(identity.gid);
    set_thread_res_gid(gid, gid, gid).at(Step::Identity, "setresgid")?;
    if identity.uid != 0 {
        // Else the kernel drops SYS_ADMIN with the uid, and with it the right to install a filter.
        set_keep_capabilities(true).at(Step::Identity, "keep capabilities")?;
    }
    let uid = Uid::from_raw(identity.uid);
    set_thread_res_uid(uid, uid, uid).at(Step::Identity, "setresuid")?;
    let kept = capabilities(None).at(Step::Identity, "")?.permitted;
    set(usable(identity, given), kept)
}

/// All that is kept aside can be used: for setting limits and installing filters, after which it goes.
pub(crate) fn raise() -> Outcome<()> {
    let kept = capabilities(None).at(Step::Identity, "")?.permitted;
    set(kept, kept)
}

/// What the executed program has: the capabilities of `given` for root, none for any other user.
pub(crate) fn drop_rest(identity: &Identity, given: CapabilitySet) -> Outcome<()> {
    let usable = usable(identity, given);
    set(usable, usable)
}

fn usable(identity: &Identity, given: CapabilitySet) -> CapabilitySet {
    if identity.uid == 0 {
        given
    } else {
        CapabilitySet::empty()
    }
}

// Inheritable is always empty, and so is ambient with it (CVE-2022-24769).
fn set(effective: CapabilitySet, permitted: CapabilitySet) -> Outcome<()> {
    let sets = CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).at(Step::Identity, "capset")
}

/// The pipes on descriptors 0, 1 and 2 belong to the user, so that it can open /dev/stdout again. Anything else that
/// may stand there is the host's and stays as it is.
pub(crate) fn give_stdio(identity: &Identity) -> Outcome<()> {
    if identity.uid == 0 {
        return Ok(());
    }
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        let kind = FileType::from_raw_mode(fstat(fd).at(Step::Stdio, "")?.st_mode);
        if matches!(kind, FileType::Fifo | FileType::Socket) {
            match fchown(fd, Some(Uid::from_raw(identity.uid)), None) {
                // A file system of the caller's that knows no owners: the program can still use the descriptor.
                Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
                Err(errno) => return Err(StartFailure::kernel(Step::Stdio, "", errno)),
            }
        }
    }
    Ok(())
}
