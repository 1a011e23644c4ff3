//! `docker load` and `docker save`: archives of every age, and hostile ones.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

mod support;

use std::io::Write;

use coracle_spec::image::ImageConfig;
use coracle_spec::image::media_type;
use coracle_spec::{ContainerId, Digest};
use coracle_store::{Error, LeftOut, Loaded, LoadedImage, Progress, Result, Saved, SavedImage, SavedVariant};
use support::{Field, Tar};

#[derive(Default)]
struct Seen(Vec<(String, u64, u64)>);

impl Progress for Seen {
    fn advanced(&mut self, name: &str, done: u64, total: u64) {
        self.0.push((name.to_owned(), done, total));
    }
}

fn layer(n: u8) -> Vec<u8> {
    Tar::new().file(&format!("file{n}"), &[n; 3000]).end()
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let ids = ids.join(",");
    let text = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#
    );
    text.into_bytes()
}

fn blob_path(content: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::of(content).hex())
}

fn load(field: &Field, archive: &[u8]) -> Result<Vec<LoadedImage>> {
    field.store.load(archive, &mut Seen::default())
}

fn ids(image: &LoadedImage) -> Vec<Digest> {
    image.layers.iter().map(|layer| layer.diff_id).collect()
}

#[test]
fn the_old_form_with_a_linked_layer_loads() {
    let field = Field::new();
    let (a, b) = (layer(1), layer(2));
    let config = config(&[a.clone(), b.clone(), a.clone()]);
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest = format!(
        r#"[{{"Config":"{name}","RepoTags":["app:1","localhost:5000/app:2","app:1"],"Layers":["aa/layer.tar","bb/layer.tar","cc/layer.tar"]}}]"#
    );
    let archive = Tar::new()
        .dir("aa")
        .file("aa/VERSION", b"1.0")
        .file("aa/json", b"{}")
        .file("aa/layer.tar", &a)
        .file("bb/layer.tar", &b)
        .symlink("cc/layer.tar", "../aa/layer.tar")
        .file(&name, &config)
        .file("manifest.json", manifest.as_bytes())
        .file("repositories", b"{}")
        .end();
    let mut seen = Seen::default();
    let images = field.store.load(archive.as_slice(), &mut seen).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].config, Digest::of(&config));
    let names: Vec<_> = images[0].references.iter().map(|reference| reference.familiar()).collect();
    assert_eq!(names, ["app:1", "localhost:5000/app:2"]);
    assert_eq!(ids(&images[0]), [Digest::of(&a), Digest::of(&b), Digest::of(&a)]);
    assert_eq!(field.store.config(&images[0].config).unwrap().config.cmd.unwrap(), ["sh"]);
    let whole = (a.len() as u64, a.len() as u64);
    assert!(seen.0.iter().any(|(name, done, total)| name == "aa/layer.tar" && (*done, *total) == whole));
}

