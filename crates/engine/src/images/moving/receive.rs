//! The receiving side: asks for what is missing and unpacks it while it comes. An image is there once all of it is; what
//! came of one that did not arrive waits for the next attempt, as that of a pull does.

use super::super::adopt::{NewArtifact, Origin};
use super::super::variants::Membership;
use super::super::{BodyReader, BodySender, Hold, Images, Inner, NewImage, of_store};
use super::broken;
use super::offer::{Done, Item, Offer, Wanted};
use super::wire::{Frame, Wire};
use crate::error::{Attempt, Error, Result, blocking};
use crate::limits::MOVED_AT_ONCE;
use coracle_spec::digest::Hasher;
use coracle_spec::image::{Descriptor, Document, Index};
use coracle_spec::{Digest, Platform, Reference};
use coracle_store::Expected;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinHandle, JoinSet};

impl Images {
    /// Receives the images that the engine at the other end of a pipe sends. Each is durable when the sender hears of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is not what it should be, [`Error::Missing`] when the connection breaks. The image
    /// under way is not added then; those before it stay.
    pub async fn receive(
        &self,
        reader: impl AsyncRead + Unpin + Send,
        writer: impl AsyncWrite + Unpin + Send,
    ) -> Result<()> {
        let mut wire = Wire::open(reader, writer).await?;
        // From before the first piece is stored.
        let hold: Hold = self.0.holds.arrivals();
        let mut receiver = Receiver { inner: &self.0, wire: &mut wire, hold };
        let received = receiver.run().await;
        if let Err(error) = &received {
            // Whoever is gone cannot be told.
            let _ = wire.outgoing.say(Frame::Failure(error.chain())).await;
        }
        received
    }
}

struct Receiver<'a, R, W> {
    inner: &'a Arc<Inner>,
    wire: &'a mut Wire<R, W>,
    /// On what comes, and on what of an image is here already.
    hold: Hold,
}

/// What became of the pieces of a layer.
enum Taken {
    /// All of them came.
    All,
    /// They cannot be unpacked; the unpacker says why.
    Refused,
}

