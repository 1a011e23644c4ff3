//! `RUN`: a command, and what it is given for its time.

use super::CommandLine;
use super::flags::Flags;
use crate::error::{Error, Result};
use crate::lex::{self, Line};
use crate::statement::Heredoc;

/// `RUN`. Variables are still in the mounts; those in the command are the shell's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What runs.
    pub command: RunCommand,
    /// What is mounted meanwhile.
    pub mounts: Vec<Mount>,
    /// What it can reach.
    pub network: RunNetwork,
    /// Whether it runs without confinement (`--security=insecure`), which a client has to allow.
    pub insecure: bool,
    /// Devices (`--device`).
    pub devices: Vec<DeviceRequest>,
}

/// Devices of the Container Device Interface that a command is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceRequest {
    /// `vendor/class=name`; `vendor/class` for the first of them, `vendor/class=*` for all; or a class that
    /// specifications give their devices.
    pub name: String,
    /// Whether it is an error when there is none.
    pub required: bool,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunCommand {
    /// A command; here-documents are part of the shell's line.
    Line(CommandLine),
    /// A program whose text stands in the Dockerfile and says in its first line what interprets it.
    Script {
        /// What its file is called.
        name: String,
        /// Its text.
        text: String,
    },
}

/// What a command can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// What the build gives it.
    #[default]
    Default,
    /// Nothing.
    None,
    /// All that the host can, which a client has to allow.
    Host,
}

/// A mount of one command. What has no meaning for its kind is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where.
    pub target: Option<String>,
    /// Which part of what it is taken from.
    pub source: Option<String>,
    /// The stage or image that it is taken from, instead of the context.
    pub from: Option<String>,
    /// Which cache, secret or agent.
    pub id: Option<String>,
    /// Whether it may be written to; by default caches may and the rest may not.
    pub writable: Option<bool>,
    /// What happens when two use one cache.
    pub sharing: Sharing,
    /// Whether it is an error when the secret or agent is not there.
    pub required: bool,
    /// Mode of the cache, secret or socket.
    pub mode: Option<u32>,
    /// Its owner.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// Bytes of a tmpfs, as written.
    pub size: Option<String>,
    /// The variable that holds the secret.
    pub env: Option<String>,
}

/// See [`Mount::kind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that stays from one build to the next.
    Cache,
    /// A file system in memory.
    Tmpfs,
    /// A secret of the client's.
    Secret,
    /// An agent that holds keys.
    Ssh,
}

/// See [`Mount::sharing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Both write.
    #[default]
    Shared,
    /// The second gets another cache.
    Private,
    /// The second waits.
    Locked,
}

pub(super) fn run(line: &Line<'_>, heredocs: &[Heredoc]) -> Result<Run> {
    let mut flags = Flags::new(&line.flags);
    let mounts = flags.all("mount")?.iter().map(|text| mount(text)).collect::<Result<_>>()?;
    let network = match flags.text("network")?.as_deref() {
        None | Some("default") => RunNetwork::Default,
        Some("none") => RunNetwork::None,
        Some("host") => RunNetwork::Host,
        Some(other) => return Err(Error::value("invalid network mode", other)),
    };
    let insecure = match flags.text("security")?.as_deref() {
        None | Some("sandbox") => false,
        Some("insecure") => true,
        Some(other) => return Err(Error::value("security is not supported", other)),
    };
    let devices = flags.all("device")?.iter().map(|text| device(text)).collect::<Result<_>>()?;
    flags.finish()?;
    Ok(Run { command: command(line.rest, heredocs)?, mounts, network, insecure, devices })
}

fn command(rest: &str, heredocs: &[Heredoc]) -> Result<RunCommand> {
    if rest.is_empty() {
        return Err(super::at_least_one("RUN"));
    }
    if let Some(words) = lex::json_list(rest)? {
        return match (words.is_empty(), heredocs.is_empty()) {
            (true, _) => Err(super::at_least_one("RUN")),
            (_, false) => Err(Error::syntax("a command in JSON form takes no here-document")),
            _ => Ok(RunCommand::Line(CommandLine::Exec(words))),
        };
    }
    match heredocs {
        // Nothing but the document: it is the program.
        [only] if rest.starts_with("<<") && !rest.contains(char::is_whitespace) => {
            let text = only.text();
            let is_script = text.starts_with("#!");
            let script = |text| RunCommand::Script { name: file_name(&only.name).to_owned(), text };
            Ok(if is_script { script(text) } else { RunCommand::Line(CommandLine::Shell(text)) })
        }
        _ => {
            let mut line = rest.to_owned();
            heredocs.iter().for_each(|heredoc| line.push_str(&heredoc.written()));
            Ok(RunCommand::Line(CommandLine::Shell(line)))
        }
    }
}

