//! Several platforms under one name, on a real disk.

use super::super::adopt::{NewArtifact, Origin};
use super::super::check::{CheckStep, OnDamage};
use super::super::record;
use super::*;
use crate::images::{Deleted, ImageFilter, NewImage, PruneRequest, RemoveOptions, SendRequest, Teller};
use crate::index::ImageRow;
use crate::testing::{Containers, Field, archive};
use coracle_spec::Reference;
use coracle_spec::image::{Descriptor, ImageConfig, Index, media_type};
use serde_json::json;

/// What this machine runs, and two others.
fn platforms() -> [Platform; 3] {
    [Platform::host(), "linux/s390x".parse().unwrap(), "linux/riscv64".parse().unwrap()]
}

fn nothing() -> Arc<Containers> {
    Arc::new(Containers::default())
}

/// An index of three images in the store, of which none is adopted.
struct Several {
    index: Digest,
    manifests: Vec<Digest>,
    ids: Vec<Digest>,
}

impl Several {
    fn new(field: &Field, content: &str) -> Self {
        let (mut ids, mut manifests, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for platform in platforms() {
            let layer = field.layer(&archive(&[("file", &format!("{content}{platform}"))]));
            let mut config = ImageConfig { platform: platform.clone(), ..ImageConfig::default() };
            config.rootfs.diff_ids = vec![layer];
            let id = field.store.put_config(&config).unwrap();
            let manifest = json!({
                "schemaVersion": 2, "layers": [], "config": Descriptor::new(media_type::CONFIG, id, 1),
            });
            let manifest = manifest.to_string().into_bytes();
            let mut entry = Descriptor::of(media_type::MANIFEST, &manifest);
            entry.platform = Some(platform);
            manifests.push(field.store.put_blob(&manifest).unwrap().digest);
            entries.push(entry);
            ids.push(id);
        }
        let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        assert!(serde_json::from_str::<Index>(&index).is_ok());
        Self { index: field.store.put_blob(index.as_bytes()).unwrap().digest, manifests, ids }
    }

    /// Adopts one of the images, as a pull does.
    async fn adopt(&self, field: &Field, which: usize, name: &str) {
        let name: Reference = name.parse().unwrap();
        let new = NewImage {
            id: self.ids[which],
            references: vec![name.clone(), lookup::key(name.with_digest(self.index))],
            parent: None,
            manifests: vec![self.index, self.manifests[which]],
        };
        let member = Membership { manifest: self.manifests[which], platform: platforms()[which].clone() };
        let origin = Origin { target: Some(self.index), member: Some(member) };
        field.images.run(move |inner| inner.adopt_from(new, &origin)).await.unwrap();
    }
}

fn listed(field: &Field) -> Vec<Digest> {
    let all = ImageFilter { all: true, ..ImageFilter::default() };
    field.images.list(&all).unwrap().iter().map(|summary| summary.id).collect()
}

async fn id_for(field: &Field, name: &str, which: usize) -> Option<Digest> {
    field.images.resolve_for(name, Some(&platforms()[which])).await.ok().map(|image| image.id)
}

async fn findings(field: &Field) -> Vec<String> {
    let (told, mut steps) = Images::findings();
    let listening = async {
        let mut problems = Vec::new();
        while let Some(step) = steps.recv().await {
            if let CheckStep::Found(finding) = step {
                problems.push(finding.problem);
            }
        }
        problems
    };
    let (result, problems) = tokio::join!(field.images.check(OnDamage::Report, told), listening);
    result.unwrap();
    problems
}

#[tokio::test]
async fn a_name_belongs_to_what_runs_here_and_leads_to_all_also_for_the_next_engine() {
    let mut field = Field::new().await;
    let several = Several::new(&field, "a");
    for (which, first) in [(1, 1), (2, 1), (0, 0), (1, 0)] {
        several.adopt(&field, which, "app:1").await;
        assert_eq!(field.images.find_id("app:1").unwrap(), several.ids[first], "after {which}");
        assert_eq!(field.images.find_id(&format!("app@{}", several.index)).unwrap(), several.ids[first]);
        assert_eq!(listed(&field), [several.ids[first]]);
    }
    for again in [false, true] {
        if again {
            field = field.reopen().await;
        }
        for which in 0..3 {
            assert_eq!(id_for(&field, "app:1", which).await, Some(several.ids[which]));
        }
        assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 0);
        assert_eq!(findings(&field).await, Vec::<String>::new());
    }
    let summary = &field.images.list(&ImageFilter::default()).unwrap()[0];
    let sizes: usize = platforms().iter().map(|platform| 1 + platform.to_string().len()).sum();
    assert_eq!((summary.variants.len(), summary.size), (3, sizes as u64), "all of them count");
}