/// A layer that was unpacked while it came, or not.
type Unpacking = (Wanted, Result<()>);

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Receiver<'_, R, W> {
    async fn run(&mut self) -> Result<()> {
        loop {
            match self.wire.incoming.next().await? {
                Frame::Offer(offer) => self.image(offer).await?,
                Frame::End => return Ok(()),
                other => return Err(broken(format!("{} is no offer", other.name()))),
            }
        }
    }

    async fn image(&mut self, offer: Offer) -> Result<()> {
        let documents = self.documents(&offer).await?;
        offer.check(&documents)?;
        let names = offer.references()?;
        // From before it is looked what of it is here.
        self.hold.and(offer.content());
        let offer = Arc::new(offer);
        let mut wanted =
            on_thread(self.inner, &offer, move |inner, offer| inner.begin(offer, &documents)).await?;
        loop {
            self.wire.outgoing.say(Frame::Wanted(wanted.clone())).await?;
            if wanted.is_empty() {
                break;
            }
            let wrong = self.layers(&offer, &wanted).await?;
            wanted = on_thread(self.inner, &offer, move |inner, offer| inner.missing(offer, &wrong)).await?;
        }
        let moved = on_thread(self.inner, &offer, |inner, offer| inner.arrived(offer, names)).await?;
        self.wire.outgoing.say(Frame::Done(Done { moved, beside: !offer.beside.is_empty() })).await
    }

    /// The configuration and the manifests, each what its digest says.
    async fn documents(&mut self, offer: &Offer) -> Result<Vec<Vec<u8>>> {
        let mut documents = Vec::with_capacity(offer.documents()?);
        for expected in std::iter::once(&offer.id).chain(&offer.manifests) {
            let Frame::Document(content) = self.wire.incoming.next().await? else {
                return Err(broken("a document is missing"));
            };
            let mut hasher = Hasher::new(expected.algorithm());
            hasher.update(&content);
            let computed: Digest = hasher.finish();
            if computed != *expected {
                let text =
                    format!("a document does not match its digest: expected {expected}, computed {computed}");
                return Err(Error::Invalid(text));
            }
            documents.push(content.into());
        }
        Ok(documents)
    }

    /// Takes the layers in the order in which they were asked for. Returns those whose kept beginning was wrong.
    async fn layers(&mut self, offer: &Arc<Offer>, wanted: &[Wanted]) -> Result<BTreeSet<usize>> {
        let mut unpacking: JoinSet<Unpacking> = JoinSet::new();
        let mut wrong = BTreeSet::new();
        for wanted in wanted {
            while unpacking.len() >= MOVED_AT_ONCE {
                self.one_unpacked(&mut unpacking, &mut wrong).await?;
            }
            let importing = self.item(offer, *wanted).await?;
            let wanted = *wanted;
            unpacking.spawn(async move { (wanted, super::super::transfer::joined(importing.await)) });
        }
        while !unpacking.is_empty() {
            self.one_unpacked(&mut unpacking, &mut wrong).await?;
        }
        Ok(wrong)
    }

    async fn one_unpacked(
        &mut self,
        unpacking: &mut JoinSet<Unpacking>,
        wrong: &mut BTreeSet<usize>,
    ) -> Result<()> {
        let Some(ended) = unpacking.join_next().await else { return Ok(()) };
        let (wanted, result) = ended.attempt(|| "unpack a layer".to_owned())?;
        match result {
            // What was kept may be to blame: the store has thrown it away.
            Err(Error::Invalid(_)) if wanted.offset > 0 => drop(wrong.insert(wanted.layer)),
            Err(error) => return Err(error),
            Ok(()) => self.wire.outgoing.say(Frame::Here(wanted.layer)).await?,
        }
        Ok(())
    }

    /// Takes all of one layer, which may still be unpacked afterwards, or of something else.
    async fn item(&mut self, offer: &Arc<Offer>, wanted: Wanted) -> Result<JoinHandle<Result<()>>> {
        let item = offer.item(wanted.layer).ok_or_else(|| broken("it has nothing at that place"))?;
        let (sender, reader) = BodyReader::channel();
        let inner = Arc::clone(self.inner);
        let importing = tokio::task::spawn_blocking(move || inner.import_moved(&item, wanted.offset, reader));
        match self.pieces(&item, wanted.offset, &sender).await {
            Ok(Taken::All) => sender.finish().await,
            Ok(Taken::Refused) => {
                drop(sender);
                super::super::transfer::joined(importing.await)?;
                return Err(broken("a layer went on behind its end"));
            }
            Err(error) => {
                sender.fail(io::ErrorKind::UnexpectedEof.into()).await;
                // It ends for the same reason, after keeping what came.
                let _ = importing.await;
                return Err(error);
            }
        }
        Ok(importing)
    }

    async fn pieces(&mut self, item: &Item, offset: u64, unpacker: &BodySender) -> Result<Taken> {
        let mut left = item.size - offset;
        let mut taken = true;
        loop {
            match self.wire.incoming.next_at_hand().await? {
                Frame::Data(piece) if piece.len() as u64 <= left => {
                    left -= piece.len() as u64;
                    taken = taken && unpacker.send(piece).await.is_ok();
                    // Where it began with what was kept, that may be to blame, and the next layer follows behind this.
                    if !taken && offset == 0 {
                        return Ok(Taken::Refused);
                    }
                }
                Frame::Data(_) => return Err(broken("a layer is longer than was offered")),
                Frame::Whole if left == 0 => return Ok(Taken::All),
                Frame::Whole => return Err(broken("a layer is shorter than was offered")),
                other => return Err(broken(format!("{} in the middle of a layer", other.name()))),
            }
        }
    }
}

