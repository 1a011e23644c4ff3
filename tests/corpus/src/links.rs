//! Links that lead to the canary, and entries that follow them.

use super::tar::Tar;
use super::{Canary, Case, Fate, case};

pub(super) fn add(cases: &mut Vec<Case>, canary: &Canary) {
    through(cases, canary);
    chains(cases, canary);
    hard(cases, canary);
}

/// A symbolic link of any length.
fn link(tar: Tar, name: &str, target: &str) -> Tar {
    if target.len() <= 100 {
        return tar.symlink(name, target);
    }
    tar.pax(&[("linkpath", target.as_bytes())]).symlink(name, &target[..100])
}

/// A name, what must come of it, and the entries.
type Follower = (&'static str, Fate, fn(Tar) -> Tar);

/// What comes after a link `d`, and how: over it, through it, or by it.
fn followers() -> Vec<Follower> {
    let confined = Fate::Confined;
    vec![
        ("a file through it", confined, |tar| tar.file("d/x", b"evil")),
        ("a file over what it leads to", confined, |tar| tar.file("d/secret", b"evil")),
        ("a directory through it", confined, |tar| {
            tar.raw(b"d/new", b'5', b"", |header| header.set_mode(0o777))
        }),
        // CVE-2021-32760: the mode must not reach what the link leads to.
        ("a directory over it", confined, |tar| tar.raw(b"d", b'5', b"", |header| header.set_mode(0o777))),
        ("a directory over it with a slash", confined, |tar| {
            tar.raw(b"d/", b'5', b"", |header| header.set_uid(77))
        }),
        ("a directory named through it by a dot", confined, |tar| {
            tar.raw(b"d/.", b'5', b"", |header| header.set_mode(0o700))
        }),
        ("a file over it", confined, |tar| tar.file("d", b"evil")),
        ("a link over it", confined, |tar| tar.symlink("d", "elsewhere").file("d/x", b"evil")),
        ("a fifo over it", confined, |tar| tar.raw(b"d", b'6', b"", |header| header.set_mode(0o777))),
        ("a device over it", confined, |tar| tar.device("d", b'3', 1, 3)),
        ("a link through it", confined, |tar| tar.symlink("d/l", "secret")),
        ("a hard link to what it leads to", Fate::Refused, |tar| tar.hardlink("h", "d/secret")),
        ("a whiteout through it", confined, |tar| tar.file("d/.wh.secret", b"")),
        ("an opaque marker through it", confined, |tar| tar.file("d/.wh..wh..opq", b"")),
        ("a whiteout of it", confined, |tar| tar.file(".wh.d", b"")),
    ]
}

fn through(cases: &mut Vec<Case>, canary: &Canary) {
    let targets = [
        ("absolute", canary.absolute.clone()),
        ("relative", canary.relative.clone()),
        ("magic", format!("/proc/self/root{}", canary.absolute)),
        ("magic by number", format!("/proc/1/root{}", canary.absolute)),
        ("magic working directory", format!("/proc/self/cwd/{}", canary.relative)),
    ];
    for (kind, target) in targets {
        for (what, fate, follow) in followers() {
            let twin = match what {
                "a hard link to what it leads to" => {
                    Tar::new().file("d/secret", b"own").hardlink("h", "d/secret")
                }
                _ => follow(Tar::new().dir("d").file("d/own", b"own")),
            };
            let hostile = follow(link(Tar::new(), "d", &target));
            case(cases, format!("{kind} link, {what}"), fate, hostile, twin);
        }
    }
}

fn chains(cases: &mut Vec<Case>, canary: &Canary) {
    let chain = |count: usize, end: &str| {
        let start = link(Tar::new(), &format!("l{count}"), end);
        (0..count)
            .fold(start, |tar, n| tar.symlink(&format!("l{n}"), format!("l{}", n + 1)))
            .file("l0/x", b"in")
    };
    let twin = || Tar::new().dir("real").symlink("a", "real").symlink("b", "a").file("b/x", b"in");
    case(cases, "a chain of 60 links", Fate::Refused, chain(60, "."), twin());
    case(cases, "a chain of 5 links to the canary", Fate::Confined, chain(5, &canary.absolute), twin());
    case(cases, "a link to itself", Fate::Refused, Tar::new().symlink("d", "d").file("d/x", b""), twin());
    let pair = Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", b"");
    case(cases, "two links to each other", Fate::Refused, pair, twin());
    let swapped = link(Tar::new().dir("d").file("d/a", b""), "d", &canary.absolute).file("d/b", b"evil");
    case(
        cases,
        "a directory that turns into a link",
        Fate::Confined,
        swapped,
        Tar::new().dir("d").file("d/a", b"").file("d/b", b""),
    );
    let deep = link(Tar::new().dir("a/b/c"), "a/b", &canary.absolute).file("a/b/c/x", b"evil");
    case(
        cases,
        "a parent that turns into a link",
        Fate::Confined,
        deep,
        Tar::new().dir("a/b/c").file("a/b/c/x", b""),
    );
    case(
        cases,
        "a link without a target",
        Fate::Refused,
        Tar::new().symlink("l", ""),
        Tar::new().symlink("l", "x"),
    );
    let endless = Tar::new().pax(&[("linkpath", &[b'x'; 4096])]).symlink("l", "x");
    let long = Tar::new().pax(&[("linkpath", &[b'x'; 200])]).symlink("l", "x");
    case(cases, "a link with an endless target", Fate::Refused, endless, long);
    let nul = Tar::new().pax(&[("linkpath", b"a\0b")]).symlink("l", "x");
    case(cases, "a link with NUL in its target", Fate::Refused, nul, Tar::new().symlink("l", "a"));
    // Only text until something follows it, and a tool on the host must never do that.
    case(
        cases,
        "a link to the canary alone",
        Fate::Confined,
        link(Tar::new(), "l", &canary.absolute),
        Tar::new().symlink("l", "./x"),
    );
}

fn hard(cases: &mut Vec<Case>, canary: &Canary) {
    let secret = format!("{}/secret", canary.absolute);
    let relative = format!("{}/secret", canary.relative);
    let targets = [
        secret.as_str(),
        &relative,
        "/etc/passwd",
        "../../../etc/passwd",
        "/proc/self/exe",
        "/proc/1/root/etc/passwd",
        "later",
        "",
        ".",
        "..",
        "dir",
        "h",
        "a/../f",
        "dir/",
    ];
    for target in targets {
        let tar = Tar::new().dir("dir").file("f", b"");
        let tar = if target.len() > 100 {
            tar.pax(&[("linkpath", target.as_bytes())]).hardlink("h", &target[..100])
        } else {
            tar.hardlink("h", target)
        };
        let twin = Tar::new().dir("dir").file("dir/f", b"x").hardlink("h", "dir/f").hardlink("h2", "/dir/f");
        case(cases, format!("a hard link to {target:?}"), Fate::Refused, tar.file("later", b""), twin);
    }
    let to_link = link(Tar::new(), "l", &secret).hardlink("h", "l").file("h", b"evil");
    case(
        cases,
        "a hard link to a link, then written",
        Fate::Confined,
        to_link,
        Tar::new().symlink("l", "x").hardlink("h", "l"),
    );
    let whiteout = Tar::new().file(".wh.x", b"").hardlink("h", "x");
    case(
        cases,
        "a hard link to a whiteout",
        Fate::Refused,
        whiteout,
        Tar::new().file("x", b"").hardlink("h", "x"),
    );
    let content = Tar::new()
        .file("f", b"x")
        .raw(b"h", b'1', b"content", |header| header.as_old_mut().linkname[0] = b'f');
    case(
        cases,
        "a hard link with content",
        Fate::Confined,
        content,
        Tar::new().file("f", b"x").hardlink("h", "f"),
    );
}
