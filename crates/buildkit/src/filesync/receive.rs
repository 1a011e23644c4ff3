//! The receiving side of fsutil's protocol, pure: packets go in, what to ask for and what to archive comes out.
//!
//! A sender lists every file in order, and at the same time sends the content of those that it is asked for by their
//! number in the list. An archive has one file after the other, so small files are asked for some at a time and wait for
//! their turn, and a large one alone, so that it can pass through. However much the client sends, what waits is bounded.

use super::entry::{Entry, Kind, clip, compare};
use crate::error::{Error, Violation};
use crate::limits;
use crate::proto::fsutil::types::Packet;
use crate::proto::fsutil::types::packet::PacketType;
use bytes::Bytes;
use std::collections::VecDeque;

/// Archives consist of blocks of that size.
const BLOCK: usize = 512;

/// What is to be done next.
#[derive(Debug, PartialEq)]
pub(super) enum Act {
    /// These bytes are next in the archive.
    Archive(Bytes),
    /// This packet goes to the client.
    Send(Packet),
}

/// How far a file has come.
#[derive(Debug)]
enum Content {
    /// It has none, or it was not asked for.
    None,
    /// Asked for, and coming.
    Coming(Vec<u8>),
    /// All has come.
    Whole(Vec<u8>),
    /// Asked for alone; so much has passed into the archive.
    Passing(u64),
}

#[derive(Debug)]
struct Listed {
    entry: Entry,
    content: Content,
}

/// The state of one transfer.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// Number of the first of `list`.
    first: u32,
    /// What was announced and is not archived, in order.
    list: VecDeque<Listed>,
    /// How many of `list` have been looked at and asked for, if there is something to ask for.
    ahead: usize,
    /// What `list` takes, in bytes.
    room: u64,
    /// Announced sizes of the small files that were asked for, in bytes.
    window: u64,
    /// How many were asked for and have not come.
    open: usize,
    last: String,
    /// Whether the end of the list has come.
    complete: bool,
    /// Whether we have said that we have everything.
    said: bool,
    out: VecDeque<Act>,
}

impl Receiver {
    /// What is to be done before the next packet is read.
    pub(super) fn act(&mut self) -> Option<Act> {
        loop {
            if let Some(act) = self.out.pop_front() {
                return Some(act);
            }
            if !(self.archive_first() || self.ask() || self.finish()) {
                return None;
            }
        }
    }

    /// Takes a packet. Whether it was the last.
    pub(super) fn take(&mut self, packet: Packet) -> Result<bool, Error> {
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketStat) => self.announced(packet)?,
            Ok(PacketType::PacketData) => self.content(packet.id, &packet.data)?,
            Ok(PacketType::PacketErr) => {
                let reason = &packet.data[..packet.data.len().min(limits::REASON)];
                return Err(Error::Refused { reason: String::from_utf8_lossy(reason).into_owned() });
            }
            Ok(PacketType::PacketFin) if self.said => return Ok(true),
            _ => return Err(Violation::Unexpected { kind: packet.r#type }.into()),
        }
        Ok(false)
    }

    /// What it means that the client sends nothing more: every transfer ends with a word.
    pub(super) fn end(&self) -> Result<(), Violation> {
        Err(Violation::Ended)
    }

    fn announced(&mut self, packet: Packet) -> Result<(), Violation> {
        if self.complete {
            return Err(Violation::Late);
        }
        let Some(stat) = packet.stat else {
            self.complete = true;
            return Ok(());
        };
        let entry = Entry::new(stat)?;
        if compare(&self.last, entry.path()).is_ge() && !self.last.is_empty() {
            return Err(Violation::Order { path: clip(entry.path()), previous: clip(&self.last) });
        }
        let number = u64::from(self.first) + self.list.len() as u64;
        if number >= u64::from(limits::ENTRIES) {
            return Err(Violation::Entries);
        }
        entry.path().clone_into(&mut self.last);
        self.room += entry.room();
        if self.room > limits::LISTED {
            return Err(Violation::Listed);
        }
        self.list.push_back(Listed { entry, content: Content::None });
        Ok(())
    }

