//! Whose ids the users of containers have outside (`--userns-remap`): those that `/etc/subuid` and `/etc/subgid` set aside for a
//! user of the machine, subuid(5). What the option may say, and which entries count, is as with Docker.

use crate::error::{Attempt, Error, Result};
use crate::limits::SUBORDINATE_FILE;
use coracle_spec::Owners;
use coracle_spec::owners::IdMapping;
use std::fs::File;
use std::io::Read;

/// The word for [`USUAL`].
const DEFAULT: &str = "default";
/// Whose ids are used where nobody in particular is named.
const USUAL: &str = "dockremap";
/// Where ids are suggested from where nobody has any, and how many.
const SUGGESTED: (u32, u32) = (100_000, 65_536);

/// Who the users of containers are outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remap {
    /// The user whose ids they have.
    pub user: String,
    /// The ids.
    pub owners: Owners,
}

impl Remap {
    /// Finds what `text` says: `default`, `USER[:GROUP]` or `UID[:GID]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what to do, for users that are not there and ids that they do not have or that others have, too.
    pub fn find(text: &str) -> Result<Self> {
        find_in(text, &Files::read()?)
    }
}

/// The machine's users and their ids.
struct Files {
    passwd: String,
    group: String,
    subuid: String,
    subgid: String,
}

impl Files {
    fn read() -> Result<Self> {
        Ok(Self {
            passwd: read("/etc/passwd")?,
            group: read("/etc/group")?,
            subuid: read("/etc/subuid")?,
            subgid: read("/etc/subgid")?,
        })
    }
}

/// What is in a file; nothing where it is not there.
fn read(path: &str) -> Result<String> {
    let reading = || format!("read {path}");
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened.attempt(reading)?,
    };
    let mut text = String::new();
    file.take(SUBORDINATE_FILE + 1).read_to_string(&mut text).attempt(reading)?;
    if text.len() as u64 > SUBORDINATE_FILE {
        return Err(Error::Invalid(format!("{path} is larger than {SUBORDINATE_FILE} bytes")));
    }
    Ok(text)
}

fn find_in(text: &str, files: &Files) -> Result<Remap> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) if !group.is_empty() && !group.contains(':') => (user, Some(group)),
        None => (text, None),
        Some(_) => return Err(Error::Invalid(format!("{text:?} is neither USER[:GROUP] nor UID[:GID]"))),
    };
    let user = if user == DEFAULT { USUAL } else { user };
    let (name, uid) = account(&files.passwd, user).ok_or_else(|| no_user(user, files))?;
    // Who names a user by number, and no group, means the group of that number.
    let group = group.unwrap_or(user);
    if account(&files.group, group).is_none() {
        return Err(Error::Invalid(format!(
            "there is no group {group} in /etc/group: make it with 'groupadd {group}'"
        )));
    }
    if uid == 0 {
        return Err(Error::Invalid("root cannot be remapped to itself: name another user".to_owned()));
    }
    let find = |text: &str, file: &'static str| ranges(text, file, (name, uid), files);
    let owners =
        Owners { uids: find(&files.subuid, "/etc/subuid")?, gids: find(&files.subgid, "/etc/subgid")? };
    Ok(Remap { user: name.to_owned(), owners })
}

/// Name and number of who is called so, or has the number.
fn account<'a>(file: &'a str, wanted: &str) -> Option<(&'a str, u32)> {
    let number = wanted.parse::<u32>().ok();
    let entry = |line: &'a str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?.parse::<u32>().ok()?);
        Some((name, id))
    };
    file.lines().filter_map(entry).find(|(name, id)| number.map_or(*name == wanted, |number| *id == number))
}

fn no_user(user: &str, files: &Files) -> Error {
    let (first, last) = free(files);
    Error::Invalid(format!(
        "there is no user {user} in /etc/passwd: make it with 'useradd --system --user-group --shell /usr/sbin/nologin {user}' \
         and give it ids with 'usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}'"
    ))
}

/// Ids that nobody has, the first and the last.
fn free(files: &Files) -> (u32, u32) {
    let taken = files.subuid.lines().chain(files.subgid.lines()).filter_map(Range::parse);
    let first = taken.map(|range| range.first.saturating_add(range.size)).chain([SUGGESTED.0]).max();
    let first = first.unwrap_or(SUGGESTED.0);
    (first, first.saturating_add(SUGGESTED.1 - 1))
}

/// One line of `/etc/subuid` or `/etc/subgid`.
#[derive(Clone, Copy)]
struct Range<'a> {
    owner: &'a str,
    first: u32,
    size: u32,
}

impl<'a> Range<'a> {
    /// Nothing for what is no such line, as a comment is none.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let (owner, first, size) =
            (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (fields.next().is_none() && size > 0).then_some(Self { owner, first, size })
    }

