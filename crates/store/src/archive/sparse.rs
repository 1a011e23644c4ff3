//! Sparse files: where the data of a file lies that was stored without its holes.

use super::number;
use crate::limits;

/// A run of data within a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where it begins in the file, in bytes.
    pub(crate) offset: u64,
    /// Its length, in bytes.
    pub(crate) length: u64,
}

/// Checks a map against the file's `size` and the bytes of `data` in the archive, and drops empty segments.
///
/// Overlapping or descending segments, or data that is not exactly what the map says, would be read differently by
/// different readers.
pub(super) fn check(map: Vec<Segment>, size: u64, data: u64) -> Result<Vec<Segment>, &'static str> {
    let (mut end, mut total) = (0_u64, 0_u64);
    for segment in &map {
        if segment.offset < end {
            return Err("segments of the sparse file overlap or descend");
        }
        end = segment.offset.checked_add(segment.length).ok_or("a segment of the sparse file overflows")?;
        // Cannot overflow: the segments are disjoint and end below 2^64.
        total += segment.length;
    }
    if end > size {
        return Err("a segment lies beyond the end of the sparse file");
    }
    if total != data {
        return Err("the sparse map and the size of the data disagree");
    }
    Ok(map.into_iter().filter(|segment| segment.length > 0).collect())
}

/// Pairs of offset and length, from a flat list.
pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<Segment>, &'static str> {
    if !numbers.len().is_multiple_of(2) {
        return Err("the sparse map is incomplete");
    }
    if numbers.len() / 2 > limits::SPARSE_SEGMENTS {
        return Err("the sparse map is too long");
    }
    Ok(numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect())
}

/// The map of PAX format 0.1: `offset,length,offset,length`.
pub(super) fn comma_separated(text: &[u8]) -> Result<Vec<Segment>, &'static str> {
    let numbers: Option<Vec<_>> = text.split(|byte| *byte == b',').map(number::decimal).collect();
    pairs(&numbers.ok_or("the sparse map is not made of numbers")?)
}

/// The map of PAX format 1.0, which stands in front of the data: a count and that many pairs, a number on each line.
#[derive(Default)]
pub(super) struct LineMap {
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl LineMap {
    /// Adds a block; `true` once the map is complete.
    pub(super) fn push(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > 20 {
                    return Err("a number of the sparse map is too long");
                }
                continue;
            }
            let number = number::decimal(&self.line).ok_or("the sparse map is not made of numbers")?;
            self.line.clear();
            self.numbers.push(number);
            if self.numbers[0] > limits::SPARSE_SEGMENTS as u64 {
                return Err("the sparse map is too long");
            }
            if self.is_complete() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_complete(&self) -> bool {
        self.numbers.first().is_some_and(|count| self.numbers.len() as u64 == 1 + 2 * count)
    }

    /// The segments of a complete map.
    pub(super) fn finish(self) -> Result<Vec<Segment>, &'static str> {
        pairs(&self.numbers[1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_must_ascend_fit_and_account_for_all_data() {
        let map = |pairs: &[(u64, u64)]| -> Vec<Segment> {
            pairs.iter().map(|(offset, length)| Segment { offset: *offset, length: *length }).collect()
        };
        assert_eq!(check(map(&[(0, 10), (20, 5), (100, 0)]), 100, 15).unwrap(), map(&[(0, 10), (20, 5)]));
        let bad = [
            (map(&[(0, 10), (5, 10)]), 100, 20),
            (map(&[(50, 10), (0, 10)]), 100, 20),
            (map(&[(u64::MAX, 2)]), u64::MAX, 2),
            (map(&[(95, 10)]), 100, 10),
            (map(&[(0, 10)]), 100, 11),
            (map(&[(1 << 63, 1)]), 100, 1),
        ];
        for (map, size, data) in bad {
            assert!(check(map.clone(), size, data).is_err(), "{map:?}");
        }
    }

    #[test]
    fn textual_maps_are_read_exactly() {
        assert_eq!(comma_separated(b"0,512,1024,1").unwrap().len(), 2);
        for bad in [&b"0,512,1024"[..], b"", b"a,b", b"-1,5", b"0,512,", b"99999999999999999999,1"] {
            assert!(comma_separated(bad).is_err(), "{bad:?}");
        }
        let mut map = LineMap::default();
        assert!(!map.push(b"2\n0\n512").unwrap());
        assert!(map.push(b"\n1024\n1\n\0\0\0").unwrap());
        assert_eq!(map.finish().unwrap()[1], Segment { offset: 1024, length: 1 });
        for bad in [&b"x\n"[..], b"\n", b"999999999\n", b"111111111111111111111\n"] {
            assert!(LineMap::default().push(bad).is_err(), "{bad:?}");
        }
    }
}
