//! Manifests: asking for their digest, reading, writing, and what refers to them.

use crate::answer::{Answer, Subject, clean};
use crate::exchange::{Call, Payload, answer_time};
use crate::repository::{ACCEPTED, first_of};
use crate::retry::Outlook;
use crate::session::Session;
use crate::{Error, Manifest, Pick, Repository, Result};
use bytes::Bytes;
use coracle_spec::digest::{Algorithm, Hasher};
use coracle_spec::image::{Descriptor, Document, Index, media_type};
use coracle_spec::{Digest, Tag, limits as spec_limits};
use reqwest::Method;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue};

/// The field that names the digest of what a registry answers.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// Media types of Docker's first manifests, without and with signatures.
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// A manifest as it came.
struct Served {
    host: String,
    /// The digest that the registry says it has.
    named: Option<Digest>,
    /// The media type that it was served as.
    kind: Option<String>,
    content: Bytes,
}

impl Repository {
    /// Media type, digest and size of a manifest, without its content where the registry allows that.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] if there is none, [`Error::Schema1`], and errors of the exchange.
    pub async fn describe(&self, pick: &Pick) -> Result<Descriptor> {
        first_of!(self, session => self.describe_at(session, pick))
    }

    /// A manifest or an index. Its content has the digest it was asked for by, and the one the registry named.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] if there is none, [`Error::Schema1`], [`Error::DigestMismatch`], [`Error::Document`],
    /// [`Error::TooLarge`], and errors of the exchange.
    pub async fn manifest(&self, pick: &Pick) -> Result<Manifest> {
        first_of!(self, session => self.manifest_at(session, pick))
    }

    /// Stores a manifest, and returns its digest. What it names must be there already.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] if `pick` or the registry say another digest than the content has, [`Error::Denied`],
    /// [`Error::Unauthorized`], and errors of the exchange.
    pub async fn put_manifest(&self, pick: &Pick, media_type: &str, content: Bytes) -> Result<Digest> {
        let session = self.origin();
        let expected = match pick {
            Pick::Tag(_) => Digest::of(&content),
            Pick::Digest(digest) => *digest,
        };
        check(session.host(), expected, &content)?;
        let mut call = Call::new(Method::PUT);
        let kind = HeaderValue::from_str(media_type).map_err(|_| Error::Protocol {
            host: session.host().to_owned(),
            reason: "a media type that no header can carry".to_owned(),
        })?;
        call.headers.insert(CONTENT_TYPE, kind);
        call.payload = Payload::Bytes(content.clone());
        let target = session.path(&format!("{}/manifests/{}", self.path(), pick.text()));
        let answer = session.demand(&target, &call, &[201, 202, 200], Subject::Other).await?;
        if let Some(stored) = named_digest(&answer)? {
            check(&answer.host(), stored, &content)?;
        }
        self.answered(session);
        Ok(expected)
    }

    /// What refers to a manifest by its `subject`: signatures, bills of materials. A registry without the API for it
    /// is asked for the tag that stands in for it; no such tag is an empty list.
    ///
    /// # Errors
    /// As [`Repository::manifest`].
    pub async fn referrers(&self, digest: &Digest) -> Result<Index> {
        first_of!(self, session => self.referrers_at(session, digest))
    }

