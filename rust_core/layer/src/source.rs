//! Where the tar of a new layer comes from.

use crate::diff::TarStream;
use crate::LayerError;

/// The uncompressed tar of a layer, made while it is read.
pub trait TarSource {
    /// Fills some of `buffer`; 0 at the end of the archive. After an error the archive is of no use.
    ///
    /// # Errors
    /// What stands against the archive; `CANCELLED` once `is_cancelled` says so.
    fn read(&mut self, buffer: &mut [u8], is_cancelled: &dyn Fn() -> bool) -> Result<usize, LayerError>;
}

impl TarSource for TarStream {
    fn read(&mut self, buffer: &mut [u8], is_cancelled: &dyn Fn() -> bool) -> Result<usize, LayerError> {
        TarStream::read(self, buffer, is_cancelled)
    }
}
