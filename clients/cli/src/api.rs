//! The generated client of `fluyt.v1`, in the module tree of its packages.

#![allow(missing_docs, clippy::all, reason = "generated from proto/, which documents every name")]

pub mod v1 {
    tonic::include_proto!("fluyt.v1");

    pub mod types {
        tonic::include_proto!("fluyt.v1.types");
    }
}
