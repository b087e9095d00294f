//! Every feature, tried: on detached mounts and a directory of our own that are gone afterwards. No process is forked
//! and nothing of this process changes.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use cgroup::{Layout, Mode};
use mount::{Attributes, IdMap, MountError, OverlayPlan};
use rustix::fs::{openat2, Mode as FileMode, OFlags, ResolveFlags, CWD};
use rustix::thread::CapabilitySet;

use crate::feature::{words, Feature};
use crate::remove_tree;

/// First id of the map that is tried, where subordinate ids usually begin; nothing is ever owned by it.
const PROBE_FIRST_ID: u32 = 100_000;
const PROBE_ID_COUNT: u32 = 65_536;

/// Every feature of host.pyi, in its order. `data_root` must be a directory on the file system that will hold layers
/// and containers; a subdirectory is made there for a moment. Needs root to find most of them. Blocking (some
/// milliseconds).
#[must_use]
pub fn probe(data_root: &Path) -> Vec<Feature> {
    let scratch = Scratch::new(data_root, "all");
    let layout = Layout::read();
    let mut features = vec![
        overlay(&scratch),
        Feature::tried("new_mount_api", mount::tmpfs("size=4k", Attributes::HARDENED).map(drop)),
        openat2_works(),
        user_namespaces(),
        try_idmapped_mounts(&scratch),
        Feature::tried("seccomp", sys::abilities::seccomp_filter().map_err(|errno| words("seccomp", errno))),
        cgroup_v2(layout.as_ref().ok()),
        clone_into_cgroup(layout.as_ref().ok()),
        cgroup_kill(layout.as_ref().ok()),
        erofs_file_mount(&scratch),
        pidfd(),
        crate::quota::project_quota(data_root),
        cap_sys_resource(),
        landlock(),
    ];
    if let Err(error) = scratch.remove() {
        features[0].detail = format!("the probe's directory was not removed: {error}");
    }
    features
}

/// A directory of our own below the data root, or why there is none.
struct Scratch {
    path: PathBuf,
    made: Result<(), String>,
}

impl Scratch {
    fn new(data_root: &Path, name: &str) -> Self {
        let path = data_root.join(format!(".probe-{name}-{}", std::process::id()));
        let made = remove_tree(&path).map_err(|error| error.to_string()).and_then(|()| {
            fs::create_dir(&path).map_err(|error| format!("mkdir {}: {error}", path.display()))
        });
        Self { path, made }
    }

    /// Directories in it.
    fn directories<const N: usize>(&self, names: [&str; N]) -> Result<[PathBuf; N], String> {
        self.made.clone()?;
        let paths = names.map(|name| self.path.join(name));
        for path in &paths {
            fs::create_dir_all(path).map_err(|error| format!("mkdir {}: {error}", path.display()))?;
        }
        Ok(paths)
    }

    fn remove(&self) -> Result<(), errors::IoError> {
        remove_tree(&self.path)
    }
}

