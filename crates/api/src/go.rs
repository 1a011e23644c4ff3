//! Reads JSON as Go's `encoding/json` does, because clients were written against it: keys match without regard to
//! ASCII case, `null` means "leave the zero value", unknown keys are ignored, and a list may be given as one string
//! where the API says so. Struct fields are known from serde, map keys are data and stay as they are.

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Error, Map, Value};
use std::fmt;
use std::marker::PhantomData;

/// The `{}` of sets such as `ExposedPorts`; Go writes `struct{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Parses a request or response body. An empty body is an empty object, as for Go callers that skip decoding then.
///
/// # Errors
/// Text that is not JSON, or a value of the wrong kind for its field.
pub fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return from_value(&Value::Null);
    }
    from_value(&serde_json::from_slice(body)?)
}

/// Parses a list of a response, which may be long. `null` is an empty one. Engines spell fields as the API does: where Rust's
/// own way of reading does not do, as with a `null` inside, each entry is tried by it and then read as [`from_slice`] reads.
///
/// # Errors
/// As [`from_slice`].
pub fn list_from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, Error> {
    if let Ok(list) = serde_json::from_slice::<Option<Vec<T>>>(body) {
        return Ok(list.unwrap_or_default());
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let list = Option::<List<T>>::deserialize(&mut reader)?;
    reader.end()?;
    Ok(list.map(|list| list.0).unwrap_or_default())
}

struct List<T>(Vec<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_seq(OneByOne(PhantomData))
    }
}

struct OneByOne<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for OneByOne<T> {
    type Value = List<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<List<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element::<&RawValue>()? {
            let read = serde_json::from_str(entry.get()).or_else(|_| from_slice(entry.get().as_bytes()));
            list.push(read.map_err(A::Error::custom)?);
        }
        Ok(List(list))
    }
}

/// Reads a value that is JSON already.
///
/// # Errors
/// A value of the wrong kind for its field.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(Lenient(value))
}

/// Accepts a string where a list of strings is meant (`Cmd`, `Entrypoint`); `null` stays `None`.
///
/// # Errors
/// Anything that is neither a string nor a list of strings.
pub fn string_or_list<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<String>>, D::Error> {
    match Value::deserialize(input)? {
        Value::Null => Ok(None),
        Value::String(one) => Ok(Some(vec![one])),
        other => from_value(&other).map(Some).map_err(D::Error::custom),
    }
}

/// A deserializer over a parsed value with the habits named above.
#[derive(Clone, Copy)]
struct Lenient<'a>(&'a Value);

/// Scalars: `null` is the zero value, everything else is `serde_json`'s business.
macro_rules! scalars {
    ($($method:ident => $visit:ident($zero:expr)),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            if self.0.is_null() { visitor.$visit($zero) } else { self.0.$method(visitor) }
        }
    )*};
}

impl<'de> Deserializer<'de> for Lenient<'de> {
    type Error = Error;

    scalars! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i8(0),
        deserialize_i16 => visit_i16(0),
        deserialize_i32 => visit_i32(0),
        deserialize_i64 => visit_i64(0),
        deserialize_u8 => visit_u8(0),
        deserialize_u16 => visit_u16(0),
        deserialize_u32 => visit_u32(0),
        deserialize_u64 => visit_u64(0),
        deserialize_f32 => visit_f32(0.0),
        deserialize_f64 => visit_f64(0.0),
        deserialize_str => visit_str(""),
        deserialize_string => visit_str(""),
        deserialize_bytes => visit_bytes(&[]),
        deserialize_byte_buf => visit_bytes(&[]),
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_char(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_unit(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items(items.iter())),
            Value::Null => visitor.visit_seq(Items([].iter())),
            other => other.deserialize_seq(visitor),
        }
    }

    /// Fixed arrays take what is there and fill up with zeros, as Go's do.
    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Padded { items: items.iter(), left: length }),
            Value::Null => visitor.visit_seq(Padded { items: [].iter(), left: length }),
            other => other.deserialize_tuple(length, visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => {
                visitor.visit_map(Entries::new(map.iter().map(|(key, value)| (key.as_str(), value))))
            }
            Value::Null => visitor.visit_map(Entries::new(std::iter::empty())),
            other => other.deserialize_map(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(Entries::new(
                fields.iter().filter_map(|field| given(map, field).map(|value| (*field, value))),
            )),
            Value::Null => visitor.visit_map(Entries::new(std::iter::empty())),
            // serde would take a list for the fields in their order; Go does not.
            Value::Array(_) => Err(Error::invalid_type(Unexpected::Seq, &visitor)),
            other => other.deserialize_struct(name, fields, visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(Variant(variant.clone())),
            other => Err(Error::custom(format_args!("expected a string, found {other}"))),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

/// The value of `field`: the exact key first, then one that differs in case only; `null` counts as not given.
fn given<'a>(map: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    map.get(field)
        .or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(field)).map(|(_, value)| value))
        .filter(|value| !value.is_null())
}

struct Items<'a>(std::slice::Iter<'a, Value>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(Lenient(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Padded<'a> {
    items: std::slice::Iter<'a, Value>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Padded<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(Lenient(self.items.next().unwrap_or(&Value::Null))).map(Some)
    }
}

