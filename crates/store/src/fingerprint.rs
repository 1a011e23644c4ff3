//! What files of a tree are, in one digest: their names, contents, modes, owners and links, but not their times; and by
//! what the kernel notes of changes, whether they are still what they were.

use std::io::{self, BufWriter, Write};

use coracle_spec::Digest;
use coracle_spec::digest::{Algorithm, Hasher};

use coracle_sys::rooted::reopen;
use rustix::fs::{OFlags, Stat};

use crate::error::Result;
use crate::pack::{Packer, Part};
use crate::select::{relative, walk_chosen};
use crate::{Altered, Chosen, Filter, Taken, Tree, limits};

/// How many threads read files. It decides what a fingerprint is.
const PARTS: u64 = 2;

impl Tree {
    /// The digest of what was chosen; equal for what is the same but for its times, wherever it is.
    ///
    /// # Errors
    /// As [`Tree::pack_chosen`].
    pub fn fingerprint(&self, chosen: &[Chosen], left_out: Filter<'_>, altered: Altered) -> Result<Digest> {
        let altered = Altered { timeless: true, ..altered };
        let part = |number| {
            let mut digest = Digesting(Hasher::new(Algorithm::Sha256));
            let packer = Packer::altering(BufWriter::with_capacity(limits::CHUNK, &mut digest), altered);
            self.pack_all(chosen, left_out, packer.only(Part { number, of: PARTS }))?;
            Ok(digest.0.finish())
        };
        let parts: Vec<Result<Digest>> = std::thread::scope(|scope| {
            let part = &part;
            let started: Vec<_> = (0..PARTS).map(|number| scope.spawn(move || part(number))).collect();
            let joined = started.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let mut whole = Hasher::new(Algorithm::Sha256);
        for part in parts {
            whole.update(part?.to_string().as_bytes());
        }
        Ok(whole.finish())
    }

    /// What the kernel notes of what was chosen: which files these are, their sizes, and when they were changed (`st_ctime`).
    /// As long as that is the same, so are their contents. Before Linux 6.13 two changes within one tick of the clock, some
    /// milliseconds, may have the same time.
    ///
    /// # Errors
    /// [`crate::Error::NotThere`] for a path that leads nowhere, and the kernel's.
    pub fn state(&self, chosen: &[Chosen], left_out: Filter<'_>) -> Result<Digest> {
        let mut state = Hasher::new(Algorithm::Sha256);
        for one in chosen {
            let (path, found) = self.locate_chosen(one)?;
            let path = relative(&path);
            note(&mut state, &path, &found.stat);
            if let (Some(directory), Taken::Content) = (found.directory(), one.taken) {
                let directory = reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
                walk_chosen(&directory, &path, left_out, &mut |node| {
                    note(&mut state, node.path, &node.stat);
                    Ok(())
                })?;
            }
        }
        Ok(state.finish())
    }
}

fn note(state: &mut Hasher, path: &[u8], stat: &Stat) {
    state.update(&(path.len() as u64).to_le_bytes());
    state.update(path);
    for number in [stat.st_dev, stat.st_ino, u64::from(stat.st_mode), stat.st_ctime_nsec] {
        state.update(&number.to_le_bytes());
    }
    for number in [stat.st_size, stat.st_ctime] {
        state.update(&number.to_le_bytes());
    }
}

/// What is written becomes a digest alone.
pub(crate) struct Digesting(pub(crate) Hasher);

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
