//! logfile
#![forbid(unsafe_code)]
