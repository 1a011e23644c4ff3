//! What a container runs: the client's request on top of the image's configuration, as Docker merges them.

use super::settings::Settings;
use coracle_spec::image::{Healthcheck, RunConfig};
use std::collections::{BTreeMap, BTreeSet};

/// Fills what the request leaves open with what the image says. Pure.
pub(crate) fn merge(mut settings: Settings, image: &RunConfig) -> Settings {
    if settings.user.is_empty() {
        settings.user.clone_from(&image.user);
    }
    if settings.working_dir.is_empty() {
        settings.working_dir.clone_from(&image.working_dir);
    }
    if settings.working_dir.starts_with('/') {
        settings.working_dir = super::mounts::clean(&settings.working_dir);
    }
    if settings.stop_signal.is_empty() {
        settings.stop_signal.clone_from(&image.stop_signal);
    }
    inherit_env(&mut settings.env, &image.env);
    for (name, value) in &image.labels {
        settings.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    settings.exposed_ports.extend(image.exposed_ports.keys().cloned());
    settings.volumes.extend(image.volumes.keys().cloned());
    match &settings.entrypoint {
        // The client's own program does not take the image's arguments.
        Some(program) if program.len() == 1 && program[0].is_empty() => settings.entrypoint = None,
        Some(program) if !program.is_empty() => {}
        _ => {
            if settings.cmd.as_ref().is_none_or(Vec::is_empty) {
                settings.cmd.clone_from(&image.cmd);
            }
            settings.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if settings.shell.is_none() {
        settings.shell.clone_from(&image.shell);
    }
    inherit_health(&mut settings.healthcheck, image.healthcheck.as_ref());
    settings
}

/// The client's variables, then those of the image that it does not name.
fn inherit_env(ours: &mut Vec<String>, theirs: &[String]) {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let named: BTreeSet<String> = ours.iter().map(|entry| name(entry)).collect();
    ours.extend(theirs.iter().filter(|entry| is_variable(entry) && !named.contains(&name(entry))).cloned());
}

/// Entries of an image without `=`, or without a name, are nothing (CVE-2026-57231).
fn is_variable(entry: &str) -> bool {
    entry.find('=').is_some_and(|at| at > 0)
}

/// What a health check leaves open is inherited; without one, the whole.
pub(crate) fn inherit_health(ours: &mut Option<Healthcheck>, theirs: Option<&Healthcheck>) {
    fn fill<T: Clone + Default + PartialEq>(ours: &mut T, theirs: &T) {
        if *ours == T::default() {
            ours.clone_from(theirs);
        }
    }
    let Some(theirs) = theirs else { return };
    let ours = ours.get_or_insert_default();
    fill(&mut ours.test, &theirs.test);
    fill(&mut ours.interval, &theirs.interval);
    fill(&mut ours.timeout, &theirs.timeout);
    fill(&mut ours.start_period, &theirs.start_period);
    fill(&mut ours.start_interval, &theirs.start_interval);
    fill(&mut ours.retries, &theirs.retries);
}

/// `ours` over `base`: a later value replaces an earlier one in its place; a name without value removes it.
pub(crate) fn merge_env(base: &[String], ours: &[String]) -> Vec<String> {
    let base = base.iter().filter(|entry| is_variable(entry));
    let mut merged: Vec<String> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for entry in base.chain(ours) {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        if !entry.contains('=') {
            if let Some(place) = places.remove(&name) {
                merged[place].clear();
            }
            continue;
        }
        match places.get(&name) {
            Some(place) => merged[*place].clone_from(entry),
            None => {
                places.insert(name, merged.len());
                merged.push(entry.clone());
            }
        }
    }
    merged.retain(|entry| !entry.is_empty());
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn variables_are_replaced_in_place_and_removed_by_name() {
        let merged = merge_env(&words("A=1 B=2 C=3 * =x"), &words("B=two A D=4"));
        assert_eq!(merged, words("B=two C=3 D=4"));
    }

    #[test]
    fn the_clients_variables_come_first_and_hide_those_of_the_image() {
        let image = RunConfig { env: words("PATH=/bin HOME=/root LANG=C * =x"), ..RunConfig::default() };
        let settings = merge(Settings { env: words("B=2 HOME LANG=de"), ..Settings::default() }, &image);
        assert_eq!(settings.env, words("B=2 HOME LANG=de PATH=/bin"));
    }

    #[test]
    fn a_program_of_the_clients_drops_the_images_arguments() {
        let image = RunConfig {
            entrypoint: Some(words("/entry")),
            cmd: Some(words("image arguments")),
            ..RunConfig::default()
        };
        for (entrypoint, cmd, expected_entrypoint, expected_cmd) in [
            (None, None, Some("/entry"), Some("image arguments")),
            (None, Some("mine"), Some("/entry"), Some("mine")),
            (Some("/own"), None, Some("/own"), None),
            (Some("/own"), Some("mine"), Some("/own"), Some("mine")),
        ] {
            let settings =
                Settings { entrypoint: entrypoint.map(words), cmd: cmd.map(words), ..Settings::default() };
            let merged = merge(settings, &image);
            let expected = (expected_entrypoint.map(words), expected_cmd.map(words));
            assert_eq!((merged.entrypoint, merged.cmd), expected);
        }
        let cleared =
            Settings { entrypoint: Some(vec![String::new()]), cmd: Some(words("sh")), ..Settings::default() };
        assert_eq!(merge(cleared, &image).entrypoint, None);
    }

    #[test]
    fn what_a_health_check_leaves_open_is_inherited() {
        let theirs = Healthcheck { test: words("CMD a"), interval: 1, retries: 2, ..Healthcheck::default() };
        let mut ours = Some(Healthcheck { interval: 5, ..Healthcheck::default() });
        inherit_health(&mut ours, Some(&theirs));
        assert_eq!(ours, Some(Healthcheck { interval: 5, ..theirs.clone() }));
        let mut none = None;
        inherit_health(&mut none, None);
        assert_eq!(none, None);
        inherit_health(&mut none, Some(&theirs));
        assert_eq!(none, Some(theirs));
    }
}
