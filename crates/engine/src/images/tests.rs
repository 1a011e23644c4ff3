//! Images on a real disk.

use super::*;
use crate::containers::Description;
use crate::containers::settings::Settings;
use crate::containers::state::State;
use crate::labels::LabelChoice;
use crate::testing::{Containers, Field, archive};
use bytes::Bytes;
use coracle_spec::ContainerId;
use coracle_spec::image::{Descriptor, RunConfig, media_type};
use coracle_store::Progress;
use serde_json::json;
use std::fs;
use std::io::{Cursor, Read};

struct Silent;

impl Progress for Silent {
    fn advanced(&mut self, _: &str, _: u64, _: u64) {}
}

fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

fn named(name: &str) -> ImportRequest {
    ImportRequest { reference: Some(reference(name)), ..ImportRequest::default() }
}

async fn import(field: &Field, content: &str, request: ImportRequest) -> Digest {
    field.images.import(Cursor::new(archive(&[("file", content)])), request).await.unwrap()
}

/// An image of these layers with a name; its parent, where there is one.
async fn adopt(field: &Field, layers: &[Digest], name: &str, parent: Option<Digest>) -> Digest {
    let user = format!("{name}{}", layers.len());
    let id = field.config(layers, RunConfig { user, ..RunConfig::default() });
    let references = if name.is_empty() { Vec::new() } else { vec![reference(name)] };
    field.images.adopt(NewImage { id, references, parent, manifests: Vec::new() }).await.unwrap();
    id
}

fn container(field: &Field, image: &Image) -> Description {
    let id = ContainerId::random();
    field.store.prepare(&id, &image.layers).unwrap();
    Description {
        id,
        name: "web".parse().unwrap(),
        created: OffsetDateTime::now_utc(),
        image: image.id,
        layers: image.layers.clone(),
        settings: Arc::new(Settings {
            cmd: Some(vec!["serve".to_owned(), "-x".to_owned()]),
            ..Settings::default()
        }),
        mounts: Vec::new(),
        state: State::default(),
        networks: Vec::new(),
    }
}

fn nothing() -> Arc<dyn InUse> {
    Arc::new(Containers::default())
}

fn used(image: Digest, running: bool) -> Arc<dyn InUse> {
    let by = ContainerUse { container: "0123456789ab".to_owned(), running };
    Arc::new(Containers { images: BTreeMap::from([(image, by)]), ..Containers::default() })
}

/// How many layers and blobs the store has.
fn content(field: &Field) -> (usize, usize) {
    (field.store.layers().unwrap().len(), field.store.blobs().unwrap().len())
}

#[tokio::test]
async fn an_imported_archive_is_an_image_with_the_instructions_applied() {
    let field = Field::new().await;
    let request = ImportRequest {
        message: "note".to_owned(),
        changes: vec!["CMD [\"/x\"]".to_owned(), "ENV A=1".to_owned(), "LABEL a=b".to_owned()],
        platform: Some("linux/arm64".parse().unwrap()),
        ..named("foo:v1")
    };
    let id = import(&field, "content", request).await;
    assert_eq!(
        field.told(),
        [("tag".to_owned(), "foo:v1".to_owned()), ("import".to_owned(), id.to_string())]
    );
    let field = field.reopen().await;
    let image = field.images.resolve("foo:v1").await.unwrap();
    assert_eq!((image.id, image.size, image.layers.len()), (id, 7, 1));
    assert_eq!(image.references, [reference("foo:v1")]);
    let config = &image.config;
    assert_eq!(
        (config.config.cmd.as_deref(), config.config.env.as_slice()),
        (Some(&["/x".to_owned()][..]), &["A=1".to_owned()][..])
    );
    assert_eq!((config.platform.to_string(), config.comment.as_str()), ("linux/arm64".to_owned(), "note"));
    assert!(image.created.is_some() && image.last_tagged >= image.created);
    let history = field.images.history("foo:v1", None).await.unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!((history[0].id, history[0].size, history[0].comment.as_str()), (Some(id), 7, "note"));
    assert_eq!(history[0].tags, [reference("foo:v1")]);
}

