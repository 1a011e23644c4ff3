//! Git repositories as sources of a build, fetched by the machine's own git: nothing of it is linked, and nothing of the
//! repository runs.
//!
//! Author and server are both foreign. What they say never becomes an option (`--` or `--end-of-options` stands before it,
//! and `coracle_build::Address` has checked it), git speaks the protocols of [`PROTOCOLS`] and no other, also for
//! submodules, reads no configuration but what stands here, and runs no hook, filter, pager or helper (CVE-2019-13139,
//! CVE-2022-39253, CVE-2026-33748).

use crate::error::{Attempt, Error, Result};
use crate::limits::{GIT_OUTPUT, GIT_TIME};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use coracle_build::Repository;
use coracle_registry::Secret;
use rustix::process::{Pid, Signal};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// How repositories are reached. Never `file` or `ext`: they would be this machine's files and commands.
const PROTOCOLS: &str = "http:https:git:ssh";

/// Configuration that holds whatever a repository says.
const SETTINGS: [&str; 15] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.askPass=",
    "credential.helper=",
    "protocol.allow=never",
    "protocol.http.allow=always",
    "protocol.https.allow=always",
    "protocol.git.allow=always",
    "protocol.ssh.allow=always",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    // A server that sends next to nothing is given up.
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
];

/// Variables of the engine's own that git gets: where programs are, and how the network is reached.
const PASSED: [&str; 9] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
];

/// How git calls ssh: with no configuration and no key of this machine's, for whoever serves the repository would see who
/// it is. Keys come from the client's agent, which is not forwarded.
const SSH: &str = "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o ForwardAgent=no -o StrictHostKeyChecking=accept-new \
                   -o UserKnownHostsFile=\"$HOME/known_hosts\"";

/// What a client lends for the way to a repository.
#[derive(Default)]
pub(super) struct Access {
    /// The whole `Authorization` header for http and https.
    pub(super) authorization: Option<Secret>,
    /// The socket of an SSH agent.
    pub(super) agent: Option<PathBuf>,
}

/// A repository that is being fetched into a directory of its own.
pub(super) struct Fetch<'a> {
    pub(super) wanted: &'a Repository,
    pub(super) access: &'a Access,
    /// An empty directory that is nobody else's.
    pub(super) place: &'a Path,
}

/// A repository that was fetched.
pub(super) struct Checkout {
    /// Where its files are.
    pub(super) directory: PathBuf,
    /// The name of the commit.
    pub(super) commit: String,
}

