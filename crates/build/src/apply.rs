//! What each instruction does to a configuration.

use crate::error::{Error, Result};
use crate::instruction::{Change, CommandLine};
use crate::scope::{Arguments, Resolver};
use crate::{lex, limits, signal};
use coracle_spec::image::RunConfig;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};

/// As many variables are looked for one by one.
const FEW: usize = 4;
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Does what `changes` say, one after the other. An entry point drops arguments that were there before, but for those of
/// an earlier `CMD` among them.
///
/// # Errors
/// What is refused only now, because a variable had to be resolved first. What came before it is done.
pub fn apply_all(config: &mut RunConfig, changes: &[Change]) -> Result<()> {
    let mut has_cmd = false;
    let (arguments, mut resolver) = (Arguments::new(), Resolver::new(lex::ESCAPE));
    for change in changes {
        match change {
            Change::Entrypoint(_) if !has_cmd => config.cmd = None,
            Change::Cmd(_) => has_cmd = true,
            _ => {}
        }
        apply_with(config, change, &arguments, &mut resolver)?;
    }
    Ok(())
}

/// Does what one instruction says. Variables are those of the configuration's environment.
///
/// # Errors
/// As [`apply_all`].
pub fn apply(config: &mut RunConfig, change: &Change) -> Result<()> {
    apply_with(config, change, &Arguments::new(), &mut Resolver::new(lex::ESCAPE)).map(drop)
}

/// As [`apply`], where variables may be arguments of a build too. Returns the change with everything in it resolved.
pub(crate) fn apply_with(
    config: &mut RunConfig,
    change: &Change,
    arguments: &Arguments,
    resolver: &mut Resolver,
) -> Result<Change> {
    let change = Scope { arguments, resolver }.resolve_change(config, change)?;
    match &change {
        Change::Cmd(line) => config.cmd = line.as_ref().map(|line| words(config, line)),
        Change::Entrypoint(line) => config.entrypoint = line.as_ref().map(|line| words(config, line)),
        Change::Env(pairs) => set_variables(&mut config.env, pairs),
        Change::Label(pairs) => config.labels.extend(pairs.iter().cloned()),
        Change::Expose(ports) => {
            config.exposed_ports.extend(ports.iter().map(|port| (port.clone(), nothing())));
        }
        Change::Healthcheck(health) => config.healthcheck = Some(health.clone()),
        Change::OnBuild(trigger) => config.on_build.push(trigger.clone()),
        Change::Shell(shell) => config.shell = Some(shell.clone()),
        Change::StopSignal(signal) => config.stop_signal.clone_from(signal),
        Change::User(user) => config.user.clone_from(user),
        Change::Volume(paths) => config.volumes.extend(paths.iter().map(|path| (path.clone(), nothing()))),
        Change::Workdir(path) => config.working_dir.clone_from(path),
    }
    Ok(change)
}

/// The program and arguments of a command.
pub(crate) fn words(config: &RunConfig, line: &CommandLine) -> Vec<String> {
    match line {
        CommandLine::Exec(words) => words.clone(),
        CommandLine::Shell(line) => {
            let default = || DEFAULT_SHELL.map(str::to_owned).to_vec();
            let mut words = config.shell.clone().filter(|shell| !shell.is_empty()).unwrap_or_else(default);
            words.push(line.clone());
            words
        }
    }
}

/// What variables are looked up in besides the configuration.
struct Scope<'a> {
    arguments: &'a Arguments,
    resolver: &'a mut Resolver,
}

