//! The corpus of hostile archives, each imported beside a canary directory that must not change in any way, and benign
//! twins that must work. Invariants: nothing outside the layer's directory is touched; what is refused leaves nothing.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

mod support;

#[path = "hostile/content.rs"]
mod content;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use support::{Field, Tar, pax_records};

/// What must come of an archive.
enum Outcome {
    Refused,
    /// A layer for which the check holds, called with the directory of its files.
    Layer(fn(&Path)),
}
use Outcome::{Layer, Refused};

type Case = (String, Vec<u8>, Outcome);

fn case(name: &str, tar: Tar, outcome: Outcome) -> Case {
    (name.to_owned(), tar.end(), outcome)
}

fn run(cases: Vec<Case>) {
    let field = Field::new();
    for (name, archive, outcome) in cases {
        let result = field.import(&archive);
        match (outcome, result) {
            (Refused, Ok(_)) => panic!("{name}: was accepted"),
            (Refused, Err(error)) => {
                assert!(error.is_input(), "{name}: not the machine's fault: {error:?}");
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains(['\u{1b}', '\n']), "{name}: control characters in {shown:?}");
                assert!(!shown.contains("canary/secret") || name.contains("shown"), "{name}: {shown}");
            }
            (Layer(check), Ok(layer)) => check(&field.fs(&layer.diff_id)),
            (Layer(_), Err(error)) => panic!("{name}: {error}: {error:?}"),
        }
        field.assert_canary_untouched(&name);
        assert_eq!(field.unfinished(), 0, "{name}: something is left in tmp");
    }
}

fn canary() -> &'static str {
    // Each test's canary is somewhere else; this reaches the one beside the store from a layer's directory:
    // data/tmp/<name>/fs and data/layers/sha256/<hex>/fs.
    "../../../../canary"
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn names_never_lead_outside() {
    let mut cases = Vec::new();
    for name in ["../x", "a/../../x", "./../", "..", "a/..", "a/../b", "/../x", "../../../../canary/x"] {
        cases.push(case(&format!("file {name}"), Tar::new().file(name, b"x"), Refused));
        cases.push(case(&format!("dir {name}"), Tar::new().dir(name), Refused));
    }
    for name in ["", ".", "/", "./", "./.", "//"] {
        // A file named with a trailing slash is ambiguous by itself.
        for flag in *b"0123467" {
            let tar = Tar::new().raw(name.as_bytes(), flag, b"", |header| {
                header.as_old_mut().linkname[..8].copy_from_slice(b"/canary/");
                header.set_device_major(8).unwrap();
                header.set_device_minor(0).unwrap();
            });
            cases.push(case(&format!("type {} named {name:?}", char::from(flag)), tar, Refused));
        }
    }
    cases.push(case("empty directory name", Tar::new().dir(""), Refused));
    let long = "n".repeat(256);
    cases.push(case(
        "256-byte component",
        Tar::new().pax(&[("path", long.as_bytes())]).file("x", b""),
        Refused,
    ));
    let deep = "d/".repeat(2100);
    cases.push(case("4200-byte path", Tar::new().pax(&[("path", deep.as_bytes())]).dir("x"), Refused));
    cases.push(case("NUL in a PAX path", Tar::new().pax(&[("path", b"a\0b")]).file("x", b""), Refused));
    cases.push(case("escape in a PAX path", Tar::new().pax(&[("path", b"../x")]).file("x", b""), Refused));
    cases.push(case("control characters", Tar::new().file("../\x1b[2J\n", b""), Refused));
    cases.push(case(
        "absolute",
        Tar::new().file("/abs", b"x").file("//abs2", b"y"),
        Layer(|fs| {
            assert_eq!(read(fs.join("abs")) + &read(fs.join("abs2")), "xy");
        }),
    ));
    for name in [".", "./", "/"] {
        let tar = Tar::new()
            .raw(name.as_bytes(), b'5', b"", |header| header.set_mode(0o711))
            .file("f", name.as_bytes());
        cases.push(case(
            "the root described",
            tar,
            Layer(|fs| {
                assert_eq!(fs.metadata().unwrap().mode() & 0o7777, 0o711);
            }),
        ));
    }
    cases.push(case(
        "backslashes are no separators",
        Tar::new().file("..\\x", b""),
        Layer(|fs| {
            assert_eq!(names(fs), ["..\\x"]);
        }),
    ));
    cases.push(case(
        "255-byte component",
        Tar::new().pax(&[("path", &[b'n'; 255])]).file("x", b""),
        Layer(|fs| {
            assert_eq!(names(fs)[0].len(), 255);
        }),
    ));
    run(cases);
}

