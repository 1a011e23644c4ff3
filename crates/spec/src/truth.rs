//! Truths as texts.

/// The truth that a text means, in the forms that Go's `strconv.ParseBool` takes, which are those of Docker's options and
/// documents; nothing for any other text.
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truths_are_those_of_go() {
        assert!(["1", "t", "T", "true", "True", "TRUE"].iter().all(|text| truth(text) == Some(true)));
        assert!(["0", "f", "F", "false", "False", "FALSE"].iter().all(|text| truth(text) == Some(false)));
        assert!(["", "yes", "tRUE", "2", " true"].iter().all(|text| truth(text).is_none()));
    }
}
