//! Images from engine to engine with one side played by the test: hostile, killed, silent.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_corpus::tar::Tar;
use coracle_corpus::{config, digest};
use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::moving::{id, image, is_original};
use coracle_tests::pipe::{self, Peer};
use serde_json::{Value, json};
use std::fs;

/// An image that a test sends by hand.
struct Made {
    layer: Vec<u8>,
    config: String,
}

impl Made {
    fn new(content: &[u8]) -> Self {
        let layer = Tar::new().file("file", content).end();
        let config = config(&layer);
        Self { layer, config }
    }

    fn id(&self) -> String {
        digest(self.config.as_bytes())
    }

    fn offer(&self, names: &[&str]) -> Value {
        let layer = digest(&self.layer);
        json!({
            "id": self.id(), "names": names, "manifests": [],
            "layers": [{"diff_id": layer, "blob": layer, "size": self.layer.len()}],
        })
    }

    /// Offers it; what the engine lacks.
    fn begin(&self, peer: &mut Peer, offer: &Value) -> Value {
        peer.say(pipe::OFFER, offer.to_string().as_bytes());
        peer.say(pipe::DOCUMENT, self.config.as_bytes());
        peer.expect(pipe::WANTED)
    }
}

fn unfinished(engine: &Engine) -> usize {
    fs::read_dir(engine.directory().join("data/tmp")).unwrap().count()
}

fn layers(engine: &Engine) -> usize {
    fs::read_dir(engine.directory().join("data/layers/sha256")).unwrap().count()
}

/// A sender says this behind a right greeting.
type Script = Box<dyn Fn(&mut Peer, &Made)>;

/// A receiver says this to an offer.
type Answer = Box<dyn Fn(&mut Peer)>;