/// Does `work` on the offer on a blocking thread.
async fn on_thread<T: Send + 'static>(
    inner: &Arc<Inner>,
    offer: &Arc<Offer>,
    work: impl FnOnce(&Inner, &Offer) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (inner, offer) = (Arc::clone(inner), Arc::clone(offer));
    blocking(move || work(&inner, &offer)).await?
}

impl Inner {
    /// Keeps the documents, and finds out which layers are missing, and from where. Blocks.
    fn begin(&self, offer: &Offer, documents: &[Vec<u8>]) -> Result<Vec<Wanted>> {
        let receiving = || format!("begin to receive image {}", offer.id.short());
        let blobs: Vec<Digest> = offer.items().map(|item| item.blob).collect();
        self.store.lease(&offer.id, &blobs).map_err(|error| of_store(error, receiving))?;
        for (digest, content) in std::iter::once(&offer.id).chain(&offer.manifests).zip(documents) {
            self.store.put_blob_as(*digest, content).map_err(|error| of_store(error, receiving))?;
        }
        self.missing(offer, &BTreeSet::new())
    }

    /// What is not here, and from where it is needed: from its first byte if what was kept is wrong.
    fn missing(&self, offer: &Offer, wrong: &BTreeSet<usize>) -> Result<Vec<Wanted>> {
        let mut wanted = Vec::new();
        let mut seen = BTreeSet::new();
        for (number, item) in offer.items().enumerate() {
            if !seen.insert(item.diff_id.unwrap_or(item.blob)) || self.has_item(&item)? {
                continue;
            }
            let kept = self.store.partial(&item.blob).map_err(|error| unpacking(error, &item))?;
            let kept = kept.filter(|_| !wrong.contains(&number));
            let offset = kept.map_or(0, |partial| partial.size).min(item.size);
            wanted.push(Wanted { layer: number, offset });
        }
        Ok(wanted)
    }

    /// Whether a layer is here unpacked, or something else as it is.
    fn has_item(&self, item: &Item) -> Result<bool> {
        let Some(diff_id) = &item.diff_id else {
            let here = self.store.has_blob(&item.blob).map_err(|error| unpacking(error, item))?;
            return Ok(here.is_some());
        };
        let here = self.store.has_whole_layer(diff_id).map_err(|error| unpacking(error, item))?;
        Ok(here || self.unpack_kept(item)?)
    }

    /// Unpacks a blob that is here whole, though its layer is not: the engine was killed between the two.
    fn unpack_kept(&self, layer: &Item) -> Result<bool> {
        let blob = match self.store.read_blob(&layer.blob) {
            Ok(blob) => blob,
            Err(coracle_store::Error::BlobMissing { .. }) => return Ok(false),
            Err(error) => return Err(unpacking(error, layer)),
        };
        self.store_item(layer, blob)?;
        Ok(true)
    }

    /// Makes a layer, or something else, of what came before and what comes now. Blocks.
    fn import_moved(&self, item: &Item, offset: u64, rest: BodyReader) -> Result<()> {
        // It goes on for a moment when the connection ends.
        let _hold = self.holds.arriving_blob(item.blob);
        let partial = match offset {
            0 => None,
            _ => self.store.partial(&item.blob).map_err(|error| unpacking(error, item))?,
        };
        match partial {
            Some(partial) => self.store_item(item, partial.content.take(offset).chain(rest)),
            None => self.store_item(item, rest),
        }
    }

    fn store_item(&self, item: &Item, content: impl Read + Send) -> Result<()> {
        let stored = match item.diff_id {
            Some(_) => {
                let expected = Expected { blob: Some(item.blob), diff_id: item.diff_id };
                self.store.import(content, &expected).map(drop)
            }
            None => self.store.keep_blob(item.blob, content).map(drop),
        };
        stored.map_err(|error| unpacking(error, item))
    }

