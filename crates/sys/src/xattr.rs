//! Extended attributes of whatever a descriptor stands for, `O_PATH` handles of links and devices included.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::{Context, Result};
use crate::limits;

/// Sets the attribute `name`.
///
/// # Errors
/// The call's (`fsetxattr`): `EOPNOTSUPP` where the file system has none, `EPERM` where the type of file may not.
pub fn set(fd: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    let result = match rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()) {
        // An O_PATH handle: through procfs, whose link leads to the very inode, a symbolic link too.
        Err(Errno::BADF) => rustix::fs::setxattr(proc_path(&fd)?, name, value, XattrFlags::empty()),
        result => result,
    };
    result.context("fsetxattr", name.to_string_lossy())
}

/// The attribute `name`, where it is set.
///
/// # Errors
/// The call's (`fgetxattr`).
pub fn get(fd: impl AsFd, name: &CStr) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    loop {
        let result = match rustix::fs::fgetxattr(&fd, name, &mut value[..]) {
            Err(Errno::BADF) => rustix::fs::getxattr(proc_path(&fd)?, name, &mut value[..]),
            result => result,
        };
        match result {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(Errno::RANGE) if value.len() < limits::XATTR_VALUE => value.resize(limits::XATTR_VALUE, 0),
            Err(errno) => return Err(errno).context("fgetxattr", name.to_string_lossy()),
        }
    }
}

/// The names of all attributes, sorted.
///
/// # Errors
/// The call's (`flistxattr`).
pub fn names(fd: impl AsFd) -> Result<Vec<CString>> {
    let mut list = vec![0; 512];
    loop {
        let result = match rustix::fs::flistxattr(&fd, &mut list[..]) {
            Err(Errno::BADF) => rustix::fs::listxattr(proc_path(&fd)?, &mut list[..]),
            result => result,
        };
        match result {
            Ok(length) => {
                list.truncate(length);
                break;
            }
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(Errno::RANGE) if list.len() < limits::XATTR_NAMES => list.resize(limits::XATTR_NAMES, 0),
            Err(errno) => return Err(errno).context("flistxattr", "descriptor"),
        }
    }
    let split = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = split.map(|name| CString::new(name).expect("split at every NUL")).collect();
    names.sort();
    Ok(names)
}

fn proc_path(fd: &impl AsFd) -> Result<PathBuf> {
    // Proves that /proc is procfs; the path below then leads nowhere else.
    crate::proc::procfs()?;
    let name = crate::proc::fd_name(fd);
    Ok(PathBuf::from(format!("/proc/self/fd/{}", name.to_string_lossy())))
}