struct Entries<'a, I> {
    entries: I,
    value: Option<&'a Value>,
}

impl<'a, I: Iterator<Item = (&'a str, &'a Value)>> Entries<'a, I> {
    fn new(entries: I) -> Self {
        Self { entries, value: None }
    }
}

impl<'de, I: Iterator<Item = (&'de str, &'de Value)>> MapAccess<'de> for Entries<'de, I> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let key: StringDeserializer<Error> = key.to_owned().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self.value.take().ok_or_else(|| Error::custom("value asked for before its key"))?;
        seed.deserialize(Lenient(value))
    }
}

struct Variant(String);

impl<'de> EnumAccess<'de> for Variant {
    type Error = Error;
    type Variant = Unit;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Unit), Error> {
        let name: StringDeserializer<Error> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, Unit))
    }
}

/// The API has no enumeration with content.
struct Unit;

impl<'de> VariantAccess<'de> for Unit {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Error> {
        Err(Error::custom("the API has no enumeration with content"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("the API has no enumeration with content"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Error> {
        Err(Error::custom("the API has no enumeration with content"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Sample {
        name: String,
        count: i64,
        #[serde(deserialize_with = "string_or_list")]
        cmd: Option<Vec<String>>,
        set: BTreeMap<String, Empty>,
        labels: Option<BTreeMap<String, String>>,
        size: [u32; 2],
        inner: Option<Box<Sample>>,
    }

    fn read(text: &str) -> Sample {
        from_slice(text.as_bytes()).expect(text)
    }

    #[test]
    fn lists_are_read_entry_by_entry_with_their_nulls() {
        #[derive(Debug, Deserialize, PartialEq)]
        #[serde(default, rename_all = "PascalCase")]
        #[derive(Default)]
        struct One {
            name: String,
        }
        let one = |name: &str| One { name: name.to_owned() };
        let list = list_from_slice::<One>(br#" [{"Name":"a","x":[]},{"Name":null},null] "#);
        assert_eq!(list.unwrap(), [one("a"), one(""), one("")]);
        assert_eq!(list_from_slice::<One>(b"null").unwrap(), []);
        assert_eq!(list_from_slice::<One>(b"[]").unwrap(), []);
        for wrong in [&b""[..], b"{}", b"[", b"[{}] x", br#"[{"Name":1}]"#] {
            assert!(list_from_slice::<One>(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn keys_match_without_case_in_structs_and_with_case_in_maps() {
        let sample = read(r#"{"name":"a","COUNT":3,"inner":{"nAME":"b"},"labels":{"Name":"x","name":"y"}}"#);
        assert_eq!((sample.name.as_str(), sample.count), ("a", 3));
        assert_eq!(sample.inner.map(|inner| inner.name), Some("b".into()));
        let expected = BTreeMap::from([("Name".into(), "x".into()), ("name".into(), "y".into())]);
        assert_eq!(sample.labels, Some(expected));
    }

    #[test]
    fn the_exact_key_wins_over_one_in_another_case() {
        assert_eq!(read(r#"{"NAME":"other","Name":"exact","name":"third"}"#).name, "exact");
    }

    #[test]
    fn null_leaves_the_zero_value_everywhere() {
        let nulls =
            r#"{"Name":null,"Count":null,"Cmd":null,"Set":null,"Labels":null,"Size":null,"Inner":null}"#;
        assert_eq!(read(nulls), Sample::default());
        assert_eq!(read("null"), Sample::default());
        assert_eq!(read(""), Sample::default());
        assert_eq!(read(r#"{"Set":{"80/tcp":null}}"#).set, BTreeMap::from([("80/tcp".into(), Empty {})]));
        assert_eq!(
            read(r#"{"Labels":{"a":null}}"#).labels,
            Some(BTreeMap::from([("a".into(), String::new())]))
        );
    }

    #[test]
    fn a_command_is_a_string_or_a_list_and_an_empty_list_is_not_null() {
        assert_eq!(read(r#"{"Cmd":"ls -l"}"#).cmd, Some(vec!["ls -l".into()]));
        assert_eq!(read(r#"{"cmd":["a","b"]}"#).cmd, Some(vec!["a".into(), "b".into()]));
        assert_eq!(read(r#"{"Cmd":[]}"#).cmd, Some(vec![]));
        assert!(from_slice::<Sample>(br#"{"Cmd":{"a":1}}"#).is_err());
        assert!(from_slice::<Sample>(br#"{"Cmd":[1]}"#).is_err());
    }

    #[test]
    fn fixed_arrays_are_padded_and_cut() {
        assert_eq!(read(r#"{"Size":[1]}"#).size, [1, 0]);
        assert_eq!(read(r#"{"Size":[1,2,3]}"#).size, [1, 2]);
    }

    #[test]
    fn the_wrong_kind_of_value_and_broken_json_are_refused() {
        for text in
            [r#"{"Name":1}"#, r#"{"Count":"1"}"#, r#"{"Set":[]}"#, r#"{"Inner":"x"}"#, "{", "[]", "{} {}"]
        {
            assert!(from_slice::<Sample>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
