//! Dockerfiles of every kind, built by unmodified buildx: what comes of them is what the original makes of them, file by file.
//!
//! `CASES=word` builds only those whose names have the word in it. `UPDATE=1` writes down what came of them: with `TARGET=`
//! what the original makes, else what differs with us.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use coracle_tests::layers::Saved;
use coracle_tests::recipe::Recipe;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// Cases that are built at once.
const AT_ONCE: usize = 4;

#[test]
fn each_becomes_what_the_original_makes_of_it() {
    let engine = Engine::start();
    let base = Saved::from_engine(&engine, SMALL);
    let word = std::env::var("CASES").unwrap_or_default();
    let is_wanted = |recipe: &Recipe| {
        recipe.name.contains(&word) && (recipe.is_for_the_original() || !engine.is_original())
    };
    let recipes: Vec<Recipe> = Recipe::all().into_iter().filter(is_wanted).collect();
    let (waiting, failures) = (Mutex::new(recipes.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(recipe) = waiting.lock().unwrap().next() else { break };
                    // A case that panics has failed, and the others go on.
                    let complaint = catch_unwind(AssertUnwindSafe(|| complaint(&engine, recipe, &base)));
                    let complaint = complaint.unwrap_or_else(|_| Some("it panicked, see above".to_owned()));
                    if let Some(complaint) = complaint {
                        failures.lock().unwrap().push(format!("{}:\n{complaint}", recipe.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let (failed, all) = (failures.len(), recipes.len());
    assert!(failures.is_empty(), "{failed} of {all} cases:\n{}", failures.join("\n"));
    assert!(!word.is_empty() || all >= 60, "only {all} cases");
}

/// How what came of a case is not what has to come of it.
fn complaint(engine: &Engine, recipe: &Recipe, base: &Saved) -> Option<String> {
    let lines = recipe.build(engine, base);
    if std::env::var_os("UPDATE").is_some() {
        if engine.is_original() {
            recipe.record(&lines);
        } else {
            recipe.record_difference(&lines);
        }
        return None;
    }
    let expected = if engine.is_original() { recipe.expected() } else { recipe.expected_of_us() };
    let differing = |sign: &str, one: &BTreeSet<String>, other: &BTreeSet<String>| -> String {
        one.difference(other).map(|line| format!("  {sign} {line}\n")).collect()
    };
    let text = differing("-", &expected, &lines) + &differing("+", &lines, &expected);
    (!text.is_empty()).then_some(text)
}
