//! The mounts that the spec asks for: binds of host paths, tmpfs, images, other file systems.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use mount::{Attributes, Propagation};
use rustix::fs::{Mode, OFlags};

use crate::at::{At, Outcome};
use crate::spec::{self, Mount, MountKind};
use crate::step::Step;

/// A mount that is made and attached nowhere yet.
pub(crate) struct Prepared<'spec> {
    mount: OwnedFd,
    spec: &'spec Mount,
}

/// Every mount of the spec, detached, with its flags; host paths are looked at here and never again.
pub(crate) fn prepare(mounts: &[Mount]) -> Outcome<Vec<Prepared<'_>>> {
    mounts.iter().map(|spec| Ok(Prepared { mount: make(spec)?, spec })).collect()
}

fn make(spec: &Mount) -> Outcome<OwnedFd> {
    let attributes = Attributes {
        read_only: spec.is_read_only,
        no_suid: spec.no_suid,
        no_dev: spec.no_dev,
        no_exec: spec.no_exec,
    };
    match spec.kind {
        MountKind::Bind => bind(spec, attributes),
        MountKind::Tmpfs => mount::tmpfs(&spec.data, attributes).at(Step::Mount, &spec.destination),
        MountKind::Image => {
            let lower_dirs: Vec<PathBuf> = spec.lower_dirs.iter().map(PathBuf::from).collect();
            let image = mount::image_detached(&lower_dirs).at(Step::BindSource, &spec.destination)?;
            part_of(spec, image, attributes.read_only())
        }
        MountKind::FileSystem => {
            let system = mount::named(&spec.file_system, &spec.source, &spec.data, attributes)
                .at(Step::BindSource, &spec.source)?;
            part_of(spec, system, attributes)
        }
    }
}

fn bind(spec: &Mount, attributes: Attributes) -> Outcome<OwnedFd> {
    let source = Path::new(&spec.source);
    let tree = if spec.sub_path.is_empty() {
        mount::bind_path_detached(source, spec.is_recursive).at(Step::BindSource, source)?
    } else {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(source, flags, Mode::empty()).at(Step::BindSource, source)?;
        let part = mount::resolve_beneath(root.as_fd(), Path::new(&spec.sub_path))
            .at(Step::BindSource, &spec.sub_path)?;
        mount::bind_detached(part.as_fd(), spec.is_recursive).at(Step::BindSource, &spec.sub_path)?
    };
    // Of all that came along: what stays shared below a private mount would show on the host what is mounted there.
    let propagation = match spec.propagation {
        spec::Propagation::Private => Propagation::Private,
        spec::Propagation::Slave => Propagation::Slave,
        spec::Propagation::Shared => Propagation::Shared,
    };
    // Flags are added: those that the host's mount has (nosuid of a user's disk, say) stay (case M03).
    let below = !attributes.read_only || spec.is_read_only_below;
    mount::set_attributes(tree.as_fd(), Attributes::default(), Some(propagation), true)
        .and_then(|()| mount::set_attributes(tree.as_fd(), attributes, None, below))
        .at(Step::BindSource, source)?;
    Ok(tree)
}

/// The mount itself, or a mount of what is at the sub-path in it.
fn part_of(spec: &Mount, whole: OwnedFd, attributes: Attributes) -> Outcome<OwnedFd> {
    if spec.sub_path.is_empty() {
        return Ok(whole);
    }
    let part = mount::resolve_beneath(whole.as_fd(), Path::new(&spec.sub_path))
        .at(Step::BindSource, &spec.sub_path)?;
    // Before Linux 6.15 a mount that is attached nowhere cannot be copied: EINVAL.
    let part = mount::bind_detached(part.as_fd(), false).at(Step::BindSource, &spec.sub_path)?;
    mount::set_attributes(part.as_fd(), attributes, None, false).at(Step::BindSource, &spec.sub_path)?;
    Ok(part)
}

/// The mount covers its destination, which is made where absent: an empty file for a file, else a directory.
pub(crate) fn attach(root: BorrowedFd<'_>, prepared: &Prepared<'_>) -> Outcome<()> {
    let path = Path::new(&prepared.spec.destination);
    let want = mount::want_of(prepared.mount.as_fd()).at(Step::Mount, path)?;
    let target = mount::resolve_in_root(root, path, want, true).at(Step::Mount, path)?;
    mount::check_target(target.as_fd(), path, prepared.mount.as_fd()).at(Step::Mount, path)?;
    mount::attach(prepared.mount.as_fd(), target.as_fd(), path).at(Step::Mount, path)
}