    fn shares_with(self, other: Self) -> bool {
        let end = |range: Self| u64::from(range.first) + u64::from(range.size);
        u64::from(self.first) < end(other) && u64::from(other.first) < end(self)
    }
}

/// The ids of a user, from 0 on in the order in which the file has them.
fn ranges(text: &str, file: &'static str, (name, uid): (&str, u32), files: &Files) -> Result<Vec<IdMapping>> {
    let number = uid.to_string();
    let all: Vec<Range<'_>> = text.lines().filter_map(Range::parse).collect();
    let is_own = |range: &&Range<'_>| range.owner == name || range.owner == number;
    let own: Vec<Range<'_>> = all.iter().filter(is_own).copied().collect();
    if own.is_empty() {
        let ((first, last), option) = (free(files), if file.ends_with("uid") { "uids" } else { "gids" });
        return Err(Error::Invalid(format!(
            "{name} has no ids in {file}: give it some with 'usermod --add-sub{option} {first}-{last} {name}'"
        )));
    }
    let mut mappings: Vec<IdMapping> = Vec::new();
    let mut next = 0_u32;
    for (nth, range) in own.iter().enumerate() {
        let refused = |why: &str| {
            Error::Invalid(format!("{file} gives {name} {} ids from {} on, {why}", range.size, range.first))
        };
        if range.first == 0 {
            return Err(refused("among which is root of the host"));
        }
        let end = range.first.checked_add(range.size).ok_or_else(|| refused("of which the last are none"))?;
        let others = all.iter().filter(|other| !is_own(other)).chain(&own[..nth]);
        if let Some(other) = others.copied().find(|other| range.shares_with(*other)) {
            let (owner, last) = (other.owner, u64::from(other.first) + u64::from(other.size) - 1);
            return Err(refused(&format!(
                "of which some are those of {owner} too, {} to {last}",
                other.first
            )));
        }
        mappings.push(IdMapping { container_id: next, host_id: range.first, size: end - range.first });
        next = next.checked_add(range.size).ok_or_else(|| refused("which are more than there are"))?;
    }
    Ok(mappings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(subuid: &str) -> Files {
        Files {
            passwd: "root:x:0:0::/:/bin/sh\ndockremap:x:101:102::/:/bin/false\nweb:x:1000:1000::/:/bin/sh\n"
                .into(),
            group: "root:x:0:\ndockremap:x:102:\nweb:x:1000:\nstaff:x:50:\n".into(),
            subuid: subuid.into(),
            subgid: "dockremap:300000:65536\nweb:400000:1000\n".into(),
        }
    }

    #[test]
    fn users_and_their_ids_are_found_as_docker_finds_them() {
        let files = files("# none\ndockremap:100000:65536\nweb:200000:10\n1000:500000:5\n");
        for (text, user, uids) in [
            ("default", "dockremap", vec![(0, 100_000, 65_536)]),
            ("dockremap:staff", "dockremap", vec![(0, 100_000, 65_536)]),
            ("web", "web", vec![(0, 200_000, 10), (10, 500_000, 5)]),
            ("1000", "web", vec![(0, 200_000, 10), (10, 500_000, 5)]),
            ("1000:50", "web", vec![(0, 200_000, 10), (10, 500_000, 5)]),
        ] {
            let found = find_in(text, &files).unwrap();
            let mapping = |(container_id, host_id, size)| IdMapping { container_id, host_id, size };
            assert_eq!(
                (found.user.as_str(), found.owners.uids),
                (user, uids.into_iter().map(mapping).collect())
            );
        }
        assert_eq!(find_in("default", &files).unwrap().owners.gids[0].host_id, 300_000);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        for (text, subuid, expected) in [
            ("nobody", "", "useradd"),
            ("web:nogroup", "", "groupadd nogroup"),
            ("101", "", "no group 101"),
            ("a:b:c", "", "neither USER"),
            ("web:", "", "neither USER"),
            ("root", "root:5:1", "root cannot be remapped"),
            ("0", "", "root cannot be remapped"),
            ("web", "", "usermod --add-subuids 401000-466535 web"),
            ("web", "web:900000:9", "usermod"),
            ("web", "web:0:65536", "root of the host"),
            ("web", "web:1:9\nweb:5:9", "of web too"),
            ("web", "web:100000:9\ndockremap:100008:1", "of dockremap too, 100008 to 100008"),
            ("web", "web:4294967295:2", "the last are none"),
        ] {
            let found = find_in(text, &files(subuid));
            let error = match found {
                Err(error) => error.to_string(),
                // The other file has some.
                Ok(_) => {
                    find_in("web", &Files { subgid: String::new(), ..files(subuid) }).unwrap_err().to_string()
                }
            };
            assert!(error.contains(expected), "{text} {subuid}: {error}");
        }
    }
}
