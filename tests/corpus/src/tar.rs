//! Archives put together byte by byte, so that they can be wrong in every way.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An archive in the making.
#[derive(Clone, Debug, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header as `change` leaves it, with a right checksum, and content.
    pub fn raw(
        mut self,
        name: &[u8],
        flag: u8,
        content: &[u8],
        change: impl FnOnce(&mut ::tar::Header),
    ) -> Self {
        let mut header = ::tar::Header::new_ustar();
        let short = &name[..name.len().min(100)];
        header.as_old_mut().name[..short.len()].copy_from_slice(short);
        header.as_old_mut().linkflag[0] = flag;
        header.set_mode(if flag == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// An entry of the type `flag` without content.
    pub fn entry(self, name: &[u8], flag: u8) -> Self {
        self.raw(name, flag, b"", |_| {})
    }

    /// A file.
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(name.as_bytes(), b'0', content, |_| {})
    }

    /// A directory.
    pub fn dir(self, name: &str) -> Self {
        self.entry(name.as_bytes(), b'5')
    }

    /// A link of the type `flag`; its target has at most 100 bytes.
    pub fn link(self, flag: u8, name: &str, target: &[u8]) -> Self {
        let target = target.to_vec();
        self.raw(name.as_bytes(), flag, b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(&target);
        })
    }

    /// A symbolic link.
    pub fn symlink(self, name: &str, target: impl AsRef<Path>) -> Self {
        self.link(b'2', name, target.as_ref().as_os_str().as_bytes())
    }

    /// A hard link.
    pub fn hardlink(self, name: &str, target: impl AsRef<Path>) -> Self {
        self.link(b'1', name, target.as_ref().as_os_str().as_bytes())
    }

    /// A device.
    pub fn device(self, name: &str, flag: u8, major: u32, minor: u32) -> Self {
        self.raw(name.as_bytes(), flag, b"", |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    }

    /// Adds an extended header for the entry that comes next.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let content = pax_records(records);
        self.raw(b"PaxHeaders/x", b'x', &content, |_| {})
    }

    /// The bytes, with the end of an archive.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// `length key=value\n` for each.
pub fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length =
            (1..9).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
        content.extend_from_slice(format!("{} {key}=", length.unwrap()).as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    content
}
