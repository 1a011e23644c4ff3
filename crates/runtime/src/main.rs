//! The program `coracle-runtime`.
#![forbid(unsafe_code)]
fn main() {}
