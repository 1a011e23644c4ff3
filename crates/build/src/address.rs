//! Addresses that files of a build come from: of files on web servers, and of Git repositories.
//!
//! Everything that becomes an argument of git later is checked here: references and paths of a repository are the author's
//! of a Dockerfile, and an author may be hostile (CVE-2019-13139, CVE-2017-1000117, CVE-2026-33748).

use crate::error::{Error, Result};
use crate::limits;

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A file, by http or https.
    File(String),
    /// A repository.
    Repository(Repository),
}

/// A Git repository, and what of it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// Where it is: `https://…`, `http://…`, `git://…`, `ssh://…` or `USER@HOST:PATH`. Begins with no dash.
    pub remote: String,
    /// A branch, tag, full reference or commit; what the repository's `HEAD` is if absent. Begins with no dash.
    pub reference: Option<String>,
    /// The directory that is wanted, without dots in it; the whole repository if absent.
    pub subdirectory: Option<String>,
    /// The commit that it must be, or the beginning of its name.
    pub commit: Option<String>,
    /// Whether its history comes along.
    pub keep_git_dir: Option<bool>,
    /// Whether repositories in it come along; they do unless this is false.
    pub submodules: Option<bool>,
}

impl Address {
    /// Reads a source of `ADD`; `None` for a path.
    ///
    /// # Errors
    /// [`Error::Value`] for an address that cannot be used.
    pub fn of_source(text: &str) -> Result<Option<Self>> {
        let Some((scheme, rest)) = text.split_once("://") else {
            let is_short = text.starts_with("git@") && text.contains(':');
            return if is_short { repository(text, text).map(Some) } else { Ok(None) };
        };
        match scheme {
            "git" | "ssh" => repository(text, rest).map(Some),
            "http" | "https" => {
                let path = rest.split(['?', '#']).next().unwrap_or_default();
                if path.ends_with(".git") {
                    return repository(text, rest).map(Some);
                }
                check_host(text, rest)?;
                Ok(Some(Self::File(text.to_owned())))
            }
            _ if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte)) => {
                Err(Error::value("only http, https, git and ssh addresses are supported", text))
            }
            _ => Ok(None),
        }
    }

    /// Reads the address of a context, which may be short: `github.com/…`, `git@…`.
    ///
    /// # Errors
    /// [`Error::Value`] for what is no address.
    pub fn of_context(text: &str) -> Result<Self> {
        if text.starts_with("github.com/") {
            let full = format!("https://{text}");
            return repository(&full, &full["https://".len()..]);
        }
        Self::of_source(text)?.ok_or_else(|| Error::value("it is no address of a context", text))
    }
}

/// `text` is the whole address, `rest` what is behind its scheme.
fn repository(text: &str, rest: &str) -> Result<Address> {
    check_text(text)?;
    check_host(text, rest)?;
    let (whole, fragment) = text.split_once('#').map_or((text, None), |(whole, part)| (whole, Some(part)));
    let (remote, query) =
        whole.split_once('?').map_or((whole, None), |(remote, query)| (remote, Some(query)));
    let mut found = Repository { remote: remote.to_owned(), ..Repository::default() };
    if let Some(query) = query {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            found.take(pair)?;
        }
    }
    if let Some(fragment) = fragment {
        let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
        set_once(&mut found.reference, "reference", reference)?;
        set_once(&mut found.subdirectory, "subdirectory", subdirectory)?;
    }
    found.check()?;
    Ok(Address::Repository(found))
}