/// `vendor/class=name,required`.
fn device(text: &str) -> Result<DeviceRequest> {
    let mut request = DeviceRequest::default();
    for part in text.split(',') {
        // Of names, which have a `=` as well, the case counts.
        let (key, value) = field(part);
        match (key.as_str(), value) {
            ("required", value) => request.required = truth("required", value.as_deref())?,
            ("name", Some(name)) if request.name.is_empty() => request.name = name,
            ("name", Some(_)) => return Err(Error::value("the name of the device is there already", part)),
            _ if request.name.is_empty() => part.clone_into(&mut request.name),
            _ => return Err(Error::value("unexpected key of a device", &key)),
        }
    }
    if request.name.is_empty() { Err(Error::value("a device has no name", text)) } else { Ok(request) }
}

/// What the file of a here-document is called: its name, as far as that is one of a file.
fn file_name(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or_default();
    if ["", ".", ".."].contains(&last) { "EOF" } else { last }
}

/// `type=cache,target=/x,…`.
fn mount(text: &str) -> Result<Mount> {
    let mut mount = Mount::default();
    let fields: Vec<(String, Option<String>)> = text.split(',').map(field).collect();
    if let Some((_, kind)) = fields.iter().find(|(key, _)| key == "type") {
        mount.kind = kind_of(kind.as_deref().unwrap_or_default())?;
    }
    for (key, value) in &fields {
        set(&mut mount, key, value.as_deref())?;
    }
    let needs_target = matches!(mount.kind, MountKind::Bind | MountKind::Cache | MountKind::Tmpfs);
    match &mount.target {
        None if needs_target => Err(Error::syntax("target is required for this type of mount")),
        _ if mount.kind == MountKind::Secret && mount.id.is_none() && mount.target.is_none() => {
            Err(Error::syntax("a secret needs an id or a target"))
        }
        _ => Ok(mount),
    }
}

fn field(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
        None => (text.trim().to_ascii_lowercase(), None),
    }
}

fn kind_of(text: &str) -> Result<MountKind> {
    Ok(match text {
        "bind" => MountKind::Bind,
        "cache" => MountKind::Cache,
        "tmpfs" => MountKind::Tmpfs,
        "secret" => MountKind::Secret,
        "ssh" => MountKind::Ssh,
        other => return Err(Error::value("unsupported mount type", other)),
    })
}

fn set(mount: &mut Mount, key: &str, value: Option<&str>) -> Result<()> {
    use MountKind::{Bind, Cache, Secret, Ssh, Tmpfs};
    let kinds: &[MountKind] = match key {
        "type" => return Ok(()),
        "target" | "dst" | "destination" => &[Bind, Cache, Tmpfs, Secret, Ssh],
        "source" | "src" | "from" => &[Bind, Cache],
        "rw" | "readwrite" | "ro" | "readonly" => &[Bind, Cache],
        "id" => &[Cache, Secret, Ssh],
        "sharing" => &[Cache],
        "mode" | "uid" | "gid" => &[Cache, Secret, Ssh],
        "required" => &[Secret, Ssh],
        "size" => &[Tmpfs],
        "env" => &[Secret],
        _ => return Err(Error::value("unexpected key of a mount", key)),
    };
    if !kinds.contains(&mount.kind) {
        return Err(Error::value("unexpected key for this type of mount", key));
    }
    match key {
        "rw" | "readwrite" => mount.writable = Some(truth(key, value)?),
        "ro" | "readonly" => mount.writable = Some(!truth(key, value)?),
        "required" => mount.required = truth(key, value)?,
        _ => set_text(mount, key, value.ok_or_else(|| Error::value("missing a value for key", key))?)?,
    }
    Ok(())
}

