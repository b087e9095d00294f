//! What an image cannot hold, and failures of the writer below.

/// A failure to build or write an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The format has no room for a count or an address of this kind.
    #[error("an EROFS image holds at most {limit} {what}")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many fit.
        limit: u64,
    },
    /// The format has no namespace for this extended attribute.
    #[error("EROFS has no place for extended attributes of this name")]
    XattrName,
    /// An extended attribute's value, or all of one file together, is longer than the format allows.
    #[error("the extended attributes are longer than EROFS holds")]
    XattrSize,
    /// Writing the image failed.
    #[error("writing the image: {0}")]
    Write(#[from] std::io::Error),
    /// The file that holds what an image is made from failed.
    #[error("{doing} of the records of names: {error}")]
    Records {
        /// The system call.
        doing: &'static str,
        /// What it said.
        error: std::io::Error,
    },
}

/// Narrows a number, or tells that there are too many of `what`.
pub(crate) fn narrow(what: &'static str, value: u64) -> Result<u32, ImageError> {
    // The last value stands for "none" wherever the format has 32 bits.
    match u32::try_from(value) {
        Ok(number) if number < u32::MAX => Ok(number),
        _ => Err(ImageError::Full { what, limit: u64::from(u32::MAX) - 1 }),
    }
}
