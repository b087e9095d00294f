//! Everything mounted below the root: the kernel's file systems, /dev, the mounts of the spec, masks.

pub(crate) mod dev;
pub(crate) mod kernel;
pub(crate) mod mask;
pub(crate) mod requested;
