//! Reclaiming on a real store, and what decides about it: uses and pins that outlive the engine.

use super::*;
use crate::images::pins::Pin;
use crate::images::{ContainerUse, ImportRequest};
use crate::testing::{Containers, Field, archive};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::Duration;
use time::macros::datetime;

const OLD: OffsetDateTime = datetime!(2020-01-01 12:00 UTC);
const EVERYTHING: Policy = Policy { budget: 0, keep_recent: Duration::ZERO };

async fn import(field: &Field, name: &str, changes: &[&str]) -> Digest {
    let request = ImportRequest {
        reference: Some(name.parse().unwrap()),
        changes: changes.iter().map(ToString::to_string).collect(),
        ..ImportRequest::default()
    };
    field.images.import(Cursor::new(archive(&[("file", name)])), request).await.unwrap()
}

fn nothing() -> Arc<dyn InUse> {
    Arc::new(Containers::default())
}

async fn plan(field: &Field, policy: Policy) -> Reclaimed {
    field.images.plan_to_reclaim(policy, nothing()).await.unwrap()
}

fn keep_of(done: &Reclaimed, id: Digest) -> Option<Keep> {
    done.verdicts.iter().find(|verdict| verdict.id == id).unwrap().keep.clone()
}

#[tokio::test]
async fn the_image_that_was_not_used_for_the_longest_time_goes_with_its_content() {
    let field = Field::new().await;
    let first = import(&field, "a:1", &[]).await;
    let second = import(&field, "b:1", &[]).await;
    field.images.tag("a:1", "a:2".parse().unwrap()).await.unwrap();
    let all = plan(&field, EVERYTHING).await.used;
    let stored: u64 = ["blobs", "layers"]
        .iter()
        .map(|kind| {
            let digests = if *kind == "blobs" { field.store.blobs() } else { field.store.layers() }.unwrap();
            let size = |digest: &Digest| match *kind {
                "blobs" => field.store.has_blob(digest).unwrap().unwrap().size,
                _ => field.store.layer(digest).unwrap().size,
            };
            digests.iter().map(size).sum::<u64>()
        })
        .sum();
    assert_eq!(all, stored, "everything that lies in the store is counted, and counted once");
    let policy = Policy { budget: all - 1, keep_recent: Duration::ZERO };
    let done = field.images.reclaim(policy, nothing()).await.unwrap();
    assert_eq!((keep_of(&done, second), keep_of(&done, first)), (None, Some(Keep::Fits)));
    assert_eq!(all - done.freed(), plan(&field, EVERYTHING).await.used);
    assert!(field.images.resolve("b:1").await.is_err() && field.images.resolve("a:2").await.is_ok());
    assert_eq!((field.store.layers().unwrap().len(), field.store.blobs().unwrap().len()), (1, 2));
    let told = field.told();
    assert_eq!(
        told[told.len() - 2..],
        [("untag", second), ("delete", second)].map(|(what, id)| (what.to_owned(), id.to_string()))
    );
    let rest = field.images.reclaim(EVERYTHING, nothing()).await.unwrap();
    assert_eq!(rest.deleted.len(), 4, "both names, the image and its layer: {:?}", rest.deleted);
    assert_eq!((field.store.layers().unwrap().len(), field.store.blobs().unwrap().len()), (0, 0));
}

#[tokio::test]
async fn it_looks_again_only_after_something_has_arrived_or_while_it_does_not_fit() {
    let field = Field::new().await;
    let plenty = Policy { budget: u64::MAX, keep_recent: Duration::ZERO };
    assert!(field.images.reclaim_if_grown(plenty, nothing()).await.unwrap().is_some(), "at the start");
    assert!(field.images.reclaim_if_grown(plenty, nothing()).await.unwrap().is_none());
    let id = import(&field, "a:1", &[]).await;
    assert!(field.images.reclaim_if_grown(plenty, nothing()).await.unwrap().is_some());
    assert!(field.images.reclaim_if_grown(EVERYTHING, nothing()).await.unwrap().is_none());
    import(&field, "b:1", &[]).await;
    let by = ContainerUse { container: "0123456789ab".to_owned(), running: false };
    let used: Arc<dyn InUse> =
        Arc::new(Containers { images: BTreeMap::from([(id, by.clone())]), ..Containers::default() });
    let done = field.images.reclaim_if_grown(EVERYTHING, Arc::clone(&used)).await.unwrap().unwrap();
    assert_eq!(keep_of(&done, id), Some(Keep::Container(by)));
    assert!(field.images.reclaim_if_grown(EVERYTHING, used).await.unwrap().is_some(), "it does not fit");
    assert_eq!(field.images.reclaim_if_grown(EVERYTHING, nothing()).await.unwrap().unwrap().deleted.len(), 3);
}

