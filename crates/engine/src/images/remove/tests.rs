//! Removals beside containers that are being made.

use super::*;
use crate::images::holds::Hold;
use crate::images::{Image, ImportRequest, Policy};
use crate::testing::{Containers, Field, archive};
use futures_util::FutureExt;
use std::collections::HashSet;
use std::io::Cursor;
use std::sync::Mutex;
use std::time::Duration;

async fn import(field: &Field) -> Image {
    let request = ImportRequest { reference: Some("app:1".parse().unwrap()), ..ImportRequest::default() };
    field.images.import(Cursor::new(archive(&[("file", "app")])), request).await.unwrap();
    field.images.resolve("app:1").await.unwrap()
}

type Beginning = futures_util::future::BoxFuture<'static, (Result<()>, Hold)>;

/// While a removal asks who uses the image, a container begins to be made of it.
struct Creating {
    images: Arc<Inner>,
    image: Image,
    began: Mutex<Option<Beginning>>,
}

impl Creating {
    fn new(field: &Field, image: Image) -> Arc<Self> {
        Arc::new(Self { images: Arc::clone(&field.images.0), image, began: Mutex::default() })
    }
}

impl InUse for Creating {
    fn image(&self, _: &Digest) -> Option<ContainerUse> {
        let mut began = self.began.lock().unwrap();
        if began.is_none() {
            let (images, image) = (Images(Arc::clone(&self.images)), self.image.clone());
            let mut beginning = async move {
                let hold = images.hold();
                (images.hold_for_container(&hold, &image).await, hold)
            }
            .boxed();
            let early = (&mut beginning).now_or_never();
            *began = Some(early.map_or(beginning, |early| std::future::ready(early).boxed()));
        }
        None
    }

    fn layer(&self, _: &Digest) -> bool {
        false
    }

    fn layers(&self) -> HashSet<Digest> {
        HashSet::new()
    }
}

#[tokio::test]
async fn a_container_that_begins_during_a_removal_finds_the_image_gone() {
    let field = Field::new().await;
    let everything = Policy { budget: 0, keep_recent: Duration::ZERO };
    for way in ["name", "id", "force", "reclaim", "prune"] {
        let image = import(&field).await;
        let creating = Creating::new(&field, image.clone());
        let in_use = Arc::clone(&creating) as Arc<dyn InUse>;
        let options = RemoveOptions { force: way == "force", ..RemoveOptions::default() };
        match way {
            "reclaim" => drop(field.images.reclaim(everything, in_use).await.unwrap()),
            "prune" => {
                let request = crate::images::PruneRequest { all: true, ..Default::default() };
                field.images.prune(request, in_use).await.unwrap();
            }
            "id" => drop(field.images.remove(&image.id.to_string(), options, in_use).await.unwrap()),
            _ => drop(field.images.remove("app:1", options, in_use).await.unwrap()),
        }
        let began = creating.began.lock().unwrap().take();
        let created = began.expect("the removal asks").await.0;
        let gone = field.images.find_id("app:1").is_err();
        assert!(created.is_err() && gone || created.is_ok() && !gone, "{way}: {created:?}, gone: {gone}");
    }
}

#[tokio::test]
async fn what_a_container_is_being_made_of_goes_by_force_only() {
    let field = Field::new().await;
    let image = import(&field).await;
    let (id, nothing) = (image.id.to_string(), || Arc::new(Containers::default()));
    let hold = field.images.hold();
    field.images.hold_for_container(&hold, &image).await.unwrap();
    for name in ["app:1", &id] {
        let refused = field.images.remove(name, RemoveOptions::default(), nothing()).await;
        let refusal = refused.unwrap_err().to_string();
        assert!(refusal.contains("that is being created"), "{refusal}");
    }
    let everything = Policy { budget: 0, keep_recent: Duration::ZERO };
    assert!(field.images.reclaim(everything, nothing()).await.unwrap().deleted.is_empty());
    let force = RemoveOptions { force: true, ..RemoveOptions::default() };
    field.images.remove("app:1", force, nothing()).await.unwrap();
    assert!(field.store.find_layer(&image.layers[0]).unwrap().is_some(), "the container has its root");
    drop(hold);
    field.images.collect_garbage(nothing()).await.unwrap();
    assert!(field.store.find_layer(&image.layers[0]).unwrap().is_none());
}
