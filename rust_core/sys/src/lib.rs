//! Thin wrappers over system calls that the crates above need and `rustix` lacks, and the failpoints.
//! No policy lives here.

pub mod failpoint;
