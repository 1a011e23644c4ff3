//! Blobs and layers on disk: verified before they appear, whole after a crash, readable by nobody else.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use coracle_spec::Digest;
use coracle_spec::image::ImageConfig;
use coracle_store::{Compression, Error, Expected, Store};
use support::{Field, Tar};

fn sample() -> Vec<u8> {
    let noise: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    Tar::new()
        .dir("d")
        .file("d/noise", &noise)
        .file("text", &b"line\n".repeat(9000))
        .symlink("l", "text")
        .end()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_blob_appears_only_when_it_is_what_its_name_says() {
    let field = Field::new();
    let digest = Digest::of(b"content");
    let write = |content: &[u8]| {
        let mut writer = field.store.blob_writer(Some(digest)).unwrap();
        writer.write_all(content).unwrap();
        assert!(field.store.has_blob(&digest).unwrap().is_none(), "not before it is finished");
        writer.finish()
    };
    assert!(matches!(write(b"contents"), Err(Error::DigestMismatch { .. })));
    assert!(matches!(field.store.read_blob(&digest), Err(Error::BlobMissing { .. })));
    assert_eq!(write(b"content").unwrap().size, 7);
    let mut content = String::new();
    field.store.read_blob(&digest).unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
    field.store.verify_blob(&digest).unwrap();
    assert_eq!(field.store.put_blob(b"content").unwrap().digest, digest, "a second time is no error");
    assert!(matches!(field.store.read_small_blob(&digest, 6), Err(Error::TooLarge { .. })));
    assert_eq!(field.store.blobs().unwrap(), [digest]);

    fs::write(field.data("blobs/sha256").join(digest.hex()), "damaged").unwrap();
    assert!(matches!(field.store.verify_blob(&digest), Err(Error::DigestMismatch { .. })));
    assert!(field.store.remove_blob(&digest).unwrap());
    assert!(!field.store.remove_blob(&digest).unwrap());
    drop(field.store.blob_writer(None).unwrap());
    assert_eq!(field.unfinished(), 0, "a writer that is dropped leaves nothing");
}

#[test]
fn a_sha512_blob_is_stored_under_its_own_algorithm() {
    let field = Field::new();
    let mut hasher = coracle_spec::digest::Hasher::new(coracle_spec::digest::Algorithm::Sha512);
    hasher.update(b"x");
    let digest = hasher.finish();
    let mut writer = field.store.blob_writer(Some(digest)).unwrap();
    writer.write_all(b"x").unwrap();
    writer.finish().unwrap();
    assert!(field.data("blobs/sha512").join(digest.hex()).exists());
}

#[test]
fn every_compression_gives_the_same_layer_and_keeps_the_blob_as_it_came() {
    let tar = sample();
    let mut xz = Vec::new();
    liblzma::read::XzEncoder::new(tar.as_slice(), 0).read_to_end(&mut xz).unwrap();
    let mut bzip2 = Vec::new();
    bzip2::read::BzEncoder::new(tar.as_slice(), bzip2::Compression::fast()).read_to_end(&mut bzip2).unwrap();
    let forms = [
        (Compression::Gzip, gzip(&tar)),
        (Compression::None, tar.clone()),
        (Compression::Zstd, zstd::encode_all(tar.as_slice(), 1).unwrap()),
        (Compression::Xz, xz),
        (Compression::Bzip2, bzip2),
    ];
    for (compression, stream) in forms {
        let field = Field::new();
        let exact = Expected { blob: Some(Digest::of(&stream)), diff_id: Some(Digest::of(&tar)) };
        let layer = field.store.import(stream.as_slice(), &exact).unwrap();
        assert_eq!((layer.tar_size, layer.size), (tar.len() as u64, 800_000 + 45_000));
        let kept = layer.blob.clone().unwrap();
        assert_eq!(kept.media_type, compression.media_type());
        field.store.verify_blob(&kept.blob.digest).unwrap();
        assert_eq!(field.store.layer(&layer.diff_id).unwrap(), layer, "the record says the same");
        let mut written = Vec::new();
        field.store.write_layer(&layer.diff_id, &mut written).unwrap();
        assert!(written == tar, "{compression:?}");
        for wrong in [
            Expected { blob: Some(Digest::of(b"x")), ..Expected::default() },
            Expected { diff_id: Some(Digest::of(b"x")), ..Expected::default() },
        ] {
            let error = field.store.import(stream.as_slice(), &wrong).unwrap_err();
            assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        }
        assert_eq!(field.unfinished(), 0);
    }
}

#[test]
fn a_layer_that_comes_again_gains_the_blob_that_it_lacks() {
    let field = Field::new();
    let tar = sample();
    let first = field.import(&tar).unwrap();
    field.store.remove_blob(&first.blob.unwrap().blob.digest).unwrap();
    assert_eq!(
        field.store.layer(&first.diff_id).unwrap().blob,
        None,
        "a record does not promise what is gone"
    );
    let second = field.import(&gzip(&tar)).unwrap();
    assert_eq!(second.blob.as_ref().unwrap().media_type, Compression::Gzip.media_type());
    assert_eq!(field.store.layer(&first.diff_id).unwrap(), second);
    assert_eq!(field.store.layers().unwrap(), [first.diff_id]);
}

#[test]
fn many_imports_of_one_layer_at_once_agree() {
    let field = Field::new();
    let tar = sample();
    let digests: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| field.import(&tar).unwrap().diff_id)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(digests.iter().all(|digest| *digest == Digest::of(&tar)));
    assert_eq!(field.unfinished(), 0);
}

