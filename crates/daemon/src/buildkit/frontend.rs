//! The options of a build, as clients write them, and what the engine is asked for. What would change the result and is
//! not supported is refused by its name; what only describes where a build comes from is not needed.

use super::cache_options::Imports;
use super::contexts::{self, Named};
use super::questions::Question;
use crate::convert::{host_config, platform};
use coracle_api::container::{HostConfig, Ulimit};
use coracle_buildkit::Failure;
use coracle_engine::build::{Anew, Wanted};
use coracle_engine::containers::settings::HostSettings;
use coracle_spec::{Platform, truth};
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

/// Where contexts are that a client has read from its standard input.
const UPLOADS: &str = "http://buildkit-session/";
/// How options begin that name the session that lends a directory.
const LENDER: &str = "local-sessionid:";
/// The usual name of a Dockerfile.
const RECIPE: &str = "Dockerfile";

/// Where the context of a build is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// A directory that the client lends by this name.
    Directory(String),
    /// An archive that the client has read, at this path.
    Upload(String),
    /// A repository or a file at an address.
    Address(String),
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// What is asked instead of building.
    pub(super) question: Option<Question>,
    pub(super) context: Context,
    /// The directory of the Dockerfile by the name that the client lends it by; none, where it is in the context.
    pub(super) recipe: Option<String>,
    /// The Dockerfile's path in that.
    pub(super) file: String,
    /// What is in the place of images and stages.
    pub(super) contexts: BTreeMap<String, Named>,
    /// The sessions that lend directories, by the names of these, where it is not the one that asks.
    pub(super) lenders: HashMap<String, String>,
    pub(super) wanted: Wanted,
    /// What is built for: at least one, none twice.
    pub(super) platforms: Vec<Platform>,
    /// Whether there is a result for each of them, also of one alone.
    pub(super) is_for_several: bool,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) pull: bool,
    pub(super) anew: Anew,
    pub(super) host: HostSettings,
    pub(super) caches: Imports,
}

/// An option, taken apart.
enum Attribute<'a> {
    Argument(&'a str),
    Label(&'a str),
    /// Has no effect on the result, or none that is not had anyway.
    Description,
    /// Taken by its name.
    Known,
    Foreign,
}

fn attribute<'a>(key: &'a str, value: &str) -> Attribute<'a> {
    if let Some(name) = key.strip_prefix("build-arg:") {
        return Attribute::Argument(name);
    }
    if let Some(name) = key.strip_prefix("label:") {
        return Attribute::Label(name);
    }
    match key {
        "requestid" | "filename" | "target" | "platform" | "no-cache" | "image-resolve-mode"
        | "add-hosts" | "force-network-mode" | "cgroup-parent" | "shm-size" | "ulimit" | "context"
        | "contextkey" | "dockerfilekey" | "source" | "cache-imports" | "cache-from" | "multi-platform" => {
            Attribute::Known
        }
        // What the client can do, and where the sources come from.
        "frontend.caps" | "cmdline" => Attribute::Description,
        _ if key.starts_with("vcs:") => Attribute::Description,
        _ if key.starts_with(LENDER) || contexts::is_one(key) => Attribute::Known,
        // What is told of the result is no business of who makes it.
        "attest:provenance" => Attribute::Description,
        _ if key.starts_with("attest:") && value.contains("disabled=true") => Attribute::Description,
        _ => Attribute::Foreign,
    }
}

fn refused(what: impl Into<String>) -> Failure {
    Failure::new(what)
}

fn invalid(what: impl Into<String>) -> Failure {
    Failure::new(what)
}