#[test]
fn links_are_confined_and_never_followed_as_the_last_component() {
    let mut cases = Vec::new();
    let file_after = |target: &str| Tar::new().symlink("d", target).file("d/x", b"in");
    cases.push(case(
        "relative link as parent",
        file_after(canary()),
        Layer(|fs| {
            assert_eq!(read(fs.join("canary/x")), "in", "followed as in a chroot");
        }),
    ));
    cases.push(case(
        "absolute link as parent",
        file_after("/tmp/../canary"),
        Layer(|fs| {
            assert_eq!(read(fs.join("canary/x")), "in");
        }),
    ));
    cases.push(case(
        "magic link as parent",
        file_after("/proc/self/root"),
        Layer(|fs| {
            assert_eq!(read(fs.join("proc/self/root/x")), "in");
        }),
    ));
    cases.push(case("link loop as parent", Tar::new().symlink("d", "d").file("d/x", b""), Refused));
    let chain =
        (0..41).fold(Tar::new().dir("l41"), |tar, n| tar.symlink(&format!("l{n}"), format!("l{}", n + 1)));
    cases.push(case("chain of 41 links", chain.file("l0/x", b""), Refused));
    let short =
        (0..5).fold(Tar::new().dir("l5"), |tar, n| tar.symlink(&format!("l{n}"), format!("l{}", n + 1)));
    cases.push(case(
        "chain of 5 links",
        short.file("l0/x", b"in"),
        Layer(|fs| assert_eq!(read(fs.join("l5/x")), "in")),
    ));

    let replaced =
        |tar: Tar| Tar::new().symlink("d", canary()).0.into_iter().chain(tar.0).collect::<Vec<_>>();
    cases.push(case(
        "link replaced by a file",
        Tar(replaced(Tar::new().file("d", b"in"))),
        Layer(|fs| {
            assert!(fs.join("d").symlink_metadata().unwrap().is_file());
        }),
    ));
    // CVE-2021-32760: the directory's mode must not reach the link's target.
    let dir = Tar::new().raw(b"d", b'5', b"", |header| header.set_mode(0o777));
    cases.push(case(
        "link replaced by a directory",
        Tar(replaced(dir)),
        Layer(|fs| {
            assert!(fs.join("d").symlink_metadata().unwrap().is_dir());
        }),
    ));
    cases.push(case(
        "link replaced by a device",
        Tar(replaced(Tar::new().device("d", b'3', 1, 3))),
        Layer(|fs| {
            assert!(fs.join("d").symlink_metadata().unwrap().file_type().is_char_device());
        }),
    ));
    cases.push(case(
        "link replaced by a fifo",
        Tar(replaced(Tar::new().entry(b"d", b'6'))),
        Layer(|fs| {
            assert!(fs.join("d").symlink_metadata().unwrap().file_type().is_fifo());
        }),
    ));
    cases.push(case(
        "whiteout of the layer's own link",
        Tar(replaced(Tar::new().file(".wh.d", b""))),
        Layer(|fs| {
            assert!(
                fs.join("d").symlink_metadata().unwrap().is_symlink(),
                "whiteouts hide lower layers only"
            );
        }),
    ));
    cases.push(case(
        "whiteout through a link",
        Tar(replaced(Tar::new().file("d/.wh.secret", b""))),
        Layer(|fs| {
            assert!(fs.join("canary/secret").symlink_metadata().unwrap().file_type().is_char_device());
        }),
    ));
    cases.push(case(
        "opaque through a link",
        Tar(replaced(Tar::new().file("d/.wh..wh..opq", b""))),
        Layer(|fs| {
            assert!(fs.join("canary").is_dir());
        }),
    ));
    let swapped = Tar::new().dir("d").file("d/a", b"").symlink("d", canary()).file("d/b", b"in");
    cases.push(case(
        "directory replaced by a link",
        swapped,
        Layer(|fs| {
            assert_eq!(names(&fs.join("canary")), ["b"]);
        }),
    ));
    cases.push(case("link with empty target", Tar::new().symlink("l", ""), Refused));
    let long = [b'x'; 4096];
    cases.push(case(
        "link with endless target",
        Tar::new().pax(&[("linkpath", &long)]).symlink("l", "x"),
        Refused,
    ));
    cases.push(case(
        "an escaping link is only text",
        Tar::new().symlink("l", canary()),
        Layer(|fs| {
            assert_eq!(fs.join("l").read_link().unwrap(), Path::new(canary()));
        }),
    ));
    run(cases);
}

