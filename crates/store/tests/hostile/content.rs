//! Sizes, holes, numbers and mutants: what the content of an archive can lie about.

use super::Outcome::{Layer, Refused};
use super::support::{Field, Tar};
use super::{canary, case, names, read, run};
use std::fs;
use std::path::Path;

#[test]
fn sizes_that_disagree_or_lie_are_refused() {
    let mut cases = Vec::new();
    // What one reader skips as content another takes for entries (CVE-2025-62518).
    let inner = Tar::new().file("smuggled", b"x").0;
    let outer = Tar::new().raw(b"f", b'0', &inner, |_| {});
    cases.push(case("the content of a file is no entry", outer, Layer(|fs| assert_eq!(names(fs), ["f"]))));
    for (pax, header) in [("0", 1024), ("512", 1024), ("2048", 1024)] {
        let tar =
            Tar::new().pax(&[("size", pax.as_bytes())]).raw(b"f", b'0', &[0; 1024], |h| h.set_size(header));
        cases.push(case(&format!("sizes {pax} and {header}"), tar.file("later", b""), Refused));
    }
    let agreed = Tar::new()
        .pax(&[("size", b"1024")])
        .raw(b"f", b'0', &[b'x'; 1024], |h| h.set_size(0))
        .file("later", b"");
    cases.push(case(
        "size only in the extended header",
        agreed,
        Layer(|fs| assert_eq!(names(fs), ["f", "later"])),
    ));
    let binary = |bytes: [u8; 12]| Tar::new().raw(b"f", b'0', b"", move |h| h.as_old_mut().size = bytes);
    cases.push(case("size -1", binary([0xff; 12]), Refused));
    cases.push(case("size 2^63", binary([0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), Refused));
    cases.push(case("size 2^62", binary([0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]), Refused));
    cases.push(case(
        "huge size with short body",
        Tar::new().raw(b"f", b'0', b"x", |h| h.set_size(8 << 30)),
        Refused,
    ));
    let mut checksum = Tar::new().file("f", b"");
    checksum.0[0] = b'g';
    cases.push(case("wrong checksum", checksum, Refused));
    let mut gap = Tar::new().file("a", b"").0;
    gap.extend_from_slice(&[0; 512]);
    gap.extend_from_slice(&Tar::new().file("b", b"").0);
    cases.push(case("one block of zeros between entries", Tar(gap), Refused));
    cases.push(("not even a block".to_owned(), vec![b'x'; 100], Refused));
    cases.push(("nothing".to_owned(), Vec::new(), Refused));
    cases.push(("text".to_owned(), b"hello world\n".repeat(100), Refused));
    cases.push((
        "no end blocks".to_owned(),
        Tar::new().file("f", b"x").0,
        Layer(|fs| assert_eq!(names(fs), ["f"])),
    ));
    cases.push(case("an empty layer", Tar::new(), Layer(|fs| assert_eq!(names(fs).len(), 0))));
    let mut trailing = Tar::new().file("f", b"").end();
    trailing.extend_from_slice(&Tar::new().file("behind", b"").0);
    cases.push(("entries behind the end".to_owned(), trailing, Layer(|fs| assert_eq!(names(fs), ["f"]))));
    run(cases);
}

#[test]
fn sparse_maps_are_exact_or_refused() {
    let mut cases = Vec::new();
    let gnu = |slots: &[(u64, u64)], real: u64, data: &[u8]| {
        let slots = slots.to_vec();
        Tar::new().raw(b"f", b'S', data, move |header| {
            let mut gnu = tar::Header::new_gnu();
            gnu.as_mut_bytes()[..257].copy_from_slice(&header.as_bytes()[..257]);
            *header = gnu;
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(real);
            for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(&slots) {
                slot.set_offset(*offset);
                slot.set_length(*length);
            }
        })
    };
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
        cases.push(case(&format!("old GNU, {name}"), gnu(&slots, real, &data[..size]), Refused));
        let map: Vec<_> =
            slots.iter().flat_map(|(o, l): &(u64, u64)| [o.to_string(), l.to_string()]).collect();
        let (real, map) = (real.to_string(), map.join(","));
        let records: [(&str, &[u8]); 3] = [
            ("GNU.sparse.size", real.as_bytes()),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.map", map.as_bytes()),
        ];
        cases.push(case(
            &format!("PAX 0.1, {name}"),
            Tar::new().pax(&records).file("x", &data[..size]),
            Refused,
        ));
    }
    let one: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"f"),
        ("GNU.sparse.realsize", b"4096"),
    ];
    for (name, map) in
        [("no map", ""), ("endless count", "99999999999\n"), ("text", "hello\n"), ("half a pair", "1\n0\n")]
    {
        let mut content = map.as_bytes().to_vec();
        content.resize(512, 0);
        cases.push(case(&format!("PAX 1.0, {name}"), Tar::new().pax(&one).file("x", &content), Refused));
    }
    let check: fn(&Path) = |fs| {
        let content = fs::read(fs.join("f")).unwrap();
        assert_eq!(content.len(), 4096);
        assert!(
            content[..512] == [0; 512] && content[512..1536] == [b'x'; 1024] && content[1536..] == [0; 2560]
        );
    };
    cases.push(case("old GNU", gnu(&[(512, 1024), (4096, 0)], 4096, &data), Layer(check)));
    let mut content = b"2\n512\n1024\n4096\n0\n".to_vec();
    content.resize(512, 0);
    content.extend_from_slice(&data);
    cases.push(case("PAX 1.0", Tar::new().pax(&one).file("x", &content), Layer(check)));
    run(cases);
}

