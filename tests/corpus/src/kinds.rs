//! Types that are none, devices that are more than devices, and whiteouts that hide what they must not.

use super::tar::Tar;
use super::{Case, Fate, case};

pub(super) fn add(cases: &mut Vec<Case>) {
    types(cases);
    whiteouts(cases);
    flips(cases);
}

fn types(cases: &mut Vec<Case>) {
    let refused = Fate::Refused;
    let file = || Tar::new().file("f", b"x");
    for flag in *b"MVDZNAX89\x01\xff" {
        case(cases, format!("type {flag:#x}"), refused, Tar::new().entry(b"x", flag), file());
    }
    let device = |kind, major, minor| Tar::new().device("x", kind, major, minor);
    case(cases, "overlayfs' own whiteout", refused, device(b'3', 0, 0), device(b'3', 1, 3));
    case(cases, "a major number of 13 bits", refused, device(b'3', 4096, 0), device(b'3', 4095, 0));
    case(
        cases,
        "a minor number of 21 bits",
        refused,
        device(b'4', 8, 1 << 20),
        device(b'4', 8, (1 << 20) - 1),
    );
    case(
        cases,
        "a file named like a directory",
        refused,
        Tar::new().entry(b"d/", b'0'),
        Tar::new().entry(b"d/", 0),
    );
    for flag in *b"2345" {
        let sized = Tar::new().raw(b"x", flag, &[0; 512], |header| {
            header.as_old_mut().linkname[0] = b'x';
            header.set_device_major(1).unwrap();
        });
        case(cases, format!("type {} with content", char::from(flag)), refused, sized, file());
    }
    let disk = Tar::new().device("sda", b'4', 8, 0).device("mem", b'3', 1, 1).device("kvm", b'3', 10, 232);
    case(cases, "devices of the host", Fate::Confined, disk, device(b'3', 1, 5));
    let setuid = |mode| Tar::new().raw(b"s", b'0', b"#!/bin/sh\n", move |header| header.set_mode(mode));
    case(cases, "setuid, setgid and sticky together", Fate::Confined, setuid(0o7777), setuid(0o755));
    case(cases, "mode bits beyond permissions", Fate::Confined, setuid(0o177_777), setuid(0o600));
}

/// In an archive that is no layer, their names mean nothing.
fn whiteouts(cases: &mut Vec<Case>) {
    let refused = Fate::RefusedAsLayer;
    let good =
        || Tar::new().dir("d").file("d/.wh.gone", b"").file(".wh.gone", b"").file("d/.wh..wh..opq", b"");
    for name in
        [".wh.", ".wh..", ".wh...", ".wh..wh.", ".wh./x", ".wh.a/b", "d/.wh.", ".wh..wh..opq/x", ".wh..wh.wh"]
    {
        let fate = if name == ".wh..wh.wh" { Fate::Confined } else { refused };
        case(cases, format!("a file {name}"), fate, Tar::new().file(name, b""), good());
    }
    for name in [".wh.x", ".wh..wh..opq"] {
        case(cases, format!("{name} as a directory"), refused, Tar::new().dir(name), good());
        case(cases, format!("{name} as a link"), refused, Tar::new().symlink(name, "/etc"), good());
        case(cases, format!("{name} as a device"), refused, Tar::new().device(name, b'3', 1, 3), good());
        case(cases, format!("{name} as a fifo"), refused, Tar::new().entry(name.as_bytes(), b'6'), good());
    }
    let own = Tar::new().file("f", b"x").file(".wh.f", b"").file("d/g", b"x").file("d/.wh..wh..opq", b"");
    case(cases, "whiteouts of the archive's own files", Fate::Confined, own, good());
    let aufs = Tar::new().dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", b"x").file(".wh..wh.aufs", b"");
    case(cases, "leftovers of AUFS", Fate::Confined, aufs, good());
}

fn flips(cases: &mut Vec<Case>) {
    let flip =
        Tar::new().file("x", b"1").dir("x").file("x/y", b"2").file("x", b"3").dir("x").file("x/z", b"4");
    case(
        cases,
        "a file that becomes a directory and back",
        Fate::Confined,
        flip,
        Tar::new().dir("x").file("x/y", b"1").file("x/z", b"2"),
    );
    let below = Tar::new().file("f", b"x").file("f/below", b"y");
    case(cases, "a file below a file", Fate::Refused, below, Tar::new().dir("f").file("f/below", b"y"));
    let fifo = Tar::new().entry(b"p", b'6').file("p/below", b"y");
    case(cases, "a file below a fifo", Fate::Refused, fifo, Tar::new().entry(b"p", b'6').file("p2", b""));
    let many = (0..3000).fold(Tar::new(), |tar, n: u32| tar.file("f", &n.to_le_bytes()));
    case(
        cases,
        "one file three thousand times",
        Fate::Confined,
        many,
        Tar::new().file("f", b"1").file("f", b"2"),
    );
    let over = Tar::new().entry(b"p", b'6').file("p", b"must not block");
    case(cases, "a file over a fifo", Fate::Confined, over, Tar::new().file("p", b"1").entry(b"q", b'6'));
    let device = Tar::new().device("n", b'3', 1, 3).file("n", b"must not be written to the device");
    case(
        cases,
        "a file over a device",
        Fate::Confined,
        device,
        Tar::new().device("n", b'3', 1, 3).file("m", b""),
    );
}
