//! Names that lead somewhere else, or nowhere.

use super::tar::Tar;
use super::{Canary, Case, Fate, case};

pub(super) fn add(cases: &mut Vec<Case>, canary: &Canary) {
    upwards(cases, canary);
    absolute(cases, canary);
    root(cases);
    malformed(cases, canary);
}

/// One entry of each type that could do harm under a name.
fn entries(name: &str, target: &str) -> [(&'static str, Tar); 4] {
    let long = |tar: Tar| if name.len() > 100 { tar.pax(&[("path", name.as_bytes())]) } else { tar };
    let short = |text: &str| text.chars().take(100).collect::<String>();
    // Two extended headers for one entry would be refused for that alone.
    let link = match target.len() {
        0..=100 => long(Tar::new()),
        _ => Tar::new().pax(&[("path", name.as_bytes()), ("linkpath", target.as_bytes())]),
    };
    [
        ("file", long(Tar::new()).file(&short(name), b"evil")),
        (
            "directory",
            long(Tar::new()).raw(short(name).as_bytes(), b'5', b"", |header| header.set_mode(0o777)),
        ),
        ("link", link.symlink(&short(name), short(target))),
        ("fifo", long(Tar::new()).entry(short(name).as_bytes(), b'6')),
    ]
}

fn upwards(cases: &mut Vec<Case>, canary: &Canary) {
    let names = [
        "../x".to_owned(),
        "a/../../x".to_owned(),
        "./../x".to_owned(),
        "..".to_owned(),
        "a/..".to_owned(),
        "/../x".to_owned(),
        "..//x".to_owned(),
        format!("{}/x", canary.relative),
        format!("{}/secret", canary.relative),
        format!("a/{}/x", canary.relative),
    ];
    for name in names {
        for (what, tar) in entries(&name, &canary.absolute) {
            case(
                cases,
                format!("{what} named {name}"),
                Fate::Refused,
                tar,
                Tar::new().file("a/..x", b"").dir("..."),
            );
        }
    }
}

fn absolute(cases: &mut Vec<Case>, canary: &Canary) {
    for name in [
        format!("{}/x", canary.absolute),
        format!("{}/secret", canary.absolute),
        format!("/{}", canary.absolute),
    ] {
        for (what, tar) in entries(&name, &canary.absolute) {
            case(
                cases,
                format!("{what} named {name}"),
                Fate::Confined,
                tar,
                Tar::new().file("/absolute", b"x"),
            );
        }
    }
}

/// Entries that would replace what everything is unpacked into (CVE-2021-29136).
fn root(cases: &mut Vec<Case>) {
    for name in ["", ".", "/", "./", "./.", "//"] {
        for flag in *b"0123467" {
            let tar = Tar::new().raw(name.as_bytes(), flag, b"", |header| {
                header.as_old_mut().linkname[..4].copy_from_slice(b"/etc");
                header.set_device_major(1).unwrap();
                header.set_device_minor(3).unwrap();
            });
            let name = format!("type {} named {name:?}", char::from(flag));
            case(cases, name, Fate::Refused, tar, Tar::new().dir("./").dir("./d/."));
        }
    }
    case(cases, "a directory without a name", Fate::Refused, Tar::new().dir(""), Tar::new().dir("."));
}

fn malformed(cases: &mut Vec<Case>, canary: &Canary) {
    let refused = Fate::Refused;
    let pax = |path: &[u8]| Tar::new().pax(&[("path", path)]).file("x", b"");
    case(cases, "a name component of 256 bytes", refused, pax(&[b'n'; 256]), pax(&[b'n'; 255]));
    let deep = |count| pax([b"d/".repeat(count), b"f".to_vec()].concat().as_slice());
    case(cases, "a name of 4200 bytes", refused, deep(2100), deep(100));
    case(
        cases,
        "a name of 64 KiB",
        refused,
        pax(&[b"d/".repeat(32_000), b"f".to_vec()].concat()),
        pax(b"d/f"),
    );
    case(cases, "NUL in an extended name", refused, pax(b"a\0/../b"), pax(b"a/b"));
    case(cases, "an extended name that leads upwards", refused, pax(b"../x"), pax(b"..x"));
    // An empty record takes back the one before, so the name is the header's (POSIX pax).
    case(cases, "an empty extended name", Fate::Confined, pax(b""), pax(b"n"));
    case(
        cases,
        "control characters in a name that is refused",
        refused,
        Tar::new().file("../\x1b[2J\n", b""),
        Tar::new().file("\x1b[2J\n", b""),
    );
    let confined = Fate::Confined;
    case(cases, "backslashes", confined, Tar::new().file("..\\..\\x", b""), Tar::new().file("x\\y", b""));
    case(cases, "a name that is no text", confined, pax(b"\xff\xfe/\xc3\x28"), pax("ä".as_bytes()));
    case(
        cases,
        "control characters",
        confined,
        Tar::new().file("\x1b]0;x\x07", b""),
        Tar::new().file("x", b""),
    );
    let global = |records: &[(&str, &[u8])]| {
        Tar::new().raw(b"g", b'g', &super::tar::pax_records(records), |_| {}).file("f", b"")
    };
    let path = format!("{}/x", canary.relative);
    case(
        cases,
        "a global header that renames",
        refused,
        global(&[("path", path.as_bytes())]),
        global(&[("comment", b"of git")]),
    );
    case(
        cases,
        "a global header that makes links",
        refused,
        global(&[("linkpath", b"/etc/passwd")]),
        global(&[("comment", b"x")]),
    );
    case(cases, "a GNU long name that leads upwards", refused, long_name(&path), long_name(&"d/".repeat(80)));
    case(cases, "a GNU long name of 4 GiB", refused, huge(b'L'), Tar::new().file("f", b""));
    case(cases, "a GNU long link of 4 GiB", refused, huge(b'K'), Tar::new().symlink("l", "x"));
}

fn long_name(name: &str) -> Tar {
    let content = [name.as_bytes(), b"\0"].concat();
    let kind = if name.ends_with('/') { b'5' } else { b'0' };
    Tar::new().raw(b"././@LongLink", b'L', &content, |_| {}).entry(b"short", kind)
}

fn huge(flag: u8) -> Tar {
    Tar::new().raw(b"././@LongLink", flag, b"", |header| header.set_size(4 << 30))
}
