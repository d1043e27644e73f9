//! Golden tests: input files beside what they must become.
//!
//! `config/{edge,shield}/CASE.toml` beside `CASE.expected`: the configuration in effect, or the error
//! text. A difference fails and leaves the actual text in a directory that the message names, so that
//! an intended change is one `cp` away. The working directory is `tests/`, as cargo sets it.

mod config;
mod shipped;