#[test]
fn a_stream_cut_anywhere_leaves_nothing_and_does_not_disturb_later_ones() {
    let field = Field::new();
    let tar = sample();
    let whole = gzip(&tar);
    let expected = Expected { blob: Some(Digest::of(&whole)), diff_id: Some(Digest::of(&tar)) };
    let step = whole.len() / 64;
    for cut in
        (0..whole.len()).step_by(step).chain((0..whole.len().min(4096)).step_by(512)).chain([whole.len() - 1])
    {
        assert!(field.store.import(&whole[..cut], &expected).is_err(), "cut at {cut}");
        assert_eq!(field.unfinished(), 0, "cut at {cut}");
    }
    // Without a digest only an end between two entries can pass, and then what came is whole.
    for cut in (0..tar.len()).step_by(tar.len() / 200) {
        if let Ok(layer) = field.import(&tar[..cut]) {
            assert_eq!(layer.diff_id, Digest::of(&tar[..cut]));
        }
    }
    field.store.import(whole.as_slice(), &expected).unwrap();
    assert_eq!(field.unfinished(), 0);
}

/// Fails after some bytes, as a connection does.
struct Breaking<'a>(&'a [u8]);

impl Read for Breaking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn the_cause_of_a_broken_stream_is_reported() {
    let field = Field::new();
    let error = field.store.import(Breaking(&sample()[..100_000]), &Expected::default()).unwrap_err();
    let Error::Stream { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::ConnectionReset);
    assert!(error.is_input());
}

#[test]
fn an_interrupted_import_resumes_where_it_broke() {
    let field = Field::new();
    let tar = sample();
    let whole = gzip(&tar);
    let (digest, half) = (Digest::of(&whole), whole.len() / 2);
    let expected = Expected { blob: Some(digest), diff_id: Some(Digest::of(&tar)) };
    let broken =
        |from: usize, to: usize| field.store.import(Breaking(&whole[from..to]), &expected).unwrap_err();
    broken(0, half);
    let partial = field.store.partial(&digest).unwrap().unwrap();
    assert_eq!(partial.size, half as u64);
    // Broken again further on: what both attempts brought is kept.
    let further = Breaking(&whole[half..half * 3 / 2]);
    field.store.import(partial.content.chain(further), &expected).unwrap_err();
    let partial = field.store.partial(&digest).unwrap().unwrap();
    assert_eq!(partial.size, (half * 3 / 2) as u64);
    let rest = &whole[half * 3 / 2..];
    assert_eq!(field.store.import(partial.content.chain(rest), &expected).unwrap().diff_id, Digest::of(&tar));

    assert!(field.store.partial(&digest).unwrap().is_none(), "it is whole now");
    assert_eq!(std::fs::read_dir(field.data("partial")).unwrap().count(), 0);

    // What was kept is believed no more than what comes.
    broken(0, half);
    let mut partial = field.store.partial(&digest).unwrap().unwrap();
    let mut damaged = Vec::new();
    partial.content.read_to_end(&mut damaged).unwrap();
    damaged[half - 1] ^= 1;
    damaged.extend_from_slice(&whole[half..]);
    assert!(field.store.import(damaged.as_slice(), &expected).is_err());
    assert!(field.store.partial(&digest).unwrap().is_none(), "a bad stream is not kept");

    // An attempt that brings less does not take away what is there.
    broken(0, half);
    broken(0, half / 2);
    assert_eq!(field.store.partial(&digest).unwrap().unwrap().size, half as u64);
    assert_eq!(field.store.partials().unwrap(), [digest]);
    assert!(field.store.discard_partial(&digest).unwrap());
    assert!(field.store.partial(&digest).unwrap().is_none());
    assert_eq!(field.unfinished(), 0);
}

