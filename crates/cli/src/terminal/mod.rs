//! The terminal of this process and its stdio, attached to a container's.

pub(crate) mod detach;
pub(crate) mod input;
pub(crate) mod raw;
pub(crate) mod session;
pub(crate) mod signals;