impl Fetch<'_> {
    /// Fetches a commit and writes its files, those of submodules too.
    ///
    /// # Errors
    /// [`Error::Missing`] with what git says, [`Error::Invalid`] for another commit than it had to be, and
    /// [`Error::Unsupported`] where there is no git.
    pub(super) async fn run(&self) -> Result<Checkout> {
        let directory = self.place.join("tree");
        self.git(self.place, ["init", "--quiet", "--template=", "--initial-branch=main", "tree"]).await?;
        self.git(&directory, ["config", "remote.origin.url", &self.wanted.remote]).await?;
        let commit = self.fetch(&directory).await?;
        if let Some(wanted) = &self.wanted.commit
            && !commit.starts_with(&wanted.to_ascii_lowercase())
        {
            return Err(Error::Invalid(format!(
                "expected checksum to match {wanted}, got {commit} of {}",
                self.shown()
            )));
        }
        self.git(&directory, ["checkout", "--quiet", "--force", "--detach", &commit, "--"]).await?;
        if self.wanted.submodules != Some(false) && directory.join(".gitmodules").exists() {
            self.submodules(&directory).await?;
        }
        Ok(Checkout { directory, commit })
    }

    /// Fetches as little as the server allows; the name of the commit.
    async fn fetch(&self, directory: &Path) -> Result<String> {
        let reference = self.wanted.reference.as_deref();
        let shallow =
            ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", "origin"];
        let alone = shallow.into_iter().chain([reference.unwrap_or("HEAD")]);
        let Err(reason) = self.git(directory, alone).await else {
            return self.commit(directory, "FETCH_HEAD").await;
        };
        let is_short = reference.is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if !is_short && reason.to_string().contains("couldn't find remote ref") {
            return Err(self.unknown(reference.unwrap_or("HEAD")));
        }
        // Servers that cannot do with less, and the beginnings of names of commits, need all of it.
        let whole = ["fetch", "--quiet", "--no-recurse-submodules", "--", "origin"];
        let all = ["+refs/*:refs/remotes/origin/*", "+HEAD:refs/remotes/origin/HEAD"];
        if self.git(directory, whole.into_iter().chain(all)).await.is_err() {
            return Err(reason);
        }
        for name in names(reference) {
            if let Ok(commit) = self.commit(directory, &name).await {
                return Ok(commit);
            }
        }
        Err(self.unknown(reference.unwrap_or("HEAD")))
    }

    fn unknown(&self, reference: &str) -> Error {
        Error::Missing(format!("repository {} does not contain ref {reference}", self.shown()))
    }

    async fn commit(&self, directory: &Path, name: &str) -> Result<String> {
        let name = format!("{name}^{{commit}}");
        let output =
            self.output(directory, ["rev-parse", "--quiet", "--verify", "--end-of-options", &name]).await?;
        Ok(output.trim().to_owned())
    }

    async fn submodules(&self, directory: &Path) -> Result<()> {
        let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--checkout"];
        if self.git(directory, update.into_iter().chain(["--depth=1"])).await.is_ok() {
            return Ok(());
        }
        self.git(directory, update).await
    }

    /// The address without what is secret in it.
    fn shown(&self) -> String {
        shown(&self.wanted.remote)
    }

    async fn git<'b>(&self, directory: &Path, arguments: impl IntoIterator<Item = &'b str>) -> Result<()> {
        self.output(directory, arguments).await.map(drop)
    }

    async fn output<'b>(
        &self,
        directory: &Path,
        arguments: impl IntoIterator<Item = &'b str>,
    ) -> Result<String> {
        let mut command = self.command(directory);
        command.args(arguments);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Unsupported(
                "files of a Git repository need the program git, which this machine does not have: install it".to_owned(),
            ),
            _ => Error::Failed { action: "run git".to_owned(), source: Box::new(error) },
        })?;
        let group = Group::of(&child);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let running = async {
            let (said, complained) = futures_util::future::join(bounded(stdout), bounded(stderr)).await;
            let status = child.wait().await;
            status.map(|status| (status, said, complained))
        };
        let slow = || Error::Missing(format!("git has not fetched {} within an hour", self.shown()));
        let ended = tokio::time::timeout(GIT_TIME, running).await.map_err(|_| slow())?;
        let (status, said, complained) = ended.attempt(|| "run git".to_owned())?;
        group.has_ended();
        if status.success() {
            return Ok(said);
        }
        let mut reason = complained.replace(&self.wanted.remote, &self.shown()).trim().to_owned();
        if self.access.authorization.is_some() && reason.contains("returned error: 30") {
            reason.push_str(
                " (it leads elsewhere, and credentials go to the host that is named: name the other address)",
            );
        }
        Err(Error::Missing(format!("failed to fetch the repository {}: {reason}", self.shown())))
    }

    /// git with an environment of ours alone.
    fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new("git");
        command.env_clear().current_dir(directory).kill_on_drop(true).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in PASSED {
            command.envs(std::env::var_os(name).map(|value| (OsStr::new(name), value)));
        }
        command.env("HOME", self.place).env("LC_ALL", "C");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_ATTR_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_ALLOW_PROTOCOL", PROTOCOLS).env("GIT_PROTOCOL_FROM_USER", "0");
        command.env("GIT_CEILING_DIRECTORIES", self.place).env("GIT_LFS_SKIP_SMUDGE", "1");
        command.env("GIT_SSH_COMMAND", SSH);
        if let Some(agent) = &self.access.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        if let (Some(header), Some(origin)) = (&self.access.authorization, origin_of(&self.wanted.remote)) {
            // By the environment: what a program is called with can be read by everybody. Only for the host that was named:
            // git would give the header to whatever that host redirects to as well.
            command.env("GIT_CONFIG_COUNT", "2");
            command.env("GIT_CONFIG_KEY_0", format!("http.{origin}/.extraHeader"));
            command.env("GIT_CONFIG_VALUE_0", format!("Authorization: {}", header.expose()));
            command.env("GIT_CONFIG_KEY_1", format!("http.{origin}/.followRedirects"));
            command.env("GIT_CONFIG_VALUE_1", "false");
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
    }
}

/// git and the programs that it runs, which would go on without it, as long as a server says anything. Killed when nobody
/// waits for them any more.
struct Group(Option<Pid>);

