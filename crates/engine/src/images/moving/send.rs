//! The sending side: of each image as much as the other side lacks.

use super::super::transfer::{LayerStep, Step, Teller};
use super::super::{Hold, Images, Inner, holds};
use super::offer::{Done, Offer, OfferedLayer, Wanted};
use super::parcel::Parcel;
use super::wire::{Frame, Incoming, Outgoing, Wire, silent};
use super::{broken, other_side};
use crate::error::{Attempt, Error, Result, blocking};
use crate::limits::{LAST_WORDS, MOVED_CHUNK, MOVING_STALL, STEPS, TOLD_EVERY, WANTED_ROUNDS};
use bytes::{Bytes, BytesMut};
use coracle_spec::Reference;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendRequest {
    /// Names or ids. An image that is meant by its id arrives without a name.
    pub images: Vec<String>,
    /// What the image is called there instead of its own names. Only for one image.
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

impl Images {
    /// Sends images to the engine at the other end of a pipe, of each the layers that it lacks.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Invalid`] before anything is sent; [`Error::Missing`] when the other side refuses,
    /// in its words, or the connection breaks. Images that arrived before stay there.
    pub async fn send(
        &self,
        request: SendRequest,
        reader: impl AsyncRead + Unpin + Send + 'static,
        writer: impl AsyncWrite + Unpin + Send,
        told: &Teller,
    ) -> Result<()> {
        let hold: Hold = self.hold();
        let known = request.images.iter().map(|image| self.0.find(image)).collect::<Result<Vec<_>>>()?;
        hold.only(known.iter().flat_map(|known| holds::content_of(known)));
        if request.name.is_some() && request.images.len() != 1 {
            return Err(Error::Invalid("one name cannot be that of several images".to_owned()));
        }
        let Wire { incoming, mut outgoing } = Wire::open(reader, writer).await?;
        let mut sender = Sender {
            inner: &self.0,
            answers: Answers::listen(incoming),
            told,
            last: Instant::now(),
            awaited: BTreeSet::new(),
        };
        for (image, known) in request.images.iter().zip(known) {
            let (inner, image, name) = (Arc::clone(&self.0), image.clone(), request.name.clone());
            let parcel = blocking(move || inner.parcel(&known, &image, name)).await??;
            hold.and(parcel.offer.content());
            sender.image(&parcel, &mut outgoing).await?;
            self.0.tell_by_id(&parcel.offer.id, "save");
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
    /// Layers that the other side has asked for and does not have yet.
    awaited: BTreeSet<usize>,
}

impl Sender<'_> {
    async fn image(&mut self, parcel: &Parcel, out: &mut Outgoing<impl AsyncWrite + Unpin>) -> Result<()> {
        self.told.tell(Step::Sending { image: parcel.shown.clone() }).await;
        for layer in &parcel.offer.layers {
            self.told.layer(&layer.diff_id.short(), LayerStep::Preparing).await;
        }
        let offered = offer(parcel, out).await;
        self.or_reason(offered).await?;
        self.awaited.clear();
        let mut bytes = 0;
        for round in 0..WANTED_ROUNDS {
            let wanted = self.wanted(&parcel.offer).await?;
            if round == 0 {
                self.tell_present(&parcel.offer, &wanted).await;
            }
            if wanted.is_empty() {
                let done = self.done(&parcel.offer).await?;
                self.told.tell(delivered(parcel, bytes, done)).await;
                return Ok(());
            }
            self.awaited.extend(wanted.iter().map(|wanted| wanted.layer));
            for wanted in &wanted {
                let layer = parcel.offer.layers[wanted.layer];
                bytes += layer.size - wanted.offset;
                self.layer(&parcel.offer, layer, wanted.offset, out).await?;
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
        let layer = offer.layers[layer];
        self.told.layer(&layer.diff_id.short(), LayerStep::Sent).await;
        Ok(())
    }

    async fn tell_present(&self, offer: &Offer, wanted: &[Wanted]) {
        for (number, layer) in offer.layers.iter().enumerate() {
            let state = if wanted.iter().any(|wanted| wanted.layer == number) {
                LayerStep::Waiting
            } else {
                LayerStep::PresentThere
            };
            self.told.layer(&layer.diff_id.short(), state).await;
        }
    }

    /// Sends the rest of a layer.
    async fn layer(
        &mut self,
        offer: &Offer,
        layer: OfferedLayer,
        offset: u64,
        out: &mut Outgoing<impl AsyncWrite + Unpin>,
    ) -> Result<()> {
        let (inner, id) = (Arc::clone(self.inner), layer.diff_id.short());
        let file = blocking(move || inner.blob_from(&layer.blob, offset)).await??;
        let mut content = tokio::fs::File::from_std(file).take(layer.size - offset);
        let mut done = offset;
        while let Some(piece) = next_piece(&mut content).await? {
            done += piece.len() as u64;
            self.piece(offer, piece, out).await?;
            if self.last.elapsed() >= TOLD_EVERY {
                self.last = Instant::now();
                self.told.layer(&id, LayerStep::Sending { done, total: layer.size }).await;
            }
        }
        if done != layer.size {
            let text = format!("layer {} is shorter than its record says", layer.blob);
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
    let total = parcel.offer.layers.iter().map(|layer| layer.size).sum();
    Step::Delivered { image: parcel.shown.clone(), id: parcel.offer.id, bytes, total, moved: done.moved }
}
