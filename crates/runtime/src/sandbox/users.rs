//! The user of a process, from Docker's `USER[:GROUP]` to numbers, by the container's own `passwd` and `group`.
//!
//! Those files belong to the image: they are read through the rooted resolver, must be regular and small
//! (CVE-2026-47262, CVE-2024-9676), and a number is a number even where somebody has it for a name
//! (CVE-2016-3697). Numbers are 0 to 2^31 - 1 (CVE-2024-40635).

use crate::error::{Error, Result};
use crate::limits;
use coracle_spec::runtime::User;
use coracle_sys::rooted::Root;
use rustix::io::Errno;

const LARGEST_ID: u32 = i32::MAX.cast_unsigned();

/// A user as the container knows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The numbers.
    pub user: User,
    /// The home directory; `/` for a number that the container does not know.
    pub home: String,
}

/// Resolves `text` (empty for root) inside `root`, adding the `extra` groups.
///
/// # Errors
/// [`Error::Invalid`] with Docker's words for names that are not there and numbers that are out of range.
pub fn resolve(root: &Root, text: &str, extra: &[String]) -> Result<Resolved> {
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    resolve_in(&passwd, &group, text, extra)
}

fn read(root: &Root, path: &str) -> Result<String> {
    match root.read_bounded(path, limits::USER_FILE) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.splitn(8, ':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.splitn(5, ':').collect();
        let [name, _, gid, members, ..] = fields[..] else { return None };
        Some(Group { name, gid: gid.parse().ok()?, members })
    })
}

fn resolve_in(passwd: &str, group: &str, text: &str, extra: &[String]) -> Result<Resolved> {
    let (user, primary) = match text.split_once(':') {
        Some((user, primary)) => (user, (!primary.is_empty()).then_some(primary)),
        None => (text, None),
    };
    let wanted = if user.is_empty() { "0" } else { user };
    let number = number(wanted)?;
    let account = accounts(passwd).find(|a| number.map_or(a.name == wanted, |uid| a.uid == uid));
    let uid = match (number, &account) {
        (Some(uid), _) => uid,
        (None, Some(account)) => in_range(account.uid, wanted)?,
        (None, None) => {
            return Err(Error::Invalid(format!(
                "unable to find user {wanted}: no matching entries in passwd file"
            )));
        }
    };
    let mut additional: Vec<u32> = Vec::new();
    let gid = match primary {
        Some(primary) => group_id(group, primary)?,
        None => match &account {
            Some(account) => {
                let member = |g: &Group<'_>| g.members.split(',').any(|m| m.trim() == account.name);
                additional.extend(groups(group).filter(member).map(|g| g.gid));
                in_range(account.gid, wanted)?
            }
            None => 0,
        },
    };
    for name in extra {
        additional.push(group_id(group, name)?);
    }
    // The primary group belongs to the set as well, or files that deny it could be read (CVE-2022-2989).
    additional.insert(0, gid);
    let mut seen = std::collections::BTreeSet::new();
    additional.retain(|gid| seen.insert(*gid));
    let home = account.map(|a| a.home).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Ok(Resolved { user: User { uid, gid, umask: None, additional_gids: additional }, home })
}

fn group_id(group: &str, wanted: &str) -> Result<u32> {
    if let Some(gid) = number(wanted)? {
        return Ok(gid);
    }
    groups(group).find(|g| g.name == wanted).map(|g| g.gid).ok_or_else(|| {
        Error::Invalid(format!("unable to find group {wanted}: no matching entries in group file"))
    })
}

/// The number that `text` is, if it is one. Blanks and prefixes make it a name.
fn number(text: &str) -> Result<Option<u32>> {
    // No name begins so.
    if let Some(rest) = text.strip_prefix('-')
        && !rest.is_empty()
        && rest.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(out_of_range(text));
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) => in_range(number, text).map(Some),
        Err(_) => Err(out_of_range(text)),
    }
}

fn in_range(number: u32, text: &str) -> Result<u32> {
    if number <= LARGEST_ID { Ok(number) } else { Err(out_of_range(text)) }
}

fn out_of_range(text: &str) -> Error {
    Error::Invalid(format!("uids and gids must be in range 0-{LARGEST_ID}: {text:?} is not"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/sh\n1000:x:0:0::/evil:/bin/sh\nbroken\nbig:x:4294967295:1::/:/\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nadm:x:4:web,root\nlog:x:5: web\n77:x:0:\n";

    #[test]
    fn names_and_numbers_resolve_as_docker_does() {
        for (text, uid, gid, additional, home) in [
            ("", 0, 0, vec![0, 4], "/root"),
            ("root", 0, 0, vec![0, 4], "/root"),
            ("web", 33, 34, vec![34, 4, 5], "/var/www"),
            ("33", 33, 34, vec![34, 4, 5], "/var/www"),
            ("web:adm", 33, 4, vec![4], "/var/www"),
            ("web:", 33, 34, vec![34, 4, 5], "/var/www"),
            (":adm", 0, 4, vec![4], "/root"),
            // A number that somebody has as a name stays a number.
            ("1000", 1000, 0, vec![0], "/"),
            ("5:77", 5, 77, vec![77], "/"),
            ("2147483647", 2_147_483_647, 0, vec![0], "/"),
        ] {
            let resolved = resolve_in(PASSWD, GROUP, text, &[]).unwrap();
            let expected = User { uid, gid, umask: None, additional_gids: additional };
            assert_eq!((resolved.user, resolved.home.as_str()), (expected, home), "{text:?}");
        }
    }

    #[test]
    fn what_is_neither_a_name_nor_a_number_in_range_is_refused() {
        for text in [
            "nobody",
            "0x1",
            "+1",
            "-1",
            " 1",
            "1 ",
            "2147483648",
            "4294967296",
            "18446744073709551616",
            "big",
            "a:b:c",
            "web:nobody",
            "0:4294967296",
            "1\n",
            "１",
        ] {
            assert!(resolve_in(PASSWD, GROUP, text, &[]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn extra_groups_are_names_or_numbers() {
        let resolved = resolve_in(PASSWD, GROUP, "33", &["adm".into(), "99".into()]).unwrap();
        assert_eq!(resolved.user.additional_gids, [34, 4, 5, 99]);
        assert!(resolve_in(PASSWD, GROUP, "33", &["none".into()]).is_err());
    }
}
