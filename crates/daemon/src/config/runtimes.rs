//! `--add-runtime NAME=PATH`, and `runtimes` of the file: other OCI runtimes.

use super::{Error, Values, refused};
use coracle_engine::runtimes::{Other, Runtimes};
use serde::Deserialize;

const OPTION: &str = "add-runtime";

/// A runtime as the file has it, by Docker's names.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Described {
    path: String,
    runtime_args: Vec<String>,
    runtime_type: String,
    options: serde_json::Map<String, serde_json::Value>,
}

/// Reads the runtimes that were given.
///
/// # Errors
/// [`Error::Value`] for what makes no sense, and for shims of containerd.
pub(super) fn read(all: &Values) -> Result<Runtimes, Error> {
    let mut runtimes = Runtimes::default();
    for text in all.get(OPTION).into_iter().flatten() {
        let invalid = |reason: &str| refused(OPTION, text, reason);
        let (name, value) = text.split_once('=').ok_or_else(|| invalid("it is not NAME=PATH"))?;
        let other = if value.starts_with('{') {
            described(value).map_err(|reason| invalid(&reason))?
        } else {
            Other { path: value.into(), arguments: Vec::new() }
        };
        runtimes.add(name, other).map_err(|error| invalid(&error.to_string()))?;
    }
    Ok(runtimes)
}

fn described(text: &str) -> Result<Other, String> {
    let described: Described = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !described.runtime_type.is_empty() || !described.options.is_empty() {
        return Err("shims (runtimeType, options) speak containerd's protocol, and there is no containerd here; give the path of a \
                    program that has the command line of an OCI runtime"
            .to_owned());
    }
    Ok(Other { path: described.path.into(), arguments: described.runtime_args })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(texts: &[&str]) -> Result<Runtimes, Error> {
        read(&Values::from([(OPTION, texts.iter().map(ToString::to_string).collect())]))
    }

    #[test]
    fn runtimes_are_given_by_path_or_described() {
        let runtimes = given(&["a=/bin/a", r#"b={"path":"b","runtimeArgs":["--debug"]}"#]).unwrap();
        let all: Vec<_> = runtimes
            .iter()
            .map(|(name, other)| (name, other.path.to_str().unwrap(), &other.arguments[..]))
            .collect();
        assert_eq!(all, [("a", "/bin/a", &[][..]), ("b", "b", &["--debug".to_owned()][..])]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (texts, reason) in [
            (&["crun"][..], "NAME=PATH"),
            (&["crun="], "path"),
            (&["=/x"], "no name"),
            (&["coracle=/x"], "engine's own"),
            (&["a=/x", "a=/y"], "twice"),
            (&[r#"kata={"runtimeType":"io.containerd.kata.v2"}"#], "containerd's protocol"),
            (&[r#"a={"path":"/x","options":{"SystemdCgroup":true}}"#], "containerd's protocol"),
            (&[r#"a={"pth":"/x"}"#], "pth"),
        ] {
            let error = given(texts).unwrap_err().to_string();
            assert!(error.contains(reason), "{texts:?}: {error}");
        }
    }
}
