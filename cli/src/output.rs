//! What people and programs read: results on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use crate::values::misuse;

/// Prints a line of result.
pub(crate) fn say(text: &str) {
    // Who reads may have left (`seawall check F | head`); that is no error of ours.
    writeln!(io::stdout(), "{text}").ok();
}

/// Prints a line beside the result.
pub(crate) fn complain(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

/// Returns whether standard error is read by a person.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Starts logging to standard error.
///
/// # Errors
///
/// Levels that cannot be read.
pub(crate) fn start_log(levels: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(levels).map_err(misuse)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(is_watched())
        .with_target(false)
        .init();
    Ok(())
}
