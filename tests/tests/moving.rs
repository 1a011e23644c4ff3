//! Images from engine to engine: over a real ssh server, whole, in part, and with hostile sides.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use coracle_tests::ssh::Sshd;

/// Whether the target is the original, which does not do any of this.
fn is_original() -> bool {
    std::env::var_os("TARGET").is_some()
}

/// An image on top of the small one whose layer holds `megabytes` that nothing compresses; its id.
fn image(engine: &Engine, name: &str, megabytes: u32) -> String {
    let container = engine.name("made");
    let script = format!("dd if=/dev/urandom of=/random bs=1M count={megabytes} 2>/dev/null; echo {name} > /name; rm /etc/plain");
    engine.docker(&["run", "--name", &container, "--network", "none", SMALL, "sh", "-c", &script]).ok();
    engine.docker(&["commit", "-c", "CMD [\"cat\",\"/name\"]", &container, name]).ok();
    engine.docker(&["rm", &container]).ok();
    id(engine, name)
}

#[track_caller]
fn id(engine: &Engine, name: &str) -> String {
    engine.docker(&["inspect", "-f", "{{.Id}}", name]).ok()
}

#[test]
fn an_image_arrives_over_ssh_with_its_id_and_only_missing_layers_go() {
    if is_original() {
        return;
    }
    let (here, there) = (Engine::start(), Engine::start());
    let sshd = Sshd::before(&there);
    let (first, second) = (here.name("first"), here.name("second"));
    let made = image(&here, &first, 4);
    let sent = sshd.coracle(&here, &["image", "send", "ssh://peer", &first]).ok();
    assert!(sent.contains(&format!("Sending {first}")), "{sent}");
    assert!(sent.contains(&format!("{first}: {made}, sent ")), "{sent}");
    // The small image is on both sides; what of it is packed here and there is not the matter.
    assert_eq!(sent.matches(": Layer already exists").count(), 1, "{sent}");
    assert_eq!(sent.matches(": Pushed").count(), 1, "{sent}");
    assert_eq!(id(&there, &first), made);
    assert_eq!(there.docker(&["run", "--rm", "--network", "none", &first]).ok(), first);
    let went = sshd.take_sent();
    assert!((4 << 20..5 << 20).contains(&went), "{went} bytes");

    // A small change of it takes a small way.
    let container = here.name("changed");
    here.docker(&["run", "--name", &container, "--network", "none", &first, "sh", "-c", "echo 2 > /two"])
        .ok();
    here.docker(&["commit", &container, &second]).ok();
    here.docker(&["rm", &container]).ok();
    let sent = sshd.coracle(&here, &["image", "send", "ssh://peer", &second]).ok();
    assert_eq!(sent.matches(": Layer already exists").count(), 2, "{sent}");
    assert_eq!(id(&there, &second), id(&here, &second));
    assert_eq!(there.docker(&["run", "--rm", "--network", "none", &second, "cat", "/two"]).ok(), "2");
    let went = sshd.take_sent();
    assert!(went < 100_000, "{went} bytes");

    // What is there does not go at all.
    let sent = sshd.coracle(&here, &["image", "send", "ssh://peer", &first, &second]).ok();
    assert_eq!(sent.matches(": Pushed").count(), 0, "{sent}");
    assert!(sshd.take_sent() < 100_000);
    for engine in [&here, &there] {
        engine.docker(&["rmi", &first, &second]).ok();
    }
}