/// What the options of a build by this frontend ask for.
///
/// # Errors
/// What cannot be done, by the option's name.
pub(super) fn read(frontend: &str, attributes: &HashMap<String, String>) -> Result<Asked, Failure> {
    let text = |name: &str| attributes.get(name).map(String::as_str).filter(|text| !text.is_empty());
    check_language(frontend, text("source"))?;
    check_language("gateway.v0", text("build-arg:BUILDKIT_SYNTAX").or(Some(LANGUAGE)))?;
    let (mut arguments, mut labels) = (BTreeMap::new(), BTreeMap::new());
    let mut foreign = Vec::new();
    for (key, value) in attributes {
        match attribute(key, value) {
            Attribute::Argument(name) => drop(arguments.insert(name.to_owned(), value.clone())),
            Attribute::Label(name) => drop(labels.insert(name.to_owned(), value.clone())),
            Attribute::Known | Attribute::Description => {}
            Attribute::Foreign => foreign.push(key.as_str()),
        }
    }
    foreign.sort_unstable();
    if foreign.contains(&"attest:sbom") {
        return Err(refused(
            "SBOM attestations are not supported: what lists the contents of an image is a program of another image, and \
             this engine runs none on its own account",
        ));
    }
    if let Some(key) = foreign.first() {
        return Err(refused(format!("the build option {key} is not supported yet by this engine")));
    }
    let platforms = platform::list(text("platform").unwrap_or_default());
    let platforms = platforms.map_err(|failure| invalid(failure.message))?;
    let is_for_several = is_for_several(text("multi-platform"), platforms.len())?;
    let context = context(text("context"), text("contextkey"));
    let key = text("dockerfilekey").map(str::to_owned);
    let recipe = match context {
        Context::Directory(_) => Some(key.unwrap_or_else(|| "dockerfile".to_owned())),
        Context::Upload(_) | Context::Address(_) => key,
    };
    Ok(Asked {
        question: text("requestid").map(Question::of).transpose()?,
        recipe,
        context,
        file: text("filename").unwrap_or(RECIPE).to_owned(),
        contexts: contexts::read(attributes)?,
        lenders: lenders(attributes),
        wanted: Wanted {
            target: text("target").map(str::to_owned),
            arguments,
            platform: platforms[0].clone(),
            build_platform: Platform::host(),
            ..Wanted::default()
        },
        platforms,
        is_for_several,
        labels,
        pull: pull(text("image-resolve-mode"))?,
        anew: anew(attributes.get("no-cache")),
        host: host(attributes)?,
        caches: caches(text("cache-imports"), text("cache-from")),
    })
}

/// What stands for the language that this engine has.
const LANGUAGE: &str = "docker/dockerfile";

/// Refuses languages that are others than that of Dockerfiles.
fn check_language(frontend: &str, source: Option<&str>) -> Result<(), Failure> {
    match (frontend, source) {
        ("dockerfile.v0", _) => Ok(()),
        ("gateway.v0", Some(source)) => {
            let name = source.split('@').next().unwrap_or_default();
            let name =
                name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name);
            let name = name.strip_prefix("docker.io/").unwrap_or(name);
            match name {
                LANGUAGE | "docker/dockerfile-upstream" => Ok(()),
                _ => Err(refused(format!(
                    "the language of {source} is not supported: this engine runs no frontends of images, and has \
                     only Dockerfiles"
                ))),
            }
        }
        ("gateway.v0", None) => Err(invalid("the frontend gateway.v0 needs a source")),
        (other, _) => Err(refused(format!("the frontend {other} is not supported by this engine"))),
    }
}

fn context(address: Option<&str>, key: Option<&str>) -> Context {
    let Some(address) = address else {
        return Context::Directory(key.unwrap_or("context").to_owned());
    };
    match address.strip_prefix(UPLOADS) {
        Some(path) => Context::Upload(format!("/{path}")),
        None => Context::Address(address.to_owned()),
    }
}

fn lenders(attributes: &HashMap<String, String>) -> HashMap<String, String> {
    let lender =
        |(key, session): (&String, &String)| Some((key.strip_prefix(LENDER)?.to_owned(), session.clone()));
    attributes.iter().filter_map(lender).collect()
}

fn is_for_several(text: Option<&str>, platforms: usize) -> Result<bool, Failure> {
    let Some(text) = text else { return Ok(platforms > 1) };
    match truth(text) {
        Some(false) if platforms > 1 => {
            Err(invalid("multi-platform=false contradicts a build for several platforms"))
        }
        Some(is_for_several) => Ok(is_for_several),
        None => Err(invalid(format!("invalid boolean value for multi-platform: {text}"))),
    }
}

/// Whether images are pulled although they are here.
pub(super) fn pull(mode: Option<&str>) -> Result<bool, Failure> {
    match mode {
        None | Some("default" | "local") => Ok(false),
        Some("pull") => Ok(true),
        Some(other) => Err(invalid(format!("invalid image-resolve-mode: {other}"))),
    }
}

/// The option without a value means everything.
fn anew(stages: Option<&String>) -> Anew {
    match stages.map(String::as_str) {
        None => Anew::Nothing,
        Some("") => Anew::Everything,
        Some(stages) => Anew::Stages(list(Some(stages)).map(str::to_owned).collect()),
    }
}

fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Network and limits of commands, as a container's creation has them.
fn host(attributes: &HashMap<String, String>) -> Result<HostSettings, Failure> {
    let text = |name: &str| attributes.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let network = match text("force-network-mode") {
        None | Some("sandbox" | "default") => "",
        Some(mode @ ("host" | "none")) => mode,
        Some(other) => return Err(invalid(format!("invalid network mode {other:?}"))),
    };
    let hosts = list(text("add-hosts")).map(|pair| match pair.split_once('=') {
        Some((host, address)) => Ok(format!("{host}:{address}")),
        None => Err(invalid(format!("invalid key-value pair: {pair}"))),
    });
    let settings = HostConfig {
        network_mode: network.to_owned(),
        extra_hosts: Some(hosts.collect::<Result<_, _>>()?),
        shm_size: text("shm-size").map(|size| number("shm-size", size)).transpose()?.unwrap_or(0),
        cgroup_parent: text("cgroup-parent").unwrap_or_default().to_owned(),
        ulimits: Some(list(text("ulimit")).map(ulimit).collect::<Result<_, _>>()?),
        ..HostConfig::default()
    };
    host_config::host_settings(settings).map_err(|failure| invalid(failure.message))
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| invalid(format!("invalid value of {name}: {text:?} is no number")))
}

/// `nofile=1024:2048`, or one number for both limits.
fn ulimit(text: &str) -> Result<Ulimit, Failure> {
    let (name, limits) = text.split_once('=').ok_or_else(|| invalid(format!("invalid ulimit {text:?}")))?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    Ok(Ulimit { name: name.to_owned(), soft: number("ulimit", soft)?, hard: number("ulimit", hard)? })
}