    async fn describe_at(&self, session: &Session, pick: &Pick) -> Result<Descriptor> {
        let answer = self.ask_manifest(session, Method::HEAD, pick).await?;
        match answer.status() {
            200 => (),
            405 | 501 => return Ok(self.manifest_at(session, pick).await?.descriptor),
            // An answer to HEAD has no body that would say more; one to GET may.
            _ => {
                return Err(answer
                    .failure(Subject::Manifest { repository: self.path(), pick: &pick.suffix() })
                    .await);
            }
        }
        self.refuse_schema_1(&answer, pick)?;
        let (kind, length) = (answer.media_type().map(ToOwned::to_owned), answer.length());
        let (Some(digest), Some(kind), Some(size)) = (named_digest(&answer)?, kind, length) else {
            return Ok(self.manifest_at(session, pick).await?.descriptor);
        };
        let known =
            [media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX];
        if !known.contains(&kind.as_str()) || size == 0 {
            return Ok(self.manifest_at(session, pick).await?.descriptor);
        }
        if size > spec_limits::MANIFEST as u64 {
            let (host, limit) = (answer.host(), spec_limits::MANIFEST);
            return Err(Error::TooLarge { host, what: "manifest", limit });
        }
        match pick {
            Pick::Digest(expected) if digest.algorithm() == expected.algorithm() && digest != *expected => {
                Err(Error::DigestMismatch {
                    host: answer.host(),
                    expected: Box::new(*expected),
                    computed: Box::new(digest),
                })
            }
            Pick::Digest(expected) => Ok(Descriptor::new(&kind, *expected, size)),
            Pick::Tag(_) => Ok(Descriptor::new(&kind, digest, size)),
        }
    }

    async fn manifest_at(&self, session: &Session, pick: &Pick) -> Result<Manifest> {
        let Served { host, named, kind, content } = self.served(session, pick).await?;
        for expected in named.into_iter().chain(pick.digest()) {
            check(&host, expected, &content)?;
        }
        let document = self.document(&host, pick, &content, kind.as_deref())?;
        let digest = pick.digest().or(named).unwrap_or_else(|| Digest::of(&content));
        let descriptor = Descriptor::new(&kind_of(&document, kind), digest, content.len() as u64);
        Ok(Manifest { descriptor, content, document })
    }

    /// Reads a manifest, again if it breaks off.
    async fn served(&self, session: &Session, pick: &Pick) -> Result<Served> {
        let mut tries = session.tries();
        loop {
            let answer = self.ask_manifest(session, Method::GET, pick).await?;
            if answer.status() != 200 {
                let subject = Subject::Manifest { repository: self.path(), pick: &pick.suffix() };
                return Err(answer.failure(subject).await);
            }
            self.refuse_schema_1(&answer, pick)?;
            let (host, named) = (answer.host(), named_digest(&answer)?);
            let kind = answer.media_type().map(ToOwned::to_owned);
            if kind.as_deref() == Some("text/html") {
                return Err(answer.invalid("a page for people (text/html) instead of a manifest"));
            }
            let time = answer_time(&session.client);
            let error = match answer.read("manifest", spec_limits::MANIFEST, time).await {
                Ok(content) => return Ok(Served { host, named, kind, content }),
                Err(error) => error,
            };
            let Some(pause) = tries.pause(Outlook::of(&error)) else { return Err(error) };
            session.client.timing().clock.pause(pause).await;
        }
    }

    async fn ask_manifest(&self, session: &Session, method: Method, pick: &Pick) -> Result<Answer> {
        let mut call = Call::new(method);
        call.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        call.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let path = format!("{}/manifests/{}", self.path(), pick.text());
        session.ask(&session.path(&path), &call).await
    }

    async fn referrers_at(&self, session: &Session, digest: &Digest) -> Result<Index> {
        let mut call = Call::new(Method::GET);
        call.headers.insert(ACCEPT, HeaderValue::from_static(media_type::INDEX));
        let target = session.path(&format!("{}/referrers/{digest}", self.path()));
        let answer = session.ask(&target, &call).await?;
        match answer.status() {
            // Who does not know the API may answer with anything that is no index.
            200 if answer.media_type() == Some(media_type::INDEX) => {
                let host = answer.host();
                let time = answer_time(&session.client);
                let content = answer.read("list of referrers", spec_limits::MANIFEST, time).await?;
                let document = Document::parse(&content, Some(media_type::INDEX));
                match document.map_err(|source| Error::Document { host: host.clone(), source })? {
                    Document::Index(index) => Ok(index),
                    Document::Manifest(_) => {
                        Err(Error::Protocol { host, reason: "a manifest as a list of referrers".to_owned() })
                    }
                }
            }
            200 | 400 | 404 | 405 => self.referrers_by_tag(session, digest).await,
            _ => Err(answer.failure(Subject::Other).await),
        }
    }

