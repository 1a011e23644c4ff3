//! `key=value` arguments, their files, and filters.

use std::collections::BTreeMap;

use coracle_api::Filters;

use super::{Invalid, invalid};

/// Labels and options: a key without `=` has an empty value.
pub(crate) fn map(pairs: &[String]) -> BTreeMap<String, String> {
    let split = |pair: &String| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    };
    pairs.iter().map(split).collect()
}

/// As [`map`], when a key without a value is a mistake.
pub(crate) fn strict_map(pairs: &[String]) -> Result<BTreeMap<String, String>, Invalid> {
    match pairs.iter().find(|pair| !pair.contains('=')) {
        Some(pair) => invalid(format!("bad format for option {pair:?}: expected key=value")),
        None => Ok(map(pairs)),
    }
}

/// Lines of a file that `--label-file` or `--env-file` names: comments and empty lines are skipped.
pub(crate) fn lines(content: &str) -> impl Iterator<Item = &str> {
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    content.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// `--filter name=value` arguments.
pub(crate) fn filters(arguments: &[String]) -> Result<Filters, Invalid> {
    let mut filters = Filters::default();
    for argument in arguments {
        let Some((name, value)) = argument.split_once('=') else {
            return invalid("bad format of filter (expected name=value)");
        };
        filters.add(name.trim().to_lowercase(), value.trim());
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_files_and_filters_parse() {
        let pairs = ["a=b=c".to_owned(), "d".to_owned()];
        assert_eq!(map(&pairs), BTreeMap::from([("a".into(), "b=c".into()), ("d".into(), String::new())]));
        assert!(strict_map(&pairs).is_err());
        assert_eq!(lines("\u{feff}# no\n\n  A=1 \nB\n").collect::<Vec<_>>(), ["A=1 ", "B"]);
        assert_eq!(
            filters(&["Label=x=y".into()]).expect("parses").to_parameter(),
            r#"{"label":{"x=y":true}}"#
        );
        assert!(filters(&["label".into()]).is_err());
    }
}
