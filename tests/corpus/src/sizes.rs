//! Sizes that lie, maps of holes, and streams that end where they must not.

use super::tar::Tar;
use super::{Case, Fate, bytes, case};
use std::io::Write;

pub(super) fn add(cases: &mut Vec<Case>) {
    disagreeing(cases);
    sparse(cases);
    broken(cases);
    compressed(cases);
}

/// What one reader skips as content another takes for entries (CVE-2025-62518).
fn disagreeing(cases: &mut Vec<Case>) {
    let refused = Fate::Refused;
    let sized = |pax: &str, header: u64| {
        let tar = Tar::new().pax(&[("size", pax.as_bytes())]);
        tar.raw(b"f", b'0', &[0; 1024], |h| h.set_size(header)).file("later", b"")
    };
    for (pax, header) in
        [("0", 1024), ("512", 1024), ("2048", 1024), ("-1", 1024), ("x", 1024), ("1e3", 1024)]
    {
        case(cases, format!("sizes {pax} and {header}"), refused, sized(pax, header), sized("1024", 1024));
    }
    let binary = |bytes: [u8; 12]| Tar::new().raw(b"f", b'0', b"", move |h| h.as_old_mut().size = bytes);
    let empty =
        || Tar::new().raw(b"f", b'0', b"", |h| h.as_old_mut().size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    case(cases, "a size of -1", refused, binary([0xff; 12]), empty());
    case(cases, "a size of 2^63", refused, binary([0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), empty());
    case(cases, "a size of 2^62", refused, binary([0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]), empty());
    let huge = Tar::new().raw(b"f", b'0', b"x", |h| h.set_size(8 << 30));
    case(cases, "a size of 8 GiB with a short body", refused, huge, Tar::new().file("f", b"x"));
    let inner = Tar::new().file("../smuggled", b"x").0;
    let outer = || Tar::new().raw(b"f", b'0', &inner, |_| {});
    case(cases, "entries inside of content", Fate::Confined, outer(), Tar::new().file("f", &[b'x'; 1000]));
}

fn gnu_sparse(slots: &[(u64, u64)], real: u64, data: &[u8]) -> Tar {
    let slots = slots.to_vec();
    Tar::new().raw(b"f", b'S', data, move |header| {
        let mut gnu = ::tar::Header::new_gnu();
        gnu.as_mut_bytes()[..257].copy_from_slice(&header.as_bytes()[..257]);
        *header = gnu;
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(real);
        for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(&slots) {
            slot.set_offset(*offset);
            slot.set_length(*length);
        }
    })
}

fn sparse(cases: &mut Vec<Case>) {
    let refused = Fate::Refused;
    let data = [b'x'; 1024];
    for (name, slots, real, size) in [
        ("overlapping", vec![(0, 512), (256, 512)], 4096, 1024),
        ("descending", vec![(2048, 512), (0, 512)], 4096, 1024),
        ("offset of 2^63", vec![(1 << 63, 1024)], 4096, 1024),
        ("beyond the end", vec![(4096, 1024)], 4096, 1024),
        ("less data than mapped", vec![(0, 2048)], 4096, 1024),
        ("more data than mapped", vec![(0, 512)], 4096, 1024),
        ("size of 8 EiB", vec![(0, 1024)], (1 << 63) - 1, 1024),
    ] {
        let twin = gnu_sparse(&[(512, 1024), (4096, 0)], 4096, &data);
        case(
            cases,
            format!("holes of old GNU, {name}"),
            refused,
            gnu_sparse(&slots, real, &data[..size]),
            twin,
        );
        let map: Vec<_> =
            slots.iter().flat_map(|(o, l): &(u64, u64)| [o.to_string(), l.to_string()]).collect();
        let (real, map) = (real.to_string(), map.join(","));
        let records = |real: &str, map: &str| {
            Tar::new().pax(&[
                ("GNU.sparse.size", real.as_bytes()),
                ("GNU.sparse.name", b"f"),
                ("GNU.sparse.map", map.as_bytes()),
            ])
        };
        let twin = records("4096", "512,1024").file("x", &data);
        case(
            cases,
            format!("holes of PAX 0.1, {name}"),
            refused,
            records(&real, &map).file("x", &data[..size]),
            twin,
        );
    }
    let first = |map: &str, more: &[u8]| {
        let mut content = map.as_bytes().to_vec();
        content.resize(content.len().next_multiple_of(512).max(512), 0);
        content.extend_from_slice(more);
        let records: [(&str, &[u8]); 4] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.realsize", b"4096"),
        ];
        Tar::new().pax(&records).file("x", &content)
    };
    let maps = [
        ("no map", ""),
        ("endless count", "99999999999\n"),
        ("text", "hello\n"),
        ("half a pair", "1\n0\n"),
        ("negative", "1\n-1\n5\n"),
    ];
    for (name, map) in maps {
        let twin = first("2\n512\n1024\n4096\n0\n", &data);
        case(cases, format!("holes of PAX 1.0, {name}"), refused, first(map, &[]), twin);
    }
}

fn broken(cases: &mut Vec<Case>) {
    let refused = Fate::Refused;
    let twin = || Tar::new().file("f", &[b'x'; 1000]);
    let whole = Tar::new().dir("d").file("d/f", &[b'x'; 1000]).file("g", b"y");
    // The last is a byte before all content is there; what pads it out may be missing, as to Go.
    for cut in [100, 513, 700, 1100, 1600, 2560] {
        bytes(cases, format!("cut after {cut} bytes"), refused, whole.0[..cut].to_vec(), twin());
    }
    let mut checksum = Tar::new().file("f", b"");
    checksum.0[0] = b'g';
    case(cases, "a wrong checksum", refused, checksum, twin());
    let mut gap = Tar::new().file("a", b"").0;
    gap.extend_from_slice(&[0; 512]);
    gap.extend_from_slice(&Tar::new().file("b", b"").0);
    case(cases, "one block of zeros between entries", refused, Tar(gap), twin());
    bytes(cases, "text", refused, b"hello world\n".repeat(100), twin());
    bytes(
        cases,
        "random bytes",
        refused,
        (1..1025_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect(),
        twin(),
    );
    let mut behind = Tar::new().file("f", b"").end();
    behind.extend_from_slice(&Tar::new().file("../behind", b"").0);
    bytes(cases, "entries behind the end", Fate::Confined, behind, twin());
    let mut zeros = Tar::new().file("f", b"").end();
    zeros.resize(zeros.len() + (8 << 20), 0);
    bytes(cases, "8 MiB of zeros behind the end", Fate::Confined, zeros, twin());
}

fn compressed(cases: &mut Vec<Case>) {
    let refused = Fate::Refused;
    let plain = Tar::new().file("f", &[b'x'; 5000]).end();
    let escape = Tar::new().file("../x", b"evil").end();
    let pack = |name: &str, content: &[u8]| if name == "gzip" { gzip(content) } else { zstd(content) };
    for name in ["gzip", "zstd"] {
        let twin = || Tar::new().file("f", b"x");
        bytes(cases, format!("{name}, leading upwards"), refused, pack(name, &escape), twin());
        let whole = pack(name, &plain);
        for eighth in [3, 5, 7] {
            let cut = whole[..whole.len() * eighth / 8].to_vec();
            bytes(cases, format!("{name}, cut at {eighth}/8"), refused, cut, twin());
        }
        let mut garbage = whole.clone();
        garbage.extend_from_slice(b"garbage that is no frame");
        bytes(cases, format!("{name}, garbage behind"), refused, garbage, twin());
        let mut flipped = whole.clone();
        let last = flipped.len() - 6;
        flipped[last] ^= 0x55;
        bytes(cases, format!("{name}, a bit is wrong"), refused, flipped, twin());
    }
    let mut wide = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(28).unwrap();
    wide.write_all(&plain).unwrap();
    bytes(
        cases,
        "zstd with a window of 256 MiB",
        refused,
        wide.finish().unwrap(),
        Tar::new().file("f", b"x"),
    );
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
