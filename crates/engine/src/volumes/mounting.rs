//! What a volume mounts: the options `type`, `device` and `o` of the driver `local`, which are mount(8)'s. Pure.

use coracle_sys::mount::Flags;
use std::collections::BTreeMap;

/// File systems whose owners can be mapped, mount_setattr(2). Those of others are whoever they are there.
const MAPPED: [&str; 12] =
    ["btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "ntfs3", "squashfs", "tmpfs", "vfat", "xfs"];

/// The words that mount(2) has a flag for, and whether they set it.
const WORDS: [(&str, bool, Flags); 24] = [
    ("defaults", true, Flags::empty()),
    ("ro", true, Flags::RDONLY),
    ("rw", false, Flags::RDONLY),
    ("nosuid", true, Flags::NOSUID),
    ("suid", false, Flags::NOSUID),
    ("nodev", true, Flags::NODEV),
    ("dev", false, Flags::NODEV),
    ("noexec", true, Flags::NOEXEC),
    ("exec", false, Flags::NOEXEC),
    ("sync", true, Flags::SYNCHRONOUS),
    ("async", false, Flags::SYNCHRONOUS),
    ("dirsync", true, Flags::DIRSYNC),
    ("mand", true, Flags::PERMIT_MANDATORY_FILE_LOCKING),
    ("nomand", false, Flags::PERMIT_MANDATORY_FILE_LOCKING),
    ("noatime", true, Flags::NOATIME),
    ("atime", false, Flags::NOATIME),
    ("nodiratime", true, Flags::NODIRATIME),
    ("diratime", false, Flags::NODIRATIME),
    ("relatime", true, Flags::RELATIME),
    ("norelatime", false, Flags::RELATIME),
    ("strictatime", true, Flags::STRICTATIME),
    ("nostrictatime", false, Flags::STRICTATIME),
    ("bind", true, Flags::BIND),
    ("rbind", true, Flags::BIND.union(Flags::REC)),
];
/// Words that change a mount that is there. A volume's is made anew, and nothing travels to or from it.
const OF_OTHERS: [&str; 9] =
    ["remount", "unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// What a volume mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mounting {
    pub(super) kind: String,
    pub(super) device: String,
    pub(super) flags: Flags,
    /// What is left to the file system.
    pub(super) data: String,
}

/// Whose the files of a volume are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// Containers'; they are in the volume's directory.
    #[default]
    Directory,
    /// Containers'; they are on a file system that is mounted while it is used.
    FileSystem,
    /// Others' as well, whose owners are the same everywhere: a directory of the host, or a file system that is shared.
    Shared,
}

impl Mounting {
    /// What the options say; nothing where nothing is mounted.
    ///
    /// # Errors
    /// The word that makes no sense here.
    pub(super) fn of(options: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        let text = |key: &str| options.get(key).cloned().unwrap_or_default();
        if text("device").is_empty() && text("type").is_empty() {
            return Ok(None);
        }
        let (mut flags, mut data) = (Flags::empty(), Vec::new());
        let words = text("o");
        for word in words.split(',').filter(|word| !word.is_empty()) {
            if OF_OTHERS.contains(&word) {
                return Err(word.to_owned());
            }
            match WORDS.iter().find(|(known, ..)| *known == word) {
                Some((_, true, flag)) => flags |= *flag,
                Some((_, false, flag)) => flags -= *flag,
                None => data.push(word),
            }
        }
        Ok(Some(Self { kind: text("type"), device: text("device"), flags, data: data.join(",") }))
    }

    /// Whether a directory of the host is shown.
    pub(super) fn is_bind(&self) -> bool {
        self.flags.contains(Flags::BIND)
    }

    pub(super) fn backing(&self) -> Backing {
        let is_mapped = !self.is_bind() && MAPPED.contains(&self.kind.as_str());
        if is_mapped { Backing::FileSystem } else { Backing::Shared }
    }

