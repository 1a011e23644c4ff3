//! Names for containers that were given none: an adjective and a vessel.

use coracle_spec::{ContainerId, Name};

const ADJECTIVES: [&str; 32] = [
    "able", "amber", "brave", "bright", "brisk", "calm", "clear", "cosy", "deft", "eager", "fair", "fleet",
    "fond", "glad", "hardy", "jolly", "keen", "kind", "light", "lively", "lucky", "merry", "neat", "noble",
    "plucky", "quick", "quiet", "sleek", "steady", "sunny", "swift", "trim",
];

const VESSELS: [&str; 32] = [
    "argosy", "barge", "bark", "brig", "canoe", "caravel", "catboat", "clipper", "cog", "currach", "cutter",
    "dhow", "dinghy", "dory", "felucca", "ferry", "galley", "gig", "hoy", "junk", "kayak", "ketch", "lugger",
    "pinnace", "proa", "punt", "schooner", "skiff", "sloop", "tender", "wherry", "yawl",
];

/// A random name. It may be taken.
pub(super) fn random() -> Name {
    let id = ContainerId::random();
    let number = u64::from_str_radix(&id.as_str()[..12], 16).expect("ids are hexadecimal");
    let pick = |words: &[&'static str], shift: u32| {
        words[usize::try_from(number >> shift).unwrap_or(0) % words.len()]
    };
    let text = format!("{}_{}_{:02x}", pick(&ADJECTIVES, 0), pick(&VESSELS, 8), (number >> 16) & 0xff);
    text.parse().expect("letters, digits and underscores make a name")
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_names_and_differ() {
        let names: std::collections::BTreeSet<String> =
            (0..100).map(|_| super::random().to_string()).collect();
        assert!(names.len() > 90);
    }
}
