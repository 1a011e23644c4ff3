//! What kinds and devices may be called.

/// Longest vendor, in bytes: a name of the DNS.
const VENDOR: usize = 253;
/// Longest class and longest device, in bytes.
const LABEL: usize = 63;

/// Whether a text names a device: `vendor/class=name`.
pub fn is_qualified(text: &str) -> bool {
    text.split_once('=').is_some_and(|(kind, name)| check_kind(kind).is_ok() && check_device(name).is_ok())
}

/// The kind that a text begins with, and what follows the `=`; nothing where it begins with none.
pub fn kind_of(text: &str) -> Option<(&str, Option<&str>)> {
    let (kind, name) = text.split_once('=').map_or((text, None), |(kind, name)| (kind, Some(name)));
    check_kind(kind).is_ok().then_some((kind, name))
}

/// Checks `vendor/class`.
pub(super) fn check_kind(kind: &str) -> Result<(), String> {
    let (vendor, class) =
        kind.split_once('/').ok_or_else(|| format!("the kind {kind:?} is not vendor/class"))?;
    for (what, name, longest) in [("vendor", vendor, VENDOR), ("class", class, LABEL)] {
        if !is_name(name, b"_-.", longest) || !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Err(format!(
                "the {what} of the kind {kind:?} does not begin with a letter, end with a letter or digit and have \
                 nothing but letters, digits, _, - and . between, {longest} in all"
            ));
        }
    }
    Ok(())
}

/// Checks the name of a device.
pub(super) fn check_device(name: &str) -> Result<(), String> {
    if is_name(name, b"_-.:", LABEL) {
        return Ok(());
    }
    Err(format!(
        "the device {name:?} does not begin and end with a letter or digit and have nothing but letters, digits, _, -, . \
         and : between, {LABEL} in all"
    ))
}

fn is_name(name: &str, between: &[u8], longest: usize) -> bool {
    let bytes = name.as_bytes();
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || between.contains(byte);
    bytes.len() <= longest && is_edge(bytes.first()) && is_edge(bytes.last()) && bytes.iter().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_qualified_or_not() {
        for name in ["vendor.com/class=dev", "v/c=0", "a-b_c.d/e.f=0:1.2", "vendor.com/gpu=GPU-1"] {
            assert!(is_qualified(name), "{name}");
        }
        let long = format!("v/c={}", "a".repeat(64));
        for name in [
            "",
            "vendor.com/class",
            "=a",
            "/dev/null",
            "/c=a",
            "v/=a",
            "v/c=",
            "v/c=*",
            "v/c/d=a",
            "0/c=a",
            "v/0=a",
            "v./c=a",
            "v/c=a-",
            "v/c=-a",
            "v/c=a b",
            "v/c=ä",
            &long,
        ] {
            assert!(!is_qualified(name), "{name}");
        }
        assert_eq!(kind_of("v/c"), Some(("v/c", None)));
        assert_eq!(kind_of("v/c=*"), Some(("v/c", Some("*"))));
        assert_eq!(kind_of("class"), None);
    }
}
