//! The sending side: of each image as much as the other side lacks.

use super::super::transfer::{LayerStep, Step, Teller};
use super::super::{Hold, Images, Inner, holds};
use super::meant::Meant;
use super::offer::{Done, Item, Offer, Wanted};
use super::parcel::Parcel;
use super::wire::{Frame, Incoming, Outgoing, Wire, silent};
use super::{broken, other_side};
use crate::error::{Attempt, Error, Result, blocking};
use crate::limits::{LAST_WORDS, MOVED_CHUNK, MOVING_STALL, STEPS, TOLD_EVERY, WANTED_ROUNDS};
use bytes::{Bytes, BytesMut};
use coracle_spec::{Platform, Reference};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendRequest {
    /// Names or ids. An image that is meant by its id arrives without a name; a name means all that it leads to.
    pub images: Vec<String>,
    /// Of these, only what is for these platforms, if any are given.
    pub platforms: Vec<Platform>,
    /// What the image is called there instead of its own names. Only for one name.
    pub name: Option<Reference>,
}

/// What the other side says, read beside everything else: it may complain at any time.
struct Answers {
    frames: mpsc::Receiver<Result<Frame>>,
    reading: JoinHandle<()>,
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// What is chosen to be sent. What it consists of stays as long as this exists.
#[derive(Debug)]
pub struct Sending {
    inner: Arc<Inner>,
    meant: Vec<Meant>,
    /// What it is called there.
    name: Option<Reference>,
    hold: Hold,
}

impl Images {
    /// Chooses what is to be sent to another engine.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`], and [`Error::Missing`] for a platform that is not here.
    pub async fn choose_to_send(&self, request: SendRequest) -> Result<Sending> {
        let (inner, hold) = (Arc::clone(&self.0), self.hold());
        self.run(move |known| {
            let SendRequest { images, platforms, name } = request;
            let mut meant: Vec<Meant> = Vec::new();
            for image in &images {
                meant.extend(known.meant_to_go(image, &platforms)?);
            }
            let mut names: Vec<&Option<Reference>> = meant.iter().map(|one| &one.name).collect();
            names.dedup();
            if name.is_some() && (images.len() != 1 || names.len() != 1) {
                return Err(Error::Invalid("one name cannot be that of several images".to_owned()));
            }
            hold.only(meant.iter().flat_map(|one| holds::content_of(&one.known)));
            Ok(Sending { inner, meant, name, hold })
        })
        .await
    }
}

impl Sending {
    /// Sends everything to the engine at the other end of a pipe, of each what it lacks.
    ///
    /// # Errors
    /// [`Error::Missing`] when the other side refuses, in its words, or the connection breaks. What arrived before stays there.
    pub async fn send(
        self,
        reader: impl AsyncRead + Unpin + Send + 'static,
        writer: impl AsyncWrite + Unpin + Send,
        told: &Teller,
    ) -> Result<()> {
        let Wire { incoming, mut outgoing } = Wire::open(reader, writer).await?;
        let mut sender = Sender {
            inner: &self.inner,
            answers: Answers::listen(incoming),
            told,
            last: Instant::now(),
            awaited: BTreeSet::new(),
        };
        for meant in self.meant {
            let (inner, name) = (Arc::clone(&self.inner), self.name.clone());
            let parcel = blocking(move || inner.parcel(&meant, name)).await??;
            self.hold.and(parcel.offer.content());
            sender.image(&parcel, &mut outgoing).await?;
            self.inner.tell_by_id(&parcel.offer.id, "save");
        }
        // All of it is there: whoever is gone by now need not be told.
        let _ = outgoing.say(Frame::End).await;
        Ok(())
    }
}

impl Answers {
    fn listen(incoming: Incoming<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        // While a long layer goes, there is nothing to be said.
        let mut incoming = incoming.without_stall();
        let (sender, frames) = mpsc::channel(STEPS);
        let reading = tokio::spawn(async move {
            loop {
                let frame = incoming.next().await;
                let ended = frame.is_err();
                if sender.send(frame).await.is_err() || ended {
                    return;
                }
            }
        });
        Self { frames, reading }
    }

