//! Control groups of containers: where this host mounts them, what a limit means in each version, and making,
//! filling, freezing, killing and removing the groups of one container.
//!
//! It knows nothing of containers, and never moves another process: who joins a group writes `0` into its `tasks`
//! files or is born in its v2 directory ([`Group::join_files`]). v2 is the design; v1 is a second backend; on a
//! hybrid host v1 controllers hold the limits, and the v2 tree kills, freezes and counts. Every limit is planned by
//! pure functions ([`plan`]).

mod block_io;
mod create;
mod device_program;
mod devices;
mod error;
mod files;
mod group;
mod host;
mod huge_pages;
mod kill;
mod layout;
mod limits;
mod plan;
mod prepare;
mod real_time;
mod remove;
mod stats;
mod update;
mod v1;
mod v2;

pub use block_io::{IoDevice, MAX_IO_DEVICES, MAX_IO_WEIGHT, MIN_IO_WEIGHT};
pub use devices::{
    DeviceAccess, DeviceControl, DeviceKind, DeviceRule, NoRule, DEFAULT_DEVICE_RULES, MAX_DEVICE_RULES,
};
pub use error::CgroupError;
pub use files::MAX_CONTROL_FILE_BYTES;
pub use group::{Clamp, Group, JoinFiles, Report};
pub use host::{CgroupHost, MAX_KEPT_PARENTS};
pub use huge_pages::HugePages;
pub use kill::FREEZE_TIMEOUT;
pub use layout::{Hierarchy, Layout, Mode, Version};
pub use limits::{
    Amount, CheckedLimits, Limits, MAX_CPUSET_BYTES, MAX_CPU_BURST_MICROS, MAX_CPU_PERIOD_MICROS,
    MAX_CPU_REAL_TIME_PERIOD_MICROS, MAX_CPU_SHARES, MIN_CPU_PERIOD_MICROS, MIN_CPU_QUOTA_MICROS,
    MIN_CPU_SHARES, MIN_MEMORY_BYTES,
};
pub use plan::{plan, CurrentMemory, IfAbsent, PlannedWrite, Write};
pub use stats::{Before, Stats};
pub use v2::cpu_weight;
