//! `POST /build`: the classic door, a context as an archive and answers as lines.

pub(super) mod cache;
mod lines;
pub(super) mod own;
mod running;

use super::images::references;
use super::json_line;
use crate::answer::{self, Answer};
use crate::convert::{host_config, platform, transfer};
use crate::error::Failure;
use crate::input;
use crate::server::Call;
use coracle_api::ProgressMessage;
use coracle_api::auth::AuthConfig;
use coracle_api::container::{HostConfig, Ulimit};
use coracle_api::progress::ErrorDetail;
use coracle_engine::Credentials;
use coracle_engine::build::{
    Allowed, Anew, BuildError, BuildRequest, CacheSource, Recipe, Silent, Source, Wanted,
};
use coracle_spec::{Platform, Reference};
use hyper::StatusCode;
use lines::Lines;
use running::Running;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

/// Credentials by registry, as a document in base64.
const CREDENTIALS: &str = "X-Registry-Config";

pub(super) async fn build(call: Call) -> Answer {
    let asked = platforms(&call)
        .and_then(|platforms| Ok((request(&call, &platforms)?, platforms, references(call.query.all("t"))?)));
    let (request, platforms, references) = match asked {
        Ok(asked) => asked,
        Err(failure) => {
            input::discard(call.request);
            return Err(failure);
        }
    };
    let quiet = call.query.is_on("q");
    let source = match call.query.get("remote").filter(|address| !address.is_empty()) {
        Some(address) => {
            let address = address.to_owned();
            input::discard(call.request);
            Source::Address(address)
        }
        None => Source::Archive(input::reader(call.request)),
    };
    let request = BuildRequest { source, ..request };
    let names = references.iter().map(Reference::familiar).collect();
    let running = Running::begin(call.context, call.client, request, platforms, references, Vec::new());
    let mut lines = Lines::new(running, names, quiet);
    // What fails before anything is told is an answer of its own.
    let first = lines.next().await.map_err(failed)?;
    lines.ready.extend(first);
    let parts = futures_util::stream::unfold(lines, |mut lines| async {
        let line = match lines.next().await {
            Ok(line) => line?,
            Err(error) => failure_line(&error),
        };
        Some((Ok::<_, io::Error>(json_line(&line)), lines))
    });
    Ok(answer::stream("application/json", parts))
}

/// What the parameters ask for. What is not supported is refused, for a result that is not what was asked for is worse
/// than none.
fn request(call: &Call, platforms: &[Platform]) -> Result<BuildRequest, Failure> {
    refuse_unsupported(call)?;
    let text = |name: &str| call.query.get(name).filter(|text| !text.is_empty());
    let arguments: BTreeMap<String, Option<String>> = document(call, "buildargs")?;
    Ok(BuildRequest {
        source: Source::Nothing,
        recipe: Recipe::InContext(text("dockerfile").unwrap_or_default().to_owned()),
        contexts: BTreeMap::new(),
        client: Arc::new(Silent { credentials: credentials(call) }),
        wanted: Wanted {
            target: text("target").map(str::to_owned),
            // One without a value is not given.
            arguments: arguments.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            platform: platforms[0].clone(),
            build_platform: Platform::host(),
            ..Wanted::default()
        },
        labels: document(call, "labels")?,
        pull: call.query.is_on("pull"),
        anew: if call.query.is_on("nocache") { Anew::Everything } else { Anew::Nothing },
        squash: call.query.is_on("squash"),
        host: host_config::host_settings(host(call)?)?,
        // A classic client cannot say so.
        allowed: Allowed::default(),
        caches: caches(&document::<Vec<String>>(call, "cachefrom")?)?,
        inline_cache: false,
    })
}

/// Images and caches by their names.
fn caches(names: &[String]) -> Result<Vec<CacheSource>, Failure> {
    let names = names.iter().filter(|name| !name.is_empty());
    let source = |name: &String| match name.parse::<Reference>() {
        Ok(reference) => Ok(CacheSource::Named(reference.or_latest())),
        Err(error) => Err(Failure::invalid(format!("invalid cachefrom {name}: {error}"))),
    };
    names.map(source).collect()
}