impl Group {
    /// The group that a child leads.
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Its leader was waited for: the number is anybody's from now on.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // All of them may have ended by themselves.
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }
}

/// What a reference is called here once everything was fetched, in git's own order.
fn names(reference: Option<&str>) -> Vec<String> {
    let Some(reference) = reference else { return vec!["refs/remotes/origin/HEAD".to_owned()] };
    let ours = |name: &str| format!("refs/remotes/origin/{name}");
    match reference.strip_prefix("refs/") {
        Some(full) => vec![ours(full)],
        None => vec![
            ours(&format!("tags/{reference}")),
            ours(&format!("heads/{reference}")),
            reference.to_owned(),
        ],
    }
}

/// `https://host:port` of an address of http or https, without a user.
pub(super) fn origin_of(address: &str) -> Option<String> {
    let (scheme, authority, _) = parts(address)?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(format!("{scheme}://{host}"))
}

/// An address of http or https without the user in it, and the header that says who that is (RFC 7617). Git would write
/// both down beside the files (`.git/config`), and so do the addresses of submodules that are relative to it.
pub(super) fn without_user(address: &str) -> (String, Option<Secret>) {
    let named = parts(address)
        .and_then(|(scheme, authority, path)| Some((scheme, authority.rsplit_once('@')?, path)));
    let Some((scheme, (user, host), path)) = named else { return (address.to_owned(), None) };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let pair = [unescaped(name), b":".to_vec(), unescaped(password)].concat();
    (format!("{scheme}://{host}{path}"), Some(Secret::new(format!("basic {}", BASE64.encode(pair)))))
}

/// Scheme, authority and the rest of an address of http or https (RFC 3986, 3.2).
fn parts(address: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) =
        address.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    Some((scheme, authority, rest))
}

/// `%40` becomes `@`; what is no escape stays.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits =
            after.get(..2).filter(|digits| *byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*byte));
        rest = &after[if escaped.is_some() { 2 } else { 0 }..];
    }
    bytes
}

/// An address without a password.
fn shown(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') || scheme.starts_with("http") => {
            format!("{scheme}://xxxxx@{host}/{path}")
        }
        _ => address.to_owned(),
    }
}

/// What a program writes, to its end; of too much the beginning is kept.
async fn bounded(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut piece) = (Vec::new(), vec![0; 4096]);
    // A pipe that cannot be read has ended.
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        let room = GIT_OUTPUT - kept.len();
        kept.extend_from_slice(&piece[..count.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown_and_go_to_nobody_else() {
        for (address, text) in [
            ("https://h/x.git", "https://h/x.git"),
            ("https://u:secret@h/x.git", "https://xxxxx@h/x.git"),
            ("https://token@h:1/x.git", "https://xxxxx@h:1/x.git"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("git@h:x", "git@h:x"),
        ] {
            assert_eq!(shown(address), text, "{address}");
        }
        assert_eq!(origin_of("https://u:p@h:8443/x.git").as_deref(), Some("https://h:8443"));
        assert_eq!(origin_of("ssh://h/x"), None);
    }

    #[test]
    fn users_of_addresses_become_headers() {
        for (address, rest, pair) in [
            ("https://h/x.git", "https://h/x.git", None),
            ("https://u:p%40%3a%zz@h:1/a@b.git", "https://h:1/a@b.git", Some("u:p@:%zz")),
            ("http://token@h", "http://h", Some("token:")),
            ("https://h?u:p@other/x", "https://h?u:p@other/x", None),
            ("ssh://git@h/x", "ssh://git@h/x", None),
            ("git@h:x", "git@h:x", None),
        ] {
            let (found, header) = without_user(address);
            let header = header.map(|header| header.expose().to_owned());
            let expected = pair.map(|pair| format!("basic {}", BASE64.encode(pair)));
            assert_eq!((found.as_str(), header), (rest, expected), "{address}");
        }
    }

    /// `ssh -G` prints what is so after all options, and connects to nobody.
    #[test]
    fn no_key_of_this_machine_is_shown_to_a_server() {
        let script = format!("{SSH} -G host");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "the package openssh-client is installed: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let keys: Vec<&str> = text.lines().filter(|line| line.starts_with("identityfile ")).collect();
        assert_eq!(keys, ["identityfile none"]);
        assert!(text.contains("forwardagent no") && text.contains("batchmode yes"), "{text}");
    }
}
