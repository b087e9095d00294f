//! The suite of `layer` on the kind `erofs`, and what only that kind has.

#[path = "../layer/attributes.rs"]
mod attributes;
#[path = "../layer/diff.rs"]
mod diff;
#[path = "../layer/diff_model.rs"]
mod diff_model;
#[path = "../layer/diff_support.rs"]
mod diff_support;
#[path = "../layer/failpoints.rs"]
mod failpoints;
#[path = "../layer/forms.rs"]
mod forms;
mod holes;
#[path = "../layer/hostile.rs"]
mod hostile;
#[path = "../layer/image.rs"]
mod image;
#[path = "../layer/jail.rs"]
mod jail;
mod judges;
#[path = "../layer/limits.rs"]
mod limits;
#[path = "../layer/links.rs"]
mod links;
#[path = "../layer/malformed.rs"]
mod malformed;
#[path = "../layer/markers.rs"]
mod markers;
#[path = "../layer/memory.rs"]
mod memory;
#[path = "../layer/model.rs"]
mod model;
#[path = "../layer/model_over_links.rs"]
mod model_over_links;
mod mounts;
#[path = "../layer/parents.rs"]
mod parents;
#[path = "../layer/peers.rs"]
mod peers;
mod same;
#[path = "../layer/sparse.rs"]
mod sparse;
#[path = "../layer/store.rs"]
mod store;
#[path = "../layer/streams.rs"]
mod streams;
#[path = "../layer/tar_writer.rs"]
mod tar_writer;
mod verify;

/// The kind of store that the suite runs on.
pub const KIND: &str = "erofs";
