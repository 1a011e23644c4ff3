//! What files of a tree are, in one digest: their names, contents, modes, owners and links, but not their times.

use std::io::{self, Write};

use coracle_spec::Digest;
use coracle_spec::digest::{Algorithm, Hasher};

use crate::error::Result;
use crate::{Altered, Chosen, Filter, Tree};

impl Tree {
    /// The digest of what was chosen; equal for what is the same but for its times, wherever it is.
    ///
    /// # Errors
    /// As [`Tree::pack_chosen`].
    pub fn fingerprint(&self, chosen: &[Chosen], left_out: Filter<'_>, altered: Altered) -> Result<Digest> {
        let mut digest = Digesting(Hasher::new(Algorithm::Sha256));
        self.pack_chosen(chosen, left_out, Altered { timeless: true, ..altered }, &mut digest)?;
        Ok(digest.0.finish())
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
