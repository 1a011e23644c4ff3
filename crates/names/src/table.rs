//! The names of one network, as a directory on a tmpfs in which every change is atomic and costs its own size.
//!
//! ```text
//! <table>/names/<name>/<endpoint>        → address     symbolic links, whose text is the value
//! <table>/names/<name>/<endpoint>@1      → further address, which shims of earlier releases pass over
//! <table>/addresses/<address>/<endpoint> → name
//! <table>/endpoints/<endpoint>           address, names and further addresses, a line each: what to withdraw
//! ```
//!
//! Further addresses are of IPv6: their lines are told from names by their colons.
//!
//! The record of an endpoint is written before its entries and removed after them, so that whatever dies in between,
//! withdrawing finds everything. There is no lock: entries of different endpoints are different files, and one endpoint
//! has one writer at a time, the engine while it runs and the shim when it ends.

use std::ffi::CStr;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Dir, Mode, OFlags, accessat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::limits::{ADDRESSES_PER_NAME, ENDPOINT, NAMES_PER_ENDPOINT, PUBLISH_TRIES, RECORD};
use crate::name::Name;

const NAMES: &str = "names";
const ADDRESSES: &str = "addresses";
const ENDPOINTS: &str = "endpoints";
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// The names of one network.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    directory: OwnedFd,
}

/// What an endpoint has published.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    /// One at least.
    addresses: Vec<IpAddr>,
    names: Vec<Name>,
}

impl Record {
    /// The addresses, with what their entries are called.
    fn entries(&self, endpoint: &str) -> impl Iterator<Item = (&IpAddr, String)> {
        self.addresses.iter().enumerate().map(move |(nth, address)| match nth {
            0 => (address, endpoint.to_owned()),
            nth => (address, format!("{endpoint}@{nth}")),
        })
    }
}

