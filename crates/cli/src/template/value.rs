//! What templates are filled with: JSON in the order in which the daemon wrote it, and the rows of lists.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::render::json::harmless;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Value>),
    Object(Object),
    /// A row of a list.
    Row(Object),
    /// The titles of a list's columns; a column without one has no value.
    Header(Object),
    /// Another name of a field, as Go's structures call it: templates find it, JSON does not show it.
    Alias(Box<Value>),
    /// The labels of a row: a method with an argument in Go, `.Label "key"`, and no part of its JSON.
    Labels(Object),
    /// The same method of a header, whose answer is the title of the column.
    LabelTitles,
}

/// Names and their values, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object(Vec<(Cow<'static, str>, Value)>);

impl Object {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Sets a value, in the place of one of this name.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((name.into(), value.into())),
        }
    }

    /// Makes what `name` stands for known as `alias`, too; empty where there is nothing.
    pub(crate) fn alias(&mut self, alias: &'static str, name: &str) {
        let value = self.get(name).cloned().unwrap_or_else(|| "".into());
        self.set(alias, Value::Alias(Box::new(value)));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn write(&self, out: &mut String) {
        out.push('{');
        let is_shown = |value: &Value| !matches!(value, Value::Labels(_) | Value::Alias(_));
        let shown = self.0.iter().filter(|(_, value)| is_shown(value));
        for (index, (name, value)) in shown.enumerate() {
            out.push_str(if index == 0 { "" } else { "," });
            out.push_str(&quoted(name));
            out.push(':');
            value.write(out);
        }
        out.push('}');
    }
}

impl<K: Into<Cow<'static, str>>> FromIterator<(K, Value)> for Object {
    fn from_iter<T: IntoIterator<Item = (K, Value)>>(entries: T) -> Self {
        Self(entries.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

impl Value {
    /// A document of the API.
    pub(crate) fn of(document: &impl serde::Serialize) -> Self {
        let text = serde_json::to_string(document).expect("wire types hold nothing that JSON cannot");
        serde_json::from_str(&text).expect("it was just written")
    }

    /// The fields of a document that is an object.
    pub(crate) fn into_object(self) -> Object {
        match self {
            Self::Object(object) => object,
            _ => Object::default(),
        }
    }

    /// As JSON. Rows are written as Go writes what has a method for it: by name, and harmless within HTML.
    pub(crate) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null | Self::Labels(_) | Self::LabelTitles => out.push_str("null"),
            Self::Alias(value) => value.write(out),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::String(text) => out.push_str(&quoted(text)),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(object) | Self::Header(object) => object.write(out),
            Self::Row(object) => {
                let mut object = object.clone();
                object.0.sort_by(|(one, _), (other, _)| one.cmp(other));
                let mut row = String::new();
                object.write(&mut row);
                out.push_str(&harmless(&row));
            }
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(value.into())
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Number(value.into())
    }
}

/// Not a number, and what is endless, is nothing in JSON.
impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Number::from_f64(value).map_or(Self::Null, Self::Number)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<T: IntoIterator<Item = Value>>(items: T) -> Self {
        Self::Array(items.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Vec::new();
        while let Some((name, value)) = entries.next_entry::<String, Value>()? {
            object.push((name.into(), value));
        }
        Ok(Value::Object(Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_its_order() {
        let text = r#"{"b":[1,-2,0.5,18446744073709551615,null],"a":{"z":"<\"é\n","y":true}}"#;
        let value: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(value.to_json(), text);
    }

    #[test]
    fn rows_are_harmless_and_hide_their_method() {
        let labels = Value::Labels(Object::default());
        let row: Object =
            [("Name".to_owned(), Value::from("<&>")), ("Label".to_owned(), labels)].into_iter().collect();
        assert_eq!(Value::Row(row).to_json(), r#"{"Name":"\u003c\u0026\u003e"}"#);
    }
}