#[tokio::test]
async fn an_archive_that_breaks_off_or_a_wrong_instruction_leaves_no_image() {
    let field = Field::new().await;
    let (sender, reader) = BodyReader::channel();
    let whole = archive(&[("file", &"x".repeat(100_000))]);
    let half = Bytes::copy_from_slice(&whole[..50_000]);
    let sending = async move {
        sender.send(half).await.unwrap();
        drop(sender);
    };
    let (result, ()) = tokio::join!(field.images.import(reader, named("foo")), sending);
    assert!(
        matches!(&result, Err(Error::Invalid(text)) if text.contains("the client ended the stream")),
        "{result:?}"
    );
    let refused = [
        (
            ImportRequest { changes: vec!["RUN x".to_owned()], ..named("foo") },
            "RUN is not a valid change command",
        ),
        (named(&format!("foo@{}", Digest::of(b"x"))), "cannot import digest reference"),
    ];
    for (request, text) in refused {
        let error = field.images.import(Cursor::new(whole.clone()), request).await.unwrap_err();
        assert_eq!(error.to_string(), text);
    }
    let error = field.images.import(Cursor::new(b"no archive".repeat(100)), named("foo")).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert!(field.images.list(&ImageFilter::default()).unwrap().is_empty());
    assert_eq!(content(&field), (0, 0));
    assert_eq!(fs::read_dir(field.path("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_name_moves_from_image_to_image() {
    let field = Field::new().await;
    let (first, second) = (import(&field, "1", named("foo")).await, import(&field, "2", named("bar")).await);
    field.images.tag("foo", reference("reg.example/x/y:v1")).await.unwrap();
    field.images.tag(&second.short(), reference("foo")).await.unwrap();
    let error = field.images.tag("foo", reference(&format!("x@{first}"))).await.unwrap_err();
    assert_eq!(error.to_string(), "refusing to create a tag with a digest reference");
    let error = field.images.tag("foo", reference("sha256:abc")).await.unwrap_err();
    assert_eq!(error.to_string(), "refusing to create an ambiguous tag using digest algorithm as name");
    assert!(matches!(field.images.tag("none", reference("x")).await, Err(Error::NotFound { .. })));
    let told = field.told();
    assert_eq!(told[told.len() - 1], ("tag".to_owned(), "foo:latest".to_owned()));
    let mut field = field;
    // From memory, from the index, and from the records alone.
    for round in 0..3 {
        for (name, id) in [("foo", second), ("bar", second), ("reg.example/x/y:v1", first)] {
            assert_eq!(field.images.resolve(name).await.unwrap().id, id, "{name} in round {round}");
            assert_eq!(field.images.find_id(name).unwrap(), id);
        }
        field = match round {
            1 => {
                let database = field.path("meta.db");
                let closed = field.close();
                fs::remove_file(database).unwrap();
                closed.open().await
            }
            _ => field.reopen().await,
        };
    }
}

#[tokio::test]
async fn an_image_without_its_layers_is_refused() {
    let field = Field::new().await;
    let id = field.config(&[Digest::of(b"missing")], RunConfig::default());
    let new = NewImage { id, references: vec![reference("foo")], parent: None, manifests: Vec::new() };
    assert!(field.images.adopt(new).await.is_err());
    assert!(matches!(field.images.resolve("foo").await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn what_needs_an_image_keeps_it_in_dockers_words() {
    let field = Field::new().await;
    let layer = field.layer(&archive(&[("a", "a")]));
    let image = adopt(&field, &[layer], "foo", None).await;
    let short = image.short();
    let by_name = format!(
        "conflict: unable to remove repository reference \"foo:latest\" (must force) - container 0123456789ab is using its referenced image {short}"
    );
    let stopped = format!(
        "conflict: unable to delete {short} (must be forced) - image is being used by stopped container 0123456789ab"
    );
    let running = format!(
        "conflict: unable to delete {short} (cannot be forced) - image is being used by running container 0123456789ab"
    );
    let force = RemoveOptions { force: true, ..RemoveOptions::default() };
    let id = image.to_string();
    let cases = [
        ("foo", RemoveOptions::default(), false, &by_name),
        ("foo", RemoveOptions::default(), true, &by_name),
        (id.as_str(), RemoveOptions::default(), false, &stopped),
        (short.as_str(), RemoveOptions::default(), true, &running),
        (short.as_str(), force, true, &running),
    ];
    for (name, options, runs, text) in cases {
        let error = field.images.remove(name, options, used(image, runs)).await.unwrap_err();
        assert!(matches!(&error, Error::Conflict(found) if found == text), "{name}: {error}");
    }
    field.images.tag("foo", reference("bar")).await.unwrap();
    let error = field.images.remove(&id, RemoveOptions::default(), nothing()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    let child = adopt(&field, &[layer, layer], "child", Some(image)).await;
    let error = field.images.remove(&id, force, nothing()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("conflict: unable to delete {short} (cannot be forced) - image has dependent child images")
    );

    // Names go as long as others are left, and the last one too if only the image has to stay.
    let untagged = |name: &str| vec![Deleted::Untagged(reference(name).or_latest())];
    assert_eq!(
        field.images.remove("bar", RemoveOptions::default(), used(image, true)).await.unwrap(),
        untagged("bar")
    );
    assert_eq!(
        field.images.remove("foo", RemoveOptions::default(), nothing()).await.unwrap(),
        untagged("foo")
    );
    assert!(field.images.resolve(&id).await.unwrap().references.is_empty());
    // With the child goes the parent that has no name any more.
    let deleted = field.images.remove("child", RemoveOptions::default(), nothing()).await.unwrap();
    let expected = [
        Deleted::Untagged(reference("child:latest")),
        Deleted::Image(child),
        Deleted::Image(image),
        Deleted::Layer(layer),
    ];
    assert_eq!(deleted, expected);
    assert_eq!(content(&field), (0, 0));
}

#[tokio::test]
async fn a_digest_goes_with_the_last_tag_of_its_repository() {
    let field = Field::new().await;
    let layer = field.layer(&archive(&[("a", "a")]));
    let id = field.config(&[layer], RunConfig::default());
    let config = Descriptor::new(media_type::CONFIG, id, 1);
    let manifest = json!({"schemaVersion": 2, "layers": [], "config": config}).to_string();
    let manifest = field.store.put_blob(manifest.as_bytes()).unwrap().digest;
    let digested = reference(&format!("foo@{manifest}"));
    let references = vec![reference("foo:1"), digested.clone()];
    field.images.adopt(NewImage { id, references, parent: None, manifests: vec![manifest] }).await.unwrap();
    assert_eq!(field.images.resolve(&format!("foo@{manifest}")).await.unwrap().id, id);
    assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 0);
    let deleted = field.images.remove("foo:1", RemoveOptions::default(), nothing()).await.unwrap();
    let expected = [
        Deleted::Untagged(reference("foo:1")),
        Deleted::Untagged(digested),
        Deleted::Image(id),
        Deleted::Layer(layer),
    ];
    assert_eq!(deleted, expected);
    assert_eq!(content(&field), (0, 0));
    let told: Vec<String> = field.told().into_iter().map(|(action, _)| action).collect();
    assert_eq!(told, ["untag", "untag", "delete"]);
}

#[tokio::test]
async fn layers_go_with_the_last_image_and_container_that_need_them() {
    let field = Field::new().await;
    let layer = |content: &str| field.layer(&archive(&[("a", content)]));
    let (base, top, other) = (layer("base"), layer("top"), layer("other"));
    adopt(&field, &[base, top], "one", None).await;
    adopt(&field, &[base, other], "two", None).await;
    assert_eq!(field.images.usage().unwrap().layers_size, 12);
    let shared: Vec<_> =
        field.images.list(&ImageFilter::default()).unwrap().iter().map(|image| image.shared_size).collect();
    assert_eq!(shared, [4, 4]);
    let force = RemoveOptions { force: true, ..RemoveOptions::default() };
    let chain =
        |layers: [Digest; 2]| Deleted::Layer(Digest::of(format!("{} {}", layers[0], layers[1]).as_bytes()));

    let deleted = field.images.remove("one", force, nothing()).await.unwrap();
    assert_eq!(deleted[2..], [chain([base, top])]);
    assert_eq!(field.store.layers().unwrap().len(), 2);
    // From here on nothing is left but by what follows.
    assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 0);
    let holding = Arc::new(Containers { layers: [base].into(), ..Containers::default() });
    let deleted = field.images.remove("two", force, holding.clone()).await.unwrap();
    assert_eq!(deleted[2..], [chain([base, other])]);
    assert_eq!(field.images.collect_garbage(holding).await.unwrap(), 0);
    // The layer and its blob, once the container is gone.
    assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 2);
    assert_eq!(content(&field), (0, 0));
}

#[tokio::test]
async fn nothing_is_freed_while_somebody_holds_on() {
    let field = Field::new().await;
    let layer = field.layer(&archive(&[("a", "a")]));
    adopt(&field, &[layer], "foo", None).await;
    // From here on nothing is left but by what follows.
    assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 0);
    let hold = field.images.hold();
    let deleted = field.images.remove("foo", RemoveOptions::default(), nothing()).await.unwrap();
    assert_eq!(deleted.len(), 2);
    assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 0);
    assert!(field.store.find_layer(&layer).unwrap().is_some());
    drop(hold);
    assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 3);
    assert_eq!(content(&field), (0, 0));
}

#[tokio::test]
async fn whoever_holds_on_to_one_thing_keeps_nothing_else() {
    let field = Field::new().await;
    let [kept, other] = ["1", "2"].map(|content| field.layer(&archive(&[("file", content)])));
    adopt(&field, &[kept], "kept", None).await;
    adopt(&field, &[other], "other", None).await;
    let hold = field.images.hold();
    hold.only(holds::content_of(&field.images.0.find("kept").unwrap()));
    for name in ["kept", "other"] {
        field.images.remove(name, RemoveOptions::default(), nothing()).await.unwrap();
    }
    assert!(field.store.find_layer(&other).unwrap().is_none());
    assert!(field.store.layer(&kept).unwrap().blob.is_some(), "a layer and its archive stay together");
    field.images.collect_garbage(nothing()).await.unwrap();
    assert!(field.store.layer(&kept).unwrap().blob.is_some());
    drop(hold);
    assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 3);
    assert_eq!(content(&field), (0, 0));
}

