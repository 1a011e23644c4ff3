//! A context as a tar archive: `meta.json`, and below `tls/ENDPOINT/` certificates and keys.

use std::io::Read as _;
use std::path::Component;

use super::store::FILE;
use super::{Context, TlsFile};
use crate::error::{Error, Result};

/// What ends an archive: the rest of a block, and two empty ones.
const END: u64 = 3 * 512;

/// The archive of a context.
pub(crate) fn pack(context: &Context, files: &[TlsFile]) -> Result<Vec<u8>> {
    let failed = || Error::io("make the archive of the context");
    let mut archive = tar::Builder::new(Vec::new());
    let document = serde_json::to_vec(context).expect("a context is plain data");
    add_file(&mut archive, "meta.json", 0o644, &document).map_err(failed())?;
    add_directory(&mut archive, "tls").map_err(failed())?;
    let mut endpoints: Vec<&str> = files.iter().map(|file| file.endpoint.as_str()).collect();
    endpoints.dedup();
    for endpoint in endpoints {
        add_directory(&mut archive, &format!("tls/{endpoint}")).map_err(failed())?;
        for file in files.iter().filter(|file| file.endpoint == endpoint) {
            let path = format!("tls/{endpoint}/{}", file.name);
            add_file(&mut archive, &path, 0o600, &file.content).map_err(failed())?;
        }
    }
    archive.into_inner().map_err(failed())
}

fn add_file(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    content: &[u8],
) -> std::io::Result<()> {
    let mut header = header();
    header.set_mode(mode);
    header.set_size(content.len().try_into().expect("a usize fits"));
    archive.append_data(&mut header, path, content)
}

/// Nobody's and of no time, so that one context makes one archive.
fn header() -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn add_directory(archive: &mut tar::Builder<Vec<u8>>, path: &str) -> std::io::Result<()> {
    let mut header = header();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o700);
    header.set_size(0);
    archive.append_data(&mut header, path, std::io::empty())
}

/// The context in an archive. Whoever made it chooses no paths: what belongs nowhere is refused.
pub(crate) fn unpack(archive: &[u8]) -> Result<(Context, Vec<TlsFile>)> {
    if archive.starts_with(b"PK") {
        return Err(invalid("it is a zip archive: unpack it, and make a tar archive of what is in it"));
    }
    let failed = || Error::io("read the archive of the context");
    let (mut context, mut files) = (None, Vec::new());
    // Docker's archives of contexts stop after the last byte of the last file.
    let whole = archive.chain(std::io::repeat(0).take(END));
    for entry in tar::Archive::new(whole).entries().map_err(failed())? {
        let mut entry = entry.map_err(failed())?;
        if entry.header().entry_type() == tar::EntryType::Directory {
            continue;
        }
        let path = entry.path().map_err(failed())?.into_owned();
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(invalid(&format!("{} is no file", path.display())));
        }
        let mut content = Vec::new();
        (&mut entry).take(FILE + 1).read_to_end(&mut content).map_err(failed())?;
        if content.len() as u64 > FILE {
            return Err(invalid(&format!("{} is too large", path.display())));
        }
        let words: Option<Vec<&str>> = path.components().map(plain).collect();
        match words.as_deref() {
            Some(["meta.json"]) => {
                let parsed = serde_json::from_slice(&content);
                context = Some(parsed.map_err(|error| invalid(&format!("meta.json: {error}")))?);
            }
            Some(["tls", endpoint, name]) => {
                files.push(TlsFile { endpoint: (*endpoint).to_owned(), name: (*name).to_owned(), content });
            }
            _ => return Err(invalid(&format!("{} does not belong in it", path.display()))),
        }
    }
    Ok((context.ok_or_else(|| invalid("it has no meta.json"))?, files))
}

fn plain(component: Component<'_>) -> Option<&str> {
    match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    }
}

fn invalid(reason: &str) -> Error {
    Error::Configuration(format!("this is no archive of a context: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(path: &str, kind: tar::EntryType) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(2);
        // Not through the library's own checks of paths.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, &b"{}"[..]).expect("in memory");
        archive.into_inner().expect("in memory")
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let mut context = Context { name: "ab".into(), ..Context::default() };
        context.set_host("tcp://h:1", true);
        let files =
            [TlsFile { endpoint: "docker".into(), name: "ca.pem".into(), content: b"certificate".to_vec() }];
        let archive = pack(&context, &files).expect("packs");
        assert_eq!(unpack(&archive).expect("unpacks"), (context, files.to_vec()));
    }

    #[test]
    fn an_archive_chooses_no_paths() {
        use tar::EntryType::{Regular, Symlink};
        assert!(unpack(&with("meta.json", Regular)).is_ok());
        for (path, kind) in [
            ("tls/docker/../../x", Regular),
            ("/meta.json", Regular),
            ("tls/x", Regular),
            ("other", Regular),
            ("meta.json", Symlink),
        ] {
            assert!(unpack(&with(path, kind)).is_err(), "{path}");
        }
        assert!(unpack(b"PK\x03\x04").is_err() && unpack(b"").is_err());
    }
}
