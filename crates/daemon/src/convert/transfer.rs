//! What pulls and pushes tell, in the words that Docker's clients look for.

use coracle_api::auth::AuthConfig;
use coracle_api::image::{ContentMissing, PushResult, PushedInsteadOfIndex};
use coracle_api::progress::ProgressDetail;
use coracle_api::{ProgressMessage, version};
use coracle_engine::images::{LayerStep, Step};
use coracle_engine::{Credentials, Secret};
use coracle_spec::image::Descriptor;
use hyper::HeaderMap;

/// Who asks, by the request's headers.
pub(crate) fn credentials(headers: &HeaderMap) -> Credentials {
    let header = headers.get(version::REGISTRY_AUTH_HEADER).and_then(|value| value.to_str().ok());
    header.map_or(Credentials::Anonymous, |text| of_auth(&AuthConfig::from_header(text)))
}

/// The credentials of a document.
pub(crate) fn of_auth(auth: &AuthConfig) -> Credentials {
    if !auth.registrytoken.is_empty() {
        return Credentials::RegistryToken(Secret::new(auth.registrytoken.clone()));
    }
    if !auth.identitytoken.is_empty() {
        return Credentials::IdentityToken(Secret::new(auth.identitytoken.clone()));
    }
    match auth.account() {
        Some((username, password)) => Credentials::Basic { username, password: Secret::new(password) },
        None => Credentials::Anonymous,
    }
}

/// The lines that stand for a step.
pub(crate) fn lines(step: Step) -> Vec<ProgressMessage> {
    let plain = |text: String| vec![ProgressMessage { status: text, ..ProgressMessage::default() }];
    match step {
        Step::Pulling { repository, what } => vec![ProgressMessage {
            id: what,
            status: format!("Pulling from {}", path_of(&repository)),
            ..ProgressMessage::default()
        }],
        Step::Fetching(address) => plain(format!("Downloading from {address}")),
        Step::Imported(id) => plain(id.to_string()),
        Step::Pushing { repository } => plain(format!("The push refers to repository [{repository}]")),
        Step::Layer { id, state } => vec![layer(id, state)],
        Step::Warning(text) => plain(format!("Warning: {text}")),
        Step::Pulled(digest) => plain(format!("Digest: {digest}")),
        Step::Pushed(pushed) => {
            let size = i64::try_from(pushed.size).unwrap_or(i64::MAX);
            let digest = pushed.digest.to_string();
            let text = format!("{}: digest: {digest} size: {size}", pushed.tag);
            let aux = serde_json::to_value(PushResult { tag: pushed.tag, digest, size }).ok();
            vec![ProgressMessage { status: text, ..ProgressMessage::default() }, for_programs(aux)]
        }
        Step::Reduced(reduced) => {
            let document = |found: Descriptor| serde_json::to_value(found).unwrap_or_default();
            vec![for_programs(
                serde_json::to_value(PushedInsteadOfIndex {
                    manifest_pushed_instead_of_index: true,
                    original_index: document(reduced.index),
                    selected_manifest: document(reduced.manifest),
                })
                .ok(),
            )]
        }
        Step::ContentMissing(descriptor) => {
            let desc = serde_json::to_value(*descriptor).unwrap_or_default();
            vec![for_programs(serde_json::to_value(ContentMissing { content_missing: true, desc }).ok())]
        }
        Step::Sending { image } => plain(format!("Sending {image}")),
        Step::Delivered { image, id, bytes, total, moved } => {
            let moved = moved.iter().flat_map(|(name, before)| {
                plain(format!("The image {name} there already was {before}, which has lost that name"))
            });
            let arrived = plain(format!("{image}: {id}, sent {bytes} of {total} bytes"));
            moved.chain(arrived).collect()
        }
        Step::Done { reference, newer: true } => {
            plain(format!("Status: Downloaded newer image for {reference}"))
        }
        Step::Done { reference, newer: false } => {
            plain(format!("Status: Image is up to date for {reference}"))
        }
    }
}

/// What a line of progress does not show.
fn for_programs(aux: Option<serde_json::Value>) -> ProgressMessage {
    ProgressMessage { progress_detail: Some(ProgressDetail::default()), aux, ..ProgressMessage::default() }
}

/// Docker leaves the registry out, and says `library` where people do not.
fn path_of(repository: &str) -> String {
    let reference = repository.parse::<coracle_spec::Reference>();
    reference.map_or_else(|_| repository.to_owned(), |reference| reference.path().to_owned())
}

fn layer(id: String, state: LayerStep) -> ProgressMessage {
    let text = match state {
        LayerStep::Wanted => "Pulling fs layer",
        LayerStep::Preparing => "Preparing",
        LayerStep::Waiting => "Waiting",
        LayerStep::Downloading { done, total } => return moving(id, "Downloading", done, total),
        LayerStep::Downloaded => "Download complete",
        LayerStep::Complete => "Pull complete",
        LayerStep::Present => "Already exists",
        LayerStep::Sending { done, total } => return moving(id, "Pushing", done, total),
        LayerStep::Sent => "Pushed",
        LayerStep::PresentThere => "Layer already exists",
        LayerStep::Mounted(from) => return ProgressMessage::status(id, format!("Mounted from {from}")),
    };
    ProgressMessage::status(id, text)
}

fn moving(id: String, what: &str, done: u64, total: u64) -> ProgressMessage {
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let detail = ProgressDetail { current: number(done), total: number(total), ..ProgressDetail::default() };
    ProgressMessage {
        id,
        status: what.to_owned(),
        progress_detail: Some(detail),
        ..ProgressMessage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_is_known_by_the_strongest_of_what_they_send() {
        let auth = |json: serde_json::Value| of_auth(&serde_json::from_value(json).unwrap());
        let kind = |credentials: Credentials| match credentials {
            Credentials::Anonymous => "nobody".to_owned(),
            Credentials::Basic { username, .. } => username,
            Credentials::IdentityToken(_) => "identity".to_owned(),
            Credentials::RegistryToken(_) => "registry".to_owned(),
        };
        for (json, expected) in [
            (serde_json::json!({}), "nobody"),
            (serde_json::json!({"username": "me", "password": "x"}), "me"),
            (serde_json::json!({"username": "me", "identitytoken": "x"}), "identity"),
            (serde_json::json!({"identitytoken": "x", "registrytoken": "y"}), "registry"),
        ] {
            assert_eq!(kind(auth(json.clone())), expected, "{json}");
        }
    }

    #[test]
    fn a_pull_speaks_of_the_path_in_the_registry() {
        let said = |repository: &str| {
            let step = Step::Pulling { repository: repository.to_owned(), what: "latest".to_owned() };
            lines(step).remove(0).status
        };
        assert_eq!(said("debian"), "Pulling from library/debian");
        assert_eq!(said("registry.test:5000/a/b"), "Pulling from a/b");
    }
}