fn caches(document: Option<&str>, names: Option<&str>) -> Imports {
    let mut imports = Imports::default();
    document.into_iter().for_each(|text| imports.add_document(text));
    list(names).for_each(|name| imports.add_name(name));
    imports
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_engine::containers::modes::NetworkMode;

    fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn asked(pairs: &[(&str, &str)]) -> Asked {
        read("dockerfile.v0", &attributes(pairs)).unwrap()
    }

    fn refusal(frontend: &str, pairs: &[(&str, &str)]) -> String {
        read(frontend, &attributes(pairs)).unwrap_err().to_proto().message
    }

    #[test]
    fn options_are_what_the_engine_is_asked_for() {
        let asked = asked(&[
            ("filename", "build/Dockerfile.prod"),
            ("target", "final"),
            ("build-arg:VERSION", "1=2"),
            ("build-arg:EMPTY", ""),
            ("label:org.example", "x"),
            ("platform", "linux/arm64"),
            ("no-cache", "one, two"),
            ("image-resolve-mode", "pull"),
            ("add-hosts", "db=10.0.0.1,six=fe80::1"),
            ("force-network-mode", "none"),
            ("shm-size", "1048576"),
            ("ulimit", "nofile=1024:2048,nproc=7"),
            ("cgroup-parent", "/builds"),
            ("vcs:revision", "abc"),
            ("local-sessionid:context", "another"),
            ("frontend.caps", "moby.buildkit.frontend.contexts+forward"),
        ]);
        assert_eq!(asked.context, Context::Directory("context".into()));
        assert_eq!(
            (asked.recipe.as_deref(), asked.file.as_str()),
            (Some("dockerfile"), "build/Dockerfile.prod")
        );
        assert_eq!(asked.wanted.target.as_deref(), Some("final"));
        assert_eq!(asked.wanted.arguments["VERSION"], "1=2");
        assert_eq!(asked.wanted.arguments["EMPTY"], "");
        assert_eq!(asked.wanted.platform.to_string(), "linux/arm64");
        assert_eq!(asked.labels["org.example"], "x");
        assert!(asked.pull);
        assert_eq!(asked.anew, Anew::Stages(vec!["one".into(), "two".into()]));
        assert_eq!(asked.host.network, NetworkMode::parse("none"));
        assert_eq!(asked.lenders["context"], "another");
        assert_eq!(asked.caches, Imports::default());
    }

    #[test]
    fn without_options_a_build_is_the_usual_one() {
        let asked = asked(&[]);
        assert_eq!((asked.file.as_str(), asked.pull, &asked.anew), ("Dockerfile", false, &Anew::Nothing));
        assert_eq!(asked.wanted.platform, Platform::host());
        assert_eq!(self::asked(&[("no-cache", "")]).anew, Anew::Everything);
    }

    #[test]
    fn there_may_be_several_platforms() {
        let several = asked(&[("platform", "linux/amd64,linux/arm64,linux/x86_64")]);
        let names: Vec<String> = several.platforms.iter().map(Platform::to_string).collect();
        assert_eq!(names, ["linux/amd64", "linux/arm64"]);
        assert!(several.is_for_several && !asked(&[("multi-platform", "false")]).is_for_several);
        let one = asked(&[("platform", "linux/arm64"), ("multi-platform", "true")]);
        assert!(one.is_for_several && one.platforms.len() == 1);
        let contradiction =
            refusal("dockerfile.v0", &[("platform", "linux/amd64,linux/arm64"), ("multi-platform", "0")]);
        assert!(contradiction.contains("multi-platform=false"), "{contradiction}");
    }

    #[test]
    fn a_context_may_be_an_archive_or_at_an_address() {
        let upload = asked(&[("context", "http://buildkit-session/abc")]);
        assert_eq!((upload.context, upload.recipe), (Context::Upload("/abc".into()), None));
        let upload = asked(&[("context", "http://buildkit-session/abc"), ("dockerfilekey", "dockerfile")]);
        assert_eq!(upload.recipe.as_deref(), Some("dockerfile"));
        let elsewhere = asked(&[("context", "https://example.com/x.git")]);
        assert_eq!(
            (elsewhere.context, elsewhere.recipe),
            (Context::Address("https://example.com/x.git".into()), None)
        );
        let named = asked(&[("contextkey", "here"), ("dockerfilekey", "there")]);
        assert_eq!(
            (named.context, named.recipe.as_deref()),
            (Context::Directory("here".into()), Some("there"))
        );
    }

    #[test]
    fn the_language_of_dockerfiles_has_several_names() {
        for source in [
            "docker/dockerfile",
            "docker/dockerfile:1",
            "docker.io/docker/dockerfile:1.7@sha256:abc",
            "docker/dockerfile-upstream:master-labs",
        ] {
            assert!(read("gateway.v0", &attributes(&[("source", source)])).is_ok(), "{source}");
            assert!(
                read("dockerfile.v0", &attributes(&[("build-arg:BUILDKIT_SYNTAX", source)])).is_ok(),
                "{source}"
            );
        }
        for (frontend, pairs, words) in [
            ("gateway.v0", &[("source", "evil/dockerfile:1")][..], "evil/dockerfile:1 is not supported"),
            ("gateway.v0", &[("source", "localhost:5000/docker/dockerfile")], "is not supported"),
            ("gateway.v0", &[], "needs a source"),
            ("dockerfile.v0", &[("build-arg:BUILDKIT_SYNTAX", "evil/x")], "evil/x is not supported"),
            ("other.v1", &[], "the frontend other.v1"),
        ] {
            let refusal = refusal(frontend, pairs);
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (pair, words) in [
            (("some-new-option", "1"), "build option some-new-option"),
            (("context:base", "oci-layout://x"), "the context base is an OCI layout"),
            (("multi-platform", "perhaps"), "invalid boolean value for multi-platform: perhaps"),
            (("attest:sbom", "generator=x"), "SBOM attestations are not supported"),
            (("hostname", "x"), "build option hostname"),
            (("platform", "nonsense/////"), "platform"),
            (("image-resolve-mode", "never"), "invalid image-resolve-mode: never"),
            (("force-network-mode", "mynet"), "invalid network mode"),
            (("add-hosts", "nobody"), "invalid key-value pair: nobody"),
            (("shm-size", "much"), "invalid value of shm-size"),
            (("ulimit", "nofile"), "invalid ulimit"),
            (("ulimit", "nofile=a"), "invalid value of ulimit"),
            (("requestid", "frontend.sing"), "unsupported request frontend.sing"),
        ] {
            let refusal = refusal("dockerfile.v0", &[pair]);
            assert!(refusal.contains(words), "{pair:?}: {refusal}");
        }
        for pair in
            [("attest:provenance", "mode=min,inline-only=true"), ("attest:provenance", "disabled=true")]
        {
            assert!(read("dockerfile.v0", &attributes(&[pair])).is_ok(), "{pair:?}");
        }
    }

    #[test]
    fn caches_of_others_are_given_in_two_ways() {
        let caches = asked(&[
            ("cache-imports", "[{\"Type\":\"registry\",\"Attrs\":{\"ref\":\"a\"}}]"),
            ("cache-from", "a, b"),
        ]);
        assert_eq!((caches.caches.sources.len(), caches.caches.notes.len()), (2, 0));
        assert_eq!(self::asked(&[("cache-imports", "[]")]).caches, Imports::default());
    }
}
