//! Results on their way to a client. A thread of the engine writes an archive; the client never takes half of it for the
//! whole, for what is sent ends only when the engine says that it has written everything.

use super::builds::Build;
use super::provenance;
use super::results::Results;
use crate::server::Context;
use bytes::Bytes;
use coracle_buildkit::{Session, Target};
use coracle_engine::Error;
use coracle_engine::images::BodyWriter;
use coracle_spec::{Reference, full_text};
use futures_util::{Stream, stream};
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

async fn session(context: &Context, build: &Build) -> Result<Arc<Session>, Status> {
    let session = context.door.sessions.get(&build.session).await;
    session.map_err(|error| Status::unknown(full_text(&error)))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn failed(error: coracle_buildkit::Error) -> Status {
    Status::unknown(full_text(&error))
}

/// Sends the archive of the image that it would be; what clients want to know of it.
pub(super) async fn archive(
    context: &Arc<Context>,
    build: &Build,
    results: &Results,
    output: usize,
    names: &[Reference],
) -> Result<HashMap<String, String>, Status> {
    let session = session(context, build).await?;
    let mut told: HashMap<String, String> = HashMap::new();
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(Reference::canonical).collect();
        told.insert("image.name".to_owned(), names.join(","));
    }
    let attested = provenance::attest(context, build, results, names).await?;
    let (context, results, names) = (Arc::clone(context), results.clone(), names.to_vec());
    let (sender, told_digests) = oneshot::channel();
    let archive = Archive::of(|writer| async move {
        let digests = match (attested, results) {
            (Some(attested), _) => {
                context.engine.save_attested(&attested, names, writer).await?;
                (attested.only_image(), Some(attested.digest()))
            }
            (None, Results::One(product)) => {
                let id = context.engine.save_product(product, names, writer).await?;
                (Some(id), Some(id))
            }
            (None, results) => {
                context.engine.save_products(results.products(), names, writer).await?;
                (None, None)
            }
        };
        // Nobody asks for the digests of an archive that could not be sent.
        let _ = sender.send(digests);
        Ok(())
    });
    let target = Target { output, attributes: told.clone().into_iter().collect() };
    coracle_buildkit::send_file(&session, &target, archive.parts()).await.map_err(failed)?;
    let (image, digest) = told_digests.await.unwrap_or_default();
    for (key, digest) in [("containerimage.config.digest", image), ("containerimage.digest", digest)] {
        told.extend(digest.map(|digest| (key.to_owned(), digest.to_string())));
    }
    Ok(told)
}

/// Sends an archive of its files.
pub(super) async fn files(
    context: &Arc<Context>,
    build: &Build,
    results: &Results,
    output: usize,
) -> Result<(), Status> {
    let session = session(context, build).await?;
    let archive = of_files(context, results);
    let target = Target { output, ..Target::default() };
    coracle_buildkit::send_file(&session, &target, archive.parts()).await.map_err(failed)
}

/// Sends its files.
pub(super) async fn directory(
    context: &Arc<Context>,
    build: &Build,
    results: &Results,
    output: usize,
) -> Result<(), Status> {
    let session = session(context, build).await?;
    let archive = of_files(context, results);
    let target = Target { output, ..Target::default() };
    coracle_buildkit::send_tree(&session, &target, archive).await.map_err(failed)
}

/// The files of a result, or of several, each in a directory that its platform names.
fn of_files(context: &Arc<Context>, results: &Results) -> Archive {
    let (context, results) = (Arc::clone(context), results.clone());
    Archive::of(|writer| async move {
        match results {
            Results::One(product) => context.engine.export_product(product, writer).await,
            Results::Platforms(products) => {
                let named =
                    products.into_iter().map(|(platform, product)| (platform.replace('/', "_"), product));
                context.engine.export_products(named.collect(), writer).await
            }
        }
    })
}

/// An archive that is being written.
struct Archive {
    parts: mpsc::Receiver<Bytes>,
    /// Whether it is whole.
    written: Option<oneshot::Receiver<Result<(), Error>>>,
    current: Bytes,
}

impl Archive {
    /// What `write` writes. It ends when nobody reads that any more.
    fn of<F>(write: impl FnOnce(BodyWriter) -> F) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (writer, parts) = BodyWriter::channel();
        let writing = write(writer);
        let (sender, written) = oneshot::channel();
        tokio::spawn(async move {
            // See above.
            let _ = sender.send(writing.await);
        });
        Self { parts, written: Some(written), current: Bytes::new() }
    }

    /// As parts, the last of which says whether it is whole.
    fn parts(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(self, |mut archive| async move {
            if let Some(part) = archive.parts.recv().await {
                return Some((Ok(part), archive));
            }
            let written = archive.written.take()?.await;
            ended(written).err().map(|error| (Err(error), archive))
        })
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.parts.blocking_recv() {
                Some(part) => self.current = part,
                None => {
                    let Some(written) = self.written.take() else { return Ok(0) };
                    return ended(written.blocking_recv()).map(|()| 0);
                }
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

fn ended(written: Result<Result<(), Error>, oneshot::error::RecvError>) -> io::Result<()> {
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(io::Error::other(error.chain())),
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use std::io::Write;

    fn broken(text: &'static str) -> Archive {
        Archive::of(move |mut writer| async move {
            let writing = tokio::task::spawn_blocking(move || {
                writer.write_all(text.as_bytes()).unwrap();
                writer.flush().unwrap();
            });
            writing.await.unwrap();
            Err(Error::Invalid("the disk is full".to_owned()))
        })
    }

    #[tokio::test]
    async fn half_an_archive_is_never_a_whole_one() {
        let parts: Vec<_> = broken("half").parts().collect().await;
        assert_eq!(parts[0].as_ref().unwrap(), "half");
        assert_eq!(parts[1].as_ref().unwrap_err().to_string(), "the disk is full");
        assert_eq!(parts.len(), 2);
        let mut archive = broken("half");
        let read = tokio::task::spawn_blocking(move || {
            let mut content = String::new();
            (archive.read_to_string(&mut content).unwrap_err().to_string(), content)
        });
        assert_eq!(read.await.unwrap(), ("the disk is full".to_owned(), "half".to_owned()));
    }
}
