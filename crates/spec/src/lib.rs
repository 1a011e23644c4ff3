//! Names and documents as data: what images, registries and runtimes call things. Parses and prints; no IO.
#![forbid(unsafe_code)]

pub mod runtime;
