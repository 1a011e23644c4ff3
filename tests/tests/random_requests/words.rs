//! Texts and numbers of three kinds: what somebody may mean, what stands at a bound, and what nobody means well.

use coracle_tests::mutation::Random;
use serde_json::{Value, json};

/// How well a request is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Plausible,
    Boundary,
    Hostile,
}

const NAMES: [&str; 6] = ["extra-1", "extra-2", "extra.3", "e", "no-such", "extra_4"];

const BOUNDARY: [&str; 14] = [
    "",
    " ",
    "0",
    "-1",
    "1",
    "a",
    "true",
    "null",
    "2147483648",
    "9223372036854775807",
    "18446744073709551616",
    "1e400",
    "2026-01-01T00:00:00Z",
    "99999999h",
];

const HOSTILE: [&str; 22] = [
    "..",
    "../../../etc/passwd",
    "/",
    "//",
    "%",
    "%00",
    "a\u{0}b",
    "\u{202e}",
    "ü",
    "\u{1f980}",
    "'; --",
    "${HOME}",
    "{{.}}",
    "a\nb",
    "a\r\nX: y",
    "[]",
    "{}",
    "sha256:",
    "sha256:zz",
    ":::",
    "@",
    "\u{7f}",
];

/// Ways to write what a filter may be.
const FILTERS: [&str; 20] = [
    "{}",
    "",
    "null",
    "[]",
    "{",
    "{\"label\":[\"a\"]}",
    "{\"label\":{\"a=b\":true}}",
    "{\"status\":[\"running\"]}",
    "{\"status\":[\"no\"]}",
    "{\"until\":[\"1h\"]}",
    "{\"until\":[\"never\"]}",
    "{\"dangling\":[\"true\",\"false\"]}",
    "{\"name\":[\"[\"]}",
    "{\"id\":[\"\"]}",
    "{\"x\":1}",
    "{\"x\":[\"y\"]}",
    "{\"since\":[\"no-such\"]}",
    "{\"health\":[\"unhealthy\"]}",
    "{\"exited\":[\"99999999999\"]}",
    "{\"volume\":[\"/\"]}",
];

/// A text for a parameter or field of this name.
pub(crate) fn text(name: &str, mood: Mood, random: &mut Random) -> String {
    let plausible: &[&str] = match name.to_ascii_lowercase().as_str() {
        "filters" => return (*random.pick(&FILTERS)).to_owned(),
        "name" | "hostname" | "container" => &NAMES,
        "signal" | "stopsignal" => &["TERM", "KILL", "0", "9", "99", "SIGUSR1", "NOPE"],
        "condition" => &["not-running", "next-exit", "removed", "no"],
        "platform" => &[
            "linux/amd64",
            "linux/amd64",
            "linux",
            "",
            "{\"os\":\"linux\"}",
            "windows",
            "{\"os\":1}",
            "linux/amd64/v9/x",
        ],
        "path" => &["/", "/etc", "/etc/passwd", "/no/such", "etc", "/proc/self", "/bin/sh/x"],
        "since" | "until" => &["0", "1", "1h", "2026-01-01", "yesterday"],
        "tail" => &["all", "0", "5", "-1", "x"],
        "driver" => &["local", "bridge", "none", "json-file", "overlay"],
        "networkmode" => &["none", "bridge", "default", "keeper-net", "no-such", "container:keeper"],
        "ipcmode" | "pidmode" | "utsmode" | "usernsmode" | "cgroupnsmode" => {
            &["", "private", "container:keeper", "no"]
        }
        "subnet" => {
            &["10.231.250.0/24", "10.231.251.0/29", "fd00:1::/64", "300.1.1.1/8", "10.231.250.0", "x"]
        }
        "gateway" | "ipv4address" | "ipaddress" => &["10.231.250.1", "10.231.250.255", "::1", "x"],
        "iprange" => &["10.231.250.128/25", "192.168.0.0/16", "x"],
        "macaddress" => &["02:42:0a:00:00:01", "ff:ff:ff:ff:ff:ff", "x"],
        "hostport" => &["", "0", "x", "99999", "5-1"],
        "hostip" => &["127.0.0.1", "", "::1", "x", "8.8.8.8"],
        "type" => &["volume", "tmpfs", "json-file", "local", "image", "no"],
        "source" | "target" => &["extra-1", "/mnt", "/mnt/..", "mnt"],
        "user" => &["0", "web", "1000:1000", "nobody", "-1", ":"],
        "workingdir" => &["/", "/tmp", "relative", "/etc/passwd"],
        "repo" => &["extra", "extra/a", "UPPER", "127.0.0.1:9/extra"],
        "tag" => &["latest", "v1", "-", "a:b"],
        "detachkeys" => &["ctrl-p,ctrl-q", "ctrl-a", "x,,", "ctrl-~"],
        "changes" => &["CMD [\"true\"]", "ENV a=b", "LABEL x=y", "NOPE", "EXPOSE 1/tcp"],
        _ => &NAMES,
    };
    match mood {
        Mood::Plausible => (*random.pick(plausible)).to_owned(),
        Mood::Boundary if random.once_in(20) => "x".repeat(5000),
        Mood::Boundary => (*random.pick(&BOUNDARY)).to_owned(),
        Mood::Hostile if random.once_in(20) => "../".repeat(2000),
        Mood::Hostile => (*random.pick(&HOSTILE)).to_owned(),
    }
}

/// Whether one of the words that may stand for a name begins this id.
pub(crate) fn begin(id: &str) -> bool {
    NAMES.iter().chain(&BOUNDARY).any(|word| !word.is_empty() && id.starts_with(word))
}

/// A number.
pub(crate) fn number(mood: Mood, random: &mut Random) -> Value {
    match mood {
        Mood::Plausible => json!(random.below(100)),
        Mood::Boundary => [
            json!(0),
            json!(-1),
            json!(1),
            json!(i32::MAX),
            json!(i64::from(i32::MAX) + 1),
            json!(i64::MAX),
            json!(i64::MIN),
            json!(1_u64 << 62),
            json!(65536),
        ][random.below(9)]
        .clone(),
        Mood::Hostile => [
            json!(u64::MAX),
            json!(1e308),
            json!(-0.5),
            json!("7"),
            json!(null),
            json!([]),
            json!(true),
            json!(1e19),
        ][random.below(8)]
        .clone(),
    }
}
