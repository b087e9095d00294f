//! The mounts that the spec asks for: binds of host paths, tmpfs, images, other file systems.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use mount::{Attributes, IdMap, Propagation};
use rustix::fs::{chmodat, chownat, mknodat, AtFlags, FileType, Gid, Mode, OFlags, Uid};

use crate::at::{At, Outcome};
use crate::spec::{self, Mount, MountKind};
use crate::step::Step;

/// A mount that is made and attached nowhere yet.
pub(crate) struct Prepared<'spec> {
    mount: OwnedFd,
    spec: &'spec Mount,
}

/// Every mount of the spec, detached, with its flags, the SELinux label on what is made here, and owners shifted by `ids`; host paths are looked at here and never
/// again.
pub(crate) fn prepare<'spec>(
    mounts: &'spec [Mount],
    label: &str,
    ids: Option<IdMap<'_>>,
) -> Outcome<Vec<Prepared<'spec>>> {
    let mapped = |spec| {
        if let Some(mount) = ids.map(|ids| device(spec, ids)).transpose()?.flatten() {
            return Ok(Prepared { mount, spec });
        }
        let mount = make(spec, label, ids)?;
        if let Some(ids) = ids.filter(|_| spec.kind != MountKind::Image) {
            let subject = if spec.source.is_empty() { &spec.destination } else { &spec.source };
            mount::map_ids(mount.as_fd(), ids, spec.is_recursive, Path::new(subject))
                .at(Step::BindSource, subject)?;
        }
        Ok(Prepared { mount, spec })
    };
    mounts.iter().map(mapped).collect()
}

/// A bind of a device's node as another node of that device: the host's /dev cannot show other owners. None if the
/// source is none.
fn device(spec: &Mount, ids: IdMap<'_>) -> Outcome<Option<OwnedFd>> {
    const NODE: &str = "device";
    if spec.kind != MountKind::Bind || !spec.sub_path.is_empty() {
        return Ok(None);
    }
    let Ok(status) = rustix::fs::stat(spec.source.as_str()) else { return Ok(None) };
    let kind = FileType::from_raw_mode(status.st_mode);
    if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        return Ok(None);
    }
    let attributes =
        Attributes { read_only: spec.is_read_only, no_suid: true, no_dev: spec.no_dev, no_exec: true };
    let place = mount::tmpfs("mode=755,size=4k", Attributes::default()).at(Step::BindSource, &spec.source)?;
    mknodat(&place, NODE, kind, Mode::from_raw_mode(status.st_mode & 0o7777), status.st_rdev)
        .and_then(|()| chmodat(&place, NODE, Mode::from_raw_mode(status.st_mode & 0o7777), AtFlags::empty()))
        .and_then(|()| {
            let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
            chownat(&place, NODE, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        })
        .at(Step::BindSource, &spec.source)?;
    mount::map_ids(place.as_fd(), ids, false, Path::new(&spec.source)).at(Step::BindSource, &spec.source)?;
    let node = rustix::fs::openat(&place, NODE, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(Step::BindSource, &spec.source)?;
    let node = mount::bind_part_detached(place.as_fd(), node.as_fd()).at(Step::BindSource, &spec.source)?;
    mount::set_attributes(node.as_fd(), attributes, None, false).at(Step::BindSource, &spec.source)?;
    Ok(Some(node))
}

fn make(spec: &Mount, label: &str, ids: Option<IdMap<'_>>) -> Outcome<OwnedFd> {
    let attributes = Attributes {
        read_only: spec.is_read_only,
        no_suid: spec.no_suid,
        no_dev: spec.no_dev,
        no_exec: spec.no_exec,
    };
    match spec.kind {
        MountKind::Bind => bind(spec, attributes),
        MountKind::Tmpfs => {
            mount::tmpfs_labelled(&spec.data, attributes, label).at(Step::Mount, &spec.destination)
        }
        MountKind::Image => {
            let lower_dirs: Vec<PathBuf> = spec.lower_dirs.iter().map(PathBuf::from).collect();
            let image = match ids {
                Some(ids) => mount::image_mapped(&lower_dirs, label, ids),
                None => mount::image_labelled(&lower_dirs, label),
            };
            let image = image.at(Step::BindSource, &spec.destination)?;
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
    let part = mount::bind_part_detached(whole.as_fd(), part.as_fd()).at(Step::BindSource, &spec.sub_path)?;
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
