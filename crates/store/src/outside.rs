//! Files of a container whose users are others outside of it: an archive has them as the container knows them, whoever they are
//! where they are read and written.
//!
//! Only what is reached through a running container's own root is shown as outside. What containers leave on the disk has their
//! own ids already.

use coracle_spec::Owners;

use crate::archive::Entry;

/// The extended attribute with the capabilities of a program, capabilities(7), "File capabilities".
const CAPABILITY: &[u8] = b"security.capability";
/// Its versions (`VFS_CAP_REVISION_2` and `_3`): the second one names the root that it is good for, whose id stands at its end.
const OF_ANYBODY: u8 = 2;
/// See above.
const OF_ONE: u8 = 3;
/// The byte that has the version.
const VERSION: usize = 3;
/// Bytes of the first one, which the second begins with.
const LENGTH: usize = 20;

/// Makes an entry of what was found outside.
pub(crate) fn bring_in(owners: &Owners, entry: &mut Entry) {
    (entry.uid, entry.gid) = owners.inside((entry.uid, entry.gid));
    let Some(root) = root(owners) else { return };
    for value in capabilities(entry) {
        if value.get(VERSION) == Some(&OF_ONE) && value.get(LENGTH..) == Some(&root) {
            value.truncate(LENGTH);
            value[VERSION] = OF_ANYBODY;
        }
    }
}

/// Makes of an entry what is to be written outside.
pub(crate) fn put_out(owners: &Owners, entry: &mut Entry) -> Result<(), &'static str> {
    let owner = owners.outside((entry.uid, entry.gid));
    (entry.uid, entry.gid) = owner.ok_or("its owner is nobody in the container's user namespace")?;
    let Some(root) = root(owners) else { return Ok(()) };
    for value in capabilities(entry) {
        if value.get(VERSION) == Some(&OF_ANYBODY) && value.len() == LENGTH {
            value[VERSION] = OF_ONE;
            value.extend(root);
        }
    }
    Ok(())
}

fn root(owners: &Owners) -> Option<[u8; 4]> {
    owners.outside((0, 0)).map(|(uid, _)| uid.to_le_bytes())
}

fn capabilities(entry: &mut Entry) -> impl Iterator<Item = &mut Vec<u8>> {
    entry.xattrs.iter_mut().filter(|(name, _)| name == CAPABILITY).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Kind, Time};

    #[test]
    fn what_is_put_out_comes_in_as_it_was() {
        let owners = Owners::parse("0 100000 65536\n", "0 200000 65536\n").unwrap();
        let entry = Entry {
            path: b"f".to_vec(),
            kind: Kind::Directory,
            mode: 0o755,
            uid: 5,
            gid: 6,
            mtime: Time::default(),
            xattrs: vec![
                (CAPABILITY.to_vec(), [&[1, 0, 0, 2][..], &[7; 16]].concat()),
                (b"user.x".to_vec(), vec![2; 20]),
            ],
        };
        let mut outside = entry.clone();
        put_out(&owners, &mut outside).unwrap();
        assert_eq!((outside.uid, outside.gid), (100_005, 200_006));
        let expected = [&[1, 0, 0, 3][..], &[7; 16], &100_000_u32.to_le_bytes()].concat();
        assert_eq!((&outside.xattrs[0].1, &outside.xattrs[1].1), (&expected, &vec![2; 20]));
        bring_in(&owners, &mut outside);
        assert_eq!(outside, entry);
        let mut nobodys = Entry { uid: 65_536, ..entry };
        assert!(put_out(&owners, &mut nobodys).is_err());
        bring_in(&owners, &mut nobodys);
        assert_eq!((nobodys.uid, nobodys.gid), (65_534, 65_534));
    }
}