    fn content(&mut self, id: u32, data: &[u8]) -> Result<(), Violation> {
        let place = id.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let place = place.filter(|place| *place < self.ahead);
        let Some(listed) = place.and_then(|place| self.list.get_mut(place)) else {
            return Err(Violation::Unasked { id });
        };
        let changed = |entry: &Entry, came| Violation::Changed {
            path: clip(entry.path()),
            announced: entry.size,
            came,
        };
        match &mut listed.content {
            Content::None | Content::Whole(_) => return Err(Violation::Unasked { id }),
            Content::Coming(came) if data.is_empty() => {
                listed.content = Content::Whole(std::mem::take(came));
                self.open -= 1;
            }
            Content::Coming(came) => {
                came.extend_from_slice(data);
                let came = came.len() as u64;
                if came > limits::SMALL {
                    return Err(changed(&listed.entry, came));
                }
            }
            Content::Passing(came) if data.is_empty() => {
                if *came != listed.entry.size {
                    return Err(changed(&listed.entry, *came));
                }
                self.out.extend(padding(*came));
                self.open -= 1;
                self.remove_first();
            }
            Content::Passing(came) => {
                *came += data.len() as u64;
                if *came > listed.entry.size {
                    return Err(changed(&listed.entry, *came));
                }
                self.out.push_back(Act::Archive(Bytes::copy_from_slice(data)));
            }
        }
        Ok(())
    }

    /// Archives the first file, if everything of it is here.
    fn archive_first(&mut self) -> bool {
        let Some(Listed { entry, content }) = self.list.front_mut() else { return false };
        let mut bytes = match content {
            Content::None if entry.kind != Kind::Regular => entry.head(0),
            Content::Whole(data) => {
                let data = std::mem::take(data);
                let mut bytes = entry.head(data.len() as u64);
                bytes.extend_from_slice(&data);
                bytes
            }
            Content::None | Content::Coming(_) | Content::Passing(_) => return false,
        };
        if entry.kind == Kind::Regular {
            self.window -= entry.size;
        }
        self.remove_first();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        if !bytes.is_empty() {
            self.out.push_back(Act::Archive(bytes.into()));
        }
        true
    }

    fn remove_first(&mut self) {
        if let Some(listed) = self.list.pop_front() {
            self.room -= listed.entry.room();
            self.first += 1;
            self.ahead = self.ahead.saturating_sub(1);
        }
    }

    /// Asks for the next file that has content, if there is room for it.
    fn ask(&mut self) -> bool {
        while let Some(listed) = self.list.get_mut(self.ahead) {
            if listed.entry.kind == Kind::Regular {
                break;
            }
            self.ahead += 1;
        }
        let Some(listed) = self.list.get_mut(self.ahead) else { return false };
        let (size, alone) = (listed.entry.size, self.ahead == 0 && self.open == 0);
        if size > limits::SMALL {
            if !alone {
                return false;
            }
            listed.content = Content::Passing(0);
            self.out.push_back(Act::Archive(listed.entry.head(size).into()));
        } else {
            if self.open == limits::ASKED || self.window + size > limits::WINDOW {
                return false;
            }
            listed.content = Content::Coming(Vec::new());
            self.window += size;
        }
        // Entries are bounded far below what does not fit.
        let place = u32::try_from(self.ahead).unwrap_or(u32::MAX);
        self.out.push_back(Act::Send(packet(PacketType::PacketReq, self.first + place)));
        self.ahead += 1;
        self.open += 1;
        true
    }

    /// Ends the archive and the transfer, once everything is archived.
    fn finish(&mut self) -> bool {
        if self.said || !self.complete || !self.list.is_empty() {
            return false;
        }
        self.said = true;
        self.out.push_back(Act::Archive(Bytes::from_static(&[0; 2 * BLOCK])));
        self.out.push_back(Act::Send(packet(PacketType::PacketFin, 0)));
        true
    }
}

