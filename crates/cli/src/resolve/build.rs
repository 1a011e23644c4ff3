//! What the arguments of `build` ask for, as far as no file has to be read.

use std::collections::BTreeMap;

use coracle_api::build::{BuildOptions, CacheTarget, NamedContext};
use coracle_api::container::HostConfig;

use super::{Invalid, container, device, resources, size};
use crate::args::build::BuildArgs;

/// Everything but the context, the Dockerfile, secrets and credentials.
pub(crate) fn options(
    args: &BuildArgs,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<BuildOptions, Invalid> {
    let mut arguments = BTreeMap::new();
    for text in &args.build_arg {
        match text.split_once('=') {
            Some((name, value)) => arguments.insert(name.to_owned(), value.to_owned()),
            // One that is not in the environment is not given.
            None => variable(text).and_then(|value| arguments.insert(text.clone(), value)),
        };
    }
    let labels = args.label.iter().map(|text| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    });
    let (inline_cache, cache_to) = cache_targets(&args.cache_to)?;
    Ok(BuildOptions {
        tags: args.tag.clone(),
        target: args.target.clone(),
        arguments,
        labels: labels.collect(),
        no_cache: args.no_cache,
        no_cache_filter: args.no_cache_filter.clone(),
        pull: args.pull,
        squash: args.squash,
        platform: args.platform.clone(),
        cache_from: args.cache_from.iter().map(|text| cache_source(text)).collect::<Result<_, _>>()?,
        inline_cache,
        cache_to,
        host_config: host(args)?,
        allow: args.allow.clone(),
        ..BuildOptions::default()
    })
}

/// A name, alone or as `type=registry,ref=NAME`.
fn cache_source(text: &str) -> Result<String, Invalid> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let mut name = None;
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", "registry")) => {}
            Some(("ref", value)) if !value.is_empty() => name = Some(value.to_owned()),
            _ => {
                let text = format!("unsupported '{field}' of a cache: it is NAME, or type=registry,ref=NAME");
                return Err(Invalid(text));
            }
        }
    }
    name.ok_or_else(|| Invalid(format!("a cache needs a ref: {text}")))
}

fn host(args: &BuildArgs) -> Result<HostConfig, Invalid> {
    Ok(HostConfig {
        memory: args.memory.as_deref().map_or(Ok(0), size::bytes)?,
        nano_cpus: args.cpus.as_deref().map_or(Ok(0), size::nano_cpus)?,
        memory_swap: args.memory_swap.as_deref().map_or(Ok(0), size::bytes_or_unlimited)?,
        cpu_shares: args.cpu_shares,
        cpu_period: args.cpu_period,
        cpu_quota: args.cpu_quota,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
        cgroup_parent: args.cgroup_parent.clone(),
        network_mode: args.network.clone(),
        shm_size: args.shm_size.as_deref().map_or(Ok(0), size::bytes)?,
        extra_hosts: resources::each(&args.add_host, container::extra_host)?,
        ulimits: resources::each(&args.ulimit, device::ulimit)?,
        ..HostConfig::default()
    })
}

/// What is to be in the place of an image or a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContextSource {
    /// What the engine finds by itself.
    Elsewhere(NamedContext),
    /// A directory.
    Directory(String),
}

/// `NAME=VALUE`: the name, and what it is to stand for.
pub(crate) fn context(text: &str) -> Result<(String, ContextSource), Invalid> {
    let invalid = || Invalid(format!("invalid context value: {text}, expected NAME=VALUE"));
    let (name, value) = text.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(invalid)?;
    let is_address =
        ["http://", "https://", "git://", "ssh://"].iter().any(|scheme| value.starts_with(scheme))
            || (value.starts_with("git@") && value.contains(':'));
    let source = match value.strip_prefix("docker-image://") {
        Some(image) => ContextSource::Elsewhere(NamedContext::Image { name: image.to_owned() }),
        None if is_address => ContextSource::Elsewhere(NamedContext::Address { address: value.to_owned() }),
        None if value.contains("://") => return Err(Invalid(format!("unsupported context source: {value}"))),
        None => ContextSource::Directory(value.to_owned()),
    };
    Ok((name.to_owned(), source))
}

/// Where the files of a result go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// As an archive, to a file or to stdout.
    Archive(Option<String>),
    /// Into a directory.
    Directory(String),
}

impl Output {
    /// Whether it is an archive that goes to stdout.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Archive(None))
    }
}

/// `DIR`, `-` for an archive on stdout, `type=local,dest=DIR`, or `type=tar[,dest=FILE]`.
pub(crate) fn output(text: &str) -> Result<Output, Invalid> {
    match text {
        "" => return Err(Invalid("an output is empty: it is a directory, or - for stdout".to_owned())),
        "-" => return Ok(Output::Archive(None)),
        directory if !directory.contains('=') => return Ok(Output::Directory(directory.to_owned())),
        _ => {}
    }
    let (mut kind, mut place) = ("", None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", value)) => kind = value,
            Some(("dest", value)) => place = Some(value).filter(|value| !value.is_empty()),
            _ => return Err(Invalid(format!("unsupported '{field}' of an output: it has type and dest"))),
        }
    }
    match (kind, place) {
        ("tar", place) => Ok(Output::Archive(place.filter(|place| *place != "-").map(str::to_owned))),
        ("local", Some(place)) => Ok(Output::Directory(place.to_owned())),
        ("local", None) => Err(Invalid("an output of type local needs dest=DIRECTORY".to_owned())),
        (other, _) => Err(Invalid(format!(
            "unsupported type {other:?} of an output: it is local or tar; save makes archives of images, and docker buildx \
             build writes them too"
        ))),
    }
}

