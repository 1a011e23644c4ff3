//! One file of a client: whether its name can be one, in which order names come, and its header in an archive.

use crate::error::Violation;
use crate::limits;
use crate::proto::fsutil::types::Stat;
use std::cmp::Ordering;

/// Bits of Go's `os.FileMode`, which is what travels.
mod mode {
    pub(super) const DIRECTORY: u32 = 1 << 31;
    pub(super) const LINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const PIPE: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const CHARACTER: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
    pub(super) const IRREGULAR: u32 = 1 << 19;
    pub(super) const KIND: u32 = DIRECTORY | LINK | DEVICE | PIPE | SOCKET | CHARACTER | IRREGULAR;
}

/// Seconds have that many of the units of times.
const NANOSECONDS: i64 = 1_000_000_000;
/// How an archive ends, in bytes.
const END: usize = 1024;
/// What a file of the list takes beside its texts, in bytes, generously.
const ROOM: u64 = 256;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    /// Another name of a file that came before.
    HardLink,
    Directory,
    Link,
    Pipe,
    Character,
    Block,
    /// Sockets, and what only other systems have: never part of an archive.
    Nothing,
}

/// A file that a client has announced.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// What it says its content has, in bytes.
    pub(super) size: u64,
    stat: Stat,
}

impl Entry {
    pub(super) fn new(stat: Stat) -> Result<Self, Violation> {
        let stat = Stat { path: clean(stat.path)?, ..stat };
        if stat.linkname.len() > limits::PATH || stat.linkname.contains('\0') {
            return Err(Violation::Path { path: clip(&stat.linkname) });
        }
        let attributes: usize = stat.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if attributes > limits::ATTRIBUTES {
            return Err(Violation::Attributes { path: stat.path });
        }
        let Ok(size) = u64::try_from(stat.size) else {
            return Err(Violation::Size { path: stat.path });
        };
        Ok(Self { kind: kind(&stat), size, stat })
    }

    pub(super) fn path(&self) -> &str {
        &self.stat.path
    }

    /// What it takes in the list, in bytes.
    pub(super) fn room(&self) -> u64 {
        let texts = self.stat.path.len() + self.stat.linkname.len();
        let attributes: usize =
            self.stat.xattrs.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
        ROOM + u64::try_from(texts + attributes).unwrap_or(u64::MAX / 2)
    }

    /// How it begins in an archive, with a content of `size` bytes; empty for what has no place there.
    pub(super) fn head(&self, size: u64) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Regular => tar::EntryType::Regular,
            Kind::HardLink => tar::EntryType::Link,
            Kind::Directory => tar::EntryType::Directory,
            Kind::Link => tar::EntryType::Symlink,
            Kind::Pipe => tar::EntryType::Fifo,
            Kind::Character => tar::EntryType::Char,
            Kind::Block => tar::EntryType::Block,
            Kind::Nothing => return Vec::new(),
        };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(permissions(self.stat.mode));
        header.set_uid(u64::from(self.stat.uid));
        header.set_gid(u64::from(self.stat.gid));
        header.set_mtime(u64::try_from(self.stat.mod_time / NANOSECONDS).unwrap_or(0));
        header.set_size(if self.kind == Kind::Regular { size } else { 0 });
        let mut more: Vec<(String, &[u8])> = Vec::new();
        self.name(&mut header, &mut more);
        if matches!(self.kind, Kind::Character | Kind::Block) {
            let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
            for set in [
                header.set_device_major(number(self.stat.devmajor)),
                header.set_device_minor(number(self.stat.devminor)),
            ] {
                set.expect("this kind of header has devices");
            }
        }
        let mut names: Vec<&String> = self.stat.xattrs.keys().collect();
        names.sort_unstable();
        more.extend(
            names.into_iter().map(|name| (format!("SCHILY.xattr.{name}"), &self.stat.xattrs[name][..])),
        );
        header.set_cksum();
        let mut bytes = extensions(&more);
        bytes.extend_from_slice(header.as_bytes());
        bytes
    }

    /// Its name and where it leads, in the header where there is room, else in what precedes it.
    fn name<'a>(&'a self, header: &mut tar::Header, more: &mut Vec<(String, &'a [u8])>) {
        if header.set_path(&self.stat.path).is_err() {
            more.push(("path".to_owned(), self.stat.path.as_bytes()));
        }
        if matches!(self.kind, Kind::Link | Kind::HardLink)
            && header.set_link_name_literal(&self.stat.linkname).is_err()
        {
            more.push(("linkpath".to_owned(), self.stat.linkname.as_bytes()));
        }
    }
}