    async fn referrers_by_tag(&self, session: &Session, digest: &Digest) -> Result<Index> {
        match self.manifest_at(session, &Pick::Tag(referrers_tag(digest))).await {
            Ok(Manifest { document: Document::Index(index), .. }) => Ok(index),
            Ok(_) | Err(Error::ManifestUnknown { .. }) => Ok(no_referrers()),
            Err(error) => Err(error),
        }
    }

    fn document(&self, host: &str, pick: &Pick, content: &[u8], kind: Option<&str>) -> Result<Document> {
        Document::parse(content, kind).map_err(|source| {
            #[derive(serde::Deserialize)]
            struct Version {
                #[serde(rename = "schemaVersion")]
                schema_version: u32,
            }
            match serde_json::from_slice(content) {
                Ok(Version { schema_version: 1 }) => self.schema_1(host, pick),
                _ => Error::Document { host: host.to_owned(), source },
            }
        })
    }

    fn refuse_schema_1(&self, answer: &Answer, pick: &Pick) -> Result<()> {
        match answer.media_type() {
            Some(kind) if SCHEMA_1.contains(&kind) => Err(self.schema_1(&answer.host(), pick)),
            _ => Ok(()),
        }
    }

    fn schema_1(&self, host: &str, pick: &Pick) -> Error {
        Error::Schema1 { host: host.to_owned(), image: format!("{}{}", self.path(), pick.suffix()) }
    }
}

/// Whether content has a digest.
fn check(host: &str, expected: Digest, content: &[u8]) -> Result<()> {
    let computed = digest_of(expected.algorithm(), content);
    if computed == expected {
        return Ok(());
    }
    Err(Error::DigestMismatch {
        host: host.to_owned(),
        expected: Box::new(expected),
        computed: Box::new(computed),
    })
}

impl Pick {
    fn digest(&self) -> Option<Digest> {
        match self {
            Self::Tag(_) => None,
            Self::Digest(digest) => Some(*digest),
        }
    }
}

/// The digest that a registry says its answer has.
pub(crate) fn named_digest(answer: &Answer) -> Result<Option<Digest>> {
    let Some(text) = answer.header(CONTENT_DIGEST).filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = || answer.invalid(format!("a digest that is none: {:?}", clean(text)));
    text.parse().map(Some).map_err(|_| wrong())
}

fn digest_of(algorithm: Algorithm, content: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(content);
    hasher.finish()
}

/// The media type of a document: its own, else what it was served as, else what it is.
fn kind_of(document: &Document, served: Option<String>) -> String {
    let (own, otherwise) = match document {
        Document::Manifest(manifest) => (&manifest.media_type, media_type::MANIFEST),
        Document::Index(index) => (&index.media_type, media_type::INDEX),
    };
    if !own.is_empty() {
        return own.clone();
    }
    let generic = |kind: &String| matches!(kind.as_str(), "" | "application/json" | "text/plain");
    served.filter(|kind| !generic(kind)).unwrap_or_else(|| otherwise.to_owned())
}

/// The tag that stands in for the list of referrers (distribution specification, "referrers tag schema").
fn referrers_tag(digest: &Digest) -> Tag {
    let mut hex = digest.hex();
    hex.truncate(64);
    format!("{}-{hex}", digest.algorithm().name()).parse().expect("letters, digits and a dash are a tag")
}

fn no_referrers() -> Index {
    Index {
        schema_version: 2,
        media_type: media_type::INDEX.to_owned(),
        manifests: Vec::new(),
        annotations: std::collections::BTreeMap::default(),
        other: serde_json::Map::default(),
    }
}
