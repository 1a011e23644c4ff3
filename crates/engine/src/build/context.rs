//! The context of a build: an archive, unpacked into a directory of its own.

use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use crate::images::BodyReader;
use coracle_build::Ignored;
use coracle_store::{Copying, Tree, Workspace};
use coracle_sys::rooted::Root;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Mode of the root of a context, whatever the umask and the archive say.
const MODE: Mode = Mode::from_raw_mode(0o755);

/// A context.
pub(super) struct Context {
    pub(super) tree: Tree,
    /// What the ignore file leaves out.
    pub(super) ignored: Ignored,
    /// The text of the Dockerfile.
    pub(super) dockerfile: String,
    /// Goes after the tree.
    _workspace: Workspace,
}

/// Unpacks a context. Everything belongs to root, as what is copied from it does.
pub(super) async fn unpack(shared: &Arc<Shared>, archive: BodyReader, dockerfile: &str) -> Result<Context> {
    let (store, dockerfile) = (Arc::clone(&shared.store), dockerfile.to_owned());
    blocking(move || {
        let opening = || "unpack the context of a build".to_owned();
        let workspace = store.workspace().attempt(opening)?;
        // The workspace is the engine's alone; the root in it is what `COPY . /new` gives its mode to.
        let top = workspace.path().join("context");
        coracle_sys::atomic::create_dir(&top, MODE).attempt(opening)?;
        let tree = Tree::new(Root::open(&top).attempt(opening)?, &[]).attempt(opening)?;
        let copying = Copying { owner: Some((0, 0)), ..Copying::default() };
        tree.unpack(Path::new("/"), archive, copying).map_err(|error| of_input(error, opening))?;
        let (name, text) = read(&tree, &dockerfile)?;
        // A Dockerfile may have an ignore file of its own beside it.
        let own = read_if_there(&tree, &format!("{name}.dockerignore"))?;
        let ignore = match own {
            Some(own) => Some(own),
            None => read_if_there(&tree, ".dockerignore")?,
        };
        let ignored = Ignored::parse(&ignore.unwrap_or_default()).map_err(super::invalid)?;
        Ok(Context { tree, ignored, dockerfile: text, _workspace: workspace })
    })
    .await?
}

fn read(tree: &Tree, name: &str) -> Result<(String, String)> {
    let names: &[&str] = if name.is_empty() { &["Dockerfile", "dockerfile"] } else { &[name] };
    for name in names {
        if let Some(text) = read_if_there(tree, name)? {
            return Ok(((*name).to_owned(), text));
        }
    }
    let name = names[0];
    Err(Error::Invalid(format!("Cannot locate specified Dockerfile: {name} is not in the context")))
}

/// A small text of the context. Links are followed inside it.
fn read_if_there(tree: &Tree, name: &str) -> Result<Option<String>> {
    let reading = || format!("read {name} of the context");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = match tree.root().open_file(name, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => return Ok(None),
        // The name and the links are the client's.
        Err(error) if matches!(error.errno(), Some(Errno::LOOP | Errno::INVAL | Errno::NAMETOOLONG)) => {
            return Err(Error::Invalid(coracle_spec::full_text(&error)));
        }
        Err(error) => return Err(error).attempt(reading),
    };
    if !file.metadata().attempt(reading)?.is_file() {
        return Err(Error::Invalid(format!("{name} of the context is no file")));
    }
    let mut text = Vec::new();
    let limit = coracle_build::limits::TEXT as u64;
    file.take(limit + 1).read_to_end(&mut text).attempt(reading)?;
    if text.len() as u64 > limit {
        return Err(Error::Invalid(format!("{name} of the context is larger than {limit} bytes")));
    }
    let text = String::from_utf8(text);
    text.map(Some).map_err(|_| Error::Invalid(format!("{name} of the context is no text")))
}

/// What is wrong with an archive is the client's.
pub(super) fn of_input(error: coracle_store::Error, action: impl FnOnce() -> String) -> Error {
    if error.is_input() {
        return Error::Invalid(coracle_spec::full_text(&error));
    }
    Error::Failed { action: action(), source: Box::new(error) }
}