#[test]
fn hard_links_reach_only_this_layers_files() {
    let mut cases = Vec::new();
    for target in [
        "/etc/passwd",
        "../../../../canary/secret",
        "/proc/self/exe",
        "later",
        "",
        ".",
        "dir",
        "hardlink",
        "a/../f",
    ] {
        let tar = Tar::new().dir("dir").file("f", b"").hardlink("hardlink", target).file("later", b"");
        cases.push(case(&format!("hard link to {target:?}"), tar, Refused));
    }
    let through = Tar::new().symlink("d", canary()).hardlink("h", "d/secret");
    cases.push(case("hard link through a link", through, Refused));
    cases.push(case("hard link to a whiteout", Tar::new().file(".wh.x", b"").hardlink("h", "x"), Refused));
    cases.push(case(
        "hard link to a link",
        Tar::new().symlink("l", canary()).hardlink("h", "l"),
        Layer(|fs| {
            assert!(fs.join("h").symlink_metadata().unwrap().is_symlink());
        }),
    ));
    cases.push(case(
        "hard link to itself",
        Tar::new().file("f", b"kept").hardlink("f", "f"),
        Layer(|fs| {
            assert_eq!(read(fs.join("f")), "kept");
        }),
    ));
    cases.push(case(
        "hard link",
        Tar::new().file("a/f", b"x").hardlink("h", "/a/f"),
        Layer(|fs| {
            assert_eq!(fs.join("h").metadata().unwrap().ino(), fs.join("a/f").metadata().unwrap().ino());
        }),
    ));
    let rewritten = Tar::new().file("f", b"old").hardlink("h", "f").file("f", b"new");
    cases.push(case(
        "a file replaced does not change its links",
        rewritten,
        Layer(|fs| {
            assert_eq!(read(fs.join("h")) + &read(fs.join("f")), "oldnew");
        }),
    ));
    run(cases);
}

#[test]
fn types_are_made_as_they_are_or_refused() {
    let mut cases = Vec::new();
    for flag in *b"MVDZNAX" {
        cases.push(case(&format!("type {}", char::from(flag)), Tar::new().entry(b"x", flag), Refused));
    }
    cases.push(case("overlay's whiteout smuggled in", Tar::new().device("x", b'3', 0, 0), Refused));
    cases.push(case("major number too large", Tar::new().device("x", b'3', 4096, 0), Refused));
    cases.push(case("minor number too large", Tar::new().device("x", b'4', 8, 1 << 20), Refused));
    cases.push(case(
        "devices and fifo",
        Tar::new().device("c", b'3', 10, 229).device("b", b'4', 8, 0).entry(b"p", b'6'),
        Layer(|fs| {
            let rdev = |name: &str| fs.join(name).symlink_metadata().unwrap().rdev();
            assert_eq!(rdev("c"), rustix::fs::makedev(10, 229));
            assert_eq!(rdev("b"), rustix::fs::makedev(8, 0));
            assert!(fs.join("p").symlink_metadata().unwrap().file_type().is_fifo());
        }),
    ));
    cases.push(case(
        "contiguous file",
        Tar::new().raw(b"f", b'7', b"x", |_| {}),
        Layer(|fs| assert_eq!(read(fs.join("f")), "x")),
    ));
    cases.push(case(
        "old file",
        Tar::new().raw(b"f", 0, b"x", |_| {}),
        Layer(|fs| assert_eq!(read(fs.join("f")), "x")),
    ));
    cases.push(case("old directory", Tar::new().entry(b"d/", 0), Layer(|fs| assert!(fs.join("d").is_dir()))));
    cases.push(case("a file named like a directory", Tar::new().entry(b"d/", b'0'), Refused));
    let sized = |flag| Tar::new().raw(b"x", flag, &[0; 512], |header| header.set_device_major(1).unwrap());
    for flag in *b"2345" {
        cases.push(case(&format!("type {} with content", char::from(flag)), sized(flag), Refused));
    }
    run(cases);
}

