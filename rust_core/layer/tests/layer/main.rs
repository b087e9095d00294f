//! The layer store by its public behaviour: the extract cases of the field, each over real overlay mounts.

mod image;
mod markers;
mod tar_writer;
