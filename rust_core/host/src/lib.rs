//! What this kernel and host allow, found by trying rather than by version; and measuring or removing trees of files
//! by descriptor, never by a path that somebody could bend meanwhile; and what procfs tells of processes.
//!
//! It decides nothing from what it finds.

mod erofs;
mod feature;
mod furnish;
mod probe;
mod processes;
mod quota;
mod relabel;
mod remove;
mod usage;
mod walk;

pub use feature::Feature;
pub use furnish::{copy_permissions, make_tree, read_beginnings, write_files, Names};
pub use probe::{idmapped_mounts, probe};
pub use processes::{network_bytes, processes, ProcessInfo, MAX_ARGS_BYTES};
pub use quota::{
    directory_project, idle_projects, limit_project, project_quota, project_usage, release_project,
    within_bounds,
};
pub use relabel::relabel;
pub use remove::remove_tree;
pub use usage::{directory_usage, Usage};

/// `uname -r`.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
