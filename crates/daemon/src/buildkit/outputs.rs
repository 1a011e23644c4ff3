//! What becomes of the result of a build.

use super::builds::Build;
use super::provenance;
use super::results::Results;
use super::steps::digest_of;
use super::transfer;
use crate::routes::images::references;
use crate::server::Context;
use coracle_buildkit::proto::moby::buildkit::v1::{SolveRequest, Vertex, VertexStatus};
use coracle_buildkit::{Event, now};
use coracle_engine::build::Client;
use coracle_engine::images::{PushRequest, Teller};
use coracle_spec::{Reference, full_text};
use std::collections::HashMap;
use std::sync::Arc;
use tonic::Status;

/// Where a result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// It becomes an image here, with these names, which are pushed if that is asked for.
    Image {
        /// What it is called.
        names: Vec<Reference>,
        /// Whether it goes to the registries of its names.
        push: bool,
    },
    /// Its archive goes to a file of the client.
    Archive {
        /// Which of the client's outputs it is.
        output: usize,
        /// What it is called in the archive.
        names: Vec<Reference>,
    },
    /// An archive of its files goes to a file of the client.
    Files {
        /// Which of the client's outputs it is.
        output: usize,
        /// What becomes of several platforms.
        split: Split,
    },
    /// Its files go to a directory of the client.
    Directory {
        /// Which of the client's outputs it is.
        output: usize,
        /// What becomes of several platforms.
        split: Split,
    },
}

/// What becomes of the files of several platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// Each has a directory.
    Apart,
    /// They are to be in one place, which is not done.
    Together,
}

type Told = HashMap<String, String>;

