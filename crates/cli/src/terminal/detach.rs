//! The keys that leave a container without stopping it. Pure.

use crate::resolve::{Invalid, invalid};

/// Docker's `ctrl-p,ctrl-q`.
const DEFAULT: [u8; 2] = [0x10, 0x11];

/// Finds the keys in what is typed, also when they come in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them were typed last.
    matched: usize,
}

/// What a piece of input is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Typed {
    /// For the container. Keys that may become the sequence are held back until they do not.
    Input(Vec<u8>),
    /// The sequence was completed; the bytes before it are for the container.
    Detach(Vec<u8>),
}

impl DetachKeys {
    /// Parses `ctrl-p,ctrl-q`: letters, or `ctrl-` and one of `a-z @ [ \ ] ^ _`. Empty means Docker's.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Ok(Self { keys: DEFAULT.to_vec(), matched: 0 });
        }
        let keys = text.split(',').map(key).collect::<Option<Vec<_>>>();
        match keys {
            Some(keys) => Ok(Self { keys, matched: 0 }),
            None => invalid(format!("invalid detach keys ({text}): invalid sequence")),
        }
    }

    /// Looks at the next piece of input.
    pub(crate) fn scan(&mut self, piece: &[u8]) -> Typed {
        let mut input = Vec::with_capacity(piece.len());
        for &byte in piece {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Typed::Detach(input);
                }
                continue;
            }
            self.release(byte, &mut input);
        }
        Typed::Input(input)
    }

    /// `byte` does not go on with the sequence: lets out what was held back, except what may begin it anew.
    fn release(&mut self, byte: u8, input: &mut Vec<u8>) {
        let mut held = self.keys[..self.matched].to_vec();
        held.push(byte);
        while !held.is_empty() && !self.keys.starts_with(&held) {
            input.push(held.remove(0));
        }
        self.matched = held.len();
    }
}

fn key(text: &str) -> Option<u8> {
    match (text.strip_prefix("ctrl-"), text.as_bytes()) {
        (Some(control), _) => match control.as_bytes() {
            [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
            [b'@'] => Some(0),
            [symbol @ (b'[' | b'\\' | b']' | b'^' | b'_')] => Some(symbol - b'@'),
            _ => None,
        },
        (None, [letter]) => Some(*letter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = DetachKeys::parse(keys).expect("valid");
        let mut input = Vec::new();
        for piece in pieces {
            match keys.scan(piece) {
                Typed::Input(bytes) => input.extend(bytes),
                Typed::Detach(bytes) => {
                    input.extend(bytes);
                    return (input, true);
                }
            }
        }
        (input, false)
    }

    #[test]
    fn the_sequence_is_found_whole_in_pieces_and_after_false_starts() {
        assert_eq!(scan("", &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(scan("", &[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(scan("", &[b"\x10", b"x"]), (b"\x10x".to_vec(), false));
        assert_eq!(scan("", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(scan("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(scan("q", &[b"q"]), (vec![], true));
        assert_eq!(scan("ctrl-@,ctrl-]", &[b"\0\x1d"]), (vec![], true));
    }

    #[test]
    fn a_key_that_may_begin_the_sequence_is_held_back() {
        assert_eq!(scan("", &[b"ab\x10"]), (b"ab".to_vec(), false));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["ctrl-", "ctrl-1", "abc", "a,,b", ","] {
            assert!(DetachKeys::parse(text).is_err(), "{text:?}");
        }
    }
}
