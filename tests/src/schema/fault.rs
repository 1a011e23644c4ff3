//! What is wrong with an answer, and where.

use super::Version;
use std::fmt;

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is null, which the schema does not allow.
    Null,
    /// It has another type.
    Type,
    /// A field that there must be is not there.
    Missing,
    /// The schema has no such field.
    Unknown,
    /// It is none of the values that there are.
    Value,
    /// It is no date, address or number of the size that the schema names.
    Format,
    /// It is too short, long, small or large.
    Bounds,
    /// The operation has no such status.
    Status,
    /// The content type is not that of what there must be.
    ContentType,
    /// It is no JSON, or there is a body where there may be none.
    Body,
}

/// A fault, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The innermost definition, and the way from there: `ContainerSummary.Ports[]`.
    pub place: String,
    /// What is wrong.
    pub fault: Fault,
    /// What was found.
    pub found: String,
    /// The operation.
    pub operation: String,
    /// The version of the API that was asked for.
    pub version: Version,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, fault, found, operation, version: (major, minor) } = self;
        write!(formatter, "{place}: {fault:?} {found} ({operation}, version {major}.{minor})")
    }
}
