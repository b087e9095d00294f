//! The mounts that the spec asks for: binds of host paths and tmpfs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use mount::{Attributes, Propagation};

use crate::at::{At, Outcome};
use crate::spec::{Mount, MountKind};
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
        MountKind::Bind => {
            let tree = mount::bind_path_detached(Path::new(&spec.source), true)
                .at(Step::BindSource, &spec.source)?;
            // Flags are added: those that the host's mount has (nosuid of a user's disk, say) stay (case M03). Private,
            // so that nothing mounted on either side later shows on the other.
            mount::set_attributes(tree.as_fd(), attributes, Some(Propagation::Private), true)
                .at(Step::BindSource, &spec.source)?;
            Ok(tree)
        }
        MountKind::Tmpfs => mount::tmpfs(&spec.data, attributes).at(Step::Mount, &spec.destination),
    }
}

/// The mount covers its destination, which is made where absent: an empty file for a file, else a directory.
pub(crate) fn attach(root: BorrowedFd<'_>, prepared: &Prepared<'_>) -> Outcome<()> {
    let path = Path::new(&prepared.spec.destination);
    let want = mount::want_of(prepared.mount.as_fd()).at(Step::Mount, path)?;
    let target = mount::resolve_in_root(root, path, want, true).at(Step::Mount, path)?;
    mount::attach(prepared.mount.as_fd(), target.as_fd(), path).at(Step::Mount, path)
}
