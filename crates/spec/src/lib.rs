//! spec
#![forbid(unsafe_code)]
