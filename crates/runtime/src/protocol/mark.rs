//! Where the log was when somebody was attached: the first bytes of what such a socket gets. Their form is never changed.

use coracle_logfile::Place;
use time::OffsetDateTime;

/// Where the log of a container was at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// What was written before that moment is before this place.
    At(Place),
    /// All output is in the log, as it has ended, or none is, as there is no log.
    Complete,
}

impl Mark {
    /// How many bytes it has.
    pub const LENGTH: usize = 32;

    /// Its bytes: inode number, length, and time in nanoseconds since 1970, the lowest first.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        if let Self::At(place) = self {
            bytes[..8].copy_from_slice(&place.file.to_le_bytes());
            bytes[8..16].copy_from_slice(&place.length.to_le_bytes());
            bytes[16..].copy_from_slice(&place.time.unix_timestamp_nanos().to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] has made.
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let (numbers, time) = bytes.split_at(16);
        let (file, length) = numbers.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        // No file has the inode number 0.
        if number(file) == 0 {
            return Self::Complete;
        }
        let time = i128::from(number(&time[8..])) << 64 | i128::from(number(&time[..8]));
        let time = OffsetDateTime::from_unix_timestamp_nanos(time).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self::At(Place { file: number(file), length: number(length), time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_000_000_007).unwrap();
        for mark in [Mark::Complete, Mark::At(Place { file: u64::MAX - 1, length: 1 << 40, time })] {
            assert_eq!(Mark::from_bytes(&mark.to_bytes()), mark);
        }
        let bytes = Mark::At(Place { file: 2, length: 3, time: OffsetDateTime::UNIX_EPOCH }).to_bytes();
        assert_eq!((bytes[0], bytes[8], bytes[16..].iter().all(|byte| *byte == 0)), (2, 3, true));
    }
}
