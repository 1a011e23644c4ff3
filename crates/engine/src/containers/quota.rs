//! How much a container may write into its own layer: `--storage-opt size=`, or what the engine has as the default.
//!
//! The kernel holds it to that, by a quota of the file system that the data root is on; where there is none, a container that
//! asks for it is not made.

use super::Description;
use super::settings::HostSettings;
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result};
use coracle_spec::size;

/// Docker's words where there are no quotas.
const REFUSAL: &str = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";

/// Bytes that the client asks for; 0 for no bound.
///
/// # Errors
/// [`Error::Invalid`] for what is no size, and for any other option.
fn asked(host: &HostSettings) -> Result<Option<u64>> {
    let mut asked = None;
    for (key, value) in &host.storage {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::Invalid(format!("--storage-opt: Unknown option {key}")));
        }
        let bytes = size::bytes(value);
        asked = Some(bytes.ok_or_else(|| Error::Invalid(format!("--storage-opt: invalid size: '{value}'")))?);
    }
    Ok(asked)
}

/// Bytes that a new container may write, `default` unless it asks for something else.
///
/// # Errors
/// [`Error::Invalid`], and in Docker's words where it cannot be held to that.
pub(super) fn bound(shared: &Shared, host: &HostSettings, default: Option<u64>) -> Result<Option<u64>> {
    let asked = asked(host)?;
    if asked.is_some() && !shared.store.has_quotas() {
        return Err(coracle_store::Error::NoQuotas).attempt(|| REFUSAL.to_owned());
    }
    Ok(asked.or(default).filter(|bytes| *bytes > 0))
}

/// Makes sure that a container that is to be started is held to what it has asked for. Blocks.
///
/// # Errors
/// When it is not any more: the file system was mounted without quotas, or the data root is a copy.
pub(super) fn check(shared: &Shared, container: &Description) -> Result<()> {
    let Some(bytes) = asked(&container.settings.host)?.filter(|bytes| *bytes > 0) else { return Ok(()) };
    let text = || format!("{REFUSAL}, which the layer of container {} has lost", container.id);
    shared.store.check_bound(&container.id, bytes).attempt(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_asked_for_and_nothing_else() {
        let of = |key: &str, value: &str| {
            let storage = [(key.to_owned(), value.to_owned())].into();
            asked(&HostSettings { storage, ..HostSettings::default() })
        };
        assert_eq!(of("size", "10G").unwrap(), Some(10 << 30));
        assert_eq!(of("Size", "0").unwrap(), Some(0));
        assert_eq!(asked(&HostSettings::default()).unwrap(), None);
        for (key, value, words) in
            [("size", "many", "invalid size: 'many'"), ("colour", "red", "Unknown option colour")]
        {
            let error = of(key, value).unwrap_err();
            assert!(matches!(&error, Error::Invalid(text) if text.contains(words)), "{error}");
        }
    }
}
