//! Extended headers (pax(1)): what they say about the next entry.

use super::{Segment, Time, number, sparse};
use crate::limits;

/// Prefix of the records that hold extended attributes; their values are raw bytes.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an extended header overrides. A field without a record, or whose record is empty, is as the header block says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Overrides {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<Sparse>,
}

/// What GNU's `GNU.sparse.*` records say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sparse {
    pub(super) major: u64,
    pub(super) minor: u64,
    /// The real name; `path` then is a made-up one.
    pub(super) name: Option<Vec<u8>>,
    /// The size with all holes, in bytes.
    pub(super) size: Option<u64>,
    /// The map, unless it stands in front of the data (format 1.0).
    pub(super) map: Vec<Segment>,
    /// An offset (format 0.0) whose length has not come yet.
    offset: Option<u64>,
}

/// Reads the extended header of one entry.
pub(super) fn parse(content: &[u8]) -> Result<Overrides, &'static str> {
    let mut overrides = Overrides::default();
    for record in records(content) {
        let (key, value) = record?;
        overrides.apply(key, value)?;
    }
    if overrides.sparse.as_ref().is_some_and(|sparse| sparse.offset.is_some()) {
        return Err("the sparse map is incomplete");
    }
    Ok(overrides)
}

/// Checks a global header. One that changes entries is refused: Go's reader, and so Docker, ignores what GNU tar obeys.
pub(super) fn check_global(content: &[u8]) -> Result<(), &'static str> {
    let mut overrides = Overrides::default();
    for record in records(content) {
        let (key, value) = record?;
        overrides.apply(key, value)?;
        if overrides != Overrides::default() {
            return Err("a global extended header changes entries");
        }
    }
    Ok(())
}

impl Overrides {
    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(XATTR) {
            return self.xattr(name, value);
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.get_or_insert_default().apply(key, value);
        }
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = unsigned(value)?,
            b"uid" => self.uid = unsigned(value)?,
            b"gid" => self.gid = unsigned(value)?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(number::time(value).ok_or("the time is no number")?),
            // Names of users, access times, comments and character sets change nothing that is unpacked.
            _ => {}
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.contains(&0) || name.is_empty() {
            return Err("the name of an extended attribute is empty or holds NUL");
        }
        self.xattrs.retain(|(other, _)| other != name);
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

impl Sparse {
    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = || number::decimal(value).ok_or("a sparse record is no number");
        match key {
            b"major" => self.major = number()?,
            b"minor" => self.minor = number()?,
            b"name" => self.name = text(value)?,
            b"size" | b"realsize" => self.size = Some(number()?),
            b"map" => self.map = sparse::comma_separated(value)?,
            b"offset" if self.offset.is_some() => return Err("the sparse map is incomplete"),
            b"offset" => self.offset = Some(number()?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or("the sparse map is incomplete")?;
                self.map.push(Segment { offset, length: number()? });
            }
            // The number of segments follows from the map.
            b"numblocks" => {}
            _ => return Err("unknown sparse record"),
        }
        Ok(())
    }
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("a name in an extended header holds NUL");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn unsigned(value: &[u8]) -> Result<Option<u64>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    number::decimal(value).map(Some).ok_or("a number in an extended header is malformed or negative")
}

type Record<'a> = Result<(&'a [u8], &'a [u8]), &'static str>;

/// The records `length key=value\n`. Values may hold any byte, line ends too, so only the length delimits them.
fn records(mut content: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut count = 0;
    std::iter::from_fn(move || {
        // Some writers pad with NUL.
        if content.iter().all(|byte| *byte == 0) {
            return None;
        }
        count += 1;
        let record = if count > limits::PAX_RECORDS { None } else { split(content) };
        let Some((key, value, rest)) = record else {
            content = &[];
            return Some(Err("malformed extended header"));
        };
        content = rest;
        Some(Ok((key, value)))
    })
}

fn split(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number::decimal(&content[..space])?).ok()?;
    let record = content.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    if equals == 0 || record[..equals].contains(&0) {
        return None;
    }
    Some((&record[..equals], &record[equals + 1..], &content[length..]))
}

/// Appends one record to an extended header.
pub(super) fn append(content: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    content.extend_from_slice(format!("{length} ").as_bytes());
    content.extend_from_slice(key);
    content.push(b'=');
    content.extend_from_slice(value);
    content.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        append(&mut content, key.as_bytes(), value);
        content
    }

    #[test]
    fn malformed_headers_are_refused() {
        let cases: [&[u8]; 10] = [
            b"x",
            b"5 a=b",
            b"7 a=b\n",
            b"99 path=a\n",
            b"0 path=a\n",
            b"-1 path=a\n",
            b"10 pathaa\n",
            b"5 =b\n",
            b"00000000000000000000010 path=a\n",
            b"6 a=b\n\n",
        ];
        for content in cases {
            assert!(parse(content).is_err(), "{}", String::from_utf8_lossy(content));
        }
        assert!(parse(b"6 a=b\n\0\0").is_ok(), "padding");
        assert!(parse(&b"6 a=b\n".repeat(limits::PAX_RECORDS)).is_ok());
        assert!(parse(&b"6 a=b\n".repeat(limits::PAX_RECORDS + 1)).is_err());
    }

    #[test]
    fn senseless_values_are_refused() {
        let cases: [(&str, &[u8]); 11] = [
            ("path", b"a\0"),
            ("linkpath", b"a\0"),
            ("size", b"-1"),
            ("size", b"x"),
            ("uid", b"-1"),
            ("mtime", b"nan"),
            ("SCHILY.xattr.", b"x"),
            ("GNU.sparse.offset", b"1"),
            ("GNU.sparse.numbytes", b"1"),
            ("GNU.sparse.map", b"1"),
            ("GNU.sparse.unknown", b"1"),
        ];
        for (key, value) in cases {
            assert!(parse(&record(key, value)).is_err(), "{key}={value:?}");
        }
        assert!(parse(&record("comment", b"anything\0\n")).is_ok());
    }

    #[test]
    fn the_last_of_equal_records_counts_and_an_empty_one_takes_back() {
        let content = [("path", "a"), ("path", "b"), ("uid", "1000"), ("uid", "")];
        let content: Vec<_> = content.iter().flat_map(|(key, value)| record(key, value.as_bytes())).collect();
        let overrides = parse(&content).unwrap();
        assert_eq!(overrides.path.unwrap(), b"b");
        assert_eq!(overrides.uid, None);
    }

    #[test]
    fn a_global_header_may_only_comment() {
        assert!(check_global(&record("comment", b"abcd")).is_ok());
        for key in
            ["path", "linkpath", "size", "uid", "gid", "mtime", "SCHILY.xattr.user.x", "GNU.sparse.major"]
        {
            assert!(check_global(&record(key, b"1")).is_err(), "{key}");
        }
    }

    proptest! {
        #[test]
        fn any_record_survives_the_round_trip(value in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut content = Vec::new();
            append(&mut content, b"SCHILY.xattr.user.x", &value);
            let overrides = parse(&content).unwrap();
            prop_assert_eq!(&overrides.xattrs, &[(b"user.x".to_vec(), value)]);
        }

        #[test]
        fn no_content_panics(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&content);
        }
    }
}