fn overlay(scratch: &Scratch) -> Feature {
    let name = "overlay";
    let tried = scratch.directories(["lower", "upper", "work"]).and_then(|[lower, upper, work]| {
        let plan = OverlayPlan::new(vec![lower], upper, work).map_err(|error| error.to_string())?;
        match mount::overlay_detached(&plan) {
            Ok(_) => Ok(String::new()),
            Err(MountError::FeatureMissing { feature: "overlay", .. }) => {
                Err("the kernel has no overlayfs".to_owned())
            }
            Err(MountError::FeatureMissing { .. }) => {
                Ok("by mount(2) only: this kernel cannot append lower directories (before 6.8)".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    });
    match tried {
        Ok(detail) => Feature { name, is_available: true, detail },
        Err(detail) => Feature { name, is_available: false, detail },
    }
}

fn openat2_works() -> Feature {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(CWD, c"/", flags, FileMode::empty(), ResolveFlags::NO_MAGICLINKS);
    Feature::tried("openat2", opened.map(drop).map_err(|errno| words("openat2", errno)))
}

fn landlock() -> Feature {
    let version = sys::landlock::version().map_err(|errno| words("landlock_create_ruleset", errno));
    let usable = version.and_then(|version| match version {
        ..sys::landlock::MIN_VERSION => Err(format!("version {version} forbids hard links")),
        _ => Ok(version),
    });
    let detail = usable.as_ref().map(|version| format!("version {version}")).unwrap_or_default();
    let feature = Feature::tried("landlock", usable.map(drop));
    if feature.is_available {
        feature.with_detail(detail)
    } else {
        feature
    }
}

fn user_namespaces() -> Feature {
    let made = sys::user_namespace::create(PROBE_FIRST_ID, PROBE_ID_COUNT);
    Feature::tried("user_namespaces", made.map(drop).map_err(|errno| words("clone(CLONE_NEWUSER)", errno)))
}

/// Whether a container can be in a user namespace: the feature `idmapped_mounts` of [`probe`] by itself. Blocking (a
/// millisecond).
#[must_use]
pub fn idmapped_mounts(data_root: &Path) -> Feature {
    let scratch = Scratch::new(data_root, "idmapped");
    let feature = try_idmapped_mounts(&scratch);
    match scratch.remove() {
        Ok(()) => feature,
        Err(error) => {
            Feature { detail: format!("the probe's directory was not removed: {error}"), ..feature }
        }
    }
}

/// All that a container in a user namespace stands on: layers, a writable layer, and a file system in memory.
fn try_idmapped_mounts(scratch: &Scratch) -> Feature {
    let tried = scratch.directories(["mapped/top", "mapped/lower", "mapped/upper", "mapped/work"]).and_then(
        |[top, lower, upper, work]| {
            let namespace = sys::user_namespace::create(PROBE_FIRST_ID, PROBE_ID_COUNT)
                .map_err(|errno| words("clone(CLONE_NEWUSER)", errno))?;
            let ids = IdMap { namespace: namespace.as_fd(), first_id: PROBE_FIRST_ID };
            let try_all = || {
                // As layers are that are images: a mount that is attached nowhere.
                let detached = mount::bind_path_detached(&top, false)?;
                let lowers = vec![format!("/proc/self/fd/{}", detached.as_raw_fd()).into(), lower];
                mount::overlay_mapped(&OverlayPlan::new(lowers, upper, work)?, ids)?;
                let memory = mount::tmpfs("size=4k", Attributes::HARDENED)?;
                mount::map_ids(memory.as_fd(), ids, false, Path::new("tmpfs"))
            };
            try_all().map_err(|error: MountError| error.to_string())
        },
    );
    Feature::tried("idmapped_mounts", tried)
}

fn cgroup_v2(layout: Option<&Layout>) -> Feature {
    let name = "cgroup_v2";
    match layout.map(Layout::mode) {
        Some(Mode::V2) => Feature { name, is_available: true, detail: String::new() },
        Some(Mode::Hybrid) => Feature {
            name,
            is_available: true,
            detail: "hybrid: v1 controllers hold the limits, the v2 tree kills, freezes and counts"
                .to_owned(),
        },
        Some(Mode::V1) => Feature {
            name,
            is_available: false,
            detail: "this host mounts only hierarchies of v1".to_owned(),
        },
        None => {
            Feature { name, is_available: false, detail: "this host mounts no cgroup file system".to_owned() }
        }
    }
}

fn unified(layout: Option<&Layout>) -> Result<&Path, String> {
    layout
        .and_then(|layout| layout.unified().map(|index| layout.hierarchies()[index].mount_point.as_path()))
        .ok_or_else(|| "no v2 hierarchy is mounted".to_owned())
}

fn clone_into_cgroup(layout: Option<&Layout>) -> Feature {
    let tried = unified(layout).and_then(|_| {
        sys::abilities::clone_into_cgroup().map_err(|errno| words("clone3(CLONE_INTO_CGROUP)", errno))
    });
    Feature::tried("clone_into_cgroup", tried)
}

fn cgroup_kill(layout: Option<&Layout>) -> Feature {
    let tried = unified(layout).and_then(|mount_point| {
        // The root group has no cgroup.kill, so a group is made for a moment.
        let path = mount_point.join(format!("fluyt-probe-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("mkdir {}: {error}", path.display()))?;
        let has_file = path.join("cgroup.kill").exists();
        fs::remove_dir(&path).map_err(|error| format!("rmdir {}: {error}", path.display()))?;
        if has_file {
            Ok(())
        } else {
            Err("this kernel has no cgroup.kill (before 5.14)".to_owned())
        }
    });
    Feature::tried("cgroup_kill", tried)
}

fn erofs_file_mount(scratch: &Scratch) -> Feature {
    let directories = scratch.directories(["erofs", "erofs-upper", "erofs-work"]);
    let tried = directories.and_then(|[directory, upper, work]| {
        let image = directory.join("image");
        fs::write(&image, crate::erofs::empty_image())
            .map_err(|error| format!("write {}: {error}", image.display()))?;
        let image = fs::File::open(&image).map_err(|error| format!("open {}: {error}", image.display()))?;
        let mounted = mount::erofs_detached(image.as_fd(), &[], Attributes::HARDENED, "").map_err(
            |error| match error {
                MountError::FeatureMissing { feature: "erofs", .. } => "the kernel has no EROFS".to_owned(),
                MountError::FeatureMissing { feature: "erofs_file_mount", .. } => {
                    "EROFS mounts only block devices on this kernel (before 6.12)".to_owned()
                }
                error => error.to_string(),
            },
        )?;
        // A layer is mounted where nobody sees it, so overlayfs must take it from there.
        let lower = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
        let plan = OverlayPlan::new(vec![lower], upper, work).map_err(|error| error.to_string())?;
        let refused = "overlayfs takes no detached mount as a layer on this kernel (before 6.15)";
        mount::overlay_detached(&plan).map(drop).map_err(|error| format!("{refused}: {error}"))
    });
    Feature::tried("erofs_file_mount", tried)
}

fn pidfd() -> Feature {
    let opened = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
    Feature::tried("pidfd", opened.map(drop).map_err(|errno| words("pidfd_open", errno)))
}

fn cap_sys_resource() -> Feature {
    let name = "cap_sys_resource";
    match rustix::thread::capabilities(None) {
        Ok(sets) if sets.effective.contains(CapabilitySet::SYS_RESOURCE) => {
            Feature::tried(name, Ok::<(), String>(()))
        }
        Ok(_) => Feature { name, is_available: false, detail: String::new() }
            .with_detail("hard resource limits cannot be raised, nor oom_score_adj lowered"),
        Err(errno) => Feature::tried(name, Err(words("capget", errno))),
    }
}