#[test]
fn what_a_killed_engine_had_of_a_blob_is_resumed_too() {
    let field = Field::new();
    let whole = gzip(&sample());
    let digest = Digest::of(&whole);
    let mut writer = field.store.blob_writer(Some(digest)).unwrap();
    writer.write_all(&whole[..whole.len() / 2]).unwrap();
    // Nothing tidies up after a process that was killed.
    std::mem::forget(writer);
    let mut small = field.store.blob_writer(Some(Digest::of(b"x"))).unwrap();
    small.write_all(b"a few bytes are not worth it").unwrap();
    std::mem::forget(small);
    let field = field.reopened();
    let partial = field.store.partial(&digest).unwrap().unwrap();
    assert_eq!(partial.size, (whole.len() / 2) as u64);
    assert!(field.store.partial(&Digest::of(b"x")).unwrap().is_none());
    assert_eq!(field.unfinished(), 0);
}

#[test]
fn what_a_pull_is_bringing_is_leased_until_it_ends_or_is_old() {
    let field = Field::new();
    let (manifest, blob) = (Digest::of(b"manifest"), Digest::of(b"layer"));
    let week = std::time::Duration::from_secs(7 * 24 * 3600);
    field.store.lease(&manifest, &[blob]).unwrap();
    let field = field.reopened();
    assert_eq!(field.store.leased(week).unwrap(), [blob].into());
    assert!(field.store.leased(std::time::Duration::ZERO).unwrap().is_empty());
    assert!(field.store.leased(week).unwrap().is_empty(), "an old one is gone");
    field.store.lease(&manifest, &[blob]).unwrap();
    field.store.end_lease(&manifest).unwrap();
    assert!(field.store.leased(week).unwrap().is_empty());
    // Whatever else lies there is no reason to free what others need, nor to fail.
    std::fs::write(field.data("leases").join("sha256-00"), "{").unwrap();
    assert!(field.store.leased(week).unwrap().is_empty());
}

