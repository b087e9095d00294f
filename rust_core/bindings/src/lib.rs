//! Fluyt: bindings.
