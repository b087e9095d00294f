//! What this kernel and host allow, found by trying; and walking or removing trees by descriptor.
