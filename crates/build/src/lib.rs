//! build
#![forbid(unsafe_code)]