    async fn next(&mut self) -> Result<Frame> {
        let next = tokio::time::timeout(MOVING_STALL, self.frames.recv()).await;
        next.map_err(|_| silent(MOVING_STALL))?.unwrap_or_else(|| Err(other_side("it ended")))
    }

    /// Why a write failed: the other side may have said so before it went.
    async fn reason(&mut self, error: Error) -> Error {
        let last = async {
            loop {
                match self.frames.recv().await {
                    Some(Ok(_)) => {}
                    Some(Err(reason)) => return Some(reason),
                    None => return None,
                }
            }
        };
        tokio::time::timeout(LAST_WORDS, last).await.ok().flatten().unwrap_or(error)
    }
}

/// One connection.
struct Sender<'a> {
    inner: &'a Arc<Inner>,
    answers: Answers,
    told: &'a Teller,
    last: Instant,
    /// Places of what the other side has asked for and does not have yet.
    awaited: BTreeSet<usize>,
}

impl Sender<'_> {
    async fn image(&mut self, parcel: &Parcel, out: &mut Outgoing<impl AsyncWrite + Unpin>) -> Result<()> {
        self.told.tell(Step::Sending { image: parcel.shown.clone() }).await;
        for item in parcel.offer.items().filter(|item| item.diff_id.is_some() || parcel.offer.artifact) {
            self.told.layer(&item.shown(), LayerStep::Preparing).await;
        }
        let offered = offer(parcel, out).await;
        self.or_reason(offered).await?;
        self.awaited.clear();
        let mut bytes = 0;
        for round in 0..WANTED_ROUNDS {
            let wanted = self.wanted(&parcel.offer).await;
            let wanted = wanted.map_err(|error| refused(parcel, round, error))?;
            if round == 0 {
                self.tell_present(&parcel.offer, &wanted).await;
            }
            if wanted.is_empty() {
                let done = self.done(&parcel.offer).await?;
                if !parcel.offer.beside.is_empty() && !done.beside {
                    self.told.tell(Step::Warning(left_out(&parcel.shown))).await;
                }
                self.told.tell(delivered(parcel, bytes, done)).await;
                return Ok(());
            }
            self.awaited.extend(wanted.iter().map(|wanted| wanted.layer));
            for wanted in &wanted {
                let Some(item) = parcel.offer.item(wanted.layer) else { continue };
                bytes += item.size - wanted.offset;
                self.item(&parcel.offer, item, wanted.offset, out).await?;
            }
        }
        Err(broken("it wants the same layers again and again"))
    }

    /// What the other side lacks. It may still say of earlier layers that they are there.
    async fn wanted(&mut self, offer: &Offer) -> Result<Vec<Wanted>> {
        loop {
            match self.answers.next().await? {
                Frame::Here(layer) => self.here(offer, layer).await?,
                Frame::Wanted(wanted) => {
                    offer.check_wanted(&wanted)?;
                    return Ok(wanted);
                }
                other => return Err(broken(format!("{} is no answer to an offer", other.name()))),
            }
        }
    }

    async fn done(&mut self, offer: &Offer) -> Result<Done> {
        loop {
            match self.answers.next().await? {
                Frame::Here(layer) => self.here(offer, layer).await?,
                Frame::Done(done) => {
                    done.check()?;
                    return Ok(done);
                }
                other => return Err(broken(format!("{} is no end of an image", other.name()))),
            }
        }
    }

    async fn here(&mut self, offer: &Offer, layer: usize) -> Result<()> {
        if !self.awaited.remove(&layer) {
            return Err(broken("it has a layer that it did not want"));
        }
        if let Some(item) = offer.item(layer) {
            self.told.layer(&item.shown(), LayerStep::Sent).await;
        }
        Ok(())
    }

    async fn tell_present(&self, offer: &Offer, wanted: &[Wanted]) {
        for (number, item) in offer.items().enumerate() {
            if wanted.iter().any(|wanted| wanted.layer == number) {
                self.told.layer(&item.shown(), LayerStep::Waiting).await;
            } else if item.diff_id.is_some() || offer.artifact {
                // Of anything else, it may not know.
                self.told.layer(&item.shown(), LayerStep::PresentThere).await;
            }
        }
    }

    /// Sends the rest of a layer, or of something else.
    async fn item(
        &mut self,
        offer: &Offer,
        item: Item,
        offset: u64,
        out: &mut Outgoing<impl AsyncWrite + Unpin>,
    ) -> Result<()> {
        let (inner, id) = (Arc::clone(self.inner), item.shown());
        let file = blocking(move || inner.blob_from(&item.blob, offset)).await??;
        let mut content = tokio::fs::File::from_std(file).take(item.size - offset);
        let mut done = offset;
        while let Some(piece) = next_piece(&mut content).await? {
            done += piece.len() as u64;
            self.piece(offer, piece, out).await?;
            if self.last.elapsed() >= TOLD_EVERY {
                self.last = Instant::now();
                self.told.layer(&id, LayerStep::Sending { done, total: item.size }).await;
            }
        }
        if done != item.size {
            let text = format!("{} is shorter than its record says", item.blob);
            return Err(Error::Conflict(text));
        }
        let sent = out.say(Frame::Whole).await;
        self.or_reason(sent).await
    }

    /// Sends a piece of a layer, and takes note of what the other side says meanwhile.
    async fn piece(
        &mut self,
        offer: &Offer,
        piece: Bytes,
        out: &mut Outgoing<impl AsyncWrite + Unpin>,
    ) -> Result<()> {
        let sending = out.send(Frame::Data(piece));
        tokio::pin!(sending);
        loop {
            tokio::select! {
                biased;
                answer = self.answers.frames.recv() => match answer {
                    Some(Ok(Frame::Here(layer))) => self.here(offer, layer).await?,
                    Some(Ok(other)) => {
                        return Err(broken(format!("{} in the middle of a layer", other.name())));
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Err(other_side("it ended")),
                },
                sent = &mut sending => return self.or_reason(sent).await,
            }
        }
    }

    async fn or_reason<T>(&mut self, result: Result<T>) -> Result<T> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => Err(self.answers.reason(error).await),
        }
    }
}