/// The outputs that a client asks for.
///
/// # Errors
/// What cannot be done, by its name.
pub(super) fn read(request: &SolveRequest) -> Result<Vec<Output>, Status> {
    let older = [(request.exporter_deprecated.as_str(), &request.exporter_attrs_deprecated)];
    let newer = request.exporters.iter().map(|exporter| (exporter.r#type.as_str(), &exporter.attrs));
    // Clients send the first of the new ones as the old one too.
    let all: Vec<_> = if request.exporters.is_empty() { older.to_vec() } else { newer.collect() };
    let outputs = all.into_iter().enumerate().filter(|(_, (kind, _))| !matches!(*kind, "" | "cacheonly"));
    outputs.map(|(output, (kind, attributes))| one(output, kind, attributes)).collect()
}

fn unsupported(what: impl std::fmt::Display) -> Status {
    Status::unknown(format!("{what} is not supported yet by this engine"))
}

fn one(output: usize, kind: &str, attributes: &Told) -> Result<Output, Status> {
    let known: &[&str] = match kind {
        "moby" | "image" => &["name", "push", "push-by-digest", "unpack", "load", "store"],
        "docker" | "oci" => &["name", "tar"],
        "tar" | "local" => &["platform-split"],
        other => return Err(unsupported(format_args!("the output {other}"))),
    };
    let mut names: Vec<&String> = attributes.keys().collect();
    names.sort_unstable();
    if let Some(name) = names.into_iter().find(|name| !known.contains(&name.as_str())) {
        return Err(unsupported(format_args!("the option {name} of the output {kind}")));
    }
    let is = |name: &str, values: &[&str]| {
        attributes.get(name).is_some_and(|text| values.contains(&text.as_str()))
    };
    let (on, off) = (["1", "true"], ["0", "false"]);
    // An image is stored.
    for (name, other) in [("push-by-digest", &on), ("store", &off), ("tar", &off)] {
        if is(name, other) {
            return Err(unsupported(format_args!("the option {name}={} of the output {kind}", other[1])));
        }
    }
    let split = if is("platform-split", &off) { Split::Together } else { Split::Apart };
    Ok(match kind {
        "docker" | "oci" => Output::Archive { output, names: references_of(attributes)? },
        "tar" => Output::Files { output, split },
        "local" => Output::Directory { output, split },
        _ => Output::Image { names: references_of(attributes)?, push: is("push", &on) },
    })
}

fn references_of(attributes: &Told) -> Result<Vec<Reference>, Status> {
    let names = attributes.get("name").map(String::as_str).unwrap_or_default();
    let names: Vec<&str> = names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    references(names.iter().copied())
        .map_err(|failure| Status::unknown(format!("{}: {}", names.join(", "), failure.message)))
}

impl Output {
    /// Puts a result there, and says what clients want to know of it.
    pub(super) async fn put(
        &self,
        context: &Arc<Context>,
        build: &Build,
        results: &Results,
    ) -> Result<Told, Status> {
        match self {
            Self::Image { names, push } => {
                let told =
                    Shown::run(build, "exporting to image", keep(context, build, results, names)).await?;
                if *push {
                    for name in names {
                        let label = format!("pushing {}", name.familiar());
                        Shown::run(build, &label, send(context, build, name)).await?;
                    }
                }
                Ok(told)
            }
            Self::Archive { output, names } => {
                let work = transfer::archive(context, build, results, *output, names);
                Shown::run(build, "exporting to image archive", work).await
            }
            Self::Files { output, split } => {
                split.check(results)?;
                let work = transfer::files(context, build, results, *output);
                Shown::run(build, "exporting to client tarball", work).await.map(|()| Told::new())
            }
            Self::Directory { output, split } => {
                split.check(results)?;
                let work = transfer::directory(context, build, results, *output);
                Shown::run(build, "exporting to client directory", work).await.map(|()| Told::new())
            }
        }
    }
}

impl Split {
    fn check(self, results: &Results) -> Result<(), Status> {
        match (self, results) {
            (Self::Together, Results::Platforms(products)) if products.len() > 1 => Err(Status::unknown(
                "platform-split=false is not supported for several platforms: their files would take each other's place",
            )),
            _ => Ok(()),
        }
    }
}

async fn keep(
    context: &Context,
    build: &Build,
    results: &Results,
    names: &[Reference],
) -> Result<Told, Status> {
    let vertex = digest_of(&build.id, "exporting to image");
    let failed = |error: coracle_engine::Error| Status::unknown(error.chain());
    let attested = provenance::attest(context, build, results, names).await?;
    let (kind, digest, image) = match (&attested, results) {
        (Some(attested), _) => {
            context.engine.keep_attested(attested, names.to_vec()).await.map_err(failed)?;
            ("index", attested.digest(), attested.only_image())
        }
        (None, Results::One(product)) => {
            let id = context.engine.keep_product(product, names.to_vec()).await.map_err(failed)?;
            ("image", id, Some(id))
        }
        (None, Results::Platforms(_)) => {
            let products = results.products();
            let index = context.engine.keep_products(&products, names.to_vec()).await.map_err(failed)?;
            ("index", index, None)
        }
    };
    Shown::note(build, &vertex, &format!("writing {kind} {digest}"));
    for name in names {
        Shown::note(build, &vertex, &format!("naming to {}", name.canonical()));
    }
    let mut told: Told = [("containerimage.digest".to_owned(), digest.to_string())].into();
    // Of several images there is none.
    if let Some(id) = image {
        told.insert("containerimage.config.digest".to_owned(), id.to_string());
    }
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(Reference::canonical).collect();
        told.insert("image.name".to_owned(), names.join(","));
    }
    Ok(told)
}

async fn send(context: &Context, build: &Build, name: &Reference) -> Result<(), Status> {
    let session = context.door.sessions.get(&build.session).await;
    let session = session.map_err(|error| Status::unknown(full_text(&error)))?;
    let caller = super::client::Caller::bare(session, build);
    let credentials =
        caller.credentials(name.domain()).await.map_err(|error| Status::unknown(error.chain()))?;
    let request = PushRequest { reference: name.clone(), platform: None, credentials };
    // Nobody hears how far it is.
    let (told, _) = Teller::channel();
    let pushed = context.engine.images().push(request, &told).await;
    pushed.map(drop).map_err(|error| Status::unknown(error.chain()))
}

/// A part of the work, as clients show it.
pub(super) struct Shown;

impl Shown {
    /// Does it, and shows when it begins and how it ends.
    pub(super) async fn run<T>(
        build: &Build,
        label: &str,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let digest = digest_of(&build.id, label);
        let begun = Vertex { digest, name: label.to_owned(), started: Some(now()), ..Vertex::default() };
        build.progress.tell(Event::Vertex(begun.clone()));
        let done = work.await;
        let error = done.as_ref().err().map(|status| status.message().to_owned()).unwrap_or_default();
        build.progress.tell(Event::Vertex(Vertex { completed: Some(now()), error, ..begun }));
        done
    }

    /// Something that was done at once.
    pub(super) fn note(build: &Build, vertex: &str, what: &str) {
        let time = Some(now());
        build.progress.tell(Event::Status(VertexStatus {
            id: what.to_owned(),
            name: what.to_owned(),
            vertex: vertex.to_owned(),
            timestamp: time,
            started: time,
            completed: time,
            ..VertexStatus::default()
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_buildkit::proto::moby::buildkit::v1::Exporter;

    fn asked(kind: &str, attributes: &[(&str, &str)]) -> Result<Vec<Output>, String> {
        let attrs = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let exporters = vec![Exporter { r#type: kind.into(), attrs }];
        let request = SolveRequest { exporters, ..SolveRequest::default() };
        read(&request).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn an_image_has_the_names_that_were_given() {
        let names = ["docker.io/library/a:latest", "docker.io/library/b:1"].map(|name| name.parse().unwrap());
        let image = Output::Image { names: names.to_vec(), push: false };
        assert_eq!(asked("moby", &[("name", "a, b:1,a:latest"), ("unpack", "true")]), Ok(vec![image]));
        let pushed = asked("image", &[("name", "a"), ("push", "true")]).unwrap();
        assert!(matches!(&pushed[..], [Output::Image { push: true, .. }]));
        assert_eq!(asked("cacheonly", &[]), Ok(Vec::new()));
        assert_eq!(read(&SolveRequest::default()).unwrap(), Vec::new());
    }

    #[test]
    fn outputs_are_numbered_as_the_client_does() {
        let exporter = |kind: &str| Exporter { r#type: kind.into(), ..Exporter::default() };
        let exporters = ["cacheonly", "local", "tar", "oci"].map(exporter).to_vec();
        let all = read(&SolveRequest { exporters, ..SolveRequest::default() }).unwrap();
        let archive = Output::Archive { output: 3, names: Vec::new() };
        let split = Split::Apart;
        assert_eq!(
            all,
            [Output::Directory { output: 1, split }, Output::Files { output: 2, split }, archive]
        );
    }

    #[test]
    fn older_clients_name_one_output() {
        let request = SolveRequest { exporter_deprecated: "moby".into(), ..SolveRequest::default() };
        assert_eq!(read(&request).unwrap(), [Output::Image { names: Vec::new(), push: false }]);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (kind, attributes, words) in [
            ("teleport", &[][..], "the output teleport"),
            ("moby", &[("annotation.x", "y")], "option annotation.x of the output moby"),
            ("moby", &[("push-by-digest", "true")], "option push-by-digest=true"),
            ("oci", &[("tar", "false")], "option tar=false of the output oci"),
            ("docker", &[("compression", "zstd")], "option compression of the output docker"),
            ("moby", &[("name", "UPPER")], "UPPER: invalid reference format"),
            ("image", &[("store", "false")], "option store=false"),
        ] {
            let refusal = asked(kind, attributes).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
        }
    }
}
