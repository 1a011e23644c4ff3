//! Room on the disk that is kept for removals: whoever has filled the disk must be able to make room again, and a removal is
//! written down before anything is deleted.

use crate::limits::INDEX_RESERVE;
use rustix::fs::{FallocateFlags, Mode, OFlags, StatVfs, fallocate, open, statvfs};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file that takes the room, below the data root.
const FILE: &str = "reserve";

/// The room.
pub(super) struct Reserve(PathBuf);

impl Reserve {
    /// That of a data root, where it may be taken or not.
    pub(super) fn of(root: &Path) -> Self {
        Self(root.join(FILE))
    }

    /// Takes the room unless it is taken, or the disk has little more than that.
    pub(super) fn take(&self) {
        let is_there = std::fs::metadata(&self.0).is_ok_and(|file| file.len() >= INDEX_RESERVE);
        if is_there || self.free().is_none_or(|free| free < 2 * INDEX_RESERVE) {
            return;
        }
        if let Err(error) = self.fill() {
            tracing::warn!(path = %self.0.display(), %error, "no room could be kept for removals on a full disk");
            self.give();
        }
    }

    /// Gives the room back if there is no other.
    pub(super) fn give_if_needed(&self) {
        if self.free().is_some_and(|free| free < INDEX_RESERVE) {
            self.give();
        }
    }

    fn give(&self) {
        // One that is not there takes no room.
        let _ = std::fs::remove_file(&self.0);
    }

    fn fill(&self) -> std::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = open(&self.0, flags, Mode::RUSR | Mode::WUSR)?;
        if fallocate(&file, FallocateFlags::empty(), 0, INDEX_RESERVE).is_err() {
            // A file system without it has to be told by writing.
            let zeros = vec![0; usize::try_from(INDEX_RESERVE).unwrap_or_default()];
            std::fs::File::from(file).write_all(&zeros)?;
        }
        Ok(())
    }

    /// Bytes that are free where the data is.
    fn free(&self) -> Option<u64> {
        let StatVfs { f_bavail, f_frsize, .. } = statvfs(self.0.parent()?).ok()?;
        Some(f_bavail.saturating_mul(f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_once_and_given_back_only_when_there_is_no_other() {
        let place = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(place.path());
        let size = || std::fs::metadata(place.path().join(FILE)).map(|file| file.len()).ok();
        reserve.take();
        reserve.take();
        assert_eq!(size(), Some(INDEX_RESERVE));
        reserve.give_if_needed();
        assert_eq!(size(), Some(INDEX_RESERVE), "this disk is not full");
        reserve.give();
        assert_eq!(size(), None);
    }
}