/// An archive as Docker 25 and later write it: an OCI layout whose manifest.json comes last.
fn new_form(layers: &[Vec<u8>], config: &[u8], tags: &str) -> Tar {
    let paths: Vec<_> = layers.iter().map(|layer| format!("\"{}\"", blob_path(layer))).collect();
    let manifest =
        format!(r#"[{{"Config":"{}","RepoTags":{tags},"Layers":[{}]}}]"#, blob_path(config), paths.join(","));
    let tar = layers
        .iter()
        .fold(Tar::new().dir("blobs").dir("blobs/sha256"), |tar, layer| tar.file(&blob_path(layer), layer));
    tar.file(&blob_path(config), config)
        .file("index.json", br#"{"schemaVersion":2,"manifests":[]}"#)
        .file("manifest.json", manifest.as_bytes())
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
}

#[test]
fn the_new_form_loads_compressed_or_not_and_without_names() {
    let layers = [layer(1), layer(2)];
    let config = config(&layers);
    let archive = new_form(&layers, &config, "null").end();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&archive).unwrap();
    for archive in [archive, encoder.finish().unwrap()] {
        let field = Field::new();
        let images = load(&field, &archive).unwrap();
        assert_eq!((images[0].config, images[0].references.len()), (Digest::of(&config), 0));
        assert_eq!(ids(&images[0]), [Digest::of(&layers[0]), Digest::of(&layers[1])]);
    }
}

/// An OCI layout as buildx writes it: an index of an index that holds images for two platforms and an attestation.
fn layout(layers: &[Vec<u8>], config: &[u8], own_type: &str) -> Tar {
    let describe = |media_type: &str, content: &[u8], more: &str| {
        format!(
            r#"{{"mediaType":"{media_type}","digest":"{}","size":{}{more}}}"#,
            Digest::of(content),
            content.len()
        )
    };
    let all: Vec<_> = layers.iter().map(|layer| describe(media_type::LAYER, layer, "")).collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{own_type}","config":{},"layers":[{}]}}"#,
        describe(media_type::CONFIG, config, ""),
        all.join(",")
    );
    let platform = |os: &str, cpu: &str| format!(r#","platform":{{"os":"{os}","architecture":"{cpu}"}}"#);
    let host = coracle_spec::Platform::host();
    let choice = [
        describe(media_type::MANIFEST, b"for another machine", &platform("linux", "s390x")),
        describe(media_type::MANIFEST, manifest.as_bytes(), &platform(&host.os, &host.architecture)),
        describe(media_type::MANIFEST, b"an attestation", &platform("unknown", "unknown")),
    ];
    let inner = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, choice.join(","));
    let name = r#","annotations":{"io.containerd.image.name":"docker.io/library/app:3","org.opencontainers.image.ref.name":"3"}"#;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        describe(media_type::INDEX, inner.as_bytes(), name)
    );
    let tar = layers.iter().fold(Tar::new(), |tar, layer| tar.file(&blob_path(layer), layer));
    tar.file(&blob_path(config), config)
        .file(&blob_path(manifest.as_bytes()), manifest.as_bytes())
        .file(&blob_path(inner.as_bytes()), inner.as_bytes())
        .file("index.json", index.as_bytes())
        .file("oci-layout", b"{}")
}

#[test]
fn of_an_index_in_an_oci_layout_loads_what_is_there() {
    let field = Field::new();
    let layers = [layer(1), layer(2)];
    let config = config(&layers);
    let archive = layout(&layers, &config, "application/vnd.oci.image.manifest.v1+json").end();
    let images = load(&field, &archive).unwrap();
    assert_eq!((images.len(), images[0].config), (1, Digest::of(&config)));
    assert_eq!(images[0].references[0].familiar(), "app:3");
    assert_eq!(ids(&images[0]), [Digest::of(&layers[0]), Digest::of(&layers[1])]);
    let origin = &images[0].origin;
    let (index, platform) = origin.index.clone().unwrap();
    assert_eq!(platform, Some(coracle_spec::Platform::host()));
    for document in [index, origin.manifest.unwrap()] {
        assert!(field.store.has_blob(&document).unwrap().is_some(), "it is kept as it came");
    }
    let wanted = |text: &str| {
        let platforms: Vec<coracle_spec::Platform> =
            text.split(' ').map(|text| text.parse().unwrap()).collect();
        field.store.load_all(archive.as_slice(), &platforms, &mut Seen::default())
    };
    assert_eq!(wanted(&coracle_spec::Platform::host().to_string()).unwrap().len(), 1);
    for missing in ["linux/s390x", &format!("{} linux/s390x", coracle_spec::Platform::host()), "linux/386"] {
        assert!(matches!(wanted(missing), Err(Error::PlatformMissing { .. })), "{missing}");
    }
}

