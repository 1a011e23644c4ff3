//! Options of the driver `local`. Pure.

use super::mounting::Mounting;
use crate::error::{Error, Result};
use coracle_spec::size;
use std::collections::BTreeMap;

/// Checks the options of the volume `name`, and returns how many bytes it may hold, if that is bounded.
///
/// # Errors
/// [`Error::Invalid`] in Docker's words for an option that makes no sense, and for a size where there are no quotas.
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
    if options.values().any(|value| value.contains('\0')) {
        return invalid("an option contains a zero byte".to_owned());
    }
    let host = options.get("device").and_then(|device| device.strip_prefix("//")?.split('/').next());
    if options.get("type").is_some_and(|kind| kind == "cifs") && host.is_some_and(|host| host.contains(':')) {
        return invalid("port not allowed in CIFS device URL, include 'port' in 'o='".to_owned());
    }
    match Mounting::of(options) {
        Ok(Some(_)) if bound.is_some() => invalid(
            "a size bounds what is in the volume's directory; what is mounted has its own in \"o\""
                .to_owned(),
        ),
        Ok(_) => Ok(bound),
        Err(word) => invalid(format!(
            "\"{word}\" is nothing that a volume's mount can have: it is made anew, and is private"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_needs_quotas_and_a_mount_its_device() {
        let of = |options: &[(&str, &str)], has_quotas| {
            let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            check("v", &options.collect(), has_quotas).map_err(|error| error.to_string())
        };
        assert_eq!(of(&[], false), Ok(None));
        assert_eq!(of(&[("size", "10m")], true), Ok(Some(10 << 20)));
        assert_eq!(of(&[("size", "0")], false), Ok(None));
        let mounted = [("device", "/d"), ("type", "none"), ("o", "bind")];
        assert_eq!(of(&mounted, false), Ok(None));
        assert!(of(&[&mounted[..], &[("size", "1m")]].concat(), true).unwrap_err().contains("a size bounds"));
        for (options, words) in [
            (&[("colour", "red")][..], "create v: invalid option: \"colour\""),
            (&[("size", "x")], "create v: invalid size: 'x'"),
            (&[("size", "10m")], "create v: quota size requested but no quota support"),
            (&[("o", "bind")], "create v: missing required option: \"device\""),
            (&[("type", "nfs")], "create v: missing required option: \"device\""),
            (&[("device", "/d")], "create v: missing required option: \"type\""),
            (&[("device", "//a:1/d"), ("type", "cifs")], "create v: port not allowed in CIFS"),
            (&[("device", "/d"), ("type", "none"), ("o", "bind,shared")], "create v: \"shared\" is nothing"),
        ] {
            let text = of(options, false).unwrap_err();
            assert!(text.starts_with(words), "{text}");
        }
    }
}