/// What hostile senders say, and what the engine answers.
fn hostile_senders() -> Vec<(&'static str, Script, &'static str)> {
    fn offered(change: impl Fn(&mut Value) + 'static) -> Script {
        Box::new(move |peer, made| {
            let mut offer = made.offer(&["hostile:v1"]);
            change(&mut offer);
            peer.say(pipe::OFFER, offer.to_string().as_bytes());
            peer.say(pipe::DOCUMENT, made.config.as_bytes());
            peer.pieces(&made.layer);
            peer.say(pipe::WHOLE, b"");
        })
    }
    fn streamed(say: impl Fn(&mut Peer, &Made) + 'static) -> Script {
        Box::new(move |peer, made| {
            made.begin(peer, &made.offer(&["hostile:v1"]));
            say(peer, made);
        })
    }
    /// Offers an artifact that has nothing, by a manifest of its own kind or by that of an image.
    fn artifact(of_image: bool) -> Script {
        Box::new(move |peer, made| {
            let kind = if of_image { "application/vnd.oci.image.config.v1+json" } else { "application/x.y" };
            let config = json!({"mediaType": kind, "digest": made.id(), "size": made.config.len()});
            let manifest = json!({"schemaVersion": 2, "config": config, "layers": []}).to_string();
            let id = digest(manifest.as_bytes());
            let offer =
                json!({"id": id, "names": ["hostile:v1"], "layers": [], "manifests": [], "artifact": true});
            peer.say(pipe::OFFER, offer.to_string().as_bytes());
            peer.say(pipe::DOCUMENT, manifest.as_bytes());
        })
    }
    fn raw(kind: u8, content: Vec<u8>) -> Script {
        Box::new(move |peer, _| peer.say(kind, &content))
    }
    let other = digest(b"other");
    let (id, diff_id, blob, manifest) = (other.clone(), other.clone(), other.clone(), other.clone());
    let named = format!("hostile@{other}");
    vec![
        (
            "no frame",
            Box::new(|peer: &mut Peer, _: &Made| peer.write(&[77, 0, 0, 0, 0])),
            "no frame of kind 77",
        ),
        (
            "4 GiB",
            Box::new(|peer: &mut Peer, _: &Made| peer.write(&[1, 255, 255, 255, 255])),
            "4294967295 bytes",
        ),
        ("no document", raw(pipe::OFFER, b"{".to_vec()), "does not keep to the protocol"),
        ("a depth", raw(pipe::OFFER, b"[".repeat(100_000)), "does not keep to the protocol"),
        ("a layer first", raw(pipe::DATA, b"x".repeat(200_000)), "is no offer"),
        ("another id", offered(move |offer| offer["id"] = id.clone().into()), "does not match its digest"),
        (
            "another layer",
            offered(move |offer| offer["layers"][0]["diff_id"] = diff_id.clone().into()),
            "layers are not those",
        ),
        ("no layers", offered(|offer| offer["layers"] = json!([])), "layers are not those"),
        (
            "a negative size",
            offered(|offer| offer["layers"][0]["size"] = json!(-1)),
            "does not keep to the protocol",
        ),
        (
            "another blob",
            offered(move |offer| offer["layers"][0]["blob"] = blob.clone().into()),
            "does not match its digest",
        ),
        (
            "a path for a digest",
            offered(|offer| offer["id"] = "sha256:../../etc".into()),
            "does not keep to the protocol",
        ),
        ("no name", offered(|offer| offer["names"] = json!(["../../x"])), "invalid reference format"),
        ("an id for a name", offered(|offer| offer["names"] = json!(["sha256:abc"])), "ambiguous"),
        (
            "the name of another",
            offered(move |offer| offer["names"] = json!([named])),
            "the digest of another image",
        ),
        (
            "a thousand names",
            offered(|offer| offer["names"] = json!(vec!["a:b"; 1000])),
            "more manifests or names",
        ),
        (
            "a thousand manifests",
            offered(move |offer| offer["manifests"] = json!(vec![manifest.clone(); 1000])),
            "more manifests or names",
        ),
        (
            "thousands beside it",
            offered(|offer| offer["beside"] = json!(vec![json!({"digest": digest(b"x"), "size": 1}); 2000])),
            "more beside it than any image has",
        ),
        (
            "a terabyte beside it",
            offered(|offer| offer["beside"] = json!([{"digest": digest(b"x"), "size": 1_u64 << 40}])),
            "more beside it than any image has",
        ),
        ("an image as an artifact", offered(|offer| offer["artifact"] = json!(true)), "cannot take image"),
        ("an artifact of no parts", artifact(false), "its parts are not those of its manifest"),
        ("an image's manifest as an artifact", artifact(true), "its manifest is that of an image"),
        (
            "too short a layer",
            streamed(|peer, made| {
                peer.pieces(&made.layer[..made.layer.len() / 2]);
                peer.say(pipe::WHOLE, b"");
            }),
            "shorter than was offered",
        ),
        (
            "too long a layer",
            streamed(|peer, made| {
                peer.pieces(&made.layer);
                peer.say(pipe::DATA, b"x");
            }),
            "longer than was offered",
        ),
        (
            "another content",
            streamed(|peer, made| {
                let mut layer = made.layer.clone();
                let at = layer.iter().position(|byte| *byte == b'c').unwrap();
                layer[at] = b'd';
                peer.pieces(&layer);
                peer.say(pipe::WHOLE, b"");
            }),
            "does not match",
        ),
        (
            "no archive",
            streamed(|peer, made| {
                peer.pieces(&vec![b'x'; made.layer.len()]);
                peer.say(pipe::WHOLE, b"");
            }),
            "unpack layer",
        ),
        (
            "an offer in a layer",
            streamed(|peer, made| {
                peer.pieces(&made.layer[..100]);
                peer.say(pipe::OFFER, made.offer(&[]).to_string().as_bytes());
            }),
            "in the middle of a layer",
        ),
        ("the end in a layer", streamed(|peer, _| peer.say(pipe::END, b"")), "in the middle of a layer"),
        (
            "a complaint",
            streamed(|peer, _| peer.say(pipe::FAILURE, b"\x1b[2Jgone")),
            "the other side:  [2Jgone",
        ),
        ("nothing", streamed(|_, _| ()), "ended early"),
    ]
}