impl Scope<'_> {
    fn resolve(&mut self, config: &RunConfig, word: &str) -> Result<String> {
        self.resolver.resolve(word, &config.env, self.arguments)
    }

    fn resolve_change(&mut self, config: &RunConfig, change: &Change) -> Result<Change> {
        Ok(match change {
            // All of one line see the environment from before it.
            Change::Env(pairs) => Change::Env(self.resolve_pairs(config, pairs)?),
            Change::Label(pairs) => Change::Label(self.resolve_pairs(config, pairs)?),
            Change::Expose(texts) => Change::Expose(self.resolve_ports(config, texts)?),
            Change::StopSignal(text) => Change::StopSignal(self.resolve_signal(config, text)?),
            Change::User(text) => Change::User(self.resolve(config, text)?),
            Change::Volume(paths) => Change::Volume(self.resolve_volumes(config, paths)?),
            Change::Workdir(text) => Change::Workdir(self.resolve_directory(config, text)?),
            Change::Cmd(_)
            | Change::Entrypoint(_)
            | Change::Healthcheck(_)
            | Change::OnBuild(_)
            | Change::Shell(_) => change.clone(),
        })
    }

    fn resolve_pairs(
        &mut self,
        config: &RunConfig,
        pairs: &[(String, String)],
    ) -> Result<Vec<(String, String)>> {
        pairs
            .iter()
            .map(|(name, value)| Ok((self.resolve(config, name)?, self.resolve(config, value)?)))
            .collect()
    }

    /// Each port once, in order.
    fn resolve_ports(&mut self, config: &RunConfig, texts: &[String]) -> Result<Vec<String>> {
        let (mut found, mut ports_left) = (BTreeSet::new(), limits::PORTS);
        for text in texts {
            // A variable may hold several.
            let resolved = self.resolve(config, text)?;
            for port in lex::words(&resolved, self.resolver.escape()) {
                let (first, last, protocol) = ports(port)?;
                let count = usize::from(last - first) + 1;
                ports_left = ports_left
                    .checked_sub(count)
                    .ok_or(Error::TooLarge { what: "number of ports", limit: limits::PORTS })?;
                found.extend((first..=last).map(|number| format!("{number}/{protocol}")));
            }
        }
        Ok(found.into_iter().collect())
    }

    fn resolve_signal(&mut self, config: &RunConfig, text: &str) -> Result<String> {
        let signal = self.resolve(config, text)?;
        if signal::is_signal(&signal) { Ok(signal) } else { Err(Error::value("invalid signal", &signal)) }
    }

    fn resolve_volumes(&mut self, config: &RunConfig, paths: &[String]) -> Result<Vec<String>> {
        let resolve = |path: &String| match self.resolve(config, path)? {
            path if path.is_empty() => Err(Error::syntax("VOLUME specified can not be an empty string")),
            path => Ok(path),
        };
        paths.iter().map(resolve).collect()
    }

    /// Relative to the one before.
    fn resolve_directory(&mut self, config: &RunConfig, text: &str) -> Result<String> {
        match self.resolve(config, text)? {
            path if path.is_empty() => Err(Error::syntax("cannot normalize nothing")),
            path => Ok(absolute(&config.working_dir, &path)),
        }
    }
}

/// Sets variables; one that is there keeps its place. Looks once at each that is there, however many are set.
fn set_variables(env: &mut Vec<String>, pairs: &[(String, String)]) {
    let mut places = HashMap::new();
    for (place, entry) in env.iter().enumerate() {
        let name = entry.split('=').next().unwrap_or_default();
        if pairs.len() > FEW || pairs.iter().any(|(set, _)| set == name) {
            places.entry(name.to_owned()).or_insert(place);
        }
    }
    for (name, value) in pairs {
        let entry = format!("{name}={value}");
        match places.get(name) {
            Some(place) => env[*place] = entry,
            None => {
                places.insert(name.clone(), env.len());
                env.push(entry);
            }
        }
    }
}

/// `80`, `80/udp` or `8000-8010/tcp`. An address and ports of the host in front, as `--publish` takes them, say nothing
/// of an image.
fn ports(text: &str) -> Result<(u16, u16, &'static str)> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let numbers = numbers.rsplit(':').next().unwrap_or(numbers);
    let protocol = ["tcp", "udp", "sctp"].into_iter().find(|known| protocol.eq_ignore_ascii_case(known));
    let protocol = protocol.ok_or_else(|| Error::value("invalid proto", text))?;
    let invalid = || Error::value("invalid containerPort", numbers);
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+')).ok_or_else(invalid);
    let (first, last) = match numbers.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(numbers)?, number(numbers)?),
    };
    if first > last { Err(invalid()) } else { Ok((first, last, protocol)) }
}