/// `ID=SOCKET`, or an id alone, whose agent is the one of the environment: the id, and the path of the socket.
pub(crate) fn agent(
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(String, String), Invalid> {
    let (id, path) = match text.split_once('=') {
        Some((id, path)) => (id, Some(path.to_owned())),
        None => (text, variable("SSH_AUTH_SOCK").filter(|path| !path.is_empty())),
    };
    let invalid = || Invalid(format!("invalid SSH agent {text:?}: it is default, or ID=SOCKET"));
    let missing =
        || Invalid(format!("there is no SSH agent for {id}: the variable SSH_AUTH_SOCK is not set"));
    if id.is_empty() {
        return Err(invalid());
    }
    match path.ok_or_else(missing)? {
        path if path.is_empty() => Err(invalid()),
        path => Ok((id.to_owned(), path)),
    }
}

/// Where what was done is to go, of all `--cache-to`: whether into the image, and to which registries.
fn cache_targets(texts: &[String]) -> Result<(bool, Vec<CacheTarget>), Invalid> {
    let (mut inline, mut targets) = (false, Vec::new());
    for text in texts {
        match cache_target(text)? {
            None => inline = true,
            Some(target) => targets.push(target),
        }
    }
    Ok((inline, targets))
}

/// `NAME`, `type=registry,ref=NAME[,mode=min|max]`, or `type=inline`, which is `None`.
fn cache_target(text: &str) -> Result<Option<CacheTarget>, Invalid> {
    if text == "inline" || text == "type=inline" {
        return Ok(None);
    }
    if !text.contains('=') {
        return Ok(Some(CacheTarget { name: text.to_owned(), ..CacheTarget::default() }));
    }
    let mut target = CacheTarget::default();
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", "registry")) => {}
            Some(("ref", name)) => name.clone_into(&mut target.name),
            Some(("mode", mode @ ("min" | "max"))) => target.all_stages = mode == "max",
            _ => {
                let text = format!(
                    "unsupported '{field}' of a cache: it is type=inline, or type=registry,ref=NAME[,mode=max]; \
                     docker buildx build writes others"
                );
                return Err(Invalid(text));
            }
        }
    }
    if target.name.is_empty() {
        Err(Invalid(format!("a cache needs a ref: {text}")))
    } else {
        Ok(Some(target))
    }
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// In a file.
    File(String),
    /// In a variable.
    Variable(String),
}

/// `id=ID[,type=file|env][,src=FILE][,env=VARIABLE]`: the id, and where the secret is. Without a place it is in the
/// variable of that name, or else in the file.
pub(crate) fn secret(
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(String, SecretSource), Invalid> {
    let (mut id, mut file, mut env, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let Some((name, value)) = field.split_once('=') else {
            return Err(Invalid(format!(
                "invalid field '{field}' of a secret: it must be a name=value pair"
            )));
        };
        let place = match name.to_ascii_lowercase().as_str() {
            "id" => &mut id,
            "src" | "source" => &mut file,
            "env" => &mut env,
            "type" if matches!(value, "file" | "env") => &mut kind,
            "type" => return Err(Invalid(format!("unsupported secret type {value:?}"))),
            _ => return Err(Invalid(format!("unexpected key '{name}' in '{field}'"))),
        };
        *place = Some(value.to_owned());
    }
    let id = id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Invalid(format!("a secret needs an id: {text}")))?;
    let is_variable = kind.as_deref() == Some("env");
    let source = match (env, file) {
        (Some(env), None) => SecretSource::Variable(env),
        (None, Some(name)) if is_variable => SecretSource::Variable(name),
        (None, Some(path)) => SecretSource::File(path),
        (Some(_), Some(_)) => return Err(Invalid(format!("a secret is in a file or in a variable: {text}"))),
        (None, None) if is_variable || (kind.is_none() && variable(&id).is_some()) => {
            SecretSource::Variable(id.clone())
        }
        (None, None) => SecretSource::File(id.clone()),
    };
    Ok((id, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_a_directory_an_image_or_at_an_address() {
        let image = |name: &str| ContextSource::Elsewhere(NamedContext::Image { name: name.to_owned() });
        let address =
            |address: &str| ContextSource::Elsewhere(NamedContext::Address { address: address.to_owned() });
        for (text, name, source) in [
            ("base=docker-image://alpine:3", "base", image("alpine:3")),
            ("src=../src", "src", ContextSource::Directory("../src".to_owned())),
            ("a=b=c", "a", ContextSource::Directory("b=c".to_owned())),
            ("web=https://example.com/f", "web", address("https://example.com/f")),
            ("git=git@example.com:x.git", "git", address("git@example.com:x.git")),
        ] {
            assert_eq!(context(text), Ok((name.to_owned(), source)), "{text}");
        }
        for text in ["base", "base=", "a=oci-layout://x"] {
            assert!(context(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_in_files_or_variables() {
        let variable = |name: &str| (name == "TOKEN").then(|| "t".to_owned());
        let file = |path: &str| SecretSource::File(path.to_owned());
        let env = |name: &str| SecretSource::Variable(name.to_owned());
        for (text, id, source) in [
            ("id=a,src=/f", "a", file("/f")),
            ("id=a,source=/f,type=file", "a", file("/f")),
            ("id=a,env=B", "a", env("B")),
            ("id=a,type=env,src=B", "a", env("B")),
            ("id=TOKEN", "TOKEN", env("TOKEN")),
            ("id=file", "file", file("file")),
            ("id=file,type=env", "file", env("file")),
        ] {
            assert_eq!(secret(text, variable), Ok((id.to_owned(), source)), "{text}");
        }
        for text in ["a", "src=/f", "id=", "id=a,type=x", "id=a,nope=1", "id=a,src=/f,env=B"] {
            assert!(secret(text, variable).is_err(), "{text}");
        }
    }
}