fn packet(kind: PacketType, id: u32) -> Packet {
    Packet { r#type: kind.into(), id, ..Packet::default() }
}

/// What fills the last block of a content of `size` bytes.
fn padding(size: u64) -> Option<Act> {
    let over = usize::try_from(size % BLOCK as u64).expect("less than a block");
    (over != 0).then(|| Act::Archive(vec![0; BLOCK - over].into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::fsutil::types::Stat;
    use std::io::Read;

    fn file(path: &str, size: i64) -> Packet {
        let stat = Stat { path: path.into(), mode: 0o644, size, ..Stat::default() };
        Packet { stat: Some(stat), ..packet(PacketType::PacketStat, 0) }
    }

    fn directory(path: &str) -> Packet {
        let stat = Stat { path: path.into(), mode: 1 << 31 | 0o755, ..Stat::default() };
        Packet { stat: Some(stat), ..packet(PacketType::PacketStat, 0) }
    }

    fn end_of_list() -> Packet {
        packet(PacketType::PacketStat, 0)
    }

    fn data(id: u32, data: &[u8]) -> Packet {
        Packet { data: data.to_vec(), ..packet(PacketType::PacketData, id) }
    }

    /// Everything that is to be done now: what was asked for, and what is archived.
    fn acts(receiver: &mut Receiver) -> (Vec<u32>, Vec<u8>) {
        let (mut asked, mut archive) = (Vec::new(), Vec::new());
        while let Some(act) = receiver.act() {
            match act {
                Act::Archive(bytes) => archive.extend_from_slice(&bytes),
                Act::Send(packet) if packet.r#type == i32::from(PacketType::PacketReq) => {
                    asked.push(packet.id);
                }
                Act::Send(packet) => assert_eq!(packet.r#type, i32::from(PacketType::PacketFin)),
            }
        }
        (asked, archive)
    }

    fn contents(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().to_str().unwrap().to_owned(), content)
        });
        entries.collect()
    }

    #[test]
    fn files_are_archived_in_order_however_their_content_comes() {
        let mut receiver = Receiver::default();
        for packet in [directory("a"), file("a/1", 2), file("a/2", 0), file("b", 3), end_of_list()] {
            assert!(!receiver.take(packet).unwrap());
        }
        let (asked, mut archive) = acts(&mut receiver);
        assert_eq!(asked, [1, 2, 3], "the directory has no content");
        for packet in
            [data(3, b"b"), data(2, b""), data(3, b"bb"), data(3, b""), data(1, b"xy"), data(1, b"")]
        {
            receiver.take(packet).unwrap();
            let (asked, more) = acts(&mut receiver);
            assert!(asked.is_empty());
            archive.extend(more);
        }
        assert!(receiver.take(packet(PacketType::PacketFin, 0)).unwrap());
        let found = contents(&archive);
        let expected = [("a", &b""[..]), ("a/1", b"xy"), ("a/2", b""), ("b", b"bbb")];
        assert_eq!(found, expected.map(|(name, content)| (name.to_owned(), content.to_vec())));
    }

    #[test]
    fn a_small_file_may_have_changed_since_it_was_announced() {
        let mut receiver = Receiver::default();
        receiver.take(file("log", 3)).unwrap();
        acts(&mut receiver);
        for packet in [data(0, b"longer"), data(0, b""), end_of_list()] {
            receiver.take(packet).unwrap();
        }
        assert_eq!(contents(&acts(&mut receiver).1), [("log".to_owned(), b"longer".to_vec())]);
    }

    #[test]
    fn a_large_file_is_asked_for_alone_and_passes_through() {
        let large = i64::try_from(limits::SMALL + 1).unwrap();
        let mut receiver = Receiver::default();
        for packet in [file("a", 1), file("b", large), file("c", 1), end_of_list()] {
            receiver.take(packet).unwrap();
        }
        assert_eq!(acts(&mut receiver).0, [0]);
        receiver.take(data(0, b"a")).unwrap();
        receiver.take(data(0, b"")).unwrap();
        let (asked, mut archive) = acts(&mut receiver);
        assert_eq!(asked, [1, 2], "a small one may come meanwhile");
        let content = vec![b'x'; usize::try_from(large).unwrap()];
        for piece in content.chunks(32 << 10) {
            receiver.take(data(1, piece)).unwrap();
            let (_, passed) = acts(&mut receiver);
            assert_eq!(passed, piece, "nothing of it waits");
            archive.extend(passed);
        }
        for packet in [data(2, b"c"), data(2, b""), data(1, b"")] {
            receiver.take(packet).unwrap();
            archive.extend(acts(&mut receiver).1);
        }
        let found = contents(&archive);
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(found[1].1, content);
    }

    #[test]
    fn what_waits_is_bounded() {
        let size = i64::try_from(limits::SMALL).unwrap();
        let mut receiver = Receiver::default();
        for number in 0..1000 {
            receiver.take(file(&format!("{number:04}"), size)).unwrap();
        }
        let within = usize::try_from(limits::WINDOW / limits::SMALL).unwrap();
        assert_eq!(acts(&mut receiver).0.len(), within);
        let mut receiver = Receiver::default();
        for number in 0..1000 {
            receiver.take(file(&format!("{number:04}"), 1)).unwrap();
        }
        assert_eq!(acts(&mut receiver).0.len(), limits::ASKED);
        assert!(receiver.take(data(999, b"x")).is_err(), "nobody has asked for the last");
    }

    /// What comes of packets, one after the other, with everything done in between.
    fn outcome(packets: Vec<Packet>) -> String {
        let mut receiver = Receiver::default();
        for packet in packets {
            acts(&mut receiver);
            if let Err(error) = receiver.take(packet) {
                return error.to_string();
            }
        }
        acts(&mut receiver);
        receiver.end().unwrap_err().to_string()
    }

    #[test]
    fn hostile_senders_are_found_out() {
        let large = i64::try_from(limits::SMALL + 1).unwrap();
        let too_much = vec![0; usize::try_from(limits::SMALL + 1).unwrap()];
        let error = Packet { data: b"permission denied".to_vec(), ..packet(PacketType::PacketErr, 0) };
        let unknown = Packet { r#type: 99, ..Packet::default() };
        for (what, packets, words) in [
            ("leads elsewhere", vec![file("../x", 1)], "invalid path \"../x\""),
            ("absolute", vec![file("/x", 1)], "invalid path \"/x\""),
            ("no order", vec![file("b", 1), file("a", 1)], "path \"a\" comes after \"b\""),
            ("twice", vec![file("a", 1), file("a", 1)], "path \"a\" comes after \"a\""),
            ("child before its parent", vec![file("a/b", 1), directory("a")], "comes after \"a/b\""),
            ("negative", vec![file("a", -5)], "negative size"),
            ("after the end", vec![end_of_list(), file("a", 1)], "after the end of the list"),
            ("never announced", vec![file("a", 1), data(1, b"x")], "content of file 1"),
            ("a directory's content", vec![directory("a"), file("b", 1), data(0, b"x")], "content of file 0"),
            ("again", vec![file("a", 0), file("b", 1), data(1, b""), data(1, b"x")], "content of file 1"),
            ("already archived", vec![file("a", 0), data(0, b""), data(0, b"x")], "content of file 0"),
            ("more than announced", vec![file("a", large), data(0, &too_much), data(0, b"x")], "changed"),
            ("less than announced", vec![file("a", large), data(0, b"x"), data(0, b"")], "1 came"),
            ("small, and too much", vec![file("a", 1), data(0, &too_much)], "changed while it was read"),
            (
                "early end",
                vec![file("a", 1), packet(PacketType::PacketFin, 0)],
                "unexpected packet of type 3",
            ),
            ("a question", vec![packet(PacketType::PacketReq, 0)], "unexpected packet of type 1"),
            ("another language", vec![unknown], "unexpected packet of type 99"),
            ("a failure", vec![file("a", 1), error], "cannot send its files: permission denied"),
            ("silence", vec![file("a", 1)], "ended early"),
            ("no last word", vec![end_of_list()], "ended early"),
        ] {
            let outcome = outcome(packets);
            assert!(outcome.contains(words), "{what}: {outcome}");
        }
    }

    #[test]
    fn lists_are_bounded() {
        let mut receiver = Receiver { first: limits::ENTRIES - 1, ..Receiver::default() };
        receiver.take(directory("a")).unwrap();
        let refused = receiver.take(directory("b")).unwrap_err();
        assert!(matches!(refused, Error::Protocol { violation: Violation::Entries }), "{refused}");
        let mut receiver = Receiver { room: limits::LISTED, ..Receiver::default() };
        let refused = receiver.take(directory("a")).unwrap_err();
        assert!(matches!(refused, Error::Protocol { violation: Violation::Listed }), "{refused}");
    }
}
