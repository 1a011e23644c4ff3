//! What hostile images, volumes and processes try, against real containers. Each group has a benign twin that works.
//!
//! ```text
//! mounts       links, devices and the like where the runtime mounts     races        the same, swapped while it looks
//! descriptors  what of the host is within reach of a process            identity     users, groups, capabilities
//! confinement  devices, cgroups, system calls                           program      machine code for single calls
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "../harness/mod.rs"]
mod harness;

mod confinement;
mod descriptors;
mod identity;
mod mounts;
mod program;
mod races;