#[test]
fn a_layout_without_schema_versions_is_loaded_and_gets_a_new_manifest() {
    let field = Field::new();
    let layers = [layer(1)];
    let config = config(&layers);
    let describe = |kind: &str, content: &[u8]| serde_json::json!({"mediaType": kind, "digest": Digest::of(content), "size": content.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 0, "mediaType": media_type::MANIFEST, "config": describe(media_type::CONFIG, &config),
        "layers": [describe(media_type::LAYER, &layers[0])],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = describe(media_type::MANIFEST, &manifest);
    entry["annotations"] = serde_json::json!({"io.containerd.image.name": "docker.io/library/app:3"});
    let index = serde_json::json!({"manifests": [entry]}).to_string();
    let archive = [&layers[0], &config, &manifest]
        .iter()
        .fold(Tar::new(), |tar, content| tar.file(&blob_path(content), content))
        .file("index.json", index.as_bytes());
    let images = load(&field, &archive.end()).unwrap();
    assert_eq!((images.len(), images[0].config), (1, Digest::of(&config)));
    assert_eq!(images[0].references[0].familiar(), "app:3");
    assert_eq!(images[0].origin.manifest, None);
    assert!(field.store.has_blob(&Digest::of(&manifest)).unwrap().is_none());
}

/// An index of two images and an artifact, whose layer looks like a compressed archive and is none.
fn several(others: &[(&str, Vec<u8>)]) -> (Tar, Digest) {
    let describe = |kind: &str, content: &[u8]| serde_json::json!({"mediaType": kind, "digest": Digest::of(content), "size": content.len()});
    let (mut tar, mut entries) = (Tar::new(), Vec::new());
    for cpu in ["amd64", "s390x"] {
        let layer = layer(if cpu == "amd64" { 1 } else { 2 });
        let config = serde_json::json!({
            "os": "linux", "architecture": cpu, "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "config": describe(media_type::CONFIG, &config),
            "layers": [describe(media_type::LAYER, &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = describe(media_type::MANIFEST, &manifest);
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": cpu});
        entries.push(entry);
        for content in [&layer, &config, &manifest] {
            tar = tar.file(&blob_path(content), content);
        }
    }
    let mut index = serde_json::json!({"schemaVersion": 2, "manifests": entries}).to_string().into_bytes();
    // As nobody would print it again.
    index.push(b'\n');
    let mut top = describe(media_type::INDEX, &index);
    top["annotations"] = serde_json::json!({"io.containerd.image.name": "docker.io/library/app:3"});
    let mut tops = vec![top];
    for (kind, content) in others {
        tops.push(describe(kind, content));
    }
    let top = serde_json::json!({"schemaVersion": 2, "manifests": tops}).to_string();
    let digest = Digest::of(&index);
    let tar = others.iter().fold(tar, |tar, (_, content)| tar.file(&blob_path(content), content));
    (tar.file(&blob_path(&index), &index).file("index.json", top.as_bytes()), digest)
}

#[test]
fn several_platforms_and_artifacts_load_and_are_saved_as_they_came() {
    let blobs: [Vec<u8>; 4] =
        [b"{}".to_vec(), b"\x1f\x8b\x08 no archive".to_vec(), vec![b'x'; 9 << 20], vec![0; 1024]];
    let describe = |content: &Vec<u8>| serde_json::json!({"mediaType": "a/b", "digest": Digest::of(content), "size": content.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "artifactType": "x/y", "config": describe(&blobs[0]),
        "layers": blobs[1..].iter().map(describe).collect::<Vec<_>>(),
    });
    let artifact = serde_json::to_vec_pretty(&manifest).unwrap();
    let (archive, index) = several(&[(media_type::MANIFEST, artifact.clone())]);
    let archive = blobs.iter().fold(archive, |tar, blob| tar.file(&blob_path(blob), blob)).end();
    let field = Field::new();
    let loaded = field.store.load_all(archive.as_slice(), &[], &mut Seen::default()).unwrap();
    let images: Vec<&LoadedImage> = loaded
        .iter()
        .filter_map(|loaded| match loaded {
            Loaded::Image(image) => Some(image.as_ref()),
            Loaded::Artifact(_) => None,
        })
        .collect();
    assert_eq!((loaded.len(), images.len()), (3, 2));
    assert!(images.iter().all(|image| image.origin.index.as_ref().unwrap().0 == index));
    let Some(Loaded::Artifact(found)) = loaded.last() else { panic!("{loaded:?}") };
    assert_eq!((found.manifest, found.kind.as_str(), found.blobs.len()), (Digest::of(&artifact), "x/y", 4));

    let variant =
        |image: &&LoadedImage| SavedVariant { config: image.config, manifest: image.origin.manifest };
    let whole = Saved::Index { index: Some(index), images: images.iter().map(variant).collect() };
    let saved =
        [(whole, images[0].references.clone()), (Saved::Artifact { manifest: found.manifest }, vec![])];
    let mut out = Vec::new();
    field.store.save_all(&saved, LeftOut::default(), &mut out).unwrap();
    let other = Field::new();
    let again = other.store.load_all(out.as_slice(), &[], &mut Seen::default()).unwrap();
    assert_eq!(again.len(), 3);
    for digest in [index, Digest::of(&artifact), images[1].origin.manifest.unwrap()] {
        let read = |field: &Field| field.store.read_small_blob(&digest, 1 << 20).unwrap();
        assert_eq!(read(&field), read(&other), "byte for byte");
    }

    // Where one is not there any more as it came, it gets a new manifest, and a new index names it.
    let mut images: Vec<SavedVariant> = images.iter().map(variant).collect();
    images[1].manifest = Some(Digest::of(b"gone"));
    let mut out = Vec::new();
    field
        .store
        .save_all(&[(Saved::Index { index: Some(index), images }, vec![])], LeftOut::default(), &mut out)
        .unwrap();
    let again = Field::new().store.load_all(out.as_slice(), &[], &mut Seen::default()).unwrap();
    let index_of = |loaded: &Loaded| match loaded {
        Loaded::Image(image) => image.origin.index.clone(),
        Loaded::Artifact(_) => None,
    };
    let found: Vec<_> = again.iter().filter_map(index_of).collect();
    assert!(found.len() == 2 && found[0].0 == found[1].0 && found[0].0 != index, "{found:?}");
    assert_eq!(found[1].1.as_ref().unwrap().to_string(), "linux/s390x");
}

#[test]
fn an_artifact_that_lies_is_refused() {
    let blob = b"content".to_vec();
    let manifest = |digest: Digest, size: usize| {
        let blob = serde_json::json!({"mediaType": "a/b", "digest": digest, "size": size});
        serde_json::json!({"schemaVersion": 2, "config": blob, "layers": []}).to_string().into_bytes()
    };
    let right = manifest(Digest::of(&blob), blob.len());
    let cases = [
        ("a wrong size", several(&[("m", manifest(Digest::of(&blob), 1))]).0.file(&blob_path(&blob), &blob)),
        ("a missing blob", several(&[("m", right.clone())]).0),
        ("another content", several(&[("m", right.clone())]).0.file(&blob_path(&blob), b"CONTENT")),
    ];
    let field = Field::new();
    for (name, archive) in cases {
        let result = field.store.load_all(archive.end().as_slice(), &[], &mut Seen::default());
        let error = result.err().unwrap_or_else(|| panic!("{name}: was accepted"));
        assert!(error.is_input(), "{name}: {error:?}");
        assert_eq!(field.unfinished(), 0, "{name}");
    }
    let archive = several(&[("m", right)]).0.file(&blob_path(&blob), &blob).end();
    field.store.load_all(archive.as_slice(), &[], &mut Seen::default()).unwrap();
}

#[test]
fn an_archive_that_lies_is_refused_and_touches_nothing() {
    let layers = [layer(1)];
    let good = config(&layers);
    let two = config(&[layer(1), layer(2)]);
    let listed = |config: &str, layer: &str| {
        let manifest = format!(r#"[{{"Config":{config:?},"RepoTags":[],"Layers":[{layer:?}]}}]"#);
        Tar::new()
            .file("l", &layers[0])
            .file("c", &good)
            .file("big", &vec![b' '; 9 << 20])
            .symlink("a", "b")
            .symlink("b", "a")
            .file("manifest.json", manifest.as_bytes())
    };
    let manifest = |text: &[u8]| Tar::new().file("manifest.json", text);
    let wrong_name = format!("blobs/sha256/{}", Digest::of(b"other").hex());
    let wrong_config = format!(r#"[{{"Config":"{wrong_name}","RepoTags":[],"Layers":["l"]}}]"#);
    let huge = |name: &str| Tar::new().raw(name.as_bytes(), b'0', b"{", |header| header.set_size(4 << 30));
    let cases = [
        ("no manifest", Tar::new().file("l", &layers[0])),
        ("nothing", Tar::new()),
        (
            "a manifest that calls itself an index",
            layout(&layers, &good, "application/vnd.oci.image.index.v1+json"),
        ),
        (
            "a layout without a manifest",
            layout(&[layer(1)], &good, "")
                .file(&blob_path(b"x"), b"x")
                .file("index.json", b"{\"schemaVersion\":2,\"manifests\":[]}"),
        ),
        ("manifest is no list", manifest(b"{}")),
        ("no image", manifest(b"[]")),
        ("null", manifest(b"null")),
        ("manifest is a layer", manifest(&layers[0])),
        ("deep JSON", manifest(&b"[".repeat(100_000))),
        ("config upwards", listed("../../x", "l")),
        ("config absolute", listed("/etc/passwd", "l")),
        ("config digest as path", listed("sha256:../..", "l")),
        ("config empty", listed("", "l")),
        ("config with NUL", listed("c\0", "l")),
        ("config missing", listed("d", "l")),
        ("config is a layer", listed("l", "l")),
        ("config too large", listed("big", "l")),
        ("layer upwards", listed("c", "../l")),
        ("layer missing", listed("c", "m")),
        ("layer is a document", listed("c", "c")),
        ("links in circles", listed("a", "l")),
        ("more layers than listed", new_form(&layers, &two, "null")),
        ("layer under another's digest", new_form(&layers, &good, "null").file(&wrong_name, &layers[0])),
        (
            "config under another's digest",
            Tar::new()
                .file("l", &layers[0])
                .file(&wrong_name, &good)
                .file("manifest.json", wrong_config.as_bytes()),
        ),
        ("name is a digest", new_form(&layers, &good, &format!("[\"a@{}\"]", Digest::of(b"x")))),
        ("name without tag", new_form(&layers, &good, "[\"app\"]")),
        ("name in upper case", new_form(&layers, &good, "[\"App:1\"]")),
        ("a link out", Tar::new().symlink("x", "../../canary")),
        ("a path out", Tar::new().file("../canary/x", b"{}")),
        ("a device", Tar::new().device("x", b'3', 1, 3)),
        ("index.json of 4 GiB", huge("index.json")),
        ("manifest.json of 4 GiB", huge("manifest.json")),
        ("a hostile layer", Tar::new().file("l", &Tar::new().file("../../../../canary/x", b"").end())),
        ("a truncated layer", Tar::new().file("l", &Tar::new().file("f", &[1; 4000]).0[..2048])),
    ];
    let field = Field::new();
    for (name, archive) in cases {
        let result = load(&field, &archive.end());
        let error = result.err().unwrap_or_else(|| panic!("{name}: was accepted"));
        assert!(error.is_input(), "{name}: {error:?}");
        field.assert_canary_untouched(name);
        assert_eq!(field.unfinished(), 0, "{name}");
    }
    // After all that, a good one loads.
    load(&field, &new_form(&layers, &good, "[\"app:1\"]").end()).unwrap();
}

#[test]
fn documents_together_are_bounded() {
    let field = Field::new();
    let document = vec![b' '; 8 << 20];
    let archive = (0..9).fold(Tar::new(), |tar, n| tar.file(&format!("d{n}"), &document)).end();
    assert!(matches!(load(&field, &archive), Err(Error::TooLarge { .. })));
}

#[test]
fn lists_of_packages_are_bounded_by_the_disk_alone() {
    let field = Field::new();
    let layers = [layer(1)];
    let config = config(&layers);
    let describe = |kind: &str, blob: &[u8]| serde_json::json!({"mediaType": kind, "digest": Digest::of(blob), "size": blob.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": describe(media_type::CONFIG, &config), "layers": [describe(media_type::LAYER, &layers[0])],
    });
    let manifest = manifest.to_string().into_bytes();
    let lists: Vec<Vec<u8>> =
        (0..11_u8).map(|number| format!("{{\"n\":{number}}}{}", " ".repeat(7 << 20)).into_bytes()).collect();
    let statement = serde_json::json!({
        "schemaVersion": 2, "config": describe(media_type::CONFIG, b"{}"),
        "layers": lists.iter().map(|list| describe("application/vnd.in-toto+json", list)).collect::<Vec<_>>(),
    });
    let statement = statement.to_string().into_bytes();
    let mut beside = describe(media_type::MANIFEST, &statement);
    beside["annotations"] = serde_json::json!({
        "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": Digest::of(&manifest),
    });
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [describe(media_type::MANIFEST, &manifest), beside]});
    let index = index.to_string().into_bytes();
    let top = serde_json::json!({"schemaVersion": 2, "manifests": [describe(media_type::INDEX, &index)]});
    let parts = lists.iter().chain([&layers[0], &config, &manifest, &statement, &index]);
    let archive =
        parts.fold(Tar::new().file(&blob_path(b"{}"), b"{}"), |tar, part| tar.file(&blob_path(part), part));
    let archive = archive.file("index.json", top.to_string().as_bytes()).end();
    let image = load(&field, &archive).unwrap().remove(0);
    assert_eq!(image.origin.beside.len(), 2 + lists.len());
    assert!(image.origin.beside.iter().all(|part| field.store.has_blob(part).unwrap().is_some()));
}

#[test]
fn what_is_saved_loads_elsewhere_and_always_is_the_same() {
    let field = Field::new();
    let layers = [layer(1), layer(2)];
    let image = load(&field, &new_form(&layers, &config(&layers), "[\"app:1\"]").end()).unwrap().remove(0);
    // A second image with a committed layer on top, whose tar was never stored.
    let id = ContainerId::random();
    let snapshot = field.store.prepare(&id, &ids(&image)).unwrap();
    std::fs::write(snapshot.upper.join("more"), "data").unwrap();
    let committed = field.store.commit(&id).unwrap();
    let mut second = field.store.config(&image.config).unwrap();
    second.rootfs.diff_ids.push(committed.diff_id);
    let second = field.store.put_config(&second).unwrap();

    let tagged = |config, names: &[&str]| SavedImage {
        config,
        references: names.iter().map(|name| name.parse().unwrap()).collect(),
    };
    let images = [tagged(image.config, &["app:1", "quay.io/team/app:2"]), tagged(second, &[])];
    let save = || {
        let mut archive = Vec::new();
        field.store.save(&images, &mut archive).unwrap();
        archive
    };
    let archive = save();
    assert!(archive == save(), "the same images gave other bytes");

    let elsewhere = Field::new();
    let loaded = load(&elsewhere, &archive).unwrap();
    assert_eq!(loaded.len(), 2);
    assert_eq!(loaded[0].config, image.config);
    assert_eq!(loaded[0].references, images[0].references);
    assert_eq!((loaded[1].config, loaded[1].references.len()), (second, 0));
    assert_eq!(*ids(&loaded[1]).last().unwrap(), committed.diff_id);
    let content = std::fs::read_to_string(elsewhere.fs(&committed.diff_id).join("more")).unwrap();
    assert_eq!(content, "data");
}

#[test]
fn what_an_image_consists_of_is_saved_with_the_time_at_which_it_was_made() {
    let field = Field::new();
    let created = Some("2024-01-02T03:04:05.678Z".to_owned());
    let config = ImageConfig { created, ..ImageConfig::default() };
    let config = field.store.put_config(&config).unwrap();
    let mut archive = Vec::new();
    field.store.save(&[SavedImage { config, references: vec![] }], &mut archive).unwrap();
    let mut times = std::collections::BTreeMap::new();
    for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
        let entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        times.insert(name, entry.header().mtime().unwrap());
    }
    assert_eq!(times.remove(&config.hex()), Some(1_704_164_645));
    assert_eq!(times.remove("index.json"), Some(0));
    assert_eq!(times.values().filter(|time| **time == 1_704_164_645).count(), 1, "the manifest");
}

#[test]
fn saving_what_is_not_there_fails() {
    let field = Field::new();
    let missing = SavedImage { config: Digest::of(b"x"), references: vec![] };
    assert!(matches!(field.store.save(&[missing], std::io::sink()), Err(Error::BlobMissing { .. })));
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids.push(Digest::of(b"y"));
    let config = field.store.put_config(&config).unwrap();
    let image = SavedImage { config, references: vec![] };
    assert!(matches!(field.store.save(&[image], std::io::sink()), Err(Error::LayerMissing { .. })));
}

#[test]
fn what_was_saved_since_an_image_loads_only_where_that_is() {
    let field = Field::new();
    let (one, two) = ([layer(1)], [layer(1), layer(2)]);
    let base = load(&field, &new_form(&one, &config(&one), "[\"base:1\"]").end()).unwrap().remove(0);
    let more = load(&field, &new_form(&two, &config(&two), "[\"more:1\"]").end()).unwrap().remove(0);
    let saved = |config| SavedImage { config, references: vec!["app:1".parse().unwrap()] };
    let since = |images: &[SavedImage]| {
        let (mut left_out, mut archive) = (LeftOut::default(), Vec::new());
        left_out.add("base:1", ids(&base));
        field.store.save_without(images, left_out, &mut archive).unwrap();
        archive
    };
    let mut whole = Vec::new();
    field.store.save(&[saved(more.config)], &mut whole).unwrap();
    let archive = since(&[saved(more.config)]);
    assert!(archive.len() < whole.len());

    let elsewhere = Field::new();
    let refused = load(&elsewhere, &archive).unwrap_err();
    assert!(
        matches!(&refused, Error::LayerLeftOut { diff_id, .. } if *diff_id == ids(&base)[0]),
        "{refused}"
    );
    assert!(refused.is_input() && refused.to_string().contains("load or pull base:1 first"), "{refused}");
    load(&elsewhere, &new_form(&one, &config(&one), "[\"base:1\"]").end()).unwrap();
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let telling = std::sync::Arc::clone(&told);
    elsewhere.store.listen_to_arrivals(move |digest| telling.lock().unwrap().push(*digest));
    let loaded = load(&elsewhere, &archive).unwrap();
    assert_eq!((loaded[0].config, ids(&loaded[0])), (more.config, ids(&more)));
    assert!(told.lock().unwrap().contains(&ids(&base)[0]), "what is used is held on to as what comes");
    // Several, of which one is all left out.
    let both = load(&elsewhere, &since(&[saved(more.config), saved(base.config)])).unwrap();
    assert_eq!(both.iter().map(|image| image.config).collect::<Vec<_>>(), [more.config, base.config]);
    // An archive that merely lacks a file is damaged, also where the layer is.
    let mut lacking = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(whole.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header().clone();
        let path = entry.path().unwrap().into_owned();
        let hex = blob_hex(&field, &ids(&base)[0]);
        if !path.to_string_lossy().ends_with(&hex) {
            lacking.append(&header, entry).unwrap();
        }
    }
    let refused = load(&elsewhere, &lacking.into_inner().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("a file is missing"), "{refused}");
}

/// The name of the blob of a layer.
fn blob_hex(field: &Field, diff_id: &Digest) -> String {
    field.store.layer(diff_id).unwrap().blob.map_or_else(|| diff_id.hex(), |kept| kept.blob.digest.hex())
}
