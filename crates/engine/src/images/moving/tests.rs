//! What is held while images are on their way.

use super::super::{ImportRequest, Teller};
use super::offer::{Offer, OfferedLayer};
use super::wire::{Frame, Wire};
use super::*;
use crate::testing::{Containers, Field, archive};
use coracle_spec::Digest;
use coracle_spec::image::ImageConfig;
use std::io::Cursor;
use std::sync::Arc;
use tokio::io::{duplex, split};

const ROOM: usize = 1 << 20;

fn holds(field: &Field, digest: &Digest) -> bool {
    field.images.0.holds.covers(digest)
}

#[tokio::test]
async fn a_sender_holds_what_it_sends_and_nothing_else() {
    let field = Field::new().await;
    let request = ImportRequest { reference: Some("app:1".parse().unwrap()), ..ImportRequest::default() };
    field.images.import(Cursor::new(archive(&[("file", "content")])), request).await.unwrap();
    let (here, there) = duplex(ROOM);
    let ((reader, writer), (their_reader, their_writer)) = (split(here), split(there));
    let (told, _steps) = Teller::channel();
    let request = SendRequest { images: vec!["app:1".to_owned()], platforms: Vec::new(), name: None };
    let chosen = field.images.choose_to_send(request).await.unwrap();
    let waiting = async {
        let mut wire = Wire::open(their_reader, their_writer).await.unwrap();
        let Frame::Offer(offer) = wire.incoming.next().await.unwrap() else { panic!("it is no offer") };
        assert!(offer.content().all(|digest| holds(&field, &digest)), "{offer:?}");
        assert!(!holds(&field, &Digest::of(b"other")));
    };
    tokio::select! {
        sent = chosen.send(reader, writer, &told) => panic!("it ended: {sent:?}"),
        () = waiting => {}
    }
}

#[tokio::test]
async fn a_receiver_holds_what_comes_and_what_of_it_is_here() {
    let field = Field::new().await;
    let [here, other] = ["here", "other"].map(|name| field.layer(&archive(&[("file", name)])));
    let comes = archive(&[("file", "comes")]);
    let layers = [here, Digest::of(&comes)];
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = layers.to_vec();
    let config = serde_json::to_vec(&config).unwrap();
    let offered = |diff_id| OfferedLayer { diff_id, blob: diff_id, size: comes.len() as u64 };
    let offer = Offer {
        id: Digest::of(&config),
        names: vec!["app:1".to_owned()],
        layers: layers.map(offered).to_vec(),
        manifests: Vec::new(),
        target: None,
        beside: Vec::new(),
        artifact: false,
    };
    let (ours, theirs) = duplex(ROOM);
    let ((reader, writer), (their_reader, their_writer)) = (split(ours), split(theirs));
    let sending = async {
        let mut wire = Wire::open(their_reader, their_writer).await.unwrap();
        wire.outgoing.say(Frame::Offer(offer)).await.unwrap();
        wire.outgoing.say(Frame::Document(config.into())).await.unwrap();
        let Frame::Wanted(wanted) = wire.incoming.next().await.unwrap() else { panic!("it is no wish") };
        assert_eq!(wanted.iter().map(|wanted| wanted.layer).collect::<Vec<_>>(), [1]);
        field.images.collect_garbage(Arc::new(Containers::default())).await.unwrap();
        assert!(field.store.find_layer(&other).unwrap().is_none(), "nobody needs it");
        wire.outgoing.say(Frame::Data(comes.into())).await.unwrap();
        wire.outgoing.say(Frame::Whole).await.unwrap();
        while !matches!(wire.incoming.next().await.unwrap(), Frame::Done(_)) {}
        wire.outgoing.say(Frame::End).await.unwrap();
    };
    let (received, ()) = tokio::join!(field.images.receive(reader, writer), sending);
    received.unwrap();
    field.images.collect_garbage(Arc::new(Containers::default())).await.unwrap();
    assert_eq!(field.images.resolve("app:1").await.unwrap().layers, layers);
    assert!(layers.iter().all(|layer| field.store.has_whole_layer(layer).unwrap()));
}
