//! Paths resolved below a directory that somebody else controls.
