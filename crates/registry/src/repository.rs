//! One repository, for one operation.
use crate::Result;
use bytes::Bytes;
use coracle_spec::image::{Descriptor, Document, Index};
use coracle_spec::{Digest, Reference, Tag};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use std::io;

/// What a client will do in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// Which manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The one that a tag names now.
    Tag(Tag),
    /// The one with a digest.
    Digest(Digest),
}

/// A manifest or an index.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What it is.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub content: Bytes,
    /// What they say.
    pub document: Document,
}

/// Content to be uploaded.
pub type Body = BoxStream<'static, io::Result<Bytes>>;
/// Content to be uploaded, once it is open.
pub type BodyFuture = BoxFuture<'static, io::Result<Body>>;

/// The result of `docker login`.
#[derive(Clone, Debug)]
pub struct Login {
    /// A refresh token, where the server issued one.
    pub identity_token: Option<crate::Secret>,
    /// What to tell the user.
    pub status: String,
}

/// A repository that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchResult {
    /// The repository.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many like it.
    pub star_count: u64,
    /// Whether it is one of the default registry's own.
    pub is_official: bool,
    /// Whether the default registry builds it.
    pub is_automated: bool,
}

/// A blob's bytes.
#[derive(Debug)]
pub struct BlobStream;

impl BlobStream {
    /// The next piece.
    ///
    /// # Errors
    /// Whatever.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        unimplemented!()
    }
}

/// A repository.
#[derive(Clone, Debug)]
pub struct Repository;

#[allow(missing_docs, clippy::missing_errors_doc, unused_variables)]
impl Repository {
    pub async fn describe(&self, pick: &Pick) -> Result<Descriptor> {
        unimplemented!()
    }
    pub async fn manifest(&self, pick: &Pick) -> Result<Manifest> {
        unimplemented!()
    }
    pub async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        unimplemented!()
    }
    pub async fn has_blob(&self, digest: &Digest) -> Result<Option<u64>> {
        unimplemented!()
    }
    pub async fn mount(&self, digest: &Digest, from: &Reference) -> Result<bool> {
        unimplemented!()
    }
    pub async fn upload(
        &self,
        blob: &Descriptor,
        open: &(dyn Fn() -> BodyFuture + Send + Sync),
    ) -> Result<()> {
        unimplemented!()
    }
    pub async fn put_manifest(&self, pick: &Pick, media_type: &str, content: Bytes) -> Result<Digest> {
        unimplemented!()
    }
    pub async fn referrers(&self, digest: &Digest) -> Result<Index> {
        unimplemented!()
    }
    pub fn host(&self) -> String {
        unimplemented!()
    }
}
