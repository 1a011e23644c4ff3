//! What a check tells of images on a real disk.

use super::*;
use crate::images::{ImportRequest, NewImage};
use crate::testing::{Field, archive};
use coracle_spec::Reference;
use std::fs;
use std::io::Cursor;

async fn import(field: &Field, content: &str, name: &str) -> Digest {
    let request = ImportRequest { reference: Some(name.parse().unwrap()), ..ImportRequest::default() };
    field.images.import(Cursor::new(archive(&[("file", content)])), request).await.unwrap()
}

/// The findings of a check, and how much it looked at.
async fn check(field: &Field, action: OnDamage) -> (Vec<Finding>, Checked) {
    let (told, mut steps) = Images::findings();
    let listening = async {
        let (mut findings, mut checked) = (Vec::new(), None);
        while let Some(step) = steps.recv().await {
            match step {
                CheckStep::Found(finding) => findings.push(finding),
                CheckStep::Done(summary) => checked = Some(summary),
            }
        }
        (findings, checked.expect("a check that ends says so"))
    };
    let (result, heard) = tokio::join!(field.images.check(action, told), listening);
    result.unwrap();
    assert_eq!(heard.1.findings, heard.0.len());
    heard
}

fn record_of(field: &Field, id: &Digest) -> std::path::PathBuf {
    field.path("images/sha256").join(format!("{}.json", id.hex()))
}

#[tokio::test]
async fn images_that_are_whole_give_no_findings() {
    let field = Field::new().await;
    import(&field, "one", "a:1").await;
    let id = import(&field, "two", "b:1").await;
    // Names whose order differs from that of their texts.
    let references = ["b:v1".to_owned(), format!("b@{}", Digest::of(b"manifest")), "b-c:1".to_owned()];
    let references = references.iter().map(|name| name.parse().unwrap()).collect();
    field.images.adopt(NewImage { id, references, parent: None, manifests: Vec::new() }).await.unwrap();
    let (findings, checked) = check(&field, OnDamage::Report).await;
    assert_eq!(findings, []);
    assert_eq!(checked, Checked { blobs: 4, layers: 2, images: 2, findings: 0 });
}

#[tokio::test]
async fn a_damaged_layer_is_told_with_who_needs_it_and_comes_again_after_quarantine() {
    let field = Field::new().await;
    let id = import(&field, "one", "a:1").await;
    let again: Reference = "b:2".parse().unwrap();
    field.images.tag("a:1", again).await.unwrap();
    let layer = field.images.resolve("a:1").await.unwrap().layers[0];
    let file = field.path("layers/sha256").join(layer.hex()).join("fs/file");
    fs::write(&file, "two").unwrap();
    let expected = |dealt_with| Finding {
        subject: Inspected::Layer(layer),
        problem: "its files are not those of its archive".to_owned(),
        images: vec!["a:1".to_owned(), "b:2".to_owned()],
        dealt_with,
    };
    assert_eq!(check(&field, OnDamage::Report).await.0, [expected(false)]);
    assert!(file.exists(), "it was only reported");
    let (findings, _) = check(&field, OnDamage::Quarantine).await;
    let missing = Finding {
        subject: Inspected::Image(id),
        problem: format!("its layer {layer} is missing"),
        ..expected(false)
    };
    assert_eq!(findings, [expected(true), missing]);
    let kept = fs::read_dir(field.path("quarantine")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(kept.join("fs/file")).unwrap(), "two");
    import(&field, "one", "c:1").await;
    assert_eq!(check(&field, OnDamage::Report).await.0, []);
    assert_eq!(fs::read_to_string(file).unwrap(), "one");
}

#[tokio::test]
async fn what_an_image_refers_to_must_be_there() {
    let field = Field::new().await;
    let manifest = field.store.put_blob(b"manifest").unwrap().digest;
    let layer = field.layer(&archive(&[("a", "a")]));
    let id = field.config(&[layer], coracle_spec::image::RunConfig::default());
    let new = NewImage { id, references: Vec::new(), parent: None, manifests: vec![manifest] };
    field.images.adopt(new).await.unwrap();
    field.store.remove_blob(&manifest).unwrap();
    field.store.remove_blob(&id).unwrap();
    let (findings, _) = check(&field, OnDamage::Report).await;
    let problems: Vec<&str> = findings.iter().map(|finding| finding.problem.as_str()).collect();
    let config = format!("its configuration cannot be used: blob {id} is not in the store");
    assert_eq!(problems, [config, format!("its manifest {manifest} is missing")]);
    assert!(findings.iter().all(|finding| finding.images == [id.to_string()]), "no name, so the id");
}

#[tokio::test]
async fn records_beside_images_are_brought_in_line_when_asked_for_and_at_the_next_start() {
    let field = Field::new().await;
    let id = import(&field, "one", "a:1").await;
    let stranger = Digest::of(b"an image that was removed");
    let good = fs::read(record_of(&field, &id)).unwrap();
    let harm = |field: &Field| {
        // As an engine that is killed between the index and the record leaves them.
        fs::write(record_of(field, &id), r#"{"record":"{}","references":["docker.io/library/old:1"]}"#)
            .unwrap();
        fs::write(record_of(field, &stranger), &good).unwrap();
    };
    harm(&field);
    for action in [OnDamage::Report, OnDamage::Quarantine] {
        let (findings, _) = check(&field, action).await;
        let found: BTreeSet<String> =
            findings.iter().map(|finding| format!("{:?} {}", finding.subject, finding.problem)).collect();
        let expected = [
            format!("{:?} it is not what the index says", Inspected::Record(id)),
            format!("{:?} it is of an image that is gone", Inspected::Record(stranger)),
        ];
        assert_eq!(found, expected.into(), "{action:?}");
        assert!(findings.iter().all(|finding| finding.dealt_with == (action == OnDamage::Quarantine)));
    }
    assert_eq!(check(&field, OnDamage::Report).await.0, []);

    harm(&field);
    fs::write(field.path("images/sha256").join(format!(".{}.partial", "0".repeat(32))), "half").unwrap();
    let field = field.reopen().await;
    assert_eq!(check(&field, OnDamage::Report).await.0, []);
    assert_eq!(fs::read(record_of(&field, &id)).unwrap(), good);
    assert_eq!(
        fs::read_dir(field.path("images/sha256")).unwrap().count(),
        1,
        "what was half written is gone"
    );
}

#[tokio::test]
async fn nothing_is_freed_while_a_check_goes_on() {
    let field = Field::new().await;
    import(&field, "one", "a:1").await;
    fs::write(field.path("blobs/sha256").join(Digest::of(b"wrong").hex()), "damaged").unwrap();
    // One finding too many for the channel: the check waits until it is heard.
    let (told, mut steps) = mpsc::channel(1);
    told.send(CheckStep::Done(Checked::default())).await.unwrap();
    let checking = field.images.check(OnDamage::Report, told);
    let removing = async {
        while !field.images.0.holds.covers(&Digest::of(b"anything")) {
            tokio::task::yield_now().await;
        }
        let nothing = Arc::new(crate::testing::Containers::default());
        let deleted =
            field.images.remove("a:1", super::super::RemoveOptions::default(), nothing).await.unwrap();
        assert_eq!(deleted.len(), 2, "name and image, no layer: {deleted:?}");
        while steps.recv().await.is_some() {}
    };
    let (result, ()) = tokio::join!(checking, removing);
    result.unwrap();
    let nothing = Arc::new(crate::testing::Containers::default());
    assert!(field.images.collect_garbage(nothing).await.unwrap() > 0);
}