#[tokio::test]
async fn where_recent_images_stay_it_looks_again_when_one_may_have_ceased_to_be() {
    let field = Field::new().await;
    let id = import(&field, "a:1", &[]).await;
    let policy = Policy { budget: 0, keep_recent: Duration::from_secs(60) };
    let by = ContainerUse { container: "0123456789ab".to_owned(), running: true };
    let used: Arc<dyn InUse> =
        Arc::new(Containers { images: BTreeMap::from([(id, by)]), ..Containers::default() });
    let done = field.images.reclaim_if_grown(policy, used).await.unwrap().unwrap();
    let rest = done.again.unwrap() - OffsetDateTime::now_utc();
    assert!(rest > Duration::from_secs(50) && rest <= Duration::from_secs(60), "{rest}");
    assert!(
        field.images.reclaim_if_grown(policy, nothing()).await.unwrap().is_none(),
        "it would be recent anyway"
    );
    field.images.look_again();
    let done = field.images.reclaim_if_grown(policy, nothing()).await.unwrap().unwrap();
    assert_eq!(keep_of(&done, id), Some(Keep::Recent));
    field.images.pin("a:1").await.unwrap();
    field.images.unpin("a:1").await.unwrap();
    assert!(field.images.reclaim_if_grown(policy, nothing()).await.unwrap().is_some(), "it was pinned");
}

#[tokio::test]
async fn recent_and_held_images_stay() {
    let field = Field::new().await;
    let id = import(&field, "a:1", &[]).await;
    let recent = Policy { budget: 0, keep_recent: Duration::from_secs(60) };
    let done = field.images.reclaim(recent, nothing()).await.unwrap();
    assert_eq!(keep_of(&done, id), Some(Keep::Recent));
    assert!(done.again.is_some_and(|again| again > OffsetDateTime::now_utc()));
    let hold = field.images.hold();
    field.images.hold_for_container(&hold, &field.images.resolve("a:1").await.unwrap()).await.unwrap();
    let done = field.images.reclaim(EVERYTHING, nothing()).await.unwrap();
    assert_eq!(keep_of(&done, id), Some(Keep::Held));
    drop(hold);
    assert_eq!(keep_of(&field.images.reclaim(EVERYTHING, nothing()).await.unwrap(), id), None);
}

#[tokio::test]
async fn uses_outlive_the_engine_and_never_go_back() {
    let field = Field::new().await;
    let id = import(&field, "a:1", &[]).await;
    let later = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap() + Duration::from_secs(100);
    field.images.note_use(&id, later);
    field.images.note_use(&id, OLD);
    field.images.note_use(&Digest::of(b"no image"), later);
    assert_eq!(field.images.last_used(&id), Some(later));
    let field = field.reopen().await;
    assert_eq!(field.images.last_used(&id), Some(later));
    assert_eq!(field.images.last_used(&Digest::of(b"no image")), None);
    field.images.reclaim(EVERYTHING, nothing()).await.unwrap();
    // The same content again is another image, which nobody has used.
    import(&field, "a:1", &[]).await;
    let field = field.reopen().await;
    assert!(field.images.last_used(&id).is_none_or(|used| used < later));
}

#[tokio::test]
async fn pinned_images_stay_also_when_the_index_was_lost() {
    let field = Field::new().await;
    let by_label = import(&field, "label:1", &["LABEL coracle.pin=true"]).await;
    let unlabelled = import(&field, "label:2", &["LABEL coracle.pin=false"]).await;
    let by_name = import(&field, "name:1", &[]).await;
    let by_id = import(&field, "id:1", &[]).await;
    field.images.pin("name:1").await.unwrap();
    field.images.pin(&by_id.hex()[..20]).await.unwrap();
    let closed = field.close();
    let mut field = closed.open().await;
    for lost in [false, true] {
        if lost {
            let path = field.path("meta.db");
            let closed = field.close();
            std::fs::remove_file(path).unwrap();
            field = closed.open().await;
        }
        let plan = plan(&field, EVERYTHING).await;
        let name = Pin::Name("name:1".parse().unwrap());
        for (id, pin) in [(by_label, Pin::Label), (by_name, name), (by_id, Pin::Id)] {
            match (keep_of(&plan, id), pin) {
                (Some(Keep::Pinned(Pin::Name(found))), Pin::Name(name)) => {
                    assert_eq!(found.familiar(), name.familiar());
                }
                (found, pin) => assert_eq!(found, Some(Keep::Pinned(pin)), "{lost}"),
            }
        }
        assert_eq!(keep_of(&plan, unlabelled), None);
    }
    let conflict = field.images.unpin("label:1").await.unwrap_err();
    assert!(matches!(&conflict, Error::Conflict(text) if text.contains("coracle.pin")), "{conflict}");
    assert!(matches!(field.images.unpin("id:1").await, Err(Error::Conflict(_))), "by its id");
    assert!(matches!(field.images.unpin("none:1").await, Err(Error::NotFound { kind: "pin", .. })));
    field.images.unpin(&by_id.to_string()).await.unwrap();
    // The name has moved on, and the pin with it.
    field.images.tag("label:2", "name:1".parse().unwrap()).await.unwrap();
    let plan = plan(&field, EVERYTHING).await;
    assert!(matches!(keep_of(&plan, unlabelled), Some(Keep::Pinned(_))));
    assert_eq!((keep_of(&plan, by_name), keep_of(&plan, by_id)), (None, None));
}