impl Repository {
    /// Demands a commit, or the beginning of its name.
    ///
    /// # Errors
    /// [`Error::Value`] for what is none, [`Error::Syntax`] where the address says another.
    pub fn demand(&mut self, commit: &str) -> Result<()> {
        check_commit(commit)?;
        match self.commit.replace(commit.to_owned()) {
            Some(own) if !own.starts_with(commit) && !commit.starts_with(&own) => {
                Err(Error::syntax(format!("the commit of a repository is said twice: {own} and {commit}")))
            }
            Some(own) if own.len() > commit.len() => {
                self.commit = Some(own);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `name=value` of a query.
    fn take(&mut self, pair: &str) -> Result<()> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = unescaped(value)?;
        match name {
            "ref" => set_once(&mut self.reference, "reference", &value),
            "branch" => set_once(&mut self.reference, "reference", &format!("refs/heads/{value}")),
            "tag" => set_once(&mut self.reference, "reference", &format!("refs/tags/{value}")),
            "subdir" => set_once(&mut self.subdirectory, "subdirectory", &value),
            "commit" | "checksum" => set_once(&mut self.commit, "commit", &value),
            "keep-git-dir" => set_truth(&mut self.keep_git_dir, name, &value),
            "submodules" => set_truth(&mut self.submodules, name, &value),
            _ => Err(Error::value("unexpected query of a repository's address", name)),
        }
    }

    fn check(&mut self) -> Result<()> {
        if let Some(reference) = &self.reference
            && !is_reference(reference)
        {
            return Err(Error::value("invalid reference of a repository", reference));
        }
        if let Some(commit) = &self.commit {
            check_commit(commit)?;
        }
        if let Some(path) = &mut self.subdirectory {
            let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
            if parts.contains(&"..") || parts.contains(&".git") {
                return Err(Error::value("invalid subdirectory of a repository", path));
            }
            *path = parts.join("/");
        }
        self.subdirectory = self.subdirectory.take().filter(|path| !path.is_empty());
        Ok(())
    }
}

/// Whether a text is the name of a commit, or its beginning.
///
/// # Errors
/// [`Error::Value`] if it is not.
fn check_commit(text: &str) -> Result<()> {
    let is_commit = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit { Ok(()) } else { Err(Error::value("invalid checksum of a repository", text)) }
}

fn set_once(field: &mut Option<String>, what: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    match field.replace(value.to_owned()) {
        None => Ok(()),
        Some(_) => Err(Error::syntax(format!("the {what} of a repository is said twice: {value}"))),
    }
}

fn set_truth(field: &mut Option<bool>, name: &str, value: &str) -> Result<()> {
    *field = Some(match value {
        "" | "1" | "true" => true,
        "0" | "false" => false,
        _ => return Err(Error::value("invalid value of a repository's address", name)),
    });
    Ok(())
}

/// What git calls a well-formed reference (git-check-ref-format(1)), or a commit.
fn is_reference(text: &str) -> bool {
    let parts_are_fine =
        text.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"));
    let bytes_are_fine = text.bytes().all(|byte| byte > b' ' && byte != 0x7f && !b"~^:?*[\\".contains(&byte));
    let (bad_start, bad_end) = (text.starts_with(['-', '/']), text.ends_with(['.', '/']));
    text.len() <= limits::NAME
        && parts_are_fine
        && bytes_are_fine
        && !bad_start
        && !bad_end
        && !text.contains("..")
        && !text.contains("@{")
        && text != "@"
}

/// Blanks, control characters and what makes git take a text for a command (`ext::…`) have no place in an address.
fn check_text(text: &str) -> Result<()> {
    let is_fine =
        text.len() <= limits::ADDRESS && !text.chars().any(|letter| letter.is_control() || letter == ' ');
    if is_fine && !text.contains("::") {
        Ok(())
    } else {
        Err(Error::value("invalid address of a repository", text))
    }
}

/// ssh would take a host or user that begins with a dash for an option.
fn check_host(text: &str, rest: &str) -> Result<()> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let path = if text.contains("://") { "" } else { host.split_once(':').map_or("", |(_, path)| path) };
    let has_dash = [user, host, path].iter().any(|part| part.starts_with('-'));
    if host.is_empty() || host.starts_with(':') || has_dash || text.chars().any(char::is_control) {
        return Err(Error::value("invalid host of an address", text));
    }
    Ok(())
}

/// `%2F` becomes `/`.
fn unescaped(text: &str) -> Result<String> {
    let invalid = || Error::value("invalid escape of an address", text);
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().ok_or_else(invalid)?, rest.next().ok_or_else(invalid)?];
        let digits =
            std::str::from_utf8(&digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        bytes.push(u8::from_str_radix(digits.ok_or_else(invalid)?, 16).map_err(|_| invalid())?);
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

/// What a file at an address is called by the address: the last part of its path.
pub fn file_name(address: &str) -> Option<String> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next()?.split_once('/')?.1;
    let name = unescaped(path.rsplit('/').next()?).ok()?;
    is_file_name(&name).then_some(name)
}

/// What a `Content-Disposition` calls a file (RFC 6266, without the extended notation).
pub fn disposed_name(header: &str) -> Option<String> {
    let value = header.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("filename").then(|| value.trim())
    })?;
    let name = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    is_file_name(name).then(|| name.to_owned())
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= limits::NAME && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_read_is_no_option_and_leads_nowhere_else(text in r"(https?://|ssh://|git@|git://)?[a-z@:/.-]{0,12}(\.git)?([?#&=:]|ref|subdir|-|\.\./|%2e|%2d|[a-z/]){0,12}") {
            if let Ok(Some(Address::Repository(found))) = Address::of_source(&text) {
                let parts = [Some(&found.remote), found.reference.as_ref(), found.commit.as_ref()];
                prop_assert!(parts.into_iter().flatten().all(|part| !part.starts_with('-')), "{found:?}");
                let subdirectory = found.subdirectory.unwrap_or_default();
                prop_assert!(!subdirectory.starts_with('/') && subdirectory.split('/').all(|part| part != ".."));
            }
        }
    }

    fn found(remote: &str, reference: &str, subdirectory: &str) -> Address {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Address::Repository(Repository {
            remote: remote.to_owned(),
            reference: some(reference),
            subdirectory: some(subdirectory),
            ..Repository::default()
        })
    }

    #[test]
    fn addresses_are_told_from_paths() {
        for path in ["a", "./x.git", "dir/a://b", "github.com/a/b", "a@b:c", "https:/x", "*.txt", "git@host"]
        {
            assert_eq!(Address::of_source(path), Ok(None), "{path}");
        }
        for file in ["http://h/x.tar.gz", "https://h:80/a.git/b?c#d", "https://h"] {
            assert_eq!(Address::of_source(file), Ok(Some(Address::File(file.to_owned()))), "{file}");
        }
        for (text, expected) in [
            ("https://h/x.git", found("https://h/x.git", "", "")),
            ("https://h/x.git#v1", found("https://h/x.git", "v1", "")),
            ("https://h/x.git#v1:docs/./a//", found("https://h/x.git", "v1", "docs/a")),
            ("http://u:p@h/x.git#:docs", found("http://u:p@h/x.git", "", "docs")),
            ("git@h:a/b.git#main", found("git@h:a/b.git", "main", "")),
            ("ssh://git@h:2222/b#main", found("ssh://git@h:2222/b", "main", "")),
            ("git://h/x?branch=feature%2Fx&subdir=/d", found("git://h/x", "refs/heads/feature/x", "d")),
            ("https://h/x.git?tag=v1", found("https://h/x.git", "refs/tags/v1", "")),
        ] {
            assert_eq!(Address::of_source(text), Ok(Some(expected)), "{text}");
        }
        let all = "https://h/x.git?ref=a&commit=0aF&keep-git-dir=1&submodules=false";
        let Ok(Some(Address::Repository(all))) = Address::of_source(all) else { panic!("{all}") };
        assert_eq!(
            (all.commit.as_deref(), all.keep_git_dir, all.submodules),
            (Some("0aF"), Some(true), Some(false))
        );
        assert_eq!(Address::of_context("github.com/a/b#c:d"), Ok(found("https://github.com/a/b", "c", "d")));
        assert!(Address::of_context("a/b").is_err());
    }

    #[test]
    fn nothing_becomes_an_option_of_git_or_ssh() {
        for text in [
            // CVE-2019-13139
            "https://h/r.git#-uX",
            "https://h/r.git#--upload-pack=touch /pwned",
            "https://h/r.git#:--upload-pack=touch /pwned",
            "https://h/r.git?ref=--output%3Dx",
            "https://h/r.git?ref=-x",
            // CVE-2017-1000117
            "ssh://-oProxyCommand=touch/x",
            "ssh://-l@h/x",
            "git@-oProxyCommand=x:y",
            "git@h:-x",
            // CVE-2026-33748
            "https://h/r.git#main:../..",
            "https://h/r.git#main:a/../../..",
            "https://h/r.git#main:.git/hooks",
            "https://h/r.git?subdir=%2e%2e%2fetc",
            "https://h/r.git#a..b",
            "https://h/r.git#a@{1}",
            "https://h/r.git#a b",
            "https://h/r.git#refs/heads/x.lock",
            "https://h/r.git?commit=main",
            "https://h/r.git?what=x",
            "https://h/r.git?ref=a#b",
            "https://h/r.git?ref=%zz",
            "https://h/r.git\n#x",
            "git@h:ext::sh",
            "https:///r.git",
            "http://-h/file",
            "ext://h/x",
            "file:///etc/passwd",
        ] {
            // A subdirectory that begins with a dash is a path, and git never sees it.
            match Address::of_source(text) {
                Err(_) => {}
                Ok(Some(Address::Repository(found))) if text.contains("#:--") => {
                    assert_eq!(found.subdirectory.as_deref(), Some("--upload-pack=touch /pwned"));
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn files_are_called_as_their_address_or_server_says() {
        for (address, name) in [
            ("http://h/a/b.txt?x=/y#z", Some("b.txt")),
            ("http://h/a%20b", Some("a b")),
            ("http://h/", None),
            ("http://h", None),
            ("http://h/a/..", None),
            ("http://h/a%2fb", None),
        ] {
            assert_eq!(file_name(address).as_deref(), name, "{address}");
        }
        for (header, name) in [
            ("attachment; filename=\"a b.tar\"", Some("a b.tar")),
            ("attachment; FileName=x", Some("x")),
            ("inline; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment", None),
            ("attachment; filename=\"..\"", None),
        ] {
            assert_eq!(disposed_name(header).as_deref(), name, "{header}");
        }
    }
}
