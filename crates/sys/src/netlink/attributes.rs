//! Type-length-value attributes: building a nested list, and walking one that the kernel sent.

/// Marks an attribute that contains attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;
/// Strips `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` from a type.
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// Bytes of a message body under construction, always padded to four.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// Starts with a protocol's fixed header, padded to four bytes.
    pub fn with_header(header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(header);
        pad(&mut bytes);
        Self(bytes)
    }

    /// Appends one attribute.
    ///
    /// # Panics
    /// If `value` is longer than an attribute can be (65,531 bytes); lists are split by whoever builds them.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + HEADER).expect("callers split long lists");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        pad(&mut self.0);
        self
    }

    /// Appends one byte.
    pub fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    /// Appends a number in the machine's byte order, as rtnetlink has them.
    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order, as netfilter has them.
    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends a string with its final NUL.
    pub fn put_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// Appends an attribute whose value is what `fill` appends.
    ///
    /// # Panics
    /// As [`Attributes::put`].
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; HEADER]);
        fill(self);
        let length = u16::try_from(self.0.len() - start).expect("callers split long lists");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + HEADER].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self
    }

    /// Appends raw bytes, padded: the fixed header inside `VETH_INFO_PEER`.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        pad(&mut self.0);
        self
    }

    /// What has been built.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One attribute the kernel sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type without flags.
    pub kind: u16,
    /// Its value without padding.
    pub value: &'a [u8],
}

impl Attribute<'_> {
    /// The value as a number in the machine's byte order.
    pub fn u32(&self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_ne_bytes)
    }

    /// The value as a number in network byte order.
    pub fn be32(&self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_be_bytes)
    }

    /// The value as a string, up to its NUL.
    pub fn str(&self) -> Option<&str> {
        let end = self.value.iter().position(|&b| b == 0).unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).ok()
    }
}

/// Walks a list of attributes; ends at the first that does not fit.
pub fn parse(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..HEADER)?.try_into().ok()?) & TYPE_MASK;
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_built_reads_back_with_nesting_and_padding() {
        let mut list = Attributes::with_header(&[1, 2, 3]);
        list.put_str(3, "eth0").nest(18, |info| {
            info.put(1, b"veth").put_u8(2, 7);
        });
        assert_eq!(list.as_bytes().len() % 4, 0);
        let found: Vec<_> = parse(&list.as_bytes()[4..]).collect();
        assert_eq!(found[0].str(), Some("eth0"));
        assert_eq!(found[1].kind, 18);
        let inner: Vec<_> = parse(found[1].value).collect();
        assert_eq!((inner[0].value, inner[1].value), (&b"veth"[..], &[7u8][..]));
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_never_yields_more_than_it_holds(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let total: usize = parse(&bytes).map(|a| a.value.len() + HEADER).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
