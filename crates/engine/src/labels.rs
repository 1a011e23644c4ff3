//! The label filters of lists and prunes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::str::FromStr;

/// One `label=` filter: a label that must be there, perhaps with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFilter {
    /// The label.
    pub key: String,
    /// Its value; any if absent.
    pub value: Option<String>,
}

impl LabelFilter {
    /// Whether labels have it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(&self.key).is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

impl FromStr for LabelFilter {
    type Err = Infallible;

    /// Reads `key` or `key=value`.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once('=') {
            Some((key, value)) => Self { key: key.to_owned(), value: Some(value.to_owned()) },
            None => Self { key: text.to_owned(), value: None },
        })
    }
}

/// What a prune may take, by labels: all of `with` and none of `without`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelChoice {
    /// `label=`.
    pub with: Vec<LabelFilter>,
    /// `label!=`.
    pub without: Vec<LabelFilter>,
}

impl LabelChoice {
    /// Whether something with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.with.iter().all(|filter| filter.matches(labels))
            && !self.without.iter().any(|filter| filter.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_labels_wanted_must_be_there_and_none_unwanted() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        let filters = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let cases: [(&[&str], &[&str], bool); 8] = [
            (&[], &[], true),
            (&["a"], &[], true),
            (&["a=1", "b="], &[], true),
            (&["a=2"], &[], false),
            (&["a", "c"], &[], false),
            (&[], &["c", "a=2"], true),
            (&[], &["b"], false),
            (&["a"], &["a=1"], false),
        ];
        for (with, without, expected) in cases {
            let choice = LabelChoice { with: filters(with), without: filters(without) };
            assert_eq!(choice.matches(&labels), expected, "{choice:?}");
        }
    }
}