#[tokio::test]
async fn nothing_is_looked_for_where_nothing_can_be_left() {
    let field = Field::new().await;
    assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 0);
    // Of nobody: it is found by whoever looks.
    let stray = field.layer(&archive(&[("a", "a")]));
    assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 0);
    assert!(field.store.find_layer(&stray).unwrap().is_some());
    import(&field, "1", named("foo:1")).await;
    assert_eq!(field.images.collect_garbage(nothing()).await.unwrap(), 2);
    assert!(field.store.find_layer(&stray).unwrap().is_none());
}

#[tokio::test]
async fn lists_choose_by_filters() {
    let field = Field::new().await;
    let labelled =
        |name: &str, label: &str| ImportRequest { changes: vec![format!("LABEL {label}")], ..named(name) };
    let first = import(&field, "1", labelled("foo:1", "a=1")).await;
    let second = import(&field, "2", labelled("reg.example/bar:2", "a=2")).await;
    let third = import(&field, "3", ImportRequest::default()).await;
    field.images.tag("foo:1", reference("foo:again")).await.unwrap();
    let middle = field.images.resolve(&second.to_string()).await.unwrap().created;
    let label = |text: &str| vec![text.parse().unwrap()];
    let pattern = |text: &str| vec![text.to_owned()];
    let all = ImageFilter::default;
    let cases = [
        (all(), vec![third, second, first]),
        (ImageFilter { dangling: Some(true), ..all() }, vec![third]),
        (ImageFilter { dangling: Some(false), ..all() }, vec![second, first]),
        (ImageFilter { references: pattern("foo"), ..all() }, vec![first]),
        (ImageFilter { references: pattern("*/*"), ..all() }, vec![second]),
        (ImageFilter { references: pattern("*:a*"), ..all() }, vec![first]),
        (ImageFilter { references: pattern("none"), ..all() }, vec![]),
        (ImageFilter { labels: label("a"), ..all() }, vec![second, first]),
        (ImageFilter { labels: label("a=2"), ..all() }, vec![second]),
        (ImageFilter { before: Some(second.to_string()), ..all() }, vec![first]),
        (ImageFilter { since: Some("foo:1".to_owned()), ..all() }, vec![third, second]),
        (ImageFilter { until: middle, ..all() }, vec![first]),
    ];
    for (filter, expected) in cases {
        let found: Vec<_> = field.images.list(&filter).unwrap().iter().map(|image| image.id).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
    let again = field.images.list(&ImageFilter { references: pattern("foo:again"), ..all() }).unwrap();
    assert_eq!(again[0].references, [reference("foo:again")]);
    assert!(field.images.list(&ImageFilter { since: Some("none".to_owned()), ..all() }).is_err());

    let layers = field.images.resolve(&third.to_string()).await.unwrap().layers;
    let child = adopt(&field, &layers, "child", Some(third)).await;
    let hidden: Vec<_> = field.images.list(&all()).unwrap().iter().map(|image| image.id).collect();
    assert!(hidden.contains(&child) && !hidden.contains(&third));
    assert_eq!(field.images.list(&ImageFilter { all: true, ..all() }).unwrap().len(), 4);
}

#[tokio::test]
async fn a_saved_archive_loads_again_and_takes_its_names_back() {
    let field = Field::new().await;
    let (first, second) =
        (import(&field, "1", named("foo:1")).await, import(&field, "2", named("foo:2")).await);
    let third = import(&field, "3", named("bar")).await;
    assert!(matches!(
        field.images.save(vec!["none".to_owned()], Vec::new()).await,
        Err(Error::NotFound { .. })
    ));
    let saving = field
        .images
        .save(vec!["foo".to_owned(), third.short(), "foo:1".to_owned()], Vec::new())
        .await
        .unwrap();
    let (writer, mut receiver) = BodyWriter::channel();
    let receiving = async {
        let mut archive = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            archive.extend_from_slice(&bytes);
        }
        archive
    };
    let (written, archive) = tokio::join!(saving.write(writer), receiving);
    written.unwrap();
    assert_eq!(field.told().iter().filter(|(action, _)| action == "save").count(), 3);

    let fresh = Field::new().await;
    let loaded = fresh.images.load(Cursor::new(archive.clone()), Vec::new(), Silent).await.unwrap();
    let ids: Vec<_> = loaded.iter().map(|image| (image.id, image.references.clone())).collect();
    assert_eq!(ids, [(first, vec![reference("foo:1")]), (second, vec![reference("foo:2")]), (third, vec![])]);
    assert_eq!(fresh.images.resolve("foo:2").await.unwrap().id, second);
    assert_eq!(
        fresh.images.resolve(&third.to_string()).await.unwrap().layers,
        field.images.resolve("bar").await.unwrap().layers
    );

    fresh.images.tag("foo:2", reference("foo:1")).await.unwrap();
    let again = fresh.images.load(Cursor::new(archive.clone()), Vec::new(), Silent).await.unwrap();
    assert_eq!(again[0].moved, [(reference("foo:1"), second)]);
    let broken = fresh.images.load(Cursor::new(archive).take(2000), Vec::new(), Silent).await.unwrap_err();
    assert!(matches!(broken, Error::Invalid(_)), "{broken}");
}

