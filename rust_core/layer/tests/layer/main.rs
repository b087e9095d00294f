//! The layer store by its public behaviour: the extract cases of the field, each over real overlay mounts.

mod attributes;
mod failpoints;
mod hostile;
mod image;
mod jail;
mod limits;
mod links;
mod markers;
mod model;
mod parents;
mod sparse;
mod store;
mod streams;
mod tar_writer;
