//! Images judged by others: mounted by the kernel and read back, and checked by Debian's fsck.erofs and dump.erofs.

mod judges;
mod kernel;
mod random;
mod support;