/// Fields that a header has no room for, as the entry that precedes it.
fn extensions(fields: &[(String, &[u8])]) -> Vec<u8> {
    if fields.is_empty() {
        return Vec::new();
    }
    let mut archive = tar::Builder::new(Vec::new());
    let fields = fields.iter().map(|(name, value)| (name.as_str(), *value));
    archive.append_pax_extensions(fields).expect("memory takes everything");
    let mut bytes = archive.into_inner().expect("memory takes everything");
    // The library ends the archive; ours goes on.
    bytes.truncate(bytes.len() - END);
    bytes
}

fn kind(stat: &Stat) -> Kind {
    match stat.mode & mode::KIND {
        0 if stat.linkname.is_empty() => Kind::Regular,
        0 => Kind::HardLink,
        mode::DIRECTORY => Kind::Directory,
        mode::LINK => Kind::Link,
        mode::PIPE => Kind::Pipe,
        mode::DEVICE => Kind::Block,
        kind if kind == mode::DEVICE | mode::CHARACTER => Kind::Character,
        _ => Kind::Nothing,
    }
}

/// The bits of chmod(2).
fn permissions(mode: u32) -> u32 {
    let bit = |of: u32, is: u32| if mode & of == 0 { 0 } else { is };
    (mode & 0o777) | bit(mode::SETUID, 0o4000) | bit(mode::SETGID, 0o2000) | bit(mode::STICKY, 0o1000)
}

/// A name below the directory, as the client has to give it: relative, without detours.
fn clean(path: String) -> Result<String, Violation> {
    let fine = |part: &str| !matches!(part, "" | "." | "..");
    if path.len() > limits::PATH || path.contains('\0') || !path.split('/').all(fine) {
        return Err(Violation::Path { path: clip(&path) });
    }
    Ok(path)
}

/// Enough of a foreign text for a message.
pub(super) fn clip(text: &str) -> String {
    const SHOWN: usize = 128;
    text.chars().take(SHOWN).collect()
}

