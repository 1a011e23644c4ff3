//! Changes of a file's mode as chmod(1) reads them: `0755`, or symbolic ones as `u=rwX,go=rX`.

use crate::Error;

/// Actions of one symbolic mode. Real ones have three or four.
const ACTIONS: usize = 8;

/// What is never given to others where nobody is named, as if it were the umask.
const UMASK: u16 = 0o022;

/// Bits of user, group and others; of each with what is special to it.
const USER: u16 = 0o4700;
const GROUP: u16 = 0o2070;
const OTHERS: u16 = 0o1007;

/// What becomes of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// It becomes this one.
    To(u32),
    /// Symbolic actions, one after the other.
    By(Actions),
}

/// See [`ModeChange::By`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions([Option<Action>; ACTIONS]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Action {
    /// Whose bits change; nobody named is everybody, less the umask.
    whose: Option<u16>,
    kind: Kind,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Add,
    Remove,
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// These bits, and those to execute where it is a directory or somebody may execute it already (`X`).
    Bits { bits: u16, conditional: bool },
    /// What user, group or others have, by the place of their bits.
    CopyOf(u8),
}

impl ModeChange {
    /// The mode that comes of `mode`.
    pub fn apply(self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::To(new) => new,
            Self::By(Actions(actions)) => {
                let all = actions.into_iter().flatten();
                all.fold(mode & 0o7777, |mode, action| action.apply(mode, is_directory))
            }
        }
    }
}

impl Action {
    fn apply(self, mode: u32, is_directory: bool) -> u32 {
        let named = match self.what {
            What::Bits { bits, conditional } => {
                let executes = conditional && (is_directory || mode & 0o111 != 0);
                u32::from(bits) | if executes { 0o111 } else { 0 }
            }
            What::CopyOf(place) => ((mode >> place) & 0o7) * 0o111,
        };
        let value = named & u32::from(self.whose.unwrap_or(!UMASK));
        match self.kind {
            Kind::Add => mode | value,
            Kind::Remove => mode & !value,
            Kind::Set => (mode & !u32::from(self.whose.unwrap_or(0o7777))) | value,
        }
    }
}

impl std::str::FromStr for ModeChange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::Grammar { what: "mode", text: text.chars().take(80).collect(), reason };
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let octal = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return octal.map(Self::To).ok_or_else(|| invalid("it is no octal number up to 7777"));
        }
        let mut actions = [None; ACTIONS];
        let mut free = actions.iter_mut();
        for clause in text.split(',') {
            for action in clause_of(clause).ok_or_else(|| invalid("it is neither octal nor symbolic"))? {
                *free.next().ok_or_else(|| invalid("it has more than 8 actions"))? = Some(action);
            }
        }
        Ok(Self::By(Actions(actions)))
    }
}

/// `[ugoa]*` and then at least one of `[+-=]` with letters of `rwxXst` or one of `ugo`.
fn clause_of(text: &str) -> Option<Vec<Action>> {
    let start = text.find(['+', '-', '='])?;
    let mut whose = None;
    for letter in text[..start].chars() {
        let bits = match letter {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHERS,
            'a' => USER | GROUP | OTHERS,
            _ => return None,
        };
        whose = Some(whose.unwrap_or(0) | bits);
    }
    let mut actions = Vec::new();
    let mut rest = &text[start..];
    while let Some(sign) = rest.chars().next() {
        let kind = match sign {
            '+' => Kind::Add,
            '-' => Kind::Remove,
            _ => Kind::Set,
        };
        rest = &rest[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        actions.push(Action { whose, kind, what: what(&rest[..end])? });
        rest = &rest[end..];
    }
    Some(actions)
}

fn what(text: &str) -> Option<What> {
    match text {
        "u" => return Some(What::CopyOf(6)),
        "g" => return Some(What::CopyOf(3)),
        "o" => return Some(What::CopyOf(0)),
        _ => {}
    }
    let (mut bits, mut conditional) = (0, false);
    for letter in text.chars() {
        match letter {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            's' => bits |= 0o6000,
            't' => bits |= 0o1000,
            'X' => conditional = true,
            _ => return None,
        }
    }
    Some(What::Bits { bits, conditional })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_changes_them() {
        // Each expectation is what coreutils' chmod makes of it under umask 022.
        for (text, before, is_directory, after) in [
            ("755", 0o4600, false, 0o755),
            ("0", 0o777, true, 0),
            ("7777", 0, false, 0o7777),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o711, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("+w", 0o444, false, 0o644),
            ("a+w", 0o444, false, 0o666),
            ("=r", 0o777, false, 0o444),
            ("g=u", 0o740, false, 0o770),
            ("go=u", 0o750, false, 0o777),
            ("o=g", 0o750, false, 0o755),
            ("a-x", 0o755, false, 0o644),
            ("u=", 0o755, false, 0o055),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("u-s", 0o4755, false, 0o755),
            ("+t", 0o777, true, 0o1777),
            ("u=rw+x,go-rwx", 0o644, false, 0o700),
            ("a=rx,u+w", 0, false, 0o755),
        ] {
            let change: ModeChange = text.parse().unwrap();
            assert_eq!(change.apply(before, is_directory), after, "{text} of {before:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        let many = ["+x"; 9].join(",");
        for text in
            ["", "8", "99999", "10000", "0x7", "rwx", "u", "u+q", "z=r", "u+r,", "u=rw,,g=r", "+ug", &many]
        {
            assert!(text.parse::<ModeChange>().is_err(), "{text:?}");
        }
    }
}
