//! What the arguments of `build` ask for, as far as no file has to be read.

use std::collections::BTreeMap;

use coracle_api::build::BuildOptions;
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
        host_config: host(args)?,
        ..BuildOptions::default()
    })
}

fn host(args: &BuildArgs) -> Result<HostConfig, Invalid> {
    Ok(HostConfig {
        memory: args.memory.as_deref().map_or(Ok(0), size::bytes)?,
        nano_cpus: args.cpus.as_deref().map_or(Ok(0), size::nano_cpus)?,
        cpu_shares: args.cpu_shares,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cgroup_parent: args.cgroup_parent.clone(),
        network_mode: args.network.clone(),
        shm_size: args.shm_size.as_deref().map_or(Ok(0), size::bytes)?,
        extra_hosts: resources::each(&args.add_host, container::extra_host)?,
        ulimits: resources::each(&args.ulimit, device::ulimit)?,
        ..HostConfig::default()
    })
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
