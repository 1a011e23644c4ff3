//! Lists of manifests that are not pushed yet, where Docker's command keeps them and as it does, so that one begins a
//! list and the other pushes it:
//!
//! ```text
//! CONFIG/manifests/LIST/IMAGE    names with : as - and / as _
//! ```

mod document;
mod layout;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use coracle_spec::Reference;

use crate::error::{Error, Result};

pub(crate) use document::{ManifestList, Member, shown_in_full};

/// Largest file of the store, in bytes: a manifest twice, once in base64.
const FILE: u64 = 16 << 20;
/// Most images in a list.
const MEMBERS: usize = 1000;

/// The lists below one configuration directory.
#[derive(Debug)]
pub(crate) struct Lists {
    directory: PathBuf,
}

impl Lists {
    /// Those below `configuration`; there need be none.
    pub(crate) fn below(configuration: &Path) -> Self {
        Self { directory: configuration.join("manifests") }
    }

    /// The images of a list, in the order in which they are pushed; nothing where there is no such list.
    pub(crate) fn list(&self, list: &Reference) -> Result<Option<Vec<Member>>> {
        let directory = self.directory.join(file_name(list));
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(Error::io(format!("read {}", directory.display())))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io(format!("read {}", directory.display())))?;
            // What is being written begins with a dot.
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                files.push(entry.path());
            }
            if files.len() > MEMBERS {
                return Err(Error::Manifest(format!("{} has too many images", list.canonical())));
            }
        }
        files.sort();
        files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>().map(Some)
    }

    /// One image of a list.
    pub(crate) fn member(&self, list: &Reference, image: &Reference) -> Result<Option<Member>> {
        let file = self.directory.join(file_name(list)).join(file_name(image));
        if file.exists() { read(&file).map(Some) } else { Ok(None) }
    }

    /// Puts an image into a list, or replaces it there.
    pub(crate) fn save(&self, list: &Reference, image: &Reference, member: &Member) -> Result<()> {
        let directory = self.directory.join(file_name(list));
        let failed = || Error::io(format!("write {}", directory.display()));
        std::fs::create_dir_all(&directory).map_err(failed())?;
        let part = directory.join(format!(".{}", std::process::id()));
        std::fs::write(&part, member.to_json()).map_err(failed())?;
        std::fs::rename(&part, directory.join(file_name(image))).map_err(failed())
    }

    /// Removes a list; `false` where there is none.
    pub(crate) fn remove(&self, list: &Reference) -> Result<bool> {
        let directory = self.directory.join(file_name(list));
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true).map_err(Error::io(format!("remove {}", directory.display()))),
        }
    }
}

/// A name as one component of a path. The grammar of names has no `..` and no empty parts.
fn file_name(reference: &Reference) -> String {
    reference.canonical().replace(':', "-").replace('/', "_")
}

fn read(file: &Path) -> Result<Member> {
    let mut text = String::new();
    let opened = std::fs::File::open(file);
    opened
        .and_then(|opened| opened.take(FILE).read_to_string(&mut text))
        .map_err(Error::io(format!("read {}", file.display())))?;
    Member::parse(&text).map_err(|reason| Error::Manifest(format!("cannot use {}: {reason}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_wrote_is_read_in_its_order_and_written_as_it_does() {
        let directory = tempfile::tempdir().unwrap();
        let lists = Lists::below(directory.path());
        let list: Reference = "reg.test:5000/team/all:v1".parse().unwrap();
        assert!(lists.list(&list).unwrap().is_none());
        let place = directory.path().join("manifests/reg.test-5000_team_all-v1");
        std::fs::create_dir_all(&place).unwrap();
        let written = |name: &str, arch: &str| {
            format!(
                r#"{{"Ref":"reg.test:5000/team/{name}:v1","Descriptor":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":2,"platform":{{"architecture":"{arch}","os":"linux","os.version":"1","os.features":["x"],"variant":"v8"}}}},"Raw":"eyJhIjogMX0=","OCIManifest":{{"a":1}}}}"#,
                "a".repeat(64)
            )
        };
        for (name, arch) in [("b", "arm64"), ("a", "amd64")] {
            std::fs::write(place.join(format!("reg.test-5000_team_{name}-v1")), written(name, arch)).unwrap();
        }
        std::fs::write(place.join(".123"), "half").unwrap();
        let members = lists.list(&list).unwrap().unwrap();
        let names: Vec<&str> = members.iter().map(|member| member.reference.as_str()).collect();
        assert_eq!(names, ["reg.test:5000/team/a:v1", "reg.test:5000/team/b:v1"]);
        assert_eq!(members[1].to_json(), written("b", "arm64"));
        let image: Reference = "reg.test:5000/team/b:v1".parse().unwrap();
        lists.save(&list, &image, &members[1]).unwrap();
        assert_eq!(lists.member(&list, &image).unwrap().unwrap().to_json(), written("b", "arm64"));
        assert!(lists.remove(&list).unwrap() && !lists.remove(&list).unwrap());
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("x"), "{").unwrap();
        assert!(lists.list(&list).is_err());
    }
}
