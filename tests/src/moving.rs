//! Images that go from engine to engine.

use crate::Engine;
use crate::image::SMALL;

/// Whether the target is the original, which does not do any of this.
pub fn is_original() -> bool {
    std::env::var_os("TARGET").is_some()
}

/// An image on top of the small one whose layer holds `megabytes` that nothing compresses; its id.
pub fn image(engine: &Engine, name: &str, megabytes: u32) -> String {
    let container = engine.name("made");
    let script = format!(
        "dd if=/dev/urandom of=/random bs=1M count={megabytes} 2>/dev/null; echo {name} > /name; rm /etc/plain"
    );
    engine.docker(&["run", "--name", &container, "--network", "none", SMALL, "sh", "-c", &script]).ok();
    engine.docker(&["commit", "-c", "CMD [\"cat\",\"/name\"]", &container, name]).ok();
    engine.docker(&["rm", &container]).ok();
    id(engine, name)
}

/// The id of an image.
#[track_caller]
pub fn id(engine: &Engine, name: &str) -> String {
    engine.docker(&["inspect", "-f", "{{.Id}}", name]).ok()
}
