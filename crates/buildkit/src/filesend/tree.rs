//! The sending side of fsutil's protocol, from an archive: every file is announced in turn, and its content sent when the
//! client has asked for it. Clients ask for each regular file as they hear of it, so the archive need not wait anywhere.

use super::{METHOD, Target, failed};
use crate::error::{Error, Result, Violation};
use crate::filesync::compare;
use crate::limits;
use crate::proto::fsutil::types::packet::PacketType;
use crate::proto::fsutil::types::{Packet, Stat};
use crate::proto::moby::filesync::packet::file_send_client::FileSendClient;
use crate::session::{Session, origin};
use std::collections::HashMap;
use std::io::{self, Read};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bits of Go's `os.FileMode`: kinds of files, and those of chmod(2) that have another place.
const DIRECTORY: u32 = 1 << 31;
const LINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const PIPE: u32 = 1 << 25;
const CHARACTER: u32 = 1 << 21;
const SPECIAL: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

const KINDS: u32 = DIRECTORY | LINK | DEVICE | PIPE | CHARACTER;
/// Seconds have that many of the units of times.
const NANOSECONDS: i64 = 1_000_000_000;
/// How much content a packet has, in bytes.
const DATA: usize = 32 << 10;

/// What the thread that reads the archive has found.
enum Found {
    /// A file, and whether content follows.
    File(Box<Stat>, bool),
    /// Some of the content.
    Data(Vec<u8>),
    /// All of it.
    End,
    /// No more files.
    Nothing,
}

/// Sends a tree to a client, which writes it into a directory. The archive has its directories before what is in them, in
/// the order of names, as a walk gives it.
///
/// # Errors
/// [`Error::NotOffered`], [`Error::Call`] and [`Error::Refused`] if the client cannot write it, [`Error::Archive`].
pub async fn send_tree(
    session: &Session,
    target: &Target,
    archive: impl Read + Send + 'static,
) -> Result<()> {
    let mut client = FileSendClient::with_origin(session.channel(METHOD)?, origin());
    let (packets, messages) = mpsc::channel(limits::PARTS);
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    *request.metadata_mut() = target.metadata();
    let (answers, heard) = mpsc::channel(limits::PARTS);
    let listen = async {
        // A client that has nothing to ask yet does not answer, so this goes on beside what is sent.
        let mut stream = client.diff_copy(request).await.map_err(failed)?.into_inner();
        while let Some(packet) = stream.message().await.map_err(failed)? {
            // Who has heard the last word listens no longer.
            let _ = answers.send(packet).await;
        }
        drop(answers);
        Ok(())
    };
    let (sender, found) = mpsc::channel(limits::PARTS);
    let reader = tokio::task::spawn_blocking(move || read(archive, &sender));
    let tell = async {
        let mut sending = Sending { packets, heard, number: 0 };
        sending.all(found).await?;
        Ok::<_, Error>(())
    };
    let told = tokio::try_join!(listen, tell);
    let read = reader.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    // An archive that ends early is why a transfer does.
    read.map_err(|source| Error::Archive { source })?;
    told.map(drop)
}

/// One transfer under way.
struct Sending {
    packets: mpsc::Sender<Packet>,
    heard: mpsc::Receiver<Packet>,
    /// How many files were announced.
    number: u32,
}

impl Sending {
    async fn all(&mut self, mut found: mpsc::Receiver<Found>) -> Result<()> {
        let mut open = 0;
        let mut whole = false;
        while let Some(next) = found.recv().await {
            match next {
                Found::File(stat, has_content) => {
                    self.send(Packet { stat: Some(*stat), ..packet(PacketType::PacketStat) }).await?;
                    open = self.number;
                    self.number += 1;
                    if has_content {
                        self.expect(PacketType::PacketReq, open).await?;
                    }
                }
                Found::Data(data) => {
                    self.send(Packet { id: open, data, ..packet(PacketType::PacketData) }).await?;
                }
                Found::End => self.send(Packet { id: open, ..packet(PacketType::PacketData) }).await?,
                Found::Nothing => whole = true,
            }
        }
        if !whole {
            // The thread that reads the archive has failed, and says how.
            return Err(Violation::Ended.into());
        }
        self.send(packet(PacketType::PacketStat)).await?;
        self.expect(PacketType::PacketFin, 0).await?;
        self.send(packet(PacketType::PacketFin)).await
    }

    async fn send(&self, packet: Packet) -> Result<()> {
        self.packets.send(packet).await.map_err(|_| Violation::Ended.into())
    }