/// What is built for.
fn platforms(call: &Call) -> Result<Vec<Platform>, Failure> {
    platform::list(call.query.get("platform").unwrap_or_default())
}

/// Limits and network of commands, as a container's creation has them.
fn host(call: &Call) -> Result<HostConfig, Failure> {
    let ulimits: Option<Vec<Ulimit>> = document(call, "ulimits")?;
    let text = |name: &str| call.query.get(name).unwrap_or_default().to_owned();
    Ok(HostConfig {
        memory: number(call, "memory")?,
        memory_swap: number(call, "memswap")?,
        cpu_shares: number(call, "cpushares")?,
        cpu_period: number(call, "cpuperiod")?,
        cpu_quota: number(call, "cpuquota")?,
        shm_size: number(call, "shmsize")?,
        cpuset_cpus: text("cpusetcpus"),
        cpuset_mems: text("cpusetmems"),
        network_mode: text("networkmode"),
        cgroup_parent: text("cgroupparent"),
        extra_hosts: Some(call.query.all("extrahosts").map(str::to_owned).collect()),
        ulimits,
        ..HostConfig::default()
    })
}

fn number(call: &Call, name: &str) -> Result<i64, Failure> {
    let text = call.query.get(name).filter(|text| !text.is_empty());
    let number = text.map(str::parse::<i64>).transpose();
    Ok(number
        .map_err(|_| Failure::invalid(format!("invalid value of {name}: it is no number")))?
        .unwrap_or(0))
}

/// A parameter that is a document.
fn document<T: DeserializeOwned + Default>(call: &Call, name: &str) -> Result<T, Failure> {
    let text = call.query.get(name).filter(|text| !text.is_empty());
    let parsed = text.map(serde_json::from_str::<Option<T>>).transpose();
    let parsed = parsed.map_err(|error| Failure::invalid(format!("invalid {name}: {error}")))?;
    Ok(parsed.flatten().unwrap_or_default())
}

fn refuse_unsupported(call: &Call) -> Result<(), Failure> {
    let given =
        |name: &str| call.query.get(name).is_some_and(|text| !matches!(text, "" | "null" | "[]" | "{}"));
    let refuse = |what: &str| Err(Failure::new(StatusCode::NOT_IMPLEMENTED, what.to_owned()));
    if call.query.get("version") == Some("2") {
        return refuse("BuildKit's protocol is not supported yet by this engine: set DOCKER_BUILDKIT=0");
    }
    for (name, what) in [
        ("outputs", "other outputs than an image are not supported yet by this engine"),
        ("securityopt", "--security-opt is not supported yet for builds by this engine"),
    ] {
        if given(name) {
            return refuse(what);
        }
    }
    match call.query.get("isolation") {
        None | Some("" | "default") => Ok(()),
        Some(other) => {
            Err(Failure::invalid(format!("invalid isolation {other:?}: only default exists on Linux")))
        }
    }
}

/// What cannot be read stands for nobody, as in Docker.
fn credentials(call: &Call) -> HashMap<String, Credentials> {
    let header = call.request.headers().get(CREDENTIALS).and_then(|value| value.to_str().ok());
    let known = header.map(AuthConfig::all_from_header).unwrap_or_default();
    let domain = |address: &str| match address {
        // Docker Hub's address from before registries had names.
        "https://index.docker.io/v1/" => "docker.io".to_owned(),
        address => address
            .trim_start_matches("https://")
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned(),
    };
    known.iter().map(|(address, auth)| (domain(address), transfer::of_auth(auth))).collect()
}

fn failed(error: BuildError) -> Failure {
    match error {
        BuildError::Statement { source: error, .. } | BuildError::Engine(error) => error.into(),
        error @ BuildError::Command { .. } => {
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
    }
}

fn failure_line(error: &BuildError) -> ProgressMessage {
    match error {
        BuildError::Command { code, .. } => ProgressMessage {
            error_detail: Some(ErrorDetail { code: *code, message: error.to_string() }),
            error: error.to_string(),
            ..ProgressMessage::default()
        },
        error => ProgressMessage::failure(error.chain()),
    }
}
