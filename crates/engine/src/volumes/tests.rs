//! Volumes on a real disk.

use super::*;
use crate::labels::LabelChoice;
use crate::testing::{Field, archive};
use coracle_spec::Digest;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

fn named(name: &str) -> Creation {
    Creation { name: Some(name.to_owned()), ..Creation::default() }
}

fn labelled(name: &str, label: &str) -> Creation {
    Creation { labels: BTreeMap::from([(label.to_owned(), "1".to_owned())]), ..named(name) }
}

#[tokio::test]
async fn a_volume_is_made_once_and_survives_the_engine() {
    let field = Field::new().await;
    let made = field.volumes.create(labelled("data", "a")).await.unwrap();
    assert_eq!(made.mountpoint, field.path("volumes/data/_data"));
    assert_eq!(fs::metadata(&made.mountpoint).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(field.volumes.create(labelled("data", "other")).await.unwrap(), made);
    let anonymous = field.volumes.create(Creation::default()).await.unwrap();
    assert!(anonymous.is_anonymous() && !made.is_anonymous());
    assert!(anonymous.name.len() == 64 && anonymous.name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    fs::write(made.mountpoint.join("file"), "content").unwrap();

    let field = field.reopen().await;
    assert_eq!(field.volumes.get("data").await.unwrap(), made);
    assert_eq!(field.volumes.get(&anonymous.name).await.unwrap(), anonymous);
    assert_eq!(fs::read(made.mountpoint.join("file")).unwrap(), b"content");
    assert!(fs::read_dir(field.path("tmp")).unwrap().next().is_none());
}

#[tokio::test]
async fn what_cannot_be_a_volume_is_refused_and_leaves_nothing() {
    let field = Field::new().await;
    let option =
        |key: &str| Creation { options: BTreeMap::from([(key.to_owned(), "x".to_owned())]), ..named("data") };
    let cases = [
        (
            named("a"),
            "create a: volume name is too short, names should be at least two alphanumeric characters",
        ),
        (
            named("../x"),
            "create ../x: \"../x\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
        ),
        (named(".."), "create ..: \"..\" includes"),
        (named("-x"), "create -x: \"-x\" includes"),
        (
            Creation { driver: "nfs".to_owned(), ..named("data") },
            "create data: error looking up volume plugin nfs: plugin \"nfs\" not found",
        ),
        (option("color"), "create data: invalid option: \"color\""),
        (option("type"), "create data: missing required option: \"device\""),
    ];
    for (creation, text) in cases {
        let error = field.volumes.create(creation).await.unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    assert!(fs::read_dir(field.path("volumes")).unwrap().next().is_none());
    assert!(matches!(field.volumes.get("data").await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_used_volume_stays_and_a_removed_one_goes_to_the_trash() {
    let field = Field::new().await;
    let volume = field.volumes.create(named("data")).await.unwrap();
    let users = ["abc".to_owned(), "def".to_owned()];
    let error = field.volumes.remove("data", true, &users).await.unwrap_err();
    assert!(
        matches!(&error, Error::Conflict(text) if text == "remove data: volume is in use - [abc, def]"),
        "{error}"
    );
    assert!(matches!(field.volumes.remove("none", false, &[]).await, Err(Error::NotFound { .. })));
    field.volumes.remove("none", true, &[]).await.unwrap();
    field.volumes.remove("data", false, &[]).await.unwrap();
    assert!(!volume.mountpoint.exists() && fs::read_dir(field.path("trash")).unwrap().count() == 1);
    let (past, _) = field.events.listen();
    let told: Vec<_> =
        past.iter().map(|event| (event.kind, event.action.as_str(), event.id.as_str())).collect();
    assert_eq!(told, [("volume", "create", "data"), ("volume", "destroy", "data")]);
    let field = field.reopen().await;
    assert!(matches!(field.volumes.get("data").await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn what_an_engine_did_not_finish_is_found_and_strangers_are_left_alone() {
    let field = Field::new().await;
    let volume = field.volumes.create(named("data")).await.unwrap();
    fs::create_dir(field.path("volumes/stranger")).unwrap();
    fs::write(field.path("volumes/file"), "").unwrap();
    // As if the engine had been killed after the index forgot it and before the directory went.
    let trash = field.path("trash");
    field.volumes.remove("data", false, &[]).await.unwrap();
    let thrown = fs::read_dir(&trash).unwrap().next().unwrap().unwrap().path();
    fs::rename(thrown, field.path("volumes/data")).unwrap();
    let field = field.reopen().await;
    assert_eq!(field.volumes.get("data").await.unwrap(), volume);
    assert!(field.path("volumes/stranger").is_dir() && field.path("volumes/file").is_file());
    let error = field.volumes.create(named("stranger")).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error}");
}

#[tokio::test]
async fn lists_and_prunes_choose_by_filters() {
    let field = Field::new().await;
    let anonymous = field.volumes.create(Creation::default()).await.unwrap();
    field.volumes.create(labelled("web-data", "a")).await.unwrap();
    field.volumes.create(labelled("db-data", "b")).await.unwrap();
    fs::write(field.path("volumes/db-data/_data/file"), vec![0; 1000]).unwrap();
    fs::hard_link(field.path("volumes/db-data/_data/file"), field.path("volumes/db-data/_data/again"))
        .unwrap();
    let used = |name: &str| name == "web-data";
    let list = |filter: VolumeFilter| {
        field.volumes.list(&filter, &used).into_iter().map(|volume| volume.name).collect::<Vec<_>>()
    };
    let label = |text: &str| vec![text.parse().unwrap()];
    let cases = [
        (
            VolumeFilter { names: vec!["data".to_owned()], ..VolumeFilter::default() },
            vec!["db-data", "web-data"],
        ),
        (
            VolumeFilter { names: vec!["web".to_owned(), "x".to_owned()], ..VolumeFilter::default() },
            vec!["web-data"],
        ),
        (VolumeFilter { labels: label("a=1"), ..VolumeFilter::default() }, vec!["web-data"]),
        (VolumeFilter { labels: label("a=2"), ..VolumeFilter::default() }, vec![]),
        (VolumeFilter { drivers: vec!["nfs".to_owned()], ..VolumeFilter::default() }, vec![]),
        (VolumeFilter { dangling: Some(false), ..VolumeFilter::default() }, vec!["web-data"]),
        (
            VolumeFilter { dangling: Some(true), names: vec!["data".to_owned()], ..VolumeFilter::default() },
            vec!["db-data"],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(list(filter.clone()), expected, "{filter:?}");
    }
    assert_eq!(field.volumes.sizes().await.unwrap()["db-data"], 1000);

    let none = LabelChoice { with: label("zzz"), ..LabelChoice::default() };
    assert_eq!(field.volumes.prune(true, &none, &used).await.unwrap(), Pruned::default());
    let pruned = field.volumes.prune(false, &LabelChoice::default(), &used).await.unwrap();
    assert_eq!(pruned, Pruned { volumes: vec![anonymous.name], bytes: 0 });
    let pruned = field.volumes.prune(true, &LabelChoice::default(), &used).await.unwrap();
    assert_eq!(pruned, Pruned { volumes: vec!["db-data".to_owned()], bytes: 1000 });
    assert_eq!(list(VolumeFilter::default()), ["web-data"]);
}

/// Two layers: the upper one replaces a file, removes another, and has one of everything.
fn layers(field: &Field) -> Vec<Digest> {
    let lower = archive(&[("data/old", "old"), ("data/gone", "gone"), ("data/sub/kept", "kept")]);
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, name: &str, link: &str, content: &[u8], mode: u32| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(name).unwrap();
        header.set_mode(mode);
        header.set_uid(1234);
        header.set_gid(4321);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(7).unwrap();
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, content).unwrap();
    };
    use tar::EntryType as T;
    add(T::Directory, "data/", "", b"", 0o1777);
    add(T::Regular, "data/old", "", b"new", 0o4755);
    add(T::Regular, "data/.wh.gone", "", b"", 0o644);
    add(T::Link, "data/sub/hard", "data/old", b"", 0o4755);
    add(T::Symlink, "data/soft", "../../../etc/passwd", b"", 0o777);
    add(T::Symlink, "link", "/data", b"", 0o777);
    add(T::Symlink, "out", "../../../../..", b"", 0o777);
    add(T::Char, "data/full", "", b"", 0o666);
    add(T::Fifo, "data/pipe", "", b"", 0o600);
    add(T::Regular, "file", "", b"", 0o644);
    vec![field.layer(&lower), field.layer(&builder.into_inner().unwrap())]
}

#[tokio::test]
async fn an_empty_volume_begins_with_what_the_image_has() {
    let field = Field::new().await;
    let layers = layers(&field);
    for (name, path) in [("direct", "/data"), ("linked", "/link/"), ("beyond", "/out/../data")] {
        let volume = field.volumes.create(named(name)).await.unwrap();
        field.volumes.copy_up((name, ""), &layers, path).await.unwrap();
        let at = |below: &str| volume.mountpoint.join(below);
        let root = fs::metadata(&volume.mountpoint).unwrap();
        assert_eq!(
            (root.mode() & 0o7777, root.uid(), root.gid(), root.mtime()),
            (0o1777, 1234, 4321, 1_000_000_000)
        );
        let old = fs::metadata(at("old")).unwrap();
        assert_eq!((old.mode() & 0o7777, old.uid(), old.mtime()), (0o4755, 1234, 1_000_000_000));
        assert_eq!(fs::read(at("old")).unwrap(), b"new");
        assert_eq!(fs::metadata(at("sub/hard")).unwrap().ino(), old.ino());
        assert_eq!(fs::read(at("sub/kept")).unwrap(), b"kept");
        assert!(!at("gone").exists());
        assert_eq!(fs::read_link(at("soft")).unwrap(), Path::new("../../../etc/passwd"));
        let device = fs::metadata(at("full")).unwrap();
        assert!(device.file_type().is_char_device() && device.rdev() == rustix::fs::makedev(1, 7));
        assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
        let mut left: Vec<_> = fs::read_dir(field.path("volumes").join(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert!(!left.iter().any(|name| name == "_copying"), "{left:?}");
    }
}

#[tokio::test]
async fn an_empty_directory_of_the_image_gives_its_owner_and_mode() {
    let field = Field::new().await;
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_path("data/").unwrap();
    header.set_mode(0o750);
    header.set_uid(70);
    header.set_gid(71);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &[][..]).unwrap();
    let layer = field.layer(&builder.into_inner().unwrap());
    let volume = field.volumes.create(named("data")).await.unwrap();
    field.volumes.copy_up(("data", ""), &[layer], "/data").await.unwrap();
    let root = fs::metadata(&volume.mountpoint).unwrap();
    assert_eq!((root.mode() & 0o7777, root.uid(), root.gid()), (0o750, 70, 71));
}

#[tokio::test]
async fn attributes_and_holes_are_copied() {
    let field = Field::new().await;
    let layer = field.layer(&archive(&[("data/file", "content")]));
    // What the archive of this test cannot say is added to the unpacked layer.
    let unpacked = field.path("layers/sha256").join(layer.hex()).join("fs/data");
    let file = fs::File::options().write(true).open(unpacked.join("file")).unwrap();
    file.set_len(1 << 30).unwrap();
    coracle_sys::xattr::set(&file, c"user.note", b"text").unwrap();
    coracle_sys::xattr::set(
        &file,
        c"security.capability",
        &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    )
    .unwrap();
    drop(file);
    let volume = field.volumes.create(named("data")).await.unwrap();
    field.volumes.copy_up(("data", ""), &[layer], "/data").await.unwrap();
    let copy = fs::File::open(volume.mountpoint.join("file")).unwrap();
    let metadata = copy.metadata().unwrap();
    assert!(metadata.len() == 1 << 30 && metadata.blocks() < 100, "{}", metadata.blocks());
    assert_eq!(coracle_sys::xattr::get(&copy, c"user.note").unwrap().unwrap(), b"text");
    assert!(coracle_sys::xattr::get(&copy, c"security.capability").unwrap().is_some());
}

#[tokio::test]
async fn nothing_is_copied_over_data_or_where_the_image_has_nothing() {
    let field = Field::new().await;
    let layers = layers(&field);
    let volume = field.volumes.create(named("data")).await.unwrap();
    field.volumes.copy_up(("data", ""), &layers, "/missing").await.unwrap();
    field.volumes.copy_up(("data", ""), &[], "/data").await.unwrap();
    let error = field.volumes.copy_up(("data", ""), &layers, "/file").await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert!(fs::read_dir(&volume.mountpoint).unwrap().next().is_none());
    fs::set_permissions(&volume.mountpoint, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(volume.mountpoint.join("mine"), "").unwrap();
    field.volumes.copy_up(("data", ""), &layers, "/data").await.unwrap();
    assert_eq!(fs::read_dir(&volume.mountpoint).unwrap().count(), 1);
    assert_eq!(fs::metadata(&volume.mountpoint).unwrap().mode() & 0o7777, 0o700);
}

#[tokio::test]
async fn copies_that_run_at_once_do_not_disturb_each_other() {
    let field = Field::new().await;
    let layers = layers(&field);
    let volume = field.volumes.create(named("data")).await.unwrap();
    let copy = || field.volumes.copy_up(("data", ""), &layers, "/data");
    let (first, second, third) = tokio::join!(copy(), copy(), copy());
    first.and(second).and(third).unwrap();
    assert_eq!(fs::read(volume.mountpoint.join("old")).unwrap(), b"new");
}