#[tokio::test]
async fn a_commit_is_an_image_on_top_of_the_containers() {
    let field = Field::new().await;
    let base =
        import(&field, "1", ImportRequest { changes: vec!["ENV A=1".to_owned()], ..named("base") }).await;
    let image = field.images.resolve("base").await.unwrap();
    let container = container(&field, &image);
    let written = field.path("containers").join(container.id.as_str()).join("upper/new");
    fs::write(written, "12345").unwrap();
    let request = CommitRequest {
        container: container.clone(),
        reference: Some(reference("made:1")),
        author: "me".to_owned(),
        comment: "note".to_owned(),
        changes: vec!["USER you".to_owned(), "ENTRYPOINT [\"/e\"]".to_owned()],
        settings: None,
    };
    let id = field.images.commit(request.clone()).await.unwrap();
    let made = field.images.resolve("made:1").await.unwrap();
    assert_eq!((made.id, made.size, made.parent), (id, 6, Some(base)));
    assert_eq!(made.layers[..1], image.layers[..]);
    let config = &made.config.config;
    assert_eq!((config.user.as_str(), config.cmd.as_ref(), made.config.author.as_str()), ("you", None, "me"));
    let history = field.images.history("made:1", None).await.unwrap();
    let steps: Vec<_> = history
        .iter()
        .map(|step| (step.id, step.size, step.created_by.as_str(), step.comment.as_str()))
        .collect();
    assert_eq!(steps, [(Some(id), 5, "serve -x", "note"), (Some(base), 1, "", "Imported from -")]);
    let (past, _) = field.events.listen();
    let last = past.last().unwrap();
    assert_eq!(
        (last.kind, last.action.as_str(), last.id.as_str()),
        ("container", "commit", container.id.as_str())
    );
    assert_eq!(
        (last.attributes["imageID"].as_str(), last.attributes["imageRef"].as_str()),
        (id.to_string().as_str(), "made:1")
    );

    let settings = Settings { user: "other".to_owned(), ..Settings::default() };
    let unchanged = super::tests::container(&field, &image);
    let request =
        CommitRequest { container: unchanged, settings: Some(settings), changes: Vec::new(), ..request };
    let id = field.images.commit(request).await.unwrap();
    let made = field.images.resolve(&id.to_string()).await.unwrap();
    assert_eq!((made.layers, made.config.config.user.as_str()), (image.layers, "other"));
    assert!(made.config.history.last().unwrap().empty_layer);
}