    /// Waits for the packet that has to come now.
    async fn expect(&mut self, kind: PacketType, id: u32) -> Result<()> {
        let Some(packet) = self.heard.recv().await else { return Err(Violation::Ended.into()) };
        match PacketType::try_from(packet.r#type) {
            Ok(came) if came == kind && packet.id == id => Ok(()),
            Ok(PacketType::PacketReq) => Err(Violation::Unasked { id: packet.id }.into()),
            Ok(PacketType::PacketErr) => {
                let reason = &packet.data[..packet.data.len().min(limits::REASON)];
                Err(Error::Refused { reason: String::from_utf8_lossy(reason).into_owned() })
            }
            _ => Err(Violation::Unexpected { kind: packet.r#type }.into()),
        }
    }
}

fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

/// Reads the archive, for the one who sends it. Ends without an error when nobody does any more.
fn read(archive: impl Read, sender: &mpsc::Sender<Found>) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    let mut last = String::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some(stat) = stat(&mut entry)? else { continue };
        if !last.is_empty() && compare(&last, &stat.path).is_ge() {
            return Err(invalid(format!("{:?} comes after {last:?}", stat.path)));
        }
        last.clone_from(&stat.path);
        let has_content = stat.mode & KINDS == 0 && stat.linkname.is_empty();
        if sender.blocking_send(Found::File(Box::new(stat), has_content)).is_err() {
            return Ok(());
        }
        if has_content && !content(&mut entry, sender)? {
            return Ok(());
        }
    }
    // See above.
    let _ = sender.blocking_send(Found::Nothing);
    Ok(())
}

/// Hands on a file's content. Whether anybody took it.
fn content(entry: &mut impl Read, sender: &mpsc::Sender<Found>) -> io::Result<bool> {
    loop {
        let mut data = Vec::with_capacity(DATA);
        let length = entry.by_ref().take(DATA as u64).read_to_end(&mut data)?;
        let found = if length == 0 { Found::End } else { Found::Data(data) };
        if sender.blocking_send(found).is_err() {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// What is announced of an entry; nothing for the directory itself and for what is no file.
fn stat<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Option<Stat>> {
    let xattrs = attributes(entry)?;
    let header = entry.header();
    let (kind, is_link) = match header.entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous => (0, false),
        tar::EntryType::Link => (0, true),
        tar::EntryType::Directory => (DIRECTORY, false),
        tar::EntryType::Symlink => (LINK, true),
        tar::EntryType::Fifo => (PIPE, false),
        tar::EntryType::Block => (DEVICE, false),
        tar::EntryType::Char => (DEVICE | CHARACTER, false),
        _ => return Ok(None),
    };
    let name = text(&entry.path_bytes())?;
    let path = name.trim_start_matches("./").trim_matches('/').to_owned();
    if path.is_empty() || path == "." {
        return Ok(None);
    }
    let link = if is_link { entry.link_name_bytes() } else { None };
    let link = link.map(|link| text(&link)).transpose()?.unwrap_or_default();
    let linkname = if kind == 0 { link.trim_start_matches("./").trim_start_matches('/') } else { &link };
    let seconds = i64::try_from(header.mtime()?).unwrap_or(i64::MAX / NANOSECONDS);
    let number = |number: Option<u32>| i64::from(number.unwrap_or(0));
    let devices = kind & DEVICE != 0;
    Ok(Some(Stat {
        path,
        mode: kind | permissions(header.mode()?),
        uid: u32::try_from(entry.header().uid()?).map_err(|_| invalid("a user's number is too large"))?,
        gid: u32::try_from(entry.header().gid()?).map_err(|_| invalid("a group's number is too large"))?,
        size: i64::try_from(entry.size()).unwrap_or(i64::MAX),
        mod_time: seconds.saturating_mul(NANOSECONDS),
        linkname: linkname.to_owned(),
        devmajor: if devices { number(entry.header().device_major()?) } else { 0 },
        devminor: if devices { number(entry.header().device_minor()?) } else { 0 },
        xattrs,
    }))
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<HashMap<String, Vec<u8>>> {
    let mut found = HashMap::new();
    for field in entry.pax_extensions()?.into_iter().flatten() {
        let field = field?;
        if let Some(name) = field.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
            found.insert(name.to_owned(), field.value_bytes().to_vec());
        }
    }
    Ok(found)
}

fn permissions(mode: u32) -> u32 {
    SPECIAL.iter().fold(mode & 0o777, |found, (bit, is)| if mode & bit == 0 { found } else { found | is })
}

/// Names travel as text.
fn text(bytes: &[u8]) -> io::Result<String> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| {
        invalid(format!(
            "the name {:?} is not UTF-8, which the protocol demands",
            String::from_utf8_lossy(bytes)
        ))
    })
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
