//! The bounds of this crate, each with what it protects against.

/// Largest manifest or index, in bytes: what registries accept (OCI distribution spec, "pushing manifests").
pub const MANIFEST: usize = 4 << 20;

/// Largest image configuration, in bytes. Real ones stay below 100 KiB.
pub const CONFIG: usize = 8 << 20;

/// Layers of one image: overlayfs stacks at most 500 lower directories (`OVL_MAX_STACK`).
pub const LAYERS: usize = 500;

/// Longest repository path of a reference, in bytes, as the distribution project has it.
pub const REPOSITORY: usize = 255;

/// Longest name of a container, in bytes: one component of a path.
pub const NAME: usize = 255;

/// Largest specification of devices, in bytes. Those of machines with many accelerators stay below 200 KiB.
pub const DEVICES_DOCUMENT: usize = 1 << 20;

/// Devices of one specification.
pub const DEVICES: usize = 4096;

/// How deep lists and maps of a YAML document may lie in each other. A specification of devices needs six levels.
pub const YAML_DEPTH: usize = 32;

/// Characters of an offending text that an error message repeats.
pub const SHOWN: usize = 120;

/// Attestations of one image that are kept. BuildKit makes one, which holds all statements.
pub const ATTESTATIONS: usize = 16;

/// Parts of one attestation: its configuration, and a layer for each statement.
pub const ATTESTATION_BLOBS: usize = 32;

/// Bytes of all parts of all attestations of one image. Lists of the packages of large images reach some tens of megabytes.
pub const ATTESTED: u64 = 256 << 20;