fn set_text(mount: &mut Mount, key: &str, value: &str) -> Result<()> {
    let text = Some(value.to_owned());
    match key {
        "source" | "src" => mount.source = text,
        "from" => mount.from = text,
        "id" => mount.id = text,
        "size" => mount.size = text,
        "env" => mount.env = text,
        "mode" => mount.mode = Some(number(key, value, 8)?),
        "uid" => mount.uid = Some(number(key, value, 10)?),
        "gid" => mount.gid = Some(number(key, value, 10)?),
        "sharing" => {
            mount.sharing = match value {
                "shared" => Sharing::Shared,
                "private" => Sharing::Private,
                "locked" => Sharing::Locked,
                other => return Err(Error::value("unsupported sharing value", other)),
            };
        }
        _ => mount.target = text,
    }
    Ok(())
}

fn truth(key: &str, value: Option<&str>) -> Result<bool> {
    let Some(text) = value else { return Ok(true) };
    coracle_spec::truth(text).ok_or_else(|| Error::value("invalid value for key", key))
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32> {
    let digits = value.bytes().all(|digit| digit.is_ascii_digit());
    let number = u32::from_str_radix(value, radix).ok().filter(|_| digits);
    number.ok_or_else(|| Error::value("invalid value for key", key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_a_name_and_may_be_required() {
        let request = |name: &str, required| Ok(DeviceRequest { name: name.to_owned(), required });
        for (text, expected) in [
            ("Vendor.com/class=One", request("Vendor.com/class=One", false)),
            ("vendor.com/class=*,required", request("vendor.com/class=*", true)),
            ("required=true,name=class", request("class", true)),
            ("class,required=false", request("class", false)),
        ] {
            assert_eq!(device(text), expected, "{text}");
        }
        for (text, words) in [
            ("", "a device has no name"),
            ("required", "a device has no name: required"),
            ("a,b", "unexpected key of a device: b"),
            ("a,b=c", "unexpected key of a device: b"),
            ("a,name=b", "is there already"),
            ("a,required=perhaps", "invalid value for key: required"),
        ] {
            let error = device(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn mounts_have_the_options_of_their_kind() {
        let cases = [
            ("target=/a", Mount { target: Some("/a".to_owned()), ..Mount::default() }),
            (
                "type=bind,from=base,source=/x,dst=/a,rw",
                Mount {
                    target: Some("/a".to_owned()),
                    from: Some("base".to_owned()),
                    source: Some("/x".to_owned()),
                    writable: Some(true),
                    ..Mount::default()
                },
            ),
            (
                "type=cache,id=go,target=/c,sharing=locked,mode=0700,uid=1,gid=2,ro=false",
                Mount {
                    kind: MountKind::Cache,
                    target: Some("/c".to_owned()),
                    id: Some("go".to_owned()),
                    sharing: Sharing::Locked,
                    mode: Some(0o700),
                    uid: Some(1),
                    gid: Some(2),
                    writable: Some(true),
                    ..Mount::default()
                },
            ),
            (
                "type=secret,id=s,env=S,required",
                Mount {
                    kind: MountKind::Secret,
                    id: Some("s".to_owned()),
                    env: Some("S".to_owned()),
                    required: true,
                    ..Mount::default()
                },
            ),
            ("type=ssh", Mount { kind: MountKind::Ssh, ..Mount::default() }),
        ];
        for (text, expected) in cases {
            assert_eq!(mount(text), Ok(expected), "{text}");
        }
        let refused = [
            ("type=cache", "target is required"),
            ("type=secret", "an id or a target"),
            ("type=nfs,target=/a", "unsupported mount type: nfs"),
            ("target=/a,size=1", "unexpected key for this type of mount: size"),
            ("target=/a,bind-propagation=rshared", "unexpected key of a mount: bind-propagation"),
            ("type=cache,target=/a,sharing=x", "unsupported sharing value: x"),
            ("type=cache,target=/a,mode=+7", "invalid value for key: mode"),
            ("type=secret,id", "missing a value for key: id"),
        ];
        for (text, expected) in refused {
            let error = mount(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