#[test]
fn hostile_senders_are_refused_and_leave_nothing() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let before = layers(&engine);
    let of = |number: usize| Made::new(&b"c".repeat(200_000 + 512 * number));
    let scripts = hostile_senders();
    let made = of(scripts.iter().position(|(name, ..)| *name == "too short a layer").unwrap());
    for (number, (name, script, words)) in scripts.into_iter().enumerate() {
        let made = of(number);
        let mut peer = Peer::greeted(&engine, "receive");
        script(&mut peer, &made);
        peer.close();
        let (told, complaint) = peer.reasons();
        let complaint = complaint.unwrap_or_else(|| panic!("{name}: no complaint"));
        assert!(complaint.contains(words), "{name}: {complaint}");
        assert!(complaint.len() < 1000 && !complaint.contains('\u{1b}'), "{name}: {complaint}");
        // Who is still there is told as well.
        assert!(told.is_none_or(|told| told == complaint), "{name}");
        assert_eq!(unfinished(&engine), 0, "{name}");
        assert_eq!(layers(&engine), before, "{name}");
        assert_ne!(engine.docker(&["image", "inspect", &made.id()]).code, 0, "{name}");
    }
    let mut peer = Peer::of(&engine, "receive");
    peer.write(b"GET / HTTP/1.1\r\n\r\n");
    assert!(peer.reasons().1.unwrap().contains("GET / HTTP/1.1"));

    // After all that, an honest one is welcome; what a liar began does not spoil it.
    let mut peer = Peer::greeted(&engine, "receive");
    let wanted = made.begin(&mut peer, &made.offer(&["honest:v1"]));
    let offset = usize::try_from(wanted[0]["offset"].as_u64().unwrap()).unwrap();
    peer.pieces(&made.layer[offset..]);
    peer.say(pipe::WHOLE, b"");
    assert_eq!(peer.expect(pipe::HERE), 0);
    assert_eq!(peer.expect(pipe::WANTED), json!([]));
    assert_eq!(peer.expect(pipe::DONE), json!({"moved": []}));
    peer.say(pipe::END, b"");
    assert_eq!(peer.reasons(), (None, None));
    assert_eq!(id(&engine, "honest:v1"), made.id());
    engine.docker(&["rmi", "honest:v1"]).ok();
}

#[test]
fn what_comes_beside_an_image_is_held_against_its_digest_and_its_size() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let made = Made::new(&b"c".repeat(200_000));
    let offered = |parts: &[&[u8]]| {
        let mut offer = made.offer(&["beside:v1"]);
        let describe = |part: &&[u8]| json!({"digest": digest(part), "size": part.len()});
        offer["beside"] = parts.iter().map(describe).collect();
        offer
    };
    let first = b"{\"right\": true}";
    let mut peer = Peer::greeted(&engine, "receive");
    // The same twice comes once.
    let wanted = made.begin(&mut peer, &offered(&[first, first]));
    assert_eq!(wanted, json!([{"layer": 0, "offset": 0}, {"layer": 1, "offset": 0}]));
    for part in [&made.layer[..], first] {
        peer.pieces(part);
        peer.say(pipe::WHOLE, b"");
    }
    let here = [peer.expect(pipe::HERE), peer.expect(pipe::HERE)];
    assert!(here.contains(&json!(0)) && here.contains(&json!(1)), "{here:?}");
    assert_eq!(peer.expect(pipe::WANTED), json!([]));
    peer.expect(pipe::DONE);
    peer.say(pipe::END, b"");
    assert_eq!(peer.reasons(), (None, None));
    // No index says that it belongs to the image: it goes.
    let place = engine.directory().join("data/blobs/sha256").join(&digest(first)[7..]);
    wait_until("what nobody needs is gone", || {
        engine.docker(&["image", "prune", "-f"]).ok();
        !place.exists()
    });
    for (right, given, words) in [
        (&b"{\"right\": true}"[..], &b"{\"right\":false}"[..], "does not match its digest"),
        (b"{}", b"{}{}", "longer than was offered"),
        (b"{}{}", b"{}", "shorter than was offered"),
    ] {
        let mut peer = Peer::greeted(&engine, "receive");
        assert_eq!(made.begin(&mut peer, &offered(&[right])), json!([{"layer": 1, "offset": 0}]));
        peer.pieces(given);
        peer.say(pipe::WHOLE, b"");
        peer.close();
        let complaint = peer.reasons().1.unwrap();
        assert!(complaint.contains(words), "{complaint}");
        wait_until("nothing is left of it", || unfinished(&engine) == 0);
    }
    engine.docker(&["rmi", "beside:v1"]).ok();
}

