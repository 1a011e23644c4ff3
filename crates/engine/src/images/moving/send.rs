//! The sending side: of each image as much as the other side lacks.

use super::super::transfer::{LayerStep, Step, Teller};
use super::super::{Hold, Images, Inner};
use super::offer::{Done, Offer, OfferedLayer, Wanted};
use super::parcel::Parcel;
use super::wire::{Frame, Incoming, Outgoing, Wire, silent};
use super::{broken, other_side};
use crate::error::{Attempt, Error, Result, blocking};
use crate::limits::{MOVED_CHUNK, MOVING_STALL, STEPS, TOLD_EVERY, WANTED_ROUNDS};
use bytes::{Bytes, BytesMut};
use coracle_spec::Reference;
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
        let _hold: Hold = self.hold();
        for image in &request.images {
            self.0.find(image)?;
        }
        if request.name.is_some() && request.images.len() != 1 {
            return Err(Error::Invalid("one name cannot be that of several images".to_owned()));
        }
        let Wire { incoming, mut outgoing } = Wire::open(reader, writer).await?;
        let mut sender =
            Sender { inner: &self.0, answers: Answers::listen(incoming), told, last: Instant::now() };
        for image in &request.images {
            let (inner, image, name) = (Arc::clone(&self.0), image.clone(), request.name.clone());
            let parcel = blocking(move || inner.parcel(&image, name)).await??;
            sender.image(&parcel, &mut outgoing).await?;
            self.0.tell_by_id(&parcel.offer.id, "save");
        }
        outgoing.say(Frame::End).await
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
        loop {
            match self.frames.recv().await {
                Some(Ok(_)) => {}
                Some(Err(reason)) => return reason,
                None => return error,
            }
        }
    }
}

/// One connection.
struct Sender<'a> {
    inner: &'a Arc<Inner>,
    answers: Answers,
    told: &'a Teller,
    last: Instant,
}

impl Sender<'_> {
    async fn image(&mut self, parcel: &Parcel, out: &mut Outgoing<impl AsyncWrite + Unpin>) -> Result<()> {
        self.told.tell(Step::Sending { image: parcel.shown.clone() }).await;
        for layer in &parcel.offer.layers {
            self.told.layer(&layer.diff_id.short(), LayerStep::Preparing).await;
        }
        let offered = offer(parcel, out).await;
        self.or_reason(offered).await?;
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
                other => return Err(broken(format!("{other:?} is no answer to an offer"))),
            }
        }
    }

    async fn done(&mut self, offer: &Offer) -> Result<Done> {
        loop {
            match self.answers.next().await? {
                Frame::Here(layer) => self.here(offer, layer).await?,
                Frame::Done(done) => return Ok(done),
                other => return Err(broken(format!("{other:?} is no end of an image"))),
            }
        }
    }

    async fn here(&self, offer: &Offer, layer: usize) -> Result<()> {
        let layer = offer.layers.get(layer).ok_or_else(|| broken("it has a layer that was not offered"))?;
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
            let sent = out.send(Frame::Data(piece)).await;
            self.or_reason(sent).await?;
            self.listen(offer).await?;
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

    /// Takes note of what the other side has said meanwhile.
    async fn listen(&mut self, offer: &Offer) -> Result<()> {
        while let Ok(answer) = self.answers.frames.try_recv() {
            match answer? {
                Frame::Here(layer) => self.here(offer, layer).await?,
                other => return Err(broken(format!("{other:?} in the middle of a layer"))),
            }
        }
        Ok(())
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