#[tokio::test]
async fn another_index_takes_the_name_and_the_old_one_keeps_its_digest() {
    let field = Field::new().await;
    let (old, new) = (Several::new(&field, "a"), Several::new(&field, "b"));
    old.adopt(&field, 0, "app:1").await;
    old.adopt(&field, 1, "app:1").await;
    new.adopt(&field, 1, "app:1").await;
    assert_eq!(field.images.find_id("app:1").unwrap(), new.ids[1]);
    assert_eq!(id_for(&field, "app:1", 0).await, None, "not of the new one");
    let by_digest = format!("app@{}", old.index);
    assert_eq!(id_for(&field, &by_digest, 0).await, Some(old.ids[0]));
    assert_eq!(id_for(&field, &by_digest, 1).await, Some(old.ids[1]));
    // What has no tag goes at a prune, with all its platforms.
    field.images.prune(PruneRequest::default(), nothing()).await.unwrap();
    assert_eq!(listed(&field), [new.ids[1]]);
    field.images.collect_garbage(nothing()).await.unwrap();
    assert!(field.store.has_blob(&old.index).unwrap().is_none());
    assert!(field.store.has_blob(&new.index).unwrap().is_some());
}

#[tokio::test]
async fn platforms_go_with_the_last_name_that_leads_to_them() {
    let field = Field::new().await;
    let several = Several::new(&field, "a");
    for which in 0..3 {
        several.adopt(&field, which, "app:1").await;
    }
    field.images.tag("app:1", "other:1".parse().unwrap()).await.unwrap();
    // By its id, one of them gets a name of its own, and stays.
    field.images.tag(&several.ids[2].to_string(), "mine:1".parse().unwrap()).await.unwrap();
    assert_eq!(id_for(&field, "other:1", 1).await, Some(several.ids[1]));
    assert_eq!(id_for(&field, "mine:1", 1).await, None);
    let remove = async |name: &str| {
        let deleted = field.images.remove(name, RemoveOptions::default(), nothing()).await.unwrap();
        let image = |deleted: Deleted| if let Deleted::Image(id) = deleted { Some(id) } else { None };
        deleted.into_iter().filter_map(image).collect::<Vec<_>>()
    };
    assert_eq!(remove("app:1").await, []);
    let used = |which: usize| {
        let user = crate::images::ContainerUse { container: "web".to_owned(), running: false };
        Arc::new(Containers { images: [(several.ids[which], user)].into(), ..Containers::default() })
    };
    let refused = field.images.remove("other:1", RemoveOptions::default(), used(1)).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "a platform of it is in use: {refused:?}");
    assert_eq!(remove("other:1").await, [several.ids[0], several.ids[1]]);
    assert_eq!(listed(&field), [several.ids[2]]);
    assert_eq!(remove("mine:1").await, [several.ids[2]]);
    field.images.collect_garbage(nothing()).await.unwrap();
    assert_eq!(field.store.blobs().unwrap(), []);
}

