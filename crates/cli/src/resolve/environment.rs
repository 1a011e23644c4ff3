//! `--env` and `--env-file`.

use super::{Invalid, invalid, pairs};

/// One `--env`: `NAME=value` as it is; `NAME` takes the value of this process, and vanishes when there is none.
pub(crate) fn variable(text: &str, own: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, Invalid> {
    match text.split_once('=') {
        Some(("", _)) => invalid(format!("invalid environment variable: {text}")),
        Some(_) => Ok(Some(text.to_owned())),
        None if text.is_empty() => invalid("invalid environment variable: "),
        None => Ok(own(text).map(|value| format!("{text}={value}"))),
    }
}

/// The content of one `--env-file`. Names must not contain white space.
pub(crate) fn file(content: &str, own: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, Invalid> {
    let mut variables = Vec::new();
    for line in pairs::lines(content) {
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.is_empty() {
            return invalid(format!("no variable name on line '{line}'"));
        }
        if name.contains(char::is_whitespace) {
            return invalid(format!("variable '{name}' contains whitespaces"));
        }
        variables.extend(variable(line, own)?);
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_from_the_argument_the_file_or_the_environment() {
        let own = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        assert_eq!(variable("A=b=c", &own), Ok(Some("A=b=c".into())));
        assert_eq!(variable("A=", &own), Ok(Some("A=".into())));
        assert_eq!(variable("HOME", &own), Ok(Some("HOME=/root".into())));
        assert_eq!(variable("NONE", &own), Ok(None));
        assert!(variable("=x", &own).is_err() && variable("", &own).is_err());
        let content = "# comment\nA=1 \n  HOME\nNONE\n";
        assert_eq!(file(content, &own), Ok(vec!["A=1 ".into(), "HOME=/root".into()]));
        assert!(file("A B=1", &own).is_err());
        assert!(file("=1", &own).is_err());
    }
}
