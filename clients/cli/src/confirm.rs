//! The question before something is deleted in bulk.

use std::io::{BufRead, IsTerminal, Write};

use crate::failure::Failure;

/// Bytes of an answer that are read at most.
const ANSWER_BYTES: u64 = 256;

/// Asks on the terminal whether to go on and answers true for `y` or `yes`. Blocks until a line is typed.
///
/// # Errors
/// Standard input is no terminal, or cannot be read.
pub fn confirm(warning: &str) -> Result<bool, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to ask on whether to delete",
            "add --force to delete without a question, or --dry-run to see what would go",
        ));
    }
    let failed = |error| Failure::new(format!("cannot read the answer: {error}"), "");
    eprint!("WARNING! {warning}\nAre you sure you want to continue? [y/N] ");
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = Vec::new();
    std::io::Read::take(input.lock(), ANSWER_BYTES).read_until(b'\n', &mut answer).map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer).trim().to_ascii_lowercase();
    Ok(answer == "y" || answer == "yes")
}
