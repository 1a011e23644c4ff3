//! Which signals a container can be stopped with.

/// Names without `SIG`, of Linux on every architecture that containers run on, signal(7).
const NAMES: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "RTMAX", "RTMIN", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU",
];

/// Whether `text` is the number or name of a signal: `9`, `KILL`, `SIGKILL`, `SIGRTMIN+3`.
pub(crate) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, most: u8| {
        let number = name.strip_prefix(prefix).and_then(|number| number.parse::<u8>().ok());
        number.is_some_and(|number| (1..=most).contains(&number))
    };
    name == "XFSZ" || NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_signals() {
        for good in ["9", "64", "KILL", "sigterm", "SIGRTMIN+3", "RTMAX-14", "SIGXFSZ"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "65", "-1", "SIG", "SIGNOPE", "RTMIN+16", "RTMIN+0", "9 "] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
