//! How the daemon starts, watches and adopts the supervisors of containers, and the messages between the two.
//! What the supervisor does with them is its own program; what the container's process is, is `process`'s.
//!
//! ```text
//! daemon                                    supervisor                       container
//!   │ spawn (ahead, where one waits) ──────────▶ │ a network namespace
//!   │ Start + sealed plan ─────────────────────▶ │ log, socket, pipes
//!   │ (makes cgroups and limits meanwhile)       │
//!   │ Proceed ─────────────────────────────────▶ │ process::spawn ──────────▶ exec
//!   │ ◀────────────────── Running + pidfd, stdin │
//!   │ Exec + sealed spec ──────────────────────▶ │ process::begin ──────────▶ exec
//!   │ ◀────────── Exec + spool, pidfd, stdin     │ copies output to the spool
//!   │ ◀────────────────────────────── ExecOutput │
//!   │ ExecTake ────────────────────────────────▶ │ reads on
//!   │ CloseStdin, HoldLog, ForceServers ───────▶ │ copies output to the log
//!   │                                            │ ◀───────────────────────── exit
//!   │ ◀───────────────────────────────── Exited  │ writes the exit record before
//! ```

pub mod error;
pub mod exec;
pub mod exit_record;
mod filters;
mod groups;
pub mod handle;
pub mod host;
mod look;
pub mod peer;
mod program;
mod ready;
pub mod rundir;
pub mod spool;
pub mod start;
mod strays;
pub mod wire;

pub use error::ControlError;
pub use exec::Exec;
pub use exit_record::{read_exec_record, read_exit_record, ExitRecord, ExitStatus};
pub use handle::{ExitState, Supervisor};
pub use host::SupervisorHost;
pub use look::{Look, LOOK, LOOK_BENEATH};
pub use program::{version_line, WITH_USERS};
pub use ready::{NameSockets, Namespace, Ready, MAX_READY};
pub use start::{ContainerStart, ExecStart, ResourceLimits};
