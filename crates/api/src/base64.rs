//! base64 as headers carry it: either alphabet (RFC 4648, sections 4 and 5), padded or not.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const EITHER_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// The bytes of a text in either alphabet; `None` when it is in neither.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, EITHER_PADDING).decode(text).ok()
}

/// The text of some bytes, in the standard alphabet, padded.
pub fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The text of some bytes as `X-Registry-Auth` carries it.
pub fn encode_for_url(bytes: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_are_read_with_and_without_padding() {
        for (text, expected) in [
            ("aGk=", Some(&b"hi"[..])),
            ("aGk", Some(b"hi")),
            ("aGkh", Some(b"hi!")),
            ("", Some(b"")),
            ("-_8=", Some(&[0xfb, 0xff])),
            ("+/8", Some(&[0xfb, 0xff])),
            ("a*", None),
            ("-/8=", None),
        ] {
            assert_eq!(decode(text).as_deref(), expected, "{text}");
        }
        assert_eq!((encode(&[0xfb, 0xff]), encode_for_url(&[0xfb, 0xff])), ("+/8=".into(), "-_8=".into()));
    }
}
