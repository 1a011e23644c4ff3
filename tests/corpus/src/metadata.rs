//! Owners, times, modes and attributes that are out of range, ambiguous, or policy of the machine.

use super::tar::{Tar, pax_records};
use super::{Case, Fate, case};

pub(super) fn add(cases: &mut Vec<Case>) {
    numbers(cases);
    records(cases);
    attributes(cases);
}

fn pax(key: &str, value: &[u8]) -> Tar {
    Tar::new().pax(&[(key, value)]).file("f", b"")
}

fn field(change: fn(&mut ::tar::Header)) -> Tar {
    Tar::new().raw(b"f", b'0', b"", change)
}

fn numbers(cases: &mut Vec<Case>) {
    let refused = Fate::Refused;
    for (name, key, bad, good) in [
        ("an owner of 2^32-1, which means none", "uid", "4294967295", "4294967294"),
        ("a group of 2^32-1", "gid", "4294967295", "4294967294"),
        ("an owner of 2^32", "uid", "4294967296", "70000"),
        ("a group of 2^64", "gid", "18446744073709551616", "70000"),
        ("a negative owner", "uid", "-1", "1"),
        ("an owner in words", "uid", "root", "0"),
        ("a time that is no number", "mtime", "nan", "1.5"),
        ("a time without end", "mtime", "inf", "-1.5"),
        ("a time of 2^63", "mtime", "9223372036854775808", "4294967296"),
        ("a time with two dots", "mtime", "1.2.3", "1.000000001"),
    ] {
        case(cases, name, refused, pax(key, bad.as_bytes()), pax(key, good.as_bytes()));
    }
    case(
        cases,
        "a negative binary owner",
        refused,
        field(|h| h.as_old_mut().uid = [0xff; 8]),
        field(|h| h.set_uid(1)),
    );
    case(
        cases,
        "a mode in words",
        refused,
        field(|h| h.as_old_mut().mode = *b"rwxr-xr-"),
        field(|h| h.set_mode(0o751)),
    );
    case(
        cases,
        "a binary time beyond 2^63",
        refused,
        field(|h| h.as_old_mut().mtime = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        field(|h| h.set_mtime(1)),
    );
    case(
        cases,
        "an octal number with an 8",
        refused,
        field(|h| h.as_old_mut().uid = *b"0000008\0"),
        field(|h| h.set_uid(7)),
    );
}

fn records(cases: &mut Vec<Case>) {
    let refused = Fate::Refused;
    let good = || pax("comment", b"harmless");
    let raw = |content: &[u8]| Tar::new().raw(b"PaxHeaders/x", b'x', content, |_| {}).file("f", b"");
    for (name, content) in [
        ("a record whose length is 0", &b"0 a=b\n"[..]),
        ("a record that is too long", b"99 a=b\n"),
        ("a record that is too short", b"5 a=b\n"),
        ("a record without an end", b"6 a=bX"),
        ("a record without =", b"6 abc\n"),
        ("a record of a negative length", b"-6 a=b\n"),
        ("a record of an endless length", b"99999999999999999999 a=b\n"),
        ("a record without a key", b"5 =b\n"),
    ] {
        case(cases, name, refused, raw(content), good());
    }
    case(
        cases,
        "an extended header of 2 MiB",
        refused,
        pax("comment", &vec![b'x'; 2 << 20]),
        pax("comment", &[b'x'; 9000]),
    );
    let many: Vec<(&str, &[u8])> = vec![("comment", b"b"); 20_000];
    case(
        cases,
        "20,000 records",
        refused,
        Tar::new().pax(&many).file("f", b""),
        Tar::new().pax(&many[..200]).file("f", b""),
    );
    let twice = Tar::new().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("f", b"");
    case(cases, "two extended headers for one entry", refused, twice, good());
    let last = Tar::new().file("f", b"").pax(&[("path", b"x")]);
    case(cases, "an extended header without an entry", refused, last, good());
    let charset = Tar::new().pax(&[("hdrcharset", b"BINARY"), ("path", b"\xff\xfe")]).file("f", b"");
    case(cases, "names that are declared binary", Fate::Confined, charset, good());
    let global =
        Tar::new().raw(b"g", b'g', &pax_records(&[("size", b"1024")]), |_| {}).file("f", &[b'x'; 1024]);
    case(cases, "a global header that sets sizes", refused, global, good());
}

fn attributes(cases: &mut Vec<Case>) {
    let (refused, confined) = (Fate::Refused, Fate::Confined);
    let of = |name: &str, value: &[u8]| pax(&format!("SCHILY.xattr.{name}"), value);
    let good = || of("user.note", b"harmless");
    case(cases, "a malformed access list", refused, of("system.posix_acl_access", b"junk"), good());
    case(
        cases,
        "an access list of another version",
        refused,
        of("system.posix_acl_access", &[9, 0, 0, 0]),
        good(),
    );
    case(
        cases,
        "a malformed default list",
        refused,
        Tar::new().pax(&[("SCHILY.xattr.system.posix_acl_default", b"junk")]).dir("d"),
        good(),
    );
    case(cases, "a malformed capability", refused, of("security.capability", b"junk"), good());
    case(
        cases,
        "an attribute of 100 KiB",
        refused,
        of("user.x", &vec![b'x'; 100 << 10]),
        of("user.x", &[b'x'; 100]),
    );
    let long = format!("user.{}", "n".repeat(300));
    case(cases, "an attribute with a name of 305 bytes", refused, of(&long, b"x"), good());
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.origin",
        "trusted.overlay.impure",
        "user.overlay.opaque",
        "user.overlay.whiteout",
        "security.selinux",
        "security.ima",
        "security.evm",
        "security.apparmor",
        "noname",
    ] {
        let tar = Tar::new().pax(&[(&format!("SCHILY.xattr.{name}"), b"y")]).dir("d");
        case(
            cases,
            format!("the attribute {name}"),
            confined,
            tar,
            Tar::new().pax(&[("SCHILY.xattr.user.mine", b"y")]).dir("d"),
        );
    }
    let v3 = [1, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0, 0];
    case(cases, "a capability of another user namespace", confined, of("security.capability", &v3), good());
}
