//! Directories of a client, as archives: the client walks them and says what is there, we ask for the content of files.
//!
//! ```text
//! receive.rs  packets ─► what to ask for and what to archive; pure     entry.rs  one file: its name, its header
//! ```
//!
//! What comes out is unpacked by those who unpack foreign archives, so where links lead is not looked at here.

mod entry;
mod receive;

use crate::error::{Error, Result, Violation};
use crate::limits;
use crate::proto::fsutil::types::Packet;
use crate::proto::moby::filesync::packet::file_sync_client::FileSyncClient;
use crate::session::{Session, origin};
use bytes::Bytes;
pub(crate) use entry::compare;
use receive::{Act, Receiver};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

/// How a client is asked for a directory.
const METHOD: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// Which files of a directory are asked for; all, where nothing is said. The client knows the patterns of `.dockerignore`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only what these match.
    pub include: Vec<String>,
    /// Not what these match.
    pub exclude: Vec<String>,
    /// Only these paths, and what they lead to where they are links.
    pub follow: Vec<String>,
}

/// A directory as it arrives, as an archive in parts. Dropped, nothing more is asked of the client.
#[derive(Debug)]
pub struct Archive {
    /// The last is empty; a channel that is closed before was left by a task that is dead.
    parts: mpsc::Receiver<Result<Bytes>>,
    ended: bool,
    came: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Archive {
    /// The next part; `None` when the archive is whole.
    ///
    /// # Errors
    /// Once, and then nothing more comes: [`Error::Call`], [`Error::Refused`], [`Error::Protocol`].
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.ended {
            return None;
        }
        let part = self.parts.recv().await.unwrap_or_else(|| Err(Violation::Ended.into()));
        self.ended = !matches!(&part, Ok(bytes) if !bytes.is_empty());
        if self.ended && part.is_ok() { None } else { Some(part) }
    }

    /// How much the client has sent so far, in bytes, as it counts itself.
    pub fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks a session's client for a directory that it lends under a name.
///
/// # Errors
/// [`Error::NotOffered`]; what happens later is told by the archive.
pub fn directory(session: &Session, name: &str, selection: &Selection) -> Result<Archive> {
    let client = FileSyncClient::with_origin(session.channel(METHOD)?, origin())
        .max_decoding_message_size(limits::MESSAGE);
    let metadata = metadata(name, selection);
    let (sender, parts) = mpsc::channel(limits::PARTS);
    let came = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&came);
    let task = tokio::spawn(async move {
        let last = receive(client, metadata, &sender, &counter).await.map(|()| Bytes::new());
        // Nobody waits for an archive that was dropped.
        let _ = sender.send(last).await;
    });
    Ok(Archive { parts, ended: false, came, task: task.abort_handle() })
}

/// The content of a file in an archive that is whole.
pub fn file_of(archive: &[u8], path: &str) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().ok()? {
        let mut entry = entry.ok()?;
        if entry.header().entry_type().is_file() && entry.path_bytes() == path.as_bytes() {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).ok()?;
            return Some(content);
        }
    }
    None
}

fn failed(status: tonic::Status) -> Error {
    Error::Call { method: METHOD, source: Box::new(status) }
}

async fn receive(
    mut client: FileSyncClient<crate::Channel>,
    metadata: MetadataMap,
    archive: &mpsc::Sender<Result<Bytes>>,
    came: &AtomicU64,
) -> Result<()> {
    // As many as can be under way at once: to ask never waits, for the client may wait for us to read.
    let (ask, asked) = mpsc::channel(limits::ASKED + 2);
    let mut request = tonic::Request::new(ReceiverStream::new(asked));
    *request.metadata_mut() = metadata;
    let mut packets = client.diff_copy(request).await.map_err(failed)?.into_inner();
    let mut receiver = Receiver::default();
    loop {
        while let Some(act) = receiver.act() {
            match act {
                Act::Archive(part) => {
                    if archive.send(Ok(part)).await.is_err() {
                        return Ok(());
                    }
                }
                Act::Send(packet) => {
                    // A client that has gone is noticed when it is listened to.
                    let _ = ask.send(packet).await;
                }
            }
        }
        let Some(packet) = next(&mut packets, came).await? else { return Ok(receiver.end()?) };
        if receiver.take(packet)? {
            return Ok(());
        }
    }
}

async fn next(packets: &mut Streaming<Packet>, came: &AtomicU64) -> Result<Option<Packet>> {
    let packet = packets.message().await.map_err(failed)?;
    if let Some(packet) = &packet {
        let size = u64::try_from(prost::Message::encoded_len(packet)).unwrap_or(u64::MAX);
        came.fetch_add(size, Ordering::Relaxed);
    }
    Ok(packet)
}

/// What is asked for, as headers. A list with other than ASCII is escaped and says so.
fn metadata(name: &str, selection: &Selection) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    let name = [name.to_owned()];
    for (key, values) in [
        ("dir-name", &name[..]),
        ("include-patterns", &selection.include),
        ("exclude-patterns", &selection.exclude),
        ("followpaths", &selection.follow),
    ] {
        // What has no place in a header is escaped as well: a line break cannot come from a file of lines, but from here.
        let plain = values.iter().all(|value| value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        for value in values {
            let value = if plain { value.clone() } else { escape(value) };
            let value: AsciiMetadataValue = value.parse().expect("only what a header may have is left");
            metadata.append(key, value);
        }
        if !plain {
            let key: AsciiMetadataKey = format!("{key}-encoded").parse().expect("the keys are ours");
            metadata.insert(key, AsciiMetadataValue::from_static("1"));
        }
    }
    metadata
}

/// Escapes as Go's `url.QueryUnescape` reads it.
fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_headers_that_go_reads() {
        let selection = Selection {
            include: vec!["src/*.rs".into(), "!target".into()],
            exclude: vec!["größe +x".into(), "plain".into()],
            follow: Vec::new(),
        };
        let metadata = metadata("context", &selection);
        let all = |key: &str| -> Vec<&str> {
            metadata.get_all(key).iter().map(|value| value.to_str().unwrap()).collect()
        };
        assert_eq!(all("dir-name"), ["context"]);
        assert_eq!(all("include-patterns"), ["src/*.rs", "!target"]);
        assert_eq!(all("exclude-patterns"), ["gr%C3%B6%C3%9Fe%20%2Bx", "plain"]);
        assert_eq!(all("exclude-patterns-encoded"), ["1"]);
        assert!(all("include-patterns-encoded").is_empty() && all("followpaths").is_empty());
    }
}