#[tokio::test]
async fn an_id_takes_all_that_only_its_names_lead_to_and_that_of_a_platform_only_itself() {
    let field = Field::new().await;
    let several = Several::new(&field, "a");
    for which in 0..3 {
        several.adopt(&field, which, "app:1").await;
    }
    let force = RemoveOptions { force: true, ..RemoveOptions::default() };
    field.images.remove(&several.ids[1].to_string(), force, nothing()).await.unwrap();
    assert_eq!(id_for(&field, "app:1", 1).await, None);
    assert_eq!(id_for(&field, "app:1", 2).await, Some(several.ids[2]));
    let platform = [platforms()[0].clone()].to_vec();
    let refused =
        field.images.remove_platforms("app:1", platform.clone(), RemoveOptions::default(), nothing()).await;
    assert!(matches!(refused, Err(Error::Conflict(_))));
    field.images.remove_platforms("app:1", platform, force, nothing()).await.unwrap();
    assert_eq!(field.images.find_id("app:1").unwrap(), several.ids[2], "the name means what is left");
    // What went comes again.
    let several = Several::new(&field, "a");
    several.adopt(&field, 0, "app:1").await;
    field.images.remove(&several.ids[0].to_string(), force, nothing()).await.unwrap();
    assert_eq!(listed(&field), []);
}

#[tokio::test]
async fn a_platform_to_which_a_name_leads_outlives_its_own_names_and_what_was_made_of_it() {
    let field = Field::new().await;
    let several = Several::new(&field, "a");
    several.adopt(&field, 0, "app:1").await;
    several.adopt(&field, 1, "app:1").await;
    let other = several.ids[1];
    let layers = field.store.config(&other).unwrap().rootfs.diff_ids;
    let child = NewImage {
        id: field.config(&layers, coracle_spec::image::RunConfig::default()),
        references: vec!["child:1".parse().unwrap()],
        parent: Some(other),
        manifests: Vec::new(),
    };
    field.images.adopt(child).await.unwrap();
    field.images.tag(&other.to_string(), "mine:1".parse().unwrap()).await.unwrap();
    for name in ["mine:1", "child:1"] {
        field.images.remove(name, RemoveOptions::default(), nothing()).await.unwrap();
        assert_eq!(id_for(&field, "app:1", 1).await, Some(other), "after {name}");
    }
    field.images.remove("app:1", RemoveOptions::default(), nothing()).await.unwrap();
    assert_eq!(listed(&field), []);
}

/// Sends an image from one engine to another.
async fn send(from: &Field, to: &Field, image: &str) {
    let (here, there) = tokio::io::duplex(1 << 16);
    let ((reader, writer), (their_reader, their_writer)) = (tokio::io::split(here), tokio::io::split(there));
    let (told, mut steps) = Teller::channel();
    let request = SendRequest { images: vec![image.to_owned()], platforms: Vec::new(), name: None };
    let chosen = from.images.choose_to_send(request).await.unwrap();
    let sending = async {
        let sent = chosen.send(reader, writer, &told).await;
        drop(told);
        sent
    };
    let hearing = async { while steps.recv().await.is_some() {} };
    let receiving = to.images.receive(their_reader, their_writer);
    let (sent, received, ()) = tokio::join!(sending, receiving, hearing);
    sent.unwrap();
    received.unwrap();
}

