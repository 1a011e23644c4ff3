//! The Dockerfiles of the end-to-end suite, and what becomes of a text here: everything but the building.

use coracle_build::{
    Arguments, Base, Dockerfile, Error, Ignored, Outline, Parameters, Plan, Result, Surroundings, Target,
    Wanted, Warning, check, outline, parameters, plan, targets,
};
use coracle_spec::image::RunConfig;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A text with the name of its case.
pub(crate) type Named = (String, String);

/// Every Dockerfile of the suite that a repository can hold as it is.
pub(crate) fn all() -> Vec<Named> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dockerfiles");
    let mut found = Vec::new();
    for case in fs::read_dir(root).expect("the suite has cases") {
        let case = case.expect("a directory can be read");
        let name = case.file_name().to_string_lossy().into_owned();
        if let Ok(text) = fs::read_to_string(case.path().join("Dockerfile")) {
            found.push((name, text));
        }
    }
    found.sort();
    found
}

/// What is made of a text.
#[derive(Debug, PartialEq)]
pub(crate) struct Meant {
    outline: Outline,
    /// Of the stages that are needed.
    plans: Vec<Plan>,
    warnings: Vec<Warning>,
    targets: Vec<Target>,
    parameters: Parameters,
}

/// Reads, plans and checks a text as an engine does whose images all have the same configuration.
pub(crate) fn meant(text: &str) -> Result<Meant> {
    let file = Dockerfile::parse(text)?;
    let wanted = wanted();
    let outline = outline(&file, &wanted)?;
    let base = RunConfig {
        env: vec!["PATH=/bin".to_owned(), "BASE=image".to_owned()],
        on_build: vec!["RUN <<E\necho $BASE\nE".to_owned()],
        ..RunConfig::default()
    };
    let mut done: BTreeMap<usize, (RunConfig, Arguments)> = BTreeMap::new();
    let mut plans = Vec::new();
    for stage in &outline.order {
        let (config, arguments) = match &outline.bases[*stage] {
            Base::Stage(earlier) => done[earlier].clone(),
            Base::Scratch(_) => (RunConfig::default(), Arguments::new()),
            Base::Image(..) | Base::Context(..) => (base.clone(), Arguments::new()),
        };
        let plan = plan(&file, &outline, &wanted, *stage, &config, arguments)?;
        done.insert(*stage, (plan.config.clone(), plan.arguments.clone()));
        plans.push(plan);
    }
    let ignored = Ignored::parse(text).ok();
    let environment = |_| Some(base.env.clone());
    let around = Surroundings { wanted: &wanted, ignored: ignored.as_ref(), environment: &environment };
    let warnings = check(text, &file, &around)?;
    let (targets, parameters) = (targets(text, &file)?, parameters(text, &file, &outline, &wanted)?);
    Ok(Meant { outline, plans, warnings, targets, parameters })
}

/// What a client asks for.
fn wanted() -> Wanted {
    let given = [("GIVEN", "from-client"), ("http_proxy", "http://proxy"), ("FLAVOUR", "slim")];
    Wanted {
        target: None,
        arguments: given.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        platform: "linux/arm64".parse().expect("a platform"),
        build_platform: "linux/amd64".parse().expect("a platform"),
        ..Wanted::default()
    }
}

/// Whether an error says where in `text` it is, as far as it can be said: what is too much has no place.
pub(crate) fn has_a_place(error: &Error, text: &str) -> bool {
    match error {
        Error::At { line, column, .. } => {
            let lines = text.trim_start_matches('\u{feff}').lines().count().max(1);
            let width =
                text.trim_start_matches('\u{feff}').lines().nth(line - 1).unwrap_or_default().chars().count();
            (1..=lines).contains(line) && (1..=width.max(1) + 1).contains(column)
        }
        Error::TooLarge { .. } => true,
        _ => false,
    }
}
