//! The mounts of a container: planned purely, made as detached mount descriptors, and moved to targets that are
//! resolved beneath the container's root by descriptor. It keeps no state and logs nothing. But for the two
//! that make an overlay detached on kernels before 6.8, no function starts a thread, and every one may be called by a
//! single-threaded child between clone and exec.
//!
//! It deliberately never resolves a path of the container by string, and never makes a mount that the host's mount
//! namespace can see. Linux 5.12 is the floor (openat2, mount_setattr); an overlay needs 6.8 for the new mount API
//! and falls back to mount(2) inside a private mount namespace before that.

mod attach;
mod attributes;
mod bind;
mod erofs;
mod error;
mod filesystem;
mod fs_context;
mod mapped;
mod mask;
mod overlay;
mod overlay_classic;
mod plan;
mod private;
mod resolve;
mod root;
mod target;

pub use attach::attach;
pub use attributes::{set_attributes, Attributes, Propagation};
pub use bind::{bind_detached, bind_part_classic, bind_part_detached, bind_path_detached, want_of};
pub use erofs::erofs_detached;
pub use error::{MountError, Want};
pub use filesystem::{
    cgroup1, cgroup2, devpts, mqueue, named, proc, sysfs, tmpfs, tmpfs_labelled, MAX_MOUNT_DATA_BYTES,
};
pub use mapped::{image_mapped, map_ids, overlay_mapped, IdMap, Mapped};
pub use mask::{open_null, read_only_path, Masker};
pub use overlay::{image_detached, image_labelled, overlay_detached, overlay_detached_anywhere};
pub use overlay_classic::{image_classic_detached, overlay_classic, overlay_classic_detached};
pub use plan::{OverlayPlan, MAX_LOWER_DIRS};
pub use resolve::{resolve_beneath, resolve_exact, resolve_in_root};
pub use root::{pivot_into, set_root_propagation};
pub use target::check_target;