#[test]
fn whiteout_names_are_taken_exactly() {
    let mut cases = Vec::new();
    for name in [".wh.", ".wh..", ".wh...", ".wh..wh.", ".wh./x", ".wh.a/b", "d/.wh.", ".wh..wh..opq/x"] {
        cases.push(case(name, Tar::new().file(name, b""), Refused));
    }
    for name in [".wh.x", ".wh..wh..opq"] {
        cases.push(case(&format!("{name} as directory"), Tar::new().dir(name), Refused));
        cases.push(case(&format!("{name} as link"), Tar::new().symlink(name, "x"), Refused));
        cases.push(case(&format!("{name} as device"), Tar::new().device(name, b'3', 1, 3), Refused));
    }
    let aufs = Tar::new()
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/1.2", b"x")
        .file(".wh..wh.aufs", b"")
        .file("f", b"");
    cases.push(case("leftovers of AUFS", aufs, Layer(|fs| assert_eq!(names(fs), ["f"]))));
    let native = Tar::new().pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")]).dir("d");
    cases.push(case(
        "overlay's attributes smuggled in",
        native,
        Layer(|fs| {
            let d = fs::File::open(fs.join("d")).unwrap();
            assert_eq!(coracle_sys::xattr::names(&d).unwrap(), [] as [std::ffi::CString; 0]);
        }),
    ));
    run(cases);
}

#[test]
fn metadata_is_kept_exactly_or_refused() {
    let mut cases = Vec::new();
    let field = |change: fn(&mut tar::Header)| Tar::new().raw(b"f", b'0', b"", change);
    let pax = |key: &str, value: &[u8]| Tar::new().pax(&[(key, value)]).file("f", b"");
    cases.push(case("uid 2^32-1", pax("uid", b"4294967295"), Refused));
    cases.push(case("gid 2^32-1", pax("gid", b"4294967295"), Refused));
    cases.push(case("uid 2^32", pax("uid", b"4294967296"), Refused));
    cases.push(case("negative binary uid", field(|header| header.as_old_mut().uid = [0xff; 8]), Refused));
    cases.push(case(
        "mode that is no number",
        field(|header| header.as_old_mut().mode = *b"rwxr-xr-"),
        Refused,
    ));
    cases.push(case("mtime nan", pax("mtime", b"nan"), Refused));
    cases.push(case("mtime 2^63", pax("mtime", b"9223372036854775808"), Refused));
    cases.push(case("malformed ACL", pax("SCHILY.xattr.system.posix_acl_access", b"junk"), Refused));
    cases.push(case("malformed capability", pax("SCHILY.xattr.security.capability", b"junk"), Refused));
    cases.push(case("attribute of 100 KiB", pax("SCHILY.xattr.user.x", &vec![b'x'; 100 << 10]), Refused));
    cases.push(case("extended header above 1 MiB", pax("comment", &vec![b'x'; 2 << 20]), Refused));
    let many: Vec<(&str, &[u8])> = vec![("a", b"b"); 20_000];
    cases.push(case("20,000 records", Tar::new().pax(&many).file("f", b""), Refused));
    cases.push(case(
        "two extended headers",
        Tar::new().pax(&[("a", b"b")]).pax(&[("a", b"b")]).file("f", b""),
        Refused,
    ));
    cases.push(case(
        "an extended header at the end",
        Tar::new().file("f", b"").pax(&[("path", b"x")]),
        Refused,
    ));
    let global = Tar::new().raw(b"g", b'g', &pax_records(&[("path", b"../x")]), |_| {}).file("f", b"");
    cases.push(case("a global header that renames", global, Refused));
    let huge = |flag| Tar::new().raw(b"././@LongLink", flag, b"", |header| header.set_size(4 << 30));
    cases.push(case("long name of 4 GiB", huge(b'L'), Refused));
    cases.push(case("long link of 4 GiB", huge(b'K'), Refused));
    cases.push(case(
        "uid 2^32-2",
        pax("uid", b"4294967294"),
        Layer(|fs| {
            assert_eq!(fs.join("f").metadata().unwrap().uid(), u32::MAX - 1);
        }),
    ));
    cases.push(case(
        "mtime -1.5",
        pax("mtime", b"-1.5"),
        Layer(|fs| {
            let m = fs.join("f").metadata().unwrap();
            assert_eq!((m.mtime(), m.mtime_nsec()), (-2, 500_000_000));
        }),
    ));
    let special =
        Tar::new().raw(b"d", b'5', b"", |header| header.set_mode(0o7777)).raw(b"d/f", b'0', b"", |header| {
            header.set_mode(0o6755);
            header.set_uid(70_000);
        });
    cases.push(case(
        "setuid survives the change of owner",
        special,
        Layer(|fs| {
            assert_eq!(fs.join("d").metadata().unwrap().mode() & 0o7777, 0o7777);
            let m = fs.join("d/f").metadata().unwrap();
            assert_eq!((m.mode() & 0o7777, m.uid()), (0o6755, 70_000));
        }),
    ));
    let comment = Tar::new().raw(b"g", b'g', &pax_records(&[("comment", b"commit")]), |_| {}).file("f", b"");
    cases.push(case("a global header that comments", comment, Layer(|fs| assert_eq!(names(fs), ["f"]))));
    let dropped: Vec<(&str, &[u8])> = [
        "security.selinux",
        "security.ima",
        "security.evm",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.origin",
        "user.overlay.opaque",
        "user.overlay.redirect",
        "noname",
        "trusted.x",
    ]
    .iter()
    .map(|name| (*name, &b"y"[..]))
    .collect();
    let keys: Vec<_> = dropped.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value)).collect();
    let keys: Vec<_> = keys.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    cases.push(case(
        "attributes that are policy",
        Tar::new().pax(&keys).file("f", b""),
        Layer(|fs| {
            let f = fs::File::open(fs.join("f")).unwrap();
            assert!(
                coracle_sys::xattr::names(&f)
                    .unwrap()
                    .iter()
                    .all(|name| name.to_bytes() == b"security.selinux")
            );
        }),
    ));
    run(cases);
}

