//! The one binary `seawall`.
fn main() {}