#[test]
fn a_kept_beginning_that_is_wrong_is_asked_for_again() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let made = Made::new(&b"c".repeat(300_000));
    let mut wrong = made.layer.clone();
    wrong[1000] ^= 1;
    let mut peer = Peer::greeted(&engine, "receive");
    assert_eq!(made.begin(&mut peer, &made.offer(&["x:v1"])), json!([{"layer": 0, "offset": 0}]));
    peer.pieces(&wrong[..200_000]);
    peer.close();
    assert!(peer.reasons().1.unwrap().contains("ended early"));

    let mut peer = Peer::greeted(&engine, "receive");
    let wanted = made.begin(&mut peer, &made.offer(&["x:v1"]));
    let offset = usize::try_from(wanted[0]["offset"].as_u64().unwrap()).unwrap();
    assert!((100_000..=200_000).contains(&offset), "{wanted}");
    peer.pieces(&made.layer[offset..]);
    peer.say(pipe::WHOLE, b"");
    assert_eq!(peer.expect(pipe::WANTED), json!([{"layer": 0, "offset": 0}]));
    peer.pieces(&made.layer);
    peer.say(pipe::WHOLE, b"");
    assert_eq!(peer.expect(pipe::HERE), 0);
    assert_eq!(peer.expect(pipe::WANTED), json!([]));
    peer.expect(pipe::DONE);
    peer.say(pipe::END, b"");
    assert_eq!(peer.reasons(), (None, None));
    engine.docker(&["rmi", "x:v1"]).ok();
}

#[test]
fn a_killed_receiver_has_nothing_half_made_and_goes_on_where_it_was() {
    if is_original() {
        return;
    }
    let mut engine = Engine::start();
    let before = layers(&engine);
    let made = Made::new(&b"c".repeat(2_000_000));
    let mut peer = Peer::greeted(&engine, "receive");
    made.begin(&mut peer, &made.offer(&["killed:v1"]));
    peer.pieces(&made.layer[..1_000_000]);
    let tmp = engine.directory().join("data/tmp");
    let written = || -> u64 {
        let files = fs::read_dir(&tmp).unwrap().flatten().map(|file| file.metadata());
        files.flatten().filter(fs::Metadata::is_file).map(|file| file.len()).sum()
    };
    wait_until("half of the layer is written", || written() >= 900_000);
    engine.kill();
    engine.start_again();
    assert_eq!((unfinished(&engine), layers(&engine)), (0, before));
    assert_ne!(engine.docker(&["image", "inspect", "killed:v1"]).code, 0);

    let mut peer = Peer::greeted(&engine, "receive");
    let wanted = made.begin(&mut peer, &made.offer(&["killed:v1"]));
    let offset = usize::try_from(wanted[0]["offset"].as_u64().unwrap()).unwrap();
    assert!((900_000..=1_000_000).contains(&offset), "{wanted}");
    peer.pieces(&made.layer[offset..]);
    peer.say(pipe::WHOLE, b"");
    assert_eq!(peer.expect(pipe::HERE), 0);
    assert_eq!(peer.expect(pipe::WANTED), json!([]));
    // It has said so: it is there, also after this.
    peer.expect(pipe::DONE);
    engine.kill();
    engine.start_again();
    assert_eq!(id(&engine, "killed:v1"), made.id());
    assert!(engine.coracle(&["system", "check"]).stderr.contains("nothing is damaged"));
    engine.docker(&["rmi", "killed:v1"]).ok();
}