#[test]
fn capabilities_are_set_after_the_owner() {
    // v2: cap_net_bind_service, permitted and effective.
    let v2 = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let field = Field::new();
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", &v2), ("SCHILY.xattr.user.binary", b"\0\n=\xff")]);
    let tar = tar.raw(b"f", b'0', b"x", |header| header.set_uid(1000));
    let layer = field.import(&tar.end()).unwrap();
    let file = fs::File::open(field.fs(&layer.diff_id).join("f")).unwrap();
    assert_eq!(coracle_sys::xattr::get(&file, c"security.capability").unwrap().unwrap(), v2);
    assert_eq!(coracle_sys::xattr::get(&file, c"user.binary").unwrap().unwrap(), b"\0\n=\xff");
    assert_eq!(file.metadata().unwrap().uid(), 1000);
}

#[test]
fn access_lists_are_kept_and_not_inherited_while_unpacking() {
    let entry =
        |tag: u8, permissions: u8, id: u32| [&[tag, 0, permissions, 0][..], &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let acl = [
        vec![2, 0, 0, 0],
        entry(1, 7, none),
        entry(2, 4, 1000),
        entry(4, 5, none),
        entry(16, 5, none),
        entry(32, 5, none),
    ]
    .concat();
    let keys = [
        ("SCHILY.xattr.system.posix_acl_access", acl.as_slice()),
        ("SCHILY.xattr.system.posix_acl_default", &acl),
    ];
    let field = Field::new();
    let tar = Tar::new().pax(&keys).dir("d").file("d/f", b"").pax(&keys[..1]).file("d/g", b"");
    let layer = field.import(&tar.end()).unwrap();
    let acl_of = |path: &str| {
        let file = fs::File::open(field.fs(&layer.diff_id).join(path)).unwrap();
        let access = coracle_sys::xattr::get(&file, c"system.posix_acl_access").unwrap();
        (access, coracle_sys::xattr::get(&file, c"system.posix_acl_default").unwrap())
    };
    assert_eq!(acl_of("d"), (Some(acl.clone()), Some(acl.clone())));
    assert_eq!(acl_of("d/f"), (None, None));
    assert_eq!(acl_of("d/g"), (Some(acl), None));
}
