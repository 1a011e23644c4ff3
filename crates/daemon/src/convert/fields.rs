//! Which fields a wire type has, for tests that no field is left out of a conversion.

use serde::Deserializer;
use serde::de::value::Error;
use serde::de::{DeserializeOwned, Error as _, Visitor};

/// The names of the fields of `T`, as they stand on the wire.
pub(super) fn of<T: DeserializeOwned>() -> Vec<String> {
    let told = T::deserialize(Probe).err().expect("the probe only tells").to_string();
    told.split(',').map(str::to_owned).collect()
}

/// Answers every struct with the names of its fields as an error.
struct Probe;

impl<'de> Deserializer<'de> for Probe {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        panic!("it is no struct")
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(Error::custom(fields.join(",")))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
