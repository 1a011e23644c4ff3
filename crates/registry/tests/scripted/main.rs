//! The client against a registry that does what a script says, however wrong. Every exchange is with this machine.
//!
//! `server` speaks HTTP byte by byte, `tls` has certificates and a proxy that gives names to local ports, `fixture` makes
//! clients whose pauses take no time.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must stop")]

mod auth;
mod blobs;
mod broken;
mod fixture;
mod login;
mod manifests;
mod mirrors;
mod random;
mod redirects;
mod secure;
mod server;
mod tls;
mod uploads;