/// A path from the root, without empty components, `.` and `..`, for one that may be relative to a directory.
pub(crate) fn absolute(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_changes;
    use serde_json::json;

    fn applied(before: Value, changes: &[&str]) -> Result<Value> {
        let mut config: RunConfig = serde_json::from_value(before).unwrap();
        apply_all(&mut config, &parse_changes(changes)?)?;
        Ok(serde_json::to_value(config).unwrap())
    }

    #[test]
    fn instructions_change_the_configuration() {
        let cases: Vec<(Value, &[&str], Value)> = vec![
            (json!({}), &["CMD a b"], json!({"Cmd": ["/bin/sh", "-c", "a b"]})),
            (json!({}), &["CMD [\"a\"]"], json!({"Cmd": ["a"]})),
            (json!({"Cmd": ["old"]}), &["CMD"], json!({})),
            (
                json!({"Shell": ["/bin/bash", "-lc"]}),
                &["CMD a"],
                json!({"Shell": ["/bin/bash", "-lc"], "Cmd": ["/bin/bash", "-lc", "a"]}),
            ),
            (json!({"Cmd": ["old"]}), &["ENTRYPOINT [\"e\"]"], json!({"Entrypoint": ["e"]})),
            (
                json!({"Cmd": ["old"]}),
                &["CMD [\"new\"]", "ENTRYPOINT [\"e\"]"],
                json!({"Entrypoint": ["e"], "Cmd": ["new"]}),
            ),
            (json!({"Entrypoint": ["old"]}), &["ENTRYPOINT []"], json!({})),
            (
                json!({"Env": ["A=1", "B=2"]}),
                &["ENV A=x C='$A y' D=\"$A z\""],
                json!({"Env": ["A=x", "B=2", "C=$A y", "D=1 z"]}),
            ),
            (json!({"Env": ["A=1"]}), &["ENV A $A:2", "ENV B=$A"], json!({"Env": ["A=1:2", "B=1:2"]})),
            (
                json!({"Labels": {"a": "1"}}),
                &["LABEL a=2 \"b c\"=\"d\""],
                json!({"Labels": {"a": "2", "b c": "d"}}),
            ),
            (
                json!({"Env": ["P=81 82/udp"]}),
                &["EXPOSE 80 $P 90-92/SCTP"],
                json!({"Env": ["P=81 82/udp"], "ExposedPorts": {"80/tcp": {}, "81/tcp": {}, "82/udp": {}, "90/sctp": {}, "91/sctp": {}, "92/sctp": {}}}),
            ),
            (
                json!({}),
                &["EXPOSE 127.0.0.1:8080:80/tcp 1:2"],
                json!({"ExposedPorts": {"80/tcp": {}, "2/tcp": {}}}),
            ),
            (json!({}), &["ONBUILD RUN x", "ONBUILD RUN y"], json!({"OnBuild": ["RUN x", "RUN y"]})),
            (json!({}), &["USER me", "STOPSIGNAL 9"], json!({"User": "me", "StopSignal": "9"})),
            (json!({"Volumes": {"/a": {}}}), &["VOLUME /b"], json!({"Volumes": {"/a": {}, "/b": {}}})),
            (json!({}), &["WORKDIR a", "WORKDIR ../b/./c//"], json!({"WorkingDir": "/b/c"})),
            (json!({"WorkingDir": "/x"}), &["WORKDIR /"], json!({"WorkingDir": "/"})),
            (
                json!({}),
                &["HEALTHCHECK --retries=2 CMD x"],
                json!({"Healthcheck": {"Test": ["CMD-SHELL", "x"], "Retries": 2}}),
            ),
        ];
        for (before, changes, expected) in cases {
            assert_eq!(applied(before, changes), Ok(expected), "{changes:?}");
        }
    }

    #[test]
    fn many_variables_cost_no_more_than_their_number() {
        let line: String = (0..100_000).map(|number| format!(" v{number}={}", number % 7)).collect();
        let begun = std::time::Instant::now();
        let config = applied(json!({"Env": ["v5=x"]}), &[&format!("ENV{line} v5=last")]).unwrap();
        assert_eq!((&config["Env"][0], &config["Env"][1]), (&json!("v5=last"), &json!("v0=0")));
        assert_eq!(config["Env"].as_array().unwrap().len(), 100_000);
        // One by one they would be ten thousand million comparisons.
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        let doubling = vec!["ENV A=$A$A"; 60];
        let many = (0..18).map(|_| "ENV A=$A$A").chain((0..100).map(|_| "LABEL a=$A")).collect();
        let all = vec!["EXPOSE 0-65535 0-65535 0-65535 1"];
        let cases: Vec<(Vec<&str>, &str)> = vec![
            (vec!["EXPOSE x"], "invalid containerPort: x"),
            (vec!["EXPOSE 65536"], "invalid containerPort: 65536"),
            (vec!["EXPOSE 9-8"], "invalid containerPort: 9-8"),
            (vec!["EXPOSE 80/http"], "invalid proto: 80/http"),
            (vec!["STOPSIGNAL NOPE"], "invalid signal: NOPE"),
            (vec!["VOLUME $NOTHING"], "VOLUME specified can not be an empty string"),
            (vec!["USER ${A"], "syntax error: missing '}' in substitution: unexpected end of statement"),
            (all, "number of ports is larger than the 196608 allowed"),
            (many, "sum of all values, in bytes, is larger than the 8388608 allowed"),
            (doubling, "value, in bytes, is larger than the 262144 allowed"),
        ];
        for (changes, expected) in cases {
            let error = applied(json!({"Env": ["A=1"]}), &changes).unwrap_err();
            assert_eq!(error.to_string(), expected, "{:?}", changes[0]);
        }
    }
}