/// The order in which names come: part after part, so that a directory is followed by what is in it.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    left.split('/').cmp(right.split('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn stat(path: &str, mode: u32) -> Stat {
        Stat { path: path.into(), mode, ..Stat::default() }
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        let long = "a/".repeat(2048) + "b";
        for path in ["", "/etc/passwd", "..", "a/../b", "./a", "a/", "a//b", "a\0b", &long] {
            assert!(matches!(Entry::new(stat(path, 0)), Err(Violation::Path { .. })), "{}", clip(path));
        }
        for path in ["a", "a/b", "..a", "a..", "a\\b", ".dockerignore", "ö/é"] {
            assert!(Entry::new(stat(path, 0)).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_directory_is_followed_by_what_is_in_it() {
        let mut names = ["a-b", "a", "b", "a/b", "a.txt", "a/b/c", "a!"];
        names.sort_by(|left, right| compare(left, right));
        assert_eq!(names, ["a", "a/b", "a/b/c", "a!", "a-b", "a.txt", "b"]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let negative = Stat { size: -1, ..stat("a", 0o644) };
        assert_eq!(Entry::new(negative).unwrap_err(), Violation::Size { path: "a".into() });
        let heavy =
            Stat { xattrs: [("user.a".to_owned(), vec![0; limits::ATTRIBUTES])].into(), ..stat("a", 0o644) };
        assert_eq!(Entry::new(heavy).unwrap_err(), Violation::Attributes { path: "a".into() });
        let far = Stat { linkname: "x".repeat(limits::PATH + 1), ..stat("a", mode::LINK) };
        assert!(matches!(Entry::new(far), Err(Violation::Path { .. })));
    }

    type Read = (String, tar::Header, Option<String>, Vec<(String, Vec<u8>)>);

    /// What a reader of archives makes of an entry.
    fn read(stat: Stat, content: &[u8]) -> Read {
        let entry = Entry::new(stat).unwrap();
        let mut bytes = entry.head(content.len() as u64);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let link = entry.link_name().unwrap().map(|link| link.to_str().unwrap().to_owned());
        let fields = entry.pax_extensions().unwrap().into_iter().flatten().map(|field| {
            let field = field.unwrap();
            (field.key().unwrap().to_owned(), field.value_bytes().to_vec())
        });
        let fields = fields.collect();
        let header = entry.header().clone();
        let mut came = Vec::new();
        entry.read_to_end(&mut came).unwrap();
        assert_eq!(came, if header.entry_type().is_file() { content } else { &[] });
        (path, header, link, fields)
    }

    #[test]
    fn headers_say_what_the_client_said() {
        let full = Stat {
            uid: 3_000_000,
            gid: 7,
            size: 3,
            mod_time: 1_700_000_000_987_654_321,
            xattrs: [("user.b".to_owned(), b"2".to_vec()), ("user.a".to_owned(), b"\0\xff".to_vec())].into(),
            ..stat("bin/su", mode::SETUID | mode::STICKY | 0o755)
        };
        let (path, header, _, fields) = read(full, b"abc");
        assert_eq!(path, "bin/su");
        assert_eq!((header.mode().unwrap(), header.size().unwrap()), (0o5755, 3));
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (3_000_000, 7));
        assert_eq!(header.mtime().unwrap(), 1_700_000_000);
        let attribute = |name: &str, value: &[u8]| (format!("SCHILY.xattr.user.{name}"), value.to_vec());
        assert_eq!(fields, [attribute("a", b"\0\xff"), attribute("b", b"2")]);
    }

    #[test]
    fn every_kind_has_its_header() {
        let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
        for (stat, kind, link) in [
            (stat("d", mode::DIRECTORY | 0o755), tar::EntryType::Directory, None),
            (
                Stat { linkname: "../x".into(), ..stat("l", mode::LINK | 0o777) },
                tar::EntryType::Symlink,
                Some("../x"),
            ),
            (
                Stat { linkname: long.clone(), size: 5, ..stat("h", 0o644) },
                tar::EntryType::Link,
                Some(long.as_str()),
            ),
            (stat("p", mode::PIPE | 0o600), tar::EntryType::Fifo, None),
            (stat(&long, 0o644), tar::EntryType::Regular, None),
            (
                Stat { devmajor: 1, devminor: 3, ..stat("c", mode::DEVICE | mode::CHARACTER | 0o666) },
                tar::EntryType::Char,
                None,
            ),
            (
                Stat { devmajor: 8, devminor: 1, ..stat("b", mode::DEVICE | 0o660) },
                tar::EntryType::Block,
                None,
            ),
        ] {
            let name = stat.path.clone();
            let device = (stat.devmajor != 0).then_some((stat.devmajor, stat.devminor));
            let (path, header, target, _) = read(stat, b"");
            assert_eq!((path, header.entry_type()), (name.clone(), kind));
            assert_eq!(target.as_deref(), link, "{name}");
            if let Some((major, minor)) = device {
                assert_eq!(header.device_major().unwrap().map(i64::from), Some(major));
                assert_eq!(header.device_minor().unwrap().map(i64::from), Some(minor));
            }
        }
    }

    #[test]
    fn sockets_are_left_out() {
        for mode in [mode::SOCKET, mode::IRREGULAR, mode::DIRECTORY | mode::LINK] {
            let entry = Entry::new(stat("s", mode | 0o600)).unwrap();
            assert_eq!((entry.kind, entry.head(0).len()), (Kind::Nothing, 0));
        }
    }
}
