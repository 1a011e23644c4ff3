//! Options of the driver `local`. Pure.

use crate::error::{Error, Result};
use coracle_spec::size;
use std::collections::BTreeMap;

/// Checks the options of the volume `name`, and returns how many bytes it may hold, if that is bounded.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words for an option that makes no sense, and for a size where there are no quotas;
/// [`Error::Unsupported`] for options that mount something.
pub(super) fn check(name: &str, options: &BTreeMap<String, String>, has_quotas: bool) -> Result<Option<u64>> {
    let invalid = |text: String| Err(Error::Invalid(format!("create {name}: {text}")));
    let is_known = |key: &&String| matches!(key.as_str(), "type" | "o" | "device" | "size");
    if let Some(unknown) = options.keys().find(|key| !is_known(key)) {
        return invalid(format!("invalid option: \"{unknown}\""));
    }
    let mut bound = None;
    if let Some(text) = options.get("size") {
        let Some(bytes) = size::bytes(text) else { return invalid(format!("invalid size: '{text}'")) };
        if bytes > 0 && !has_quotas {
            return invalid("quota size requested but no quota support".to_owned());
        }
        bound = Some(bytes).filter(|bytes| *bytes > 0);
    }
    for (option, needed) in [("device", "type"), ("type", "device"), ("o", "device")] {
        if options.contains_key(option) && !options.contains_key(needed) {
            return invalid(format!("missing required option: \"{needed}\""));
        }
    }
    if options.contains_key("device") {
        return Err(Error::Unsupported(format!(
            "create {name}: option \"device\": volumes that mount another file system are not supported yet; mount it on \
             the host and use a bind mount of it"
        )));
    }
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_needs_quotas_and_mounts_are_refused() {
        let of = |options: &[(&str, &str)], has_quotas| {
            let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            check("v", &options.collect(), has_quotas).map_err(|error| error.to_string())
        };
        assert_eq!(of(&[], false), Ok(None));
        assert_eq!(of(&[("size", "10m")], true), Ok(Some(10 << 20)));
        assert_eq!(of(&[("size", "0")], false), Ok(None));
        for (options, words) in [
            (&[("colour", "red")][..], "create v: invalid option: \"colour\""),
            (&[("size", "x")], "create v: invalid size: 'x'"),
            (&[("size", "10m")], "create v: quota size requested but no quota support"),
            (&[("o", "bind")], "create v: missing required option: \"device\""),
            (&[("type", "nfs")], "create v: missing required option: \"device\""),
            (&[("device", "/d")], "create v: missing required option: \"type\""),
            (
                &[("device", "/d"), ("type", "none"), ("o", "bind")],
                "create v: option \"device\": volumes that mount",
            ),
        ] {
            let text = of(options, false).unwrap_err();
            assert!(text.starts_with(words), "{text}");
        }
    }
}
