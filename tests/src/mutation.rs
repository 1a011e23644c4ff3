//! Messages that nobody would send: valid ones, changed byte by byte and field by field. The same seed gives the same.

/// Numbers that look random (xorshift64*, Vigna 2016).
#[derive(Debug)]
pub struct Random(u64);

/// Numbers at which something ends.
const NUMBERS: [u64; 10] =
    [0, 1, 127, 1 << 20, i32::MAX as u64, 1 << 31, u32::MAX as u64, i64::MAX as u64, 1 << 63, u64::MAX];
/// Most bytes that a message grows to.
const LONGEST: usize = 1 << 20;
/// Most times that a field is repeated.
const TIMES: usize = 40;

impl Random {
    /// Numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }

    /// Whether something that happens once in so many times happens.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// A part of so many bytes.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(64) + 1)
    }
}

/// Changes some bytes.
pub fn of_bytes(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let part = random.part(changed.len());
        match random.below(6) {
            0 => drop(changed.splice(part, [])),
            1 => {
                let copy = changed[part].to_vec();
                let at = random.below(changed.len() + 1);
                drop(changed.splice(at..at, copy));
            }
            2 => changed[part].fill(0xff),
            3 => changed.truncate(part.start),
            4 => changed.insert(part.start, random.byte()),
            _ => changed[part].iter_mut().take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        }
    }
    changed
}

/// A field of a message: its number, and what it has.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Varint(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
}

type Field = (u64, Value);

/// Changes a message field by field, and the messages in it; `words` stand in the place of texts.
pub fn of_message(message: &[u8], words: &[String], random: &mut Random) -> Vec<u8> {
    let Some(mut fields) = fields(message).filter(|fields| !fields.is_empty()) else {
        return of_bytes(message, random);
    };
    let at = random.below(fields.len());
    match random.below(8) {
        0 => drop(fields.remove(at)),
        1 => {
            let copies = std::iter::repeat_n(fields[at].clone(), random.below(TIMES));
            drop(fields.splice(at..at, copies.collect::<Vec<_>>()));
        }
        2 => {
            let other = random.below(fields.len());
            fields.swap(at, other);
        }
        3 => fields[at].0 = u64::try_from(random.below(20)).unwrap(),
        4 => fields[at].1 = Value::Varint(*random.pick(&NUMBERS)),
        _ => change(&mut fields[at].1, words, random),
    }
    let mut encoded = Vec::new();
    fields.iter().for_each(|field| put(&mut encoded, field));
    encoded.truncate(LONGEST);
    encoded
}

fn change(value: &mut Value, words: &[String], random: &mut Random) {
    match value {
        Value::Varint(number) => *number = *random.pick(&NUMBERS),
        Value::Fixed(bytes) => *bytes = of_bytes(bytes, random),
        Value::Bytes(bytes) => {
            *bytes = match random.below(4) {
                0 => random.pick(words).clone().into_bytes(),
                1 => of_bytes(bytes, random),
                _ => of_message(bytes, words, random),
            }
        }
    }
}

/// The fields of a message, if it is one (protobuf's encoding).
fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Varint(take_varint(&mut bytes)?),
            1 => Value::Fixed(bytes.split_off(..8)?.to_vec()),
            5 => Value::Fixed(bytes.split_off(..4)?.to_vec()),
            2 => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                Value::Bytes(bytes.split_off(..length)?.to_vec())
            }
            _ => return None,
        };
        found.push((key >> 3, value));
    }
    Some(found)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn put(bytes: &mut Vec<u8>, (number, value): &Field) {
    let (kind, content) = match value {
        Value::Varint(_) => (0, &[][..]),
        Value::Fixed(content) if content.len() == 4 => (5, &content[..]),
        Value::Fixed(content) => (1, &content[..]),
        Value::Bytes(content) => (2, &content[..]),
    };
    put_varint(bytes, number << 3 | kind);
    match value {
        Value::Varint(number) => put_varint(bytes, *number),
        Value::Bytes(content) => put_varint(bytes, content.len() as u64),
        Value::Fixed(_) => {}
    }
    bytes.extend_from_slice(content);
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_apart_and_not_changed_is_as_it_was() {
        let message = [0x08, 0x96, 0x01, 0x12, 0x04, 0x08, 0x01, 0x10, 0x02, 0x1d, 1, 2, 3, 4];
        let mut encoded = Vec::new();
        fields(&message).unwrap().iter().for_each(|field| put(&mut encoded, field));
        assert_eq!(encoded, message);
        assert_eq!(fields(&[0x12, 0x05, 0x01]), None, "it ends too early");
        let mut random = Random::new(7);
        let words = ["../x".to_owned()];
        let all: std::collections::BTreeSet<Vec<u8>> =
            (0..100).map(|_| of_message(&message, &words, &mut random)).collect();
        assert!(all.len() > 50, "they differ");
        let again: Vec<Vec<u8>> =
            [1, 1].map(|seed| of_message(&message, &words, &mut Random::new(seed))).to_vec();
        assert_eq!(again[0], again[1]);
    }
}