    /// All of an image is here. Names that other images had move; returns these. Blocks.
    fn arrived(&self, offer: &Offer, references: Vec<Reference>) -> Result<Vec<(String, Digest)>> {
        let mut moved = Vec::new();
        for (target, references) in offer.by_target(references) {
            let origin = target.map(|target| self.origin(offer, target)).unwrap_or_default();
            let adopted = if offer.artifact {
                self.adopt_artifact(self.artifact_of(offer, references)?, &origin)?
            } else {
                let manifests = offer.manifests.iter().copied().chain(self.statements_of(offer, &origin)?);
                let manifests = manifests.collect();
                self.adopt_from(NewImage { id: offer.id, references, parent: None, manifests }, &origin)?
            };
            moved.extend(adopted.moved);
        }
        let ending = || format!("end the way of image {}", offer.id.short());
        self.store.end_lease(&offer.id).map_err(|error| of_store(error, ending))?;
        self.tell_by_id(&offer.id, "load");
        Ok(moved.into_iter().map(|(name, id)| (name.familiar(), id)).collect())
    }

    fn artifact_of(&self, offer: &Offer, references: Vec<Reference>) -> Result<NewArtifact> {
        let reading = || format!("read the manifest of artifact {}", offer.id.short());
        let content = self.store.read_small_blob(&offer.id, coracle_spec::limits::MANIFEST as u64);
        let kind = offer.check_artifact(&content.map_err(|error| of_store(error, reading))?)?;
        let mut blobs = vec![offer.id];
        blobs.extend(offer.manifests.iter().filter(|manifest| **manifest != offer.id));
        blobs.extend(offer.beside.iter().map(|blob| blob.digest));
        let size = offer.beside.iter().fold(0, |sum: u64, blob| sum.saturating_add(blob.size));
        Ok(NewArtifact { id: offer.id, references, kind, blobs, size })
    }

    /// Of what came beside an image, what belongs to statements about it by its index.
    fn statements_of(&self, offer: &Offer, origin: &Origin) -> Result<Vec<Digest>> {
        let index = origin.target.and_then(|target| self.described(target));
        let (Some((_, Document::Index(index))), Some(member)) = (index, &origin.member) else {
            return Ok(Vec::new());
        };
        let came: BTreeSet<Digest> = offer.beside.iter().map(|blob| blob.digest).collect();
        let mut all = self.attestations_here(&index, &member.manifest)?;
        all.retain(|statement| statement.iter().all(|part| came.contains(&part.digest)));
        Ok(all.into_iter().flatten().map(|part| part.digest).collect())
    }

    /// Where a name comes from that stands for one of the documents that came. An index that does not name the image itself
    /// leads nowhere. Blocks.
    fn origin(&self, offer: &Offer, target: Digest) -> Origin {
        let member = match self.described(target) {
            Some((_, Document::Manifest(_))) => return Origin { target: Some(target), member: None },
            Some((_, Document::Index(index))) => self.membership(offer, &index),
            None => None,
        };
        Origin { target: member.as_ref().map(|_| target), member }
    }

    fn membership(&self, offer: &Offer, index: &Index) -> Option<Membership> {
        let is_of_it = |digest| match self.described(digest) {
            Some((_, Document::Manifest(_))) if offer.artifact => digest == offer.id,
            Some((_, Document::Manifest(manifest))) => manifest.config.digest == offer.id,
            _ => false,
        };
        let is_its = |entry: &&Descriptor| offer.manifests.contains(&entry.digest) && is_of_it(entry.digest);
        let entry = index.manifests.iter().find(is_its)?;
        let own = || match offer.artifact {
            true => Some(Platform::default()),
            false => self.store.config(&offer.id).map(|config| config.platform).ok(),
        };
        Some(Membership { manifest: entry.digest, platform: entry.platform.clone().or_else(own)? })
    }
}

fn unpacking(error: coracle_store::Error, item: &Item) -> Error {
    let what = if item.diff_id.is_some() { "unpack layer" } else { "keep" };
    of_store(error, || format!("{what} {}", item.blob.short()))
}
