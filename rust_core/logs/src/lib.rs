//! Container logs: CRI's line format in numbered segments below one directory, a writer for the supervisor and
//! readers for the daemon. It knows nothing of containers and never runs a thread.
//!
//! On disk a log is a directory of segments `00000001.log`, `00000002.log`, … whose numbers only grow. Each segment
//! begins at the start of a physical line and is at most as long as the writer's limit. The newest is the only one
//! that is ever written to; the oldest are unlinked. A physical line is one piece of a container's line:
//!
//! ```text
//! 2026-11-25T04:23:43.123456789Z stdout P the first piece of a line
//! 2026-11-25T04:23:43.123600000Z stdout F and its last piece
//! ```
//!
//! `F` stands for content that the process ended with a newline, `P` for content that it did not (yet).
//! Source: the kubelet's container log format (`k8s.io/cri-client/pkg/logs`, `design-proposals/node/kubelet-cri-logging.md`).

pub mod cursor;
pub mod error;
pub mod format;
pub mod hub;
pub mod journal;
pub mod reader;
mod scan;
mod seek;
pub mod segment;
pub mod wire;
pub mod writer;

pub use cursor::Position;
pub use error::LogsError;
pub use format::Stream;
pub use hub::LogHub;
pub use journal::{JournalSpec, JournalWriter};
pub use reader::{LogReader, LogRecord, ReadRange};
pub use wire::Page;
pub use writer::{Hold, LogLimits, LogWriter};