fn left_out(shown: &str) -> String {
    format!(
        "attestations of {shown} are left out: the other engine is older than this one and does not keep any"
    )
}

/// Why an offer was not taken. Engines that know of images alone find no configuration in an artifact.
fn refused(parcel: &Parcel, round: usize, error: Error) -> Error {
    if !parcel.offer.artifact || round > 0 {
        return error;
    }
    let text = error.chain();
    Error::Missing(format!("{text} ({} is no image, and older engines take images alone)", parcel.shown))
}

/// Offers an image. The documents are small and go along.
async fn offer(parcel: &Parcel, out: &mut Outgoing<impl AsyncWrite + Unpin>) -> Result<()> {
    out.send(Frame::Offer(parcel.offer.clone())).await?;
    for document in &parcel.documents {
        out.send(Frame::Document(document.clone().into())).await?;
    }
    out.flush().await
}

async fn next_piece(content: &mut (impl AsyncRead + Unpin)) -> Result<Option<Bytes>> {
    let mut piece = BytesMut::with_capacity(MOVED_CHUNK);
    while piece.len() < MOVED_CHUNK {
        let room = MOVED_CHUNK - piece.len();
        let read = content.take(room as u64).read_buf(&mut piece).await;
        if read.attempt(|| "read a layer".to_owned())? == 0 {
            break;
        }
    }
    Ok((!piece.is_empty()).then(|| piece.freeze()))
}

fn delivered(parcel: &Parcel, bytes: u64, done: Done) -> Step {
    let total = parcel.offer.items().fold(0, |sum: u64, item| sum.saturating_add(item.size));
    Step::Delivered { image: parcel.shown.clone(), id: parcel.offer.id, bytes, total, moved: done.moved }
}
