//! `COPY` and `ADD`: what brings files into a stage.

use super::flags::Flags;
use crate::error::{Error, Result};
use crate::lex::{self, Line};
use crate::statement::{Heredoc, is_heredoc};

/// What both have. Variables are still in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Paths, patterns of paths or addresses, in the order given.
    pub sources: Vec<String>,
    /// Files whose content stands in the Dockerfile; they come after the sources.
    pub inline: Vec<Heredoc>,
    /// Where to; a directory if it ends with a slash or there are several sources.
    pub destination: String,
    /// Whose the files become (`--chown`).
    pub owner: Option<String>,
    /// What mode they get (`--chmod`), in octal or symbolic form.
    pub mode: Option<String>,
    /// Whether they are a layer that does not depend on what is below (`--link`).
    pub link: bool,
    /// Patterns of files that are left out (`--exclude`).
    pub exclude: Vec<String>,
}

impl Transfer {
    /// Whether it depends on nothing below where it goes: it is linked, and its owner needs no look at the users there.
    pub fn stands_alone(&self) -> bool {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        self.link && self.owner.as_ref().is_none_or(|owner| owner.split(':').all(is_number))
    }
}

/// `COPY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What and where to.
    pub files: Transfer,
    /// The stage or image they are taken from, instead of the context.
    pub from: Option<String>,
    /// Whether directories above a source come along (`--parents`).
    pub parents: bool,
}

/// `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// What and where to.
    pub files: Transfer,
    /// Whether the `.git` directory of a repository stays.
    pub keep_git_dir: bool,
    /// The digest of what is fetched.
    pub checksum: Option<String>,
    /// Whether archives are unpacked; by default those of the context are, and those that are fetched are not.
    pub unpack: Option<bool>,
}

pub(super) fn copy(line: &Line<'_>, heredocs: &[Heredoc], escape: char) -> Result<Copy> {
    let mut flags = Flags::new(&line.flags);
    let (from, parents) = (flags.text("from")?, flags.switch("parents")?.unwrap_or(false));
    let files = transfer("COPY", line, heredocs, escape, &mut flags)?;
    flags.finish()?;
    if from.is_some() && !files.inline.is_empty() {
        return Err(Error::syntax("COPY --from cannot be used with here-documents"));
    }
    Ok(Copy { files, from, parents })
}

pub(super) fn add(line: &Line<'_>, heredocs: &[Heredoc], escape: char) -> Result<Add> {
    let mut flags = Flags::new(&line.flags);
    let keep_git_dir = flags.switch("keep-git-dir")?.unwrap_or(false);
    let (checksum, unpack) = (flags.text("checksum")?, flags.switch("unpack")?);
    let files = transfer("ADD", line, heredocs, escape, &mut flags)?;
    flags.finish()?;
    if checksum.is_some() && (files.sources.len() != 1 || !files.inline.is_empty()) {
        return Err(Error::syntax("checksum can't be specified for multiple sources"));
    }
    Ok(Add { files, keep_git_dir, checksum, unpack })
}

fn transfer(
    name: &'static str,
    line: &Line<'_>,
    heredocs: &[Heredoc],
    escape: char,
    flags: &mut Flags,
) -> Result<Transfer> {
    let mut words = match lex::json_list(line.rest)? {
        Some(words) => words,
        None => lex::words(line.rest, escape).into_iter().map(str::to_owned).collect(),
    };
    let destination = words.pop().filter(|_| !words.is_empty()).ok_or_else(|| {
        Error::syntax(format!(
            "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
        ))
    })?;
    if words.iter().any(String::is_empty) || destination.is_empty() {
        return Err(Error::syntax(format!("{name} takes no empty path")));
    }
    words.retain(|word| !is_heredoc(word, escape));
    Ok(Transfer {
        sources: words,
        inline: heredocs
            .iter()
            .map(|heredoc| Heredoc { content: heredoc.text(), ..heredoc.clone() })
            .collect(),
        destination,
        owner: flags.text("chown")?,
        mode: flags.text("chmod")?,
        link: flags.switch("link")?.unwrap_or(false),
        exclude: flags.all("exclude")?,
    })
}
