//! The bounds of this crate, each with what it protects against.

/// Symbolic links followed while one path is walked, as the kernel's own `MAXSYMLINKS` (path_resolution(7)).
pub const SYMLINKS: usize = 40;

/// Directories that one walked path may be deep. The walk holds a descriptor for each, and RLIMIT_NOFILE is
/// shared by the whole process; a mount target or working directory of a real image stays far below.
pub const WALK_DEPTH: usize = 256;

/// Tries of a lookup that raced with a rename (openat2(2): EAGAIN) or with a concurrent creation. An attacker
/// who renames in a loop makes the operation fail, not hang.
pub const RACE_RETRIES: usize = 128;

/// Options of one mount(2), in bytes: the kernel reads a page and no further.
pub const MOUNT_OPTIONS: usize = 4096;

/// Directories that are held open at once while a tree is removed. Deeper ones are moved to the top first.
pub const REMOVE_DEPTH: usize = 64;

/// Largest extended attribute, in bytes (`XATTR_SIZE_MAX`, xattr(7)).
pub const XATTR_VALUE: usize = 64 * 1024;

/// Largest list of the names of extended attributes, in bytes (`XATTR_LIST_MAX`, xattr(7)).
pub const XATTR_NAMES: usize = 64 * 1024;