    /// The name of the machine whose file system it is, which the kernel does not resolve.
    pub(super) fn host(&self) -> Option<&str> {
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs" | "smb3") {
            return None;
        }
        let of_option = self.data.split(',').find_map(|word| word.strip_prefix("addr="));
        let is_cifs = matches!(self.kind.as_str(), "cifs" | "smb3");
        let of_device =
            self.device.strip_prefix("//").filter(|_| is_cifs).and_then(|rest| rest.split('/').next());
        let host = of_option.or(of_device).filter(|host| !host.is_empty())?;
        host.parse::<std::net::IpAddr>().is_err().then_some(host)
    }

    /// The same with the address of [`Self::host`] in its place.
    pub(super) fn at(&self, address: std::net::IpAddr) -> Self {
        let Some(host) = self.host() else { return self.clone() };
        let named = format!("addr={host}");
        if self.data.split(',').any(|word| word == named) {
            let words = self.data.split(',').map(|word| match word == named {
                true => format!("addr={address}"),
                false => word.to_owned(),
            });
            return Self { data: words.collect::<Vec<_>>().join(","), ..self.clone() };
        }
        Self { device: self.device.replacen(host, &address.to_string(), 1), ..self.clone() }
    }

    /// Its words for people, without a password.
    pub(super) fn shown(&self) -> String {
        let words = self.data.split(',').map(|word| match word.split_once('=') {
            Some((key @ ("password" | "pass"), _)) => format!("{key}=********"),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounting(options: &[(&str, &str)]) -> Result<Option<Mounting>, String> {
        Mounting::of(&options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn words_become_flags_and_the_rest_is_the_file_systems() {
        assert_eq!(mounting(&[("size", "1m")]), Ok(None));
        let o = "size=100m,ro,rw,nosuid,uid=1000,defaults";
        let tmpfs = mounting(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", o)]).unwrap().unwrap();
        assert_eq!((tmpfs.flags, tmpfs.data.as_str()), (Flags::NOSUID, "size=100m,uid=1000"));
        assert_eq!(tmpfs.backing(), Backing::FileSystem);
        let bind = mounting(&[("type", "none"), ("device", "/srv"), ("o", "rbind,ro")]).unwrap().unwrap();
        assert!(bind.is_bind() && bind.flags.contains(Flags::REC | Flags::RDONLY) && bind.data.is_empty());
        assert_eq!(bind.backing(), Backing::Shared);
        let of_others = mounting(&[("type", "none"), ("device", "/srv"), ("o", "bind,rshared")]);
        assert_eq!(of_others, Err("rshared".to_owned()));
    }

    #[test]
    fn names_of_machines_are_found_where_docker_finds_them() {
        let address = "192.0.2.7".parse().unwrap();
        for (kind, device, o, host, after) in [
            ("nfs", ":/srv", "addr=files,rw", Some("files"), (":/srv", "addr=192.0.2.7")),
            ("nfs", ":/srv", "addr=192.0.2.1,nolock", None, (":/srv", "addr=192.0.2.1,nolock")),
            ("nfs", "files:/srv", "vers=4", None, ("files:/srv", "vers=4")),
            (
                "cifs",
                "//files/a",
                "username=u,password=p",
                Some("files"),
                ("//192.0.2.7/a", "username=u,password=p"),
            ),
            ("cifs", "//files/a", "addr=other", Some("other"), ("//files/a", "addr=192.0.2.7")),
            ("cifs", "//192.0.2.1/a", "", None, ("//192.0.2.1/a", "")),
            ("ext4", "/dev/files", "addr=files", None, ("/dev/files", "addr=files")),
        ] {
            let found = mounting(&[("type", kind), ("device", device), ("o", o)]).unwrap().unwrap();
            assert_eq!(found.host(), host, "{kind} {device} {o}");
            let resolved = found.at(address);
            assert_eq!((resolved.device.as_str(), resolved.data.as_str()), after);
        }
    }

    #[test]
    fn passwords_are_shown_to_nobody() {
        let o = "username=u,password=secret,pass=secret";
        let found = mounting(&[("type", "cifs"), ("device", "//a/b"), ("o", o)]).unwrap().unwrap();
        assert_eq!(found.shown(), "username=u,password=********,pass=********");
    }
}