#[tokio::test]
async fn a_prune_takes_what_nobody_needs() {
    let field = Field::new().await;
    let kept = import(&field, "1", named("kept")).await;
    let untagged = import(
        &field,
        "2",
        ImportRequest { changes: vec!["LABEL a=1".to_owned()], ..ImportRequest::default() },
    )
    .await;
    import(&field, "3", named("spare")).await;
    let prune = |request: PruneRequest| field.images.prune(request, used(kept, false));
    let labels = LabelChoice { without: vec!["a".parse().unwrap()], ..LabelChoice::default() };
    let past = OffsetDateTime::UNIX_EPOCH;
    for request in [
        PruneRequest { labels, ..PruneRequest::default() },
        PruneRequest { all: true, until: Some(past), ..PruneRequest::default() },
    ] {
        assert_eq!(prune(request).await.unwrap(), ImagesPruned::default());
    }
    let pruned = prune(PruneRequest::default()).await.unwrap();
    assert_eq!(
        (pruned.deleted[0].clone(), pruned.deleted.len(), pruned.bytes),
        (Deleted::Image(untagged), 2, 1)
    );
    let pruned = prune(PruneRequest { all: true, ..PruneRequest::default() }).await.unwrap();
    assert_eq!((pruned.deleted[0].clone(), pruned.bytes), (Deleted::Untagged(reference("spare:latest")), 1));
    let left: Vec<_> =
        field.images.list(&ImageFilter::default()).unwrap().iter().map(|image| image.id).collect();
    assert_eq!(left, [kept]);
    let (past, _) = field.events.listen();
    assert_eq!(past.last().unwrap().attributes["reclaimed"], "1");
}
