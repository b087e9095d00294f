//! The content store by its public behaviour.

mod failpoints;
mod ingests;
mod layout;
mod support;
