//! `--volume`: which arguments are binds and which are anonymous volumes, and relative host paths.

use std::path::Path;

use super::{Invalid, invalid};

/// What one `--volume` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Volume {
    /// A path that gets an anonymous volume.
    Anonymous(String),
    /// `source:destination[:options]` for the daemon.
    Bind(String),
}

/// Parses one `--volume`. A source that begins with `.` or `~/` is a path, made absolute here.
pub(crate) fn parse(text: &str, directory: &Path, home: Option<&Path>) -> Result<Volume, Invalid> {
    let Some((source, rest)) = text.split_once(':') else {
        if text.is_empty() {
            return invalid("invalid empty volume spec");
        }
        return Ok(Volume::Anonymous(text.to_owned()));
    };
    if source.is_empty() || rest.is_empty() || rest.starts_with(':') {
        return invalid(format!("invalid spec: {text}: empty section between colons"));
    }
    if text.matches(':').count() > 2 {
        return invalid(format!("invalid spec: {text}: too many colons"));
    }
    let source = match (source.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below).display().to_string(),
        _ if source == "." || source.starts_with("./") || source == ".." || source.starts_with("../") => {
            clean(&directory.join(source))
        }
        _ => source.to_owned(),
    };
    Ok(Volume::Bind(format!("{source}:{rest}")))
}

/// The path without `.` and `..`, by its text alone, as Go's `filepath.Abs` does.
pub(crate) fn clean(path: &Path) -> String {
    let mut clean = std::path::PathBuf::from("/");
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_become_absolute_and_names_stay() {
        let parse = |text| parse(text, Path::new("/work/dir"), Some(Path::new("/home/me")));
        let bind = |text: &str| Ok(Volume::Bind(text.into()));
        assert_eq!(parse("/data"), Ok(Volume::Anonymous("/data".into())));
        assert_eq!(parse("name:/data"), bind("name:/data"));
        assert_eq!(parse("/host:/data:ro,z"), bind("/host:/data:ro,z"));
        assert_eq!(parse("./x:/data"), bind("/work/dir/x:/data"));
        assert_eq!(parse("../x:/data"), bind("/work/x:/data"));
        assert_eq!(parse(".:/data:ro"), bind("/work/dir:/data:ro"));
        assert_eq!(parse("~/x:/data"), bind("/home/me/x:/data"));
        for text in ["", ":/data", "a:", "a::ro", "a:b:c:d"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
