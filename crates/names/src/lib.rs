//! names
#![forbid(unsafe_code)]
