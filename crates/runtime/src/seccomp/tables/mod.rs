//! The numbers of system calls by name, one column for each [`Abi`]. Data; what is done with it is in `rules`.

mod first_half;
mod second_half;

use super::abi::Abi;

/// A call that an ABI does not have.
const ABSENT: i32 = -1;

/// A name, and its number for x86-64, i386, x32 (without its bit) and arm64.
type Row = (&'static str, [i32; 4]);

/// The numbers of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers(&'static [i32; 4]);

impl Numbers {
    /// The call's number in `abi`, if it is there.
    pub(super) fn of(self, abi: Abi) -> Option<u32> {
        u32::try_from(self.0[abi as usize]).ok()
    }
}

/// The numbers of the call `name`; none for what no table knows.
pub(super) fn lookup(name: &str) -> Option<Numbers> {
    let rows = if name < "m" { first_half::ROWS } else { second_half::ROWS };
    let found = rows.binary_search_by(|(known, _)| known.cmp(&name)).ok()?;
    Some(Numbers(&rows[found].1))
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    first_half::ROWS.iter().chain(second_half::ROWS).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_number_is_used_twice() {
        let all: Vec<&str> = names().collect();
        assert!(all.is_sorted() && all.len() > 450);
        for abi in [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64] {
            let numbers: Vec<u32> = all.iter().filter_map(|name| lookup(name).unwrap().of(abi)).collect();
            let mut unique = numbers.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), numbers.len(), "{abi:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        for (name, expected) in [
            ("read", [Some(0), Some(3), Some(0), Some(63)]),
            ("socket", [Some(41), Some(359), Some(41), Some(198)]),
            ("socketcall", [None, Some(102), None, None]),
            ("execve", [Some(59), Some(11), Some(520), Some(221)]),
            ("clone3", [Some(435); 4]),
            ("mseal", [Some(462); 4]),
        ] {
            let found = lookup(name).unwrap();
            let all = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64].map(|abi| found.of(abi));
            assert_eq!(all, expected, "{name}");
        }
        assert!(lookup("no_such_call").is_none() && lookup("").is_none() && lookup("zzz").is_none());
    }
}
