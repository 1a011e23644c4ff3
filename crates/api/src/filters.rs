//! The `filters` query parameter: names with the set of values asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::go;

/// Filters by name. Every name must match, by any of its values (`label` by all of them).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(pub BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Parses the parameter: `{"name":{"value":true}}`, or `{"name":["value"]}` as older clients and SDKs send it.
    ///
    /// # Errors
    /// Text that is neither.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let names: BTreeMap<String, Value> = go::from_slice(text.as_bytes())?;
        names.into_iter().map(|(name, values)| Ok((name, set(&values)?))).collect::<Result<_, _>>().map(Self)
    }

    /// Adds one value to a name.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.entry(name.into()).or_default().insert(value.into());
    }

    /// The values of `name`, none when it was not given.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Whether `name` was given at all.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The first name that is not among `known`, to be refused.
    #[must_use]
    pub fn unknown(&self, known: &[&str]) -> Option<&str> {
        self.0.keys().map(String::as_str).find(|name| !known.contains(name))
    }

    /// Whether no filter was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parameter as every daemon since API 1.22 reads it.
    #[must_use]
    pub fn to_parameter(&self) -> String {
        let sets: BTreeMap<_, BTreeMap<_, _>> = self
            .0
            .iter()
            .map(|(name, values)| (name, values.iter().map(|value| (value, true)).collect()))
            .collect();
        serde_json::to_string(&sets).expect("maps of strings always serialise")
    }
}

fn set(values: &Value) -> Result<BTreeSet<String>, serde_json::Error> {
    if values.is_array() {
        return go::from_value(values);
    }
    let set: BTreeMap<String, bool> = go::from_value(values)?;
    Ok(set.into_iter().filter_map(|(value, wanted)| wanted.then_some(value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_parse_to_the_same_filters() {
        let new = Filters::parse(r#"{"label":{"a":true,"b=c":true,"no":false}}"#).expect("parses");
        let old = Filters::parse(r#"{"label":["a","b=c"]}"#).expect("parses");
        assert_eq!(new, old);
        assert_eq!(new.values("label").collect::<Vec<_>>(), ["a", "b=c"]);
        assert_eq!(new.to_parameter(), r#"{"label":{"a":true,"b=c":true}}"#);
        assert_eq!(Filters::parse("").expect("parses"), Filters::default());
    }

    #[test]
    fn other_forms_are_refused_and_unknown_names_are_found() {
        for text in ["[]", "x", r#"{"a":1}"#, r#"{"a":"b"}"#, r#"{"a":{"b":"c"}}"#] {
            assert!(Filters::parse(text).is_err(), "{text}");
        }
        let filters = Filters::parse(r#"{"id":["1"],"nope":["2"]}"#).expect("parses");
        assert_eq!(filters.unknown(&["id", "name"]), Some("nope"));
        assert_eq!(filters.unknown(&["id", "nope"]), None);
    }
}