#[test]
fn the_last_of_several_entries_counts() {
    let field = Field::new();
    let many = (0..10_000).fold(Tar::new(), |tar, n| tar.file("f", format!("{n}").as_bytes()));
    let layer = field.import(&many.end()).unwrap();
    assert_eq!(read(field.fs(&layer.diff_id).join("f")), "9999");
    assert_eq!(layer.size, 4, "what was replaced does not count");

    let flip =
        Tar::new().file("x", b"1").dir("x").file("x/y", b"2").file("x", b"3").dir("x").file("x/z", b"4");
    let layer = field.import(&flip.end()).unwrap();
    assert_eq!(names(&field.fs(&layer.diff_id).join("x")), ["z"]);
    field.assert_canary_untouched("duplicates");
}

#[test]
fn deep_and_wide_trees_are_unpacked() {
    let field = Field::new();
    // 2,000 levels: as deep as a path can be.
    let mut deep = Tar::new();
    for depth in 1..2000 {
        let path = vec!["d"; depth].join("/");
        deep = deep.pax(&[("path", path.as_bytes())]).dir("x");
    }
    let layer = field.import(&deep.end()).unwrap();
    assert!(field.store.remove_layer(&layer.diff_id).unwrap());
    let wide = (0..20_000).fold(Tar::new(), |tar, n| tar.file(&format!("d/{n}"), b""));
    let layer = field.import(&wide.end()).unwrap();
    assert_eq!(fs::read_dir(field.fs(&layer.diff_id).join("d")).unwrap().count(), 20_000);
    assert!(field.store.empty_trash().unwrap() >= 1);
    assert_eq!(fs::read_dir(field.data("trash")).unwrap().count(), 0);
}

#[test]
fn two_thousand_bad_layers_leak_no_descriptor() {
    let field = Field::new();
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let bad = Tar::new().file("a/b/c", b"x").symlink("d", "/").file("../x", b"").end();
    assert!(field.import(&bad).is_err());
    let before = open();
    for _ in 0..2000 {
        assert!(field.import(&bad).is_err());
    }
    // Other tests of this process run beside this one.
    assert!(open() < before + 200, "{before} -> {}", open());
    field.store.empty_trash().unwrap();
}

#[test]
fn mutated_archives_neither_panic_nor_leave_the_layer() {
    let field = Field::new();
    let keys: [(&str, &[u8]); 3] = [("path", b"d/long"), ("mtime", b"1.5"), ("SCHILY.xattr.user.x", b"y")];
    let good = Tar::new()
        .dir("d")
        .file("d/f", &[7; 700])
        .symlink("l", canary())
        .file("l/through", b"x")
        .hardlink("h", "d/f")
        .file("d/.wh.gone", b"")
        .file(".wh..wh..opq", b"")
        .pax(&keys)
        .file("short", b"content")
        .device("c", b'3', 1, 3)
        .end();
    let mut state = 0x5eed_u64;
    let mut random = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    let interesting = b"\0/.wh05127gxLKSZ\xff\x80 ";
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..600 {
        let mut archive = good.clone();
        for _ in 0..=random(4) {
            let at = random(archive.len());
            archive[at] = interesting[random(interesting.len())];
            if random(8) == 0 {
                let block = random(archive.len() / 512) * 512;
                archive.drain(block..block + 512);
            }
        }
        // Without right checksums hardly anything would get past the first header.
        for block in archive.chunks_exact_mut(512) {
            if block.iter().any(|byte| *byte != 0) {
                block[148..156].copy_from_slice(b"        ");
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        match field.import(&archive) {
            Ok(layer) => {
                accepted += 1;
                assert!(field.store.remove_layer(&layer.diff_id).unwrap());
            }
            Err(_) => refused += 1,
        }
        if round % 20 == 0 {
            field.assert_canary_untouched(&format!("round {round}"));
        }
    }
    field.assert_canary_untouched("at the end");
    assert!(
        accepted > 20 && refused > 20,
        "{accepted} accepted, {refused} refused: the mutations test nothing"
    );
    assert_eq!(field.unfinished(), 0);
}