#[test]
fn hostile_receivers_get_only_what_was_offered() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    let name = engine.name("offered");
    image(&engine, &name, 1);
    let path = format!("send?images={name}");
    let wants = |wanted: Value| move |peer: &mut Peer| peer.say(pipe::WANTED, wanted.to_string().as_bytes());
    let scripts: Vec<(&str, Answer, &str)> = vec![
        ("a layer more", Box::new(wants(json!([{"layer": 2, "offset": 0}]))), "what was not offered"),
        (
            "behind the end",
            Box::new(wants(json!([{"layer": 1, "offset": 1_u64 << 60}]))),
            "what was not offered",
        ),
        (
            "twice",
            Box::new(wants(json!([{"layer": 1, "offset": 0}, {"layer": 1, "offset": 0}]))),
            "what was not offered",
        ),
        ("before the start", Box::new(wants(json!([{"layer": 1, "offset": -1}]))), "keep to the protocol"),
        ("no document", Box::new(|peer: &mut Peer| peer.say(pipe::WANTED, b"{")), "keep to the protocol"),
        (
            "the end first",
            Box::new(|peer: &mut Peer| peer.say(pipe::DONE, b"{\"moved\":[]}")),
            "no answer to an offer",
        ),
        ("a layer that is not", Box::new(|peer: &mut Peer| peer.say(pipe::HERE, b"7")), "did not want"),
        (
            "a complaint",
            Box::new(|peer: &mut Peer| peer.say(pipe::FAILURE, b"disk\x1b full")),
            "the other side: disk  full",
        ),
        (
            "no names",
            Box::new(|peer: &mut Peer| {
                peer.say(pipe::WANTED, b"[]");
                let id = digest(b"x");
                peer.say(pipe::DONE, json!({"moved": [["\u{1b}[2J", id]]}).to_string().as_bytes());
            }),
            "names that are none",
        ),
        ("nothing", Box::new(Peer::close), "ended early"),
        (
            "again and again",
            Box::new(|peer: &mut Peer| {
                for _ in 0..3 {
                    peer.say(pipe::WANTED, b"[{\"layer\":1,\"offset\":0}]");
                }
            }),
            "in the middle of a layer",
        ),
    ];
    for (what, script, words) in scripts {
        let mut peer = Peer::greeted(&engine, &path);
        let offer = peer.expect(pipe::OFFER);
        assert_eq!(offer["layers"].as_array().unwrap().len(), 2);
        assert_eq!(peer.hear().unwrap().0, pipe::DOCUMENT);
        script(&mut peer);
        let complaint = peer.reasons().1.unwrap_or_else(|| panic!("{what}: no complaint"));
        assert!(complaint.contains(words), "{what}: {complaint}");
    }
    // One that does not read keeps the image whole only as long as it is there.
    let mut silent = Peer::greeted(&engine, &path);
    silent.say(pipe::WANTED, b"[{\"layer\":0,\"offset\":0},{\"layer\":1,\"offset\":0}]");
    let with_it = layers(&engine);
    engine.docker(&["rmi", &name]).ok();
    assert_eq!(layers(&engine), with_it);
    drop(silent);
    wait_until("nobody holds on to its layers", || {
        engine.docker(&["image", "prune", "-f"]).ok();
        layers(&engine) < with_it
    });
}

#[test]
fn a_connection_that_is_not_given_up_is_no_way() {
    if is_original() {
        return;
    }
    let engine = Engine::start();
    for path in ["receive", "send", "send?images=nobody", "send?images=x&name=UPPER"] {
        let (status, answer) = engine.request("POST", &format!("/coracle/images/{path}"), None);
        assert!((400..500).contains(&status), "{path}: {status}: {answer}");
    }
}
