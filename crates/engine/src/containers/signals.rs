//! Signals by name or number, as `kill` and `STOPSIGNAL` have them.

use crate::error::{Error, Result};

/// SIGKILL.
pub(crate) const KILL: i32 = 9;

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const FIRST_REAL_TIME: i32 = 34;
const LAST_REAL_TIME: i32 = 64;

/// The number of a signal: `15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`, in any case.
///
/// # Errors
/// [`Error::Invalid`] with Docker's words.
pub(crate) fn parse(text: &str) -> Result<i32> {
    let invalid = || Error::Invalid(format!("Invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=LAST_REAL_TIME).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(place) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(place + 1).map_err(|_| invalid());
    }
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.get(1..)?.parse::<i32>().ok() };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        offset(rest).filter(|_| rest.is_empty() || rest.starts_with('+')).map(|n| FIRST_REAL_TIME + n)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        offset(rest).filter(|_| rest.is_empty() || rest.starts_with('-')).map(|n| LAST_REAL_TIME - n)
    } else {
        None
    };
    number.filter(|number| (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(number)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGWINCH", 28),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in
            ["", "0", "65", "-1", "SIGNOTHING", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+", "SIGRTMIN+é"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
