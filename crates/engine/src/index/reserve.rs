//! Room on the disk that the index has for itself. Whoever has filled the disk must be able to make room again, and a removal
//! is written down before anything is deleted.

use crate::limits::INDEX_RESERVE;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, open};
use std::io;
use std::path::Path;

/// Takes blocks behind the end of the file for what will be written there: nobody else gets them. A file that is not there
/// yet has none, and neither has one on a file system that cannot do that (`EOPNOTSUPP`, fallocate(2)).
pub(super) fn take(file: &Path) -> io::Result<()> {
    let file = match open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        file => file?,
    };
    let end = rustix::fs::fstat(&file)?.st_size.cast_unsigned();
    Ok(fallocate(&file, FallocateFlags::KEEP_SIZE, end, INDEX_RESERVE)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn blocks_are_taken_and_the_file_stays_as_long_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        take(&path).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "text").unwrap();
        take(&path).unwrap();
        let file = std::fs::metadata(&path).unwrap();
        assert_eq!(file.len(), 4);
        assert!(file.blocks() * 512 >= INDEX_RESERVE, "{} blocks", file.blocks());
    }
}