impl Table {
    /// Opens the table in a directory, whose parent must exist; makes it if it is not there.
    ///
    /// # Errors
    /// When the directory can neither be opened nor made.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source: Errno| Error::Table {
            attempt: "open a directory",
            table: path.to_owned(),
            source: source.into(),
        };
        let open = || rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty());
        let directory = match open() {
            Err(Errno::NOENT) => make_directory(CWD, path).and_then(|()| open()),
            opened => opened,
        }
        .map_err(failed)?;
        // What is made last tells that all of it is there.
        if accessat(&directory, ENDPOINTS, Access::EXISTS, AtFlags::empty()).is_err() {
            for part in [NAMES, ADDRESSES, ENDPOINTS] {
                make_directory(&directory, part).map_err(failed)?;
            }
        }
        Ok(Self { path: path.to_owned(), directory })
    }

    /// Publishes an endpoint with its addresses, all but the first of them of IPv6, under `names`, instead of what it had
    /// published before. Its addresses resolve to the first name.
    ///
    /// # Errors
    /// When a name or the identifier is none, there is no address or a further one of IPv4, or the directory cannot be changed.
    pub fn publish(&self, endpoint: &str, addresses: &[IpAddr], names: &[Name]) -> Result<()> {
        check_endpoint(endpoint)?;
        if addresses.is_empty() || addresses[1..].iter().any(IpAddr::is_ipv4) {
            return Err(Error::Addresses { endpoint: endpoint.to_owned() });
        }
        if names.len() > NAMES_PER_ENDPOINT {
            return Err(Error::TooManyNames { count: names.len(), limit: NAMES_PER_ENDPOINT });
        }
        let attempt = self.failed("publish names");
        let record = Record { addresses: addresses.to_vec(), names: names.to_vec() };
        match self.record(endpoint).map_err(&attempt)? {
            Some(old) if old == record => Ok(()),
            Some(old) if old.addresses == addresses => self.rename(endpoint, &old, &record),
            old => self.replace(endpoint, old.as_ref(), &record),
        }
        .map_err(attempt)
    }

    /// Under other addresses it is another endpoint: nothing of the old one may be found any more.
    fn replace(&self, endpoint: &str, old: Option<&Record>, new: &Record) -> Result<(), Errno> {
        old.map_or(Ok(()), |old| self.remove_entries(endpoint, old))?;
        self.write_record(endpoint, new)?;
        self.add_entries(endpoint, new)
    }

    /// Changes the names of an endpoint that keeps its addresses; those it keeps are there all the time.
    fn rename(&self, endpoint: &str, old: &Record, new: &Record) -> Result<(), Errno> {
        let (mut all, mut gone) = (new.clone(), old.clone());
        gone.names.retain(|name| !new.names.contains(name));
        all.names.extend_from_slice(&gone.names);
        self.write_record(endpoint, &all)?;
        if new.names.is_empty() {
            self.remove_entries(endpoint, &gone)?;
        }
        self.add_entries(endpoint, new)?;
        self.remove_names(endpoint, &gone)?;
        self.write_record(endpoint, new)
    }

    fn add_entries(&self, endpoint: &str, record: &Record) -> Result<(), Errno> {
        for (address, entry) in record.entries(endpoint) {
            let address = address.to_string();
            for name in &record.names {
                self.add_entry(NAMES, name.as_str(), &entry, &address)?;
            }
            if let Some(first) = record.names.first() {
                self.add_entry(ADDRESSES, &address, endpoint, first.as_str())?;
            }
        }
        Ok(())
    }

    /// Withdraws all that an endpoint has published; nothing, if it has published nothing.
    ///
    /// # Errors
    /// When the identifier is none, or the directory cannot be changed.
    pub fn withdraw(&self, endpoint: &str) -> Result<()> {
        check_endpoint(endpoint)?;
        let attempt = self.failed("withdraw names");
        let Some(record) = self.record(endpoint).map_err(&attempt)? else { return Ok(()) };
        self.remove_entries(endpoint, &record).map_err(&attempt)?;
        tolerate(self.unlink(&format!("{ENDPOINTS}/{endpoint}"), AtFlags::empty()), &[Errno::NOENT])
            .map_err(&attempt)
    }

    /// The addresses published under a name, in no order; none if there is no such name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn lookup(&self, name: &Name) -> Result<Vec<IpAddr>> {
        let texts =
            self.entries(NAMES, name.as_str(), ADDRESSES_PER_NAME).map_err(self.failed("look up a name"))?;
        Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
    }

    /// The name published for an address.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn reverse(&self, address: IpAddr) -> Result<Option<Name>> {
        let attempt = self.failed("look up an address");
        let texts = self.entries(ADDRESSES, &address.to_string(), 1).map_err(attempt)?;
        Ok(texts.iter().find_map(|text| Name::parse(text).ok()))
    }

    fn failed(&self, attempt: &'static str) -> impl Fn(Errno) -> Error {
        move |errno| Error::Table { attempt, table: self.path.clone(), source: errno.into() }
    }

    /// Adds `<kind>/<key>/<endpoint>` with `value`. The directory of the key may vanish under our hands, when another
    /// endpoint withdraws the last entry in it.
    fn add_entry(&self, kind: &str, key: &str, endpoint: &str, value: &str) -> Result<(), Errno> {
        let directory = format!("{kind}/{key}");
        let entry = format!("{directory}/{endpoint}");
        for _ in 0..PUBLISH_TRIES {
            make_directory(&self.directory, &directory)?;
            match rustix::fs::symlinkat(value, &self.directory, &entry) {
                Err(Errno::NOENT) => {}
                Err(Errno::EXIST) => return self.replace_entry(&directory, endpoint, value),
                done => return done,
            }
        }
        Err(Errno::BUSY)
    }

    /// Gives an entry another value; it is there all the time.
    fn replace_entry(&self, directory: &str, endpoint: &str, value: &str) -> Result<(), Errno> {
        let (entry, aside) = (format!("{directory}/{endpoint}"), format!("{directory}/.{endpoint}"));
        // Left by a publisher that died here.
        tolerate(self.unlink(&aside, AtFlags::empty()), &[Errno::NOENT])?;
        rustix::fs::symlinkat(value, &self.directory, &aside)?;
        rustix::fs::renameat(&self.directory, &aside, &self.directory, &entry)
    }

    fn remove_entries(&self, endpoint: &str, record: &Record) -> Result<(), Errno> {
        self.remove_names(endpoint, record)?;
        let mut addresses = record.addresses.iter();
        addresses.try_for_each(|address| self.remove_entry(ADDRESSES, &address.to_string(), endpoint))
    }

    fn remove_names(&self, endpoint: &str, record: &Record) -> Result<(), Errno> {
        for (_, entry) in record.entries(endpoint) {
            for name in &record.names {
                self.remove_entry(NAMES, name.as_str(), &entry)?;
            }
        }
        Ok(())
    }

    fn remove_entry(&self, kind: &str, key: &str, endpoint: &str) -> Result<(), Errno> {
        let directory = format!("{kind}/{key}");
        tolerate(self.unlink(&format!("{directory}/{endpoint}"), AtFlags::empty()), &[Errno::NOENT])?;
        // Others may have an entry there.
        tolerate(self.unlink(&directory, AtFlags::REMOVEDIR), &[Errno::NOENT, Errno::NOTEMPTY, Errno::EXIST])
    }

    /// The values of all entries of a key, at most `limit`.
    fn entries(&self, kind: &str, key: &str, limit: usize) -> Result<Vec<String>, Errno> {
        let opened = rustix::fs::openat(&self.directory, format!("{kind}/{key}"), DIRECTORY, Mode::empty());
        let Some(directory) = absent(opened)? else { return Ok(Vec::new()) };
        let mut values = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            if entry.file_name().to_bytes().starts_with(b".") {
                continue;
            }
            values.extend(read_entry(&directory, entry.file_name())?);
            if values.len() == limit {
                break;
            }
        }
        Ok(values)
    }

    fn record(&self, endpoint: &str) -> Result<Option<Record>, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened =
            rustix::fs::openat(&self.directory, format!("{ENDPOINTS}/{endpoint}"), flags, Mode::empty());
        let Some(file) = absent(opened)? else { return Ok(None) };
        let mut text = String::new();
        let read = std::io::Read::read_to_string(
            &mut std::io::Read::take(std::fs::File::from(file), RECORD),
            &mut text,
        );
        read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let mut lines = text.lines();
        let address = lines.next().and_then(|line| line.parse().ok()).ok_or(Errno::IO)?;
        let mut record = Record { addresses: vec![address], names: Vec::new() };
        for line in lines {
            match line.contains(':') {
                true => record.addresses.extend(line.parse::<IpAddr>()),
                false => record.names.extend(Name::parse(line)),
            }
        }
        Ok(Some(record))
    }

    /// Writes the record beside its place and renames it there: it is read whole or not at all.
    fn write_record(&self, endpoint: &str, record: &Record) -> Result<(), Errno> {
        let (first, further) = record.addresses.split_first().ok_or(Errno::INVAL)?;
        let mut text = first.to_string();
        let names = record.names.iter().map(ToString::to_string);
        for line in names.chain(further.iter().map(ToString::to_string)) {
            text.push('\n');
            text.push_str(&line);
        }
        let (aside, place) = (format!("{ENDPOINTS}/.{endpoint}"), format!("{ENDPOINTS}/{endpoint}"));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.directory, &aside, flags, Mode::RUSR | Mode::WUSR)?;
        std::io::Write::write_all(&mut std::fs::File::from(file), text.as_bytes())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        rustix::fs::renameat(&self.directory, &aside, &self.directory, &place)
    }

    fn unlink(&self, path: &str, flags: AtFlags) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.directory, path, flags)
    }
}

/// The text of one entry; none when it was withdrawn a moment ago.
fn read_entry(directory: &OwnedFd, entry: &CStr) -> Result<Option<String>, Errno> {
    let text = absent(rustix::fs::readlinkat(directory, entry, Vec::new()))?;
    Ok(text.and_then(|text| text.into_string().ok()))
}

fn make_directory(at: impl AsFd, path: impl rustix::path::Arg) -> Result<(), Errno> {
    tolerate(rustix::fs::mkdirat(at, path, Mode::RWXU), &[Errno::EXIST])
}

fn tolerate(result: Result<(), Errno>, expected: &[Errno]) -> Result<(), Errno> {
    match result {
        Err(errno) if expected.contains(&errno) => Ok(()),
        result => result,
    }
}

fn absent<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Err(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// Identifiers are names of files, and those beginning with a dot are ours.
fn check_endpoint(text: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=ENDPOINT).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain) {
        Ok(())
    } else {
        Err(Error::Endpoint { text: text.to_owned() })
    }
}
