//! The root file system: an overlay made as a detached mount, put in place, and the host's mounts left behind.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use mount::{IdMap, MountError, OverlayPlan, Propagation};
use rustix::fs::{Mode, OFlags};

use crate::at::{At, Outcome};
use crate::spec::Root;
use crate::step::Step;

/// The overlay, or what is left to do in the child.
pub(crate) enum Prepared {
    /// A detached mount. It goes when its last descriptor is closed.
    Detached(OwnedFd),
    /// This kernel cannot make it detached (before 6.8): it is mounted in the child's own mount namespace.
    Classic(OverlayPlan),
}

/// The overlay of `root`, whose files all have the SELinux label, visible nowhere, with owners shifted by `ids`; and the mounts that it was made of, for whom see
/// [`mount::Mapped`].
pub(crate) fn prepare(root: &Root, label: &str, ids: Option<IdMap<'_>>) -> Outcome<(Prepared, Vec<OwnedFd>)> {
    let lower_dirs = root.lower_dirs.iter().map(PathBuf::from).collect();
    let plan = OverlayPlan::new(lower_dirs, PathBuf::from(&root.upper_dir), PathBuf::from(&root.work_dir))
        .at(Step::Root, &root.upper_dir)?
        .labelled(label);
    if let Some(ids) = ids {
        let made = mount::overlay_mapped(&plan, ids).at(Step::Root, &root.upper_dir)?;
        return Ok((Prepared::Detached(made.mount), made.spent));
    }
    let prepared = match mount::overlay_detached(&plan) {
        Ok(overlay) => Ok(Prepared::Detached(overlay)),
        Err(MountError::FeatureMissing { .. }) => Ok(Prepared::Classic(plan)),
        Err(error) => Err(error).at(Step::Root, &root.upper_dir),
    };
    Ok((prepared?, Vec::new()))
}

/// The overlay is the root of this process and of its mount namespace, in which nothing of the host's mounts is
/// left; the working directory is `/`. The answer is a handle on the root.
pub(crate) fn enter(prepared: Prepared) -> Outcome<OwnedFd> {
    // Before anything is attached: no mount made or left here may show on the host.
    mount::set_root_propagation(Propagation::Private).at(Step::Pivot, "/")?;
    let host = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at(Step::Pivot, "/")?;
    let root = match prepared {
        Prepared::Detached(overlay) => {
            // Over `/` itself, so that no directory of the host is needed as a mount point.
            mount::attach(overlay.as_fd(), host.as_fd(), Path::new("/")).at(Step::Pivot, "/")?;
            overlay
        }
        // Over the writable layer itself: a directory that is there, and that the overlay holds on to by itself.
        Prepared::Classic(plan) => {
            mount::overlay_classic(&plan, plan.upper_dir()).at(Step::Pivot, plan.upper_dir())?
        }
    };
    if !sys::weakened::lacks("mount-targets") {
        mount::pivot_into(root.as_fd()).at(Step::Pivot, "/")?;
    }
    Ok(root)
}