#[test]
fn a_layer_is_compressed_once_for_registries_and_always_to_the_same_bytes() {
    let compress = |bytes: &[u8]| {
        let field = Field::new();
        let layer = field.import(bytes).unwrap();
        let blob = field.store.compressed(&layer.diff_id).unwrap();
        assert_eq!(field.store.layer(&layer.diff_id).unwrap().blob, Some(blob.clone()));
        assert_eq!(field.store.compressed(&layer.diff_id).unwrap(), blob);
        field.store.verify_blob(&blob.blob.digest).unwrap();
        let mut tar = Vec::new();
        field.store.write_layer(&layer.diff_id, &mut tar).unwrap();
        assert_eq!(Digest::of(&tar), layer.diff_id);
        blob
    };
    let tar = sample();
    let plain = compress(&tar);
    assert_eq!(plain.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(compress(&tar), plain);
    let came = gzip(&tar);
    assert_eq!(compress(&came).blob.digest, Digest::of(&came), "what is compressed stays as it came");
}

#[test]
fn bombs_are_stopped_before_they_fill_the_disk() {
    let field = Field::new();
    // 3 GiB of zeros behind the end, in some 100 KiB.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(&Tar::new().file("f", b"x").end()).unwrap();
    for _ in 0..3 << 6 {
        encoder.write_all(&vec![0; 16 << 20]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    let error = field.import(&bomb).unwrap_err();
    assert!(matches!(error, Error::Stream { .. }), "{error:?}");
    // Text that compresses well is no bomb.
    let text = Tar::new().file("f", &b"all work and no play\n".repeat(1 << 20)).end();
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(text.as_slice(), flate2::Compression::best())
        .read_to_end(&mut packed)
        .unwrap();
    assert!(text.len() / packed.len() > 150);
    field.import(&packed).unwrap();
}

#[test]
fn one_engine_has_the_store_and_the_next_finds_it_clean() {
    let field = Field::new();
    assert!(matches!(Store::open(field.data("")), Err(Error::Locked { .. })));
    let layer = field.import(&sample()).unwrap();
    let root = field.data("");
    fs::write(field.data("tmp/half-a-blob"), "x").unwrap();
    fs::create_dir_all(field.data("tmp/half-a-layer/fs")).unwrap();
    drop(field.store);
    let store = Store::open(&root).unwrap();
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    assert_eq!(store.empty_trash().unwrap(), 2);
    assert_eq!(store.layer(&layer.diff_id).unwrap(), layer);
    assert!(root.join("oci-layout").exists() && root.join("index.json").exists());
}

#[test]
fn damaged_and_newer_records_are_reported() {
    let field = Field::new();
    let layer = field.import(&sample()).unwrap();
    let record = field.fs(&layer.diff_id).with_file_name("layer.json");
    let good = fs::read_to_string(&record).unwrap();
    let damages = [
        String::new(),
        good[..good.len() / 2].to_owned(),
        "\0".repeat(100),
        good.replace(&layer.diff_id.hex(), &Digest::of(b"other").hex()),
        " ".repeat(1 << 20),
    ];
    for damage in damages {
        fs::write(&record, &damage).unwrap();
        assert!(matches!(field.store.layer(&layer.diff_id), Err(Error::Record { .. })), "{damage:.80}");
    }
    fs::write(&record, good.replace("\"version\":1", "\"version\":2")).unwrap();
    assert!(matches!(field.store.layer(&layer.diff_id), Err(Error::NewerRecord { .. })));
    fs::remove_file(&record).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &record).unwrap();
    assert!(field.store.layer(&layer.diff_id).is_err());
    assert!(field.store.remove_layer(&layer.diff_id).unwrap());
    assert!(matches!(field.store.layer(&layer.diff_id), Err(Error::LayerMissing { .. })));
}

#[test]
fn configurations_are_blobs() {
    let field = Field::new();
    let mut config = ImageConfig::default();
    config.config.cmd = Some(vec!["sh".to_owned()]);
    let digest = field.store.put_config(&config).unwrap();
    assert_eq!(field.store.config(&digest).unwrap(), config);
    let other = field.store.put_blob(b"no configuration").unwrap().digest;
    assert!(matches!(field.store.config(&other), Err(Error::Document { .. })));
}

/// Runs one of the functions below in a process of its own: this test program, with a variable that says where.
fn in_child(test: &str, root: &Path, umask: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--test-threads=1"]).env("STORE_ROOT", root).env("STORE_UMASK", umask);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command
}

/// Imports standard input in a child of another test; does nothing by itself.
#[test]
fn child_that_imports() {
    let Some(root) = std::env::var_os("STORE_ROOT") else { return };
    let umask = u32::from_str_radix(&std::env::var("STORE_UMASK").unwrap(), 8).unwrap();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    let store = Store::open(root).unwrap();
    store.import(io::stdin(), &Expected::default()).unwrap();
}

#[test]
fn an_engine_that_is_killed_leaves_garbage_only() {
    let tar = sample();
    let stream = gzip(&tar);
    for part in 1..6 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let mut child = in_child("child_that_imports", &root, "022").spawn().unwrap();
        // More than a pipe holds, so the child is in the midst of it once this returns.
        child.stdin.as_mut().unwrap().write_all(&stream[..stream.len() * part / 6]).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&root).unwrap();
        assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
        assert_eq!((store.layers().unwrap(), store.blobs().unwrap()), (vec![], vec![]));
        store.empty_trash().unwrap();
        let layer = store.import(stream.as_slice(), &Expected::default()).unwrap();
        assert_eq!(layer.diff_id, Digest::of(&tar));
    }
}

#[test]
fn nobody_else_can_look_into_the_store_whatever_the_umask() {
    for umask in ["000", "022", "777"] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let mut child = in_child("child_that_imports", &root, umask).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        assert!(child.wait().unwrap().success());
        let mut todo = vec![root];
        while let Some(path) = todo.pop() {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            if path.ends_with("fs") {
                assert_eq!(mode, 0o755, "the image's own root, below directories that keep others out");
            } else if metadata.is_dir() {
                assert!([0o700, 0o710].contains(&mode), "umask {umask}: {path:?} {mode:o}");
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if !path.ends_with("lock") {
                assert_eq!(mode, 0o600, "umask {umask}: {path:?}");
            }
        }
    }
}

#[test]
fn a_lease_that_a_killed_engine_was_writing_keeps_nothing() {
    let field = Field::new();
    let (manifest, blob) = (Digest::of(b"manifest"), Digest::of(b"blob"));
    let half = field.data("leases").join(format!(".{}.partial", "0".repeat(32)));
    field.store.lease(&manifest, &[blob]).unwrap();
    let age = std::time::Duration::from_secs(3600);
    assert_eq!(field.store.leased(age).unwrap(), [blob].into());
    // As a lease is just before it gets its name.
    fs::rename(field.data("leases").join(format!("sha256-{}", manifest.hex())), &half).unwrap();
    assert_eq!(field.store.leased(age).unwrap(), [].into(), "it has not begun");
    assert!(half.exists(), "whoever writes it goes on");
    let field = field.reopened();
    assert!(!half.exists(), "nobody goes on");
    assert_eq!(field.store.leased(age).unwrap(), [].into());
}