#[tokio::test]
async fn what_was_sent_is_one_platform_of_its_name_as_it_was_here() {
    let (here, there, elsewhere) = (Field::new().await, Field::new().await, Field::new().await);
    let several = Several::new(&here, "a");
    several.adopt(&here, 0, "app:1").await;
    for which in 0..2 {
        Several::new(&there, "a").adopt(&there, which, "app:1").await;
    }
    send(&here, &there, "app:1").await;
    assert_eq!(id_for(&there, "app:1", 1).await, Some(several.ids[1]), "it was there before");
    // Where nothing of it was, another platform joins it.
    send(&here, &elsewhere, "app:1").await;
    Several::new(&elsewhere, "a").adopt(&elsewhere, 1, "app:1").await;
    for field in [&there, &elsewhere] {
        assert_eq!(listed(field), [several.ids[0]]);
        field.images.prune(PruneRequest::default(), nothing()).await.unwrap();
        for which in 0..2 {
            assert_eq!(id_for(field, "app:1", which).await, Some(several.ids[which]));
            assert_eq!(
                id_for(field, &format!("app@{}", several.index), which).await,
                Some(several.ids[which])
            );
        }
        assert_eq!(findings(field).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_save_is_a_use_of_each_platform_and_is_told_once() {
    let field = Field::new().await;
    let several = Several::new(&field, "a");
    for which in 0..2 {
        several.adopt(&field, which, "app:1").await;
    }
    let (first, second) = (several.ids[0], several.ids[1]);
    let before = field.images.last_used(&second).max(field.images.last_used(&first)).unwrap();
    field
        .images
        .save(vec!["app:1".to_owned()], Vec::new())
        .await
        .unwrap()
        .write(std::io::sink())
        .await
        .unwrap();
    for id in [first, second] {
        assert!(field.images.last_used(&id).unwrap() > before);
    }
    assert_eq!(field.told().iter().filter(|(action, _)| action == "save").count(), 1);
}

#[tokio::test]
async fn a_prune_spares_the_platforms_of_what_has_a_name() {
    let field = Field::new().await;
    let several = Several::new(&field, "a");
    several.adopt(&field, 0, "app:1").await;
    several.adopt(&field, 1, "app:1").await;
    field.images.prune(PruneRequest::default(), nothing()).await.unwrap();
    assert_eq!(id_for(&field, "app:1", 1).await, Some(several.ids[1]));
    field.images.prune(PruneRequest { all: true, ..PruneRequest::default() }, nothing()).await.unwrap();
    assert!(field.images.find_id(&several.ids[1].to_string()).is_err());
}

#[tokio::test]
async fn a_check_proves_where_images_came_from() {
    let field = Field::new().await;
    let several = Several::new(&field, "a");
    several.adopt(&field, 0, "app:1").await;
    let (wrong, other) = (several.manifests[1], Digest::of(b"nowhere"));
    let mut known = field.images.0.find("app:1").unwrap().as_ref().clone();
    let member = Membership { manifest: wrong, platform: platforms()[1].clone() };
    known.indexes.insert(several.manifests[0], member);
    known.targets.insert("app:1".parse().unwrap(), other);
    field.images.run(move |inner| inner.put(vec![known])).await.unwrap();
    let found = findings(&field).await;
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.contains(&format!("its index {} is none", several.manifests[0])), "{found:?}");
    assert!(found.contains(&format!("{wrong} is not its manifest")), "{found:?}");
    assert!(found.iter().any(|problem| problem.contains("which it does not have")), "{found:?}");
}

#[tokio::test]
async fn an_artifact_shares_blobs_with_images_and_neither_takes_them_from_the_other() {
    let field = Field::new().await;
    let tar = archive(&[("file", "content")]);
    let request = super::super::ImportRequest {
        reference: Some("image:1".parse().unwrap()),
        ..super::super::ImportRequest::default()
    };
    let image = field.images.import(std::io::Cursor::new(tar.clone()), request).await.unwrap();
    // The archive of the layer is a blob of the artifact, and so is the configuration.
    let blob = Descriptor::of("a/b", &tar);
    let config = Descriptor::new("c/d", image, field.store.has_blob(&image).unwrap().unwrap().size);
    let manifest = json!({"schemaVersion": 2, "config": blob, "layers": [config]}).to_string();
    let id = field.store.put_blob(manifest.as_bytes()).unwrap().digest;
    let adopt = async |name: &str| {
        let new = NewArtifact {
            id,
            references: vec![name.parse().unwrap()],
            kind: "a/b".to_owned(),
            blobs: vec![id, blob.digest, image],
            size: blob.size,
        };
        let origin = Origin { target: Some(id), member: None };
        field.images.run(move |inner| inner.adopt_artifact(new, &origin)).await.unwrap();
    };
    adopt("thing:1").await;
    assert_eq!(field.images.resolve("thing:1").await.unwrap().artifact.as_deref(), Some("a/b"));
    assert_eq!(findings(&field).await, Vec::<String>::new());
    field.images.remove("thing:1", RemoveOptions::default(), nothing()).await.unwrap();
    field.images.collect_garbage(nothing()).await.unwrap();
    assert_eq!(findings(&field).await, Vec::<String>::new(), "the image is whole");
    assert!(field.store.has_blob(&id).unwrap().is_none());

    field.store.put_blob(manifest.as_bytes()).unwrap();
    adopt("thing:1").await;
    field.images.remove(&image.to_string(), RemoveOptions::default(), nothing()).await.unwrap();
    field.images.collect_garbage(nothing()).await.unwrap();
    for blob in [blob.digest, image] {
        assert!(field.store.has_blob(&blob).unwrap().is_some(), "the artifact is whole");
    }
    assert_eq!(findings(&field).await, Vec::<String>::new());
}

#[test]
fn records_of_before_are_read_and_newer_ones_refused() {
    let (id, manifest) = (Digest::of(b"config"), Digest::of(b"manifest"));
    let row = |record: serde_json::Value| ImageRow {
        id,
        record: record.to_string(),
        references: vec![
            "docker.io/library/app:1".to_owned(),
            format!("docker.io/library/app@{manifest}"),
            "docker.io/library/other:1".to_owned(),
        ],
    };
    let old = json!({"version": 1, "created": null, "layers": [], "manifests": [manifest]});
    let known = record::read(&row(old)).unwrap();
    let target = |name: &str| known.targets.get(&name.parse::<Reference>().unwrap()).copied();
    assert_eq!(target("app:1"), Some(manifest));
    assert_eq!(target(&format!("app@{manifest}")), Some(manifest));
    assert_eq!(target("other:1"), None);
    assert!(known.indexes.is_empty() && known.artifact.is_none());
    let again = record::read(&record::write(&known)).unwrap();
    assert_eq!((again.targets, again.references), (known.targets, known.references));
    let newer = record::read(&row(json!({"version": 3, "created": null, "layers": []})));
    assert!(matches!(newer, Err(Error::Unsupported(_))), "{newer:?}");
}

#[tokio::test]
async fn platforms_are_reclaimed_before_the_image_that_has_their_name_and_its_pin_holds_for_all() {
    use crate::images::{Keep, Pin, Policy};
    let field = Field::new().await;
    let several = Several::new(&field, "a");
    several.adopt(&field, 0, "app:1").await;
    several.adopt(&field, 1, "app:1").await;
    let [host, other] = [several.ids[0], several.ids[1]];
    let everything = Policy { budget: 0, keep_recent: std::time::Duration::ZERO };
    let plan = async |in_use: Arc<Containers>| {
        let done = field.images.plan_to_reclaim(everything, in_use).await.unwrap();
        done.verdicts.into_iter().map(|verdict| (verdict.id, verdict.keep)).collect::<Vec<_>>()
    };
    assert_eq!(plan(nothing()).await, [(other, None), (host, None)]);
    // A container of the one keeps the name of both.
    let by = crate::images::ContainerUse { container: "0123456789ab".to_owned(), running: false };
    let used = Arc::new(Containers { images: [(other, by.clone())].into(), ..Containers::default() });
    assert_eq!(plan(used).await, [(other, Some(Keep::Container(by))), (host, Some(Keep::Needed(other)))]);
    field.images.pin("app:1").await.unwrap();
    let pinned = plan(nothing()).await;
    assert!(pinned.iter().all(|(_, keep)| matches!(keep, Some(Keep::Pinned(Pin::Name(_))))), "{pinned:?}");
    // Also for one that has a name of its own besides.
    field.images.tag(&other.to_string(), "mine:1".parse().unwrap()).await.unwrap();
    let pinned = plan(nothing()).await;
    assert!(pinned.iter().all(|(_, keep)| matches!(keep, Some(Keep::Pinned(Pin::Name(_))))), "{pinned:?}");
    field.images.unpin("app:1").await.unwrap();
    assert_eq!(plan(nothing()).await, [(other, None), (host, None)]);
    field.images.reclaim(everything, nothing()).await.unwrap();
    assert_eq!(listed(&field), []);
    field.images.collect_garbage(nothing()).await.unwrap();
    assert_eq!(field.store.layers().unwrap().len(), 0);
}
