//! The layer store by its public behaviour: the extract cases of the field, each over real overlay mounts, on the kind
//! `directory`. The same modules are run on `erofs` and on images of both by `layer_erofs` and `layer_mixed`.

mod attributes;
mod copy;
mod diff;
mod diff_model;
mod diff_support;
mod failpoints;
mod forms;
mod hostile;
mod image;
mod jail;
mod limits;
mod links;
mod malformed;
mod markers;
mod memory;
mod model;
mod model_over_links;
mod parents;
mod peers;
mod replace;
mod sparse;
mod store;
mod streams;
mod tar_writer;

/// The kind of store that the suite runs on.
pub const KIND: &str = "directory";
