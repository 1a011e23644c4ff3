//! Triggers of base images that take files of stages.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::Engine;
use coracle_tests::context::{Context, classic_build};

/// An engine with an image of this name and these triggers. The language of the original is older: its triggers take nothing
/// of stages.
fn engine(base: &str, triggers: &str) -> Option<Engine> {
    let engine = Engine::start();
    if engine.is_original() {
        return None;
    }
    let context = Context::new(&format!("FROM BASE\n{triggers}"), &[]);
    classic_build(&engine, &context.path(), &["-t", base]).ok();
    Some(engine)
}

#[test]
fn a_trigger_takes_files_of_a_stage_that_nothing_else_needs() {
    let triggers = "ONBUILD COPY --from=assets /a /a\nONBUILD RUN --mount=from=more,target=/m cp /m/b /b\n";
    let Some(engine) = engine("hungry", triggers) else { return };
    let context = Context::new(
        "FROM BASE AS below\nRUN echo below >/below\nFROM below AS assets\nRUN cp /below /a\nFROM BASE AS more\n\
         COPY --from=assets /a /b\nFROM BASE AS never\nRUN false\nFROM hungry AS app\nRUN cat /a /b >/all\n",
        &[],
    );
    for build in [classic_build, |engine: &Engine, path: &std::path::Path, options: &[&str]| {
        engine.buildx(path, options)
    }] {
        let told = build(&engine, &context.path(), &["-t", "app", "--no-cache"]);
        let shown = format!("{}{}", told.stdout, told.stderr);
        told.ok();
        assert!(shown.contains("RUN cp /below /a"), "what is built late is shown:\n{shown}");
        let found = engine.docker(&["run", "--rm", "app", "cat", "/all"]).ok();
        assert_eq!(found, "below\nbelow");
        engine.docker(&["rmi", "app"]).ok();
    }
}

#[test]
fn stages_that_need_each_other_by_a_trigger_are_refused() {
    let Some(engine) = engine("hungry", "ONBUILD COPY --from=assets /a /a\n") else { return };
    for text in [
        "FROM hungry AS app\nFROM app AS assets\nRUN true\nFROM app\n",
        "FROM hungry AS app\nFROM app AS assets\nRUN true\nFROM assets\n",
        "FROM hungry AS assets\n",
        "FROM hungry AS one\nFROM BASE AS assets\nCOPY --from=two /a /a\nFROM hungry AS two\nFROM one\n",
    ] {
        let context = Context::new(text, &[]);
        let told = classic_build(&engine, &context.path(), &[]).fails_with(1);
        assert!(told.contains("circular dependency detected on stage"), "{text}\n{told}");
    }
    let context = Context::new("FROM hungry\n", &[]);
    // Then it is the name of an image.
    classic_build(&engine, &context.path(), &[]).refused(1, "assets");
}
