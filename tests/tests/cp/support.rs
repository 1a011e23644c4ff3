//! What the tests of `docker cp` share: containers that remove themselves, archives, and requests by hand.

use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// A container that runs or does not, and is removed at the end of the test.
pub(crate) struct Container<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) name: String,
}

impl<'a> Container<'a> {
    pub(crate) fn running(engine: &'a Engine, name: &str, options: &[&str]) -> Self {
        let name = engine.name(name);
        let run = [&["run", "-d", "--network", "none", "--name", &name], options, &[SMALL, "sleep", "1000"]];
        engine.docker(&run.concat()).ok();
        Self { engine, name }
    }

    /// One that has run `script` and ended.
    pub(crate) fn stopped(engine: &'a Engine, name: &str, options: &[&str], script: &str) -> Self {
        let name = engine.name(name);
        let run = [&["run", "--network", "none", "--name", &name], options, &[SMALL, "sh", "-c", script]];
        engine.docker(&run.concat()).ok();
        Self { engine, name }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}:{path}", self.name)
    }

    pub(crate) fn exec(&self, script: &str) -> String {
        self.engine.docker(&["exec", &self.name, "sh", "-c", script]).ok()
    }

    pub(crate) fn copy_in(&self, options: &[&str], from: &Path, to: &str) -> Output {
        let from = from.to_str().unwrap();
        self.engine.docker(&[&["cp"], options, &[from, &self.at(to)]].concat())
    }

    pub(crate) fn copy_out(&self, options: &[&str], from: &str, to: &Path) -> Output {
        let to = to.to_str().unwrap();
        self.engine.docker(&[&["cp"], options, &[&self.at(from), to]].concat())
    }

    /// The archive of a path: names, and what each is.
    pub(crate) fn archive(&self, path: &str) -> BTreeMap<String, String> {
        let output = self.engine.command("docker").args(["cp", &self.at(path), "-"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        listing(&output.stdout)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.engine.docker(&["rm", "-f", "-v", &self.name]);
    }
}

/// Names in an archive with their type or content, mode and owner.
pub(crate) fn listing(archive: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(archive);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let what = match entry.header().entry_type() {
            tar::EntryType::Directory => "directory".to_owned(),
            tar::EntryType::Symlink => format!("-> {}", entry.link_name().unwrap().unwrap().display()),
            tar::EntryType::Link => format!("= {}", entry.link_name().unwrap().unwrap().display()),
            tar::EntryType::Regular => String::from_utf8_lossy(&content).into_owned(),
            other => format!("{other:?}"),
        };
        let header = entry.header();
        let (mode, uid, gid) =
            (header.mode().unwrap() & 0o7777, header.uid().unwrap(), header.gid().unwrap());
        found.insert(name, format!("{what} {mode:o} {uid}:{gid}"));
    }
    found
}

/// An archive of files, and of directories by names that end in a slash.
pub(crate) fn tar_of(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if name.ends_with('/') { 0o755 } else { 0o644 });
        header.set_size(content.len() as u64);
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A directory of the test with a tree in it: `tree/{file,sub/deep,link}`.
pub(crate) fn tree(engine: &Engine) -> PathBuf {
    let tree = engine.directory().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(tree.join("sub/deep"), "deep").unwrap();
    symlink("sub/deep", tree.join("link")).unwrap();
    tree
}

/// Sends an archive to a path as a client does that is not the command.
pub(crate) fn put(engine: &Engine, container: &str, path: &str, archive: &[u8]) -> (u16, String) {
    engine.upload("PUT", &format!("/v1.44/containers/{container}/archive?path={path}"), archive)
}

pub(crate) fn compress(program: &str, content: &[u8]) -> Vec<u8> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child =
        Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    child.wait_with_output().unwrap().stdout
}

pub(crate) fn ask(engine: &Engine, method: &str, container: &str, path: &str) -> String {
    use std::io::Write;
    let mut stream = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
    let head = format!(
        "{method} /v1.44/containers/{container}/archive?path={path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The decoded description of a path.
pub(crate) fn header(answer: &str) -> Option<String> {
    let line =
        answer.lines().find(|line| line.to_ascii_lowercase().starts_with("x-docker-container-path-stat:"))?;
    let text = line.split_once(':')?.1.trim().trim_end_matches('=');
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.chars() {
        bits = bits << 6 | u32::try_from(alphabet.find(letter)?).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Everything about the directory that a change would show in, and what lies in it.
pub(crate) fn oracle(top: &Path) -> Vec<String> {
    let mut paths: Vec<PathBuf> = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.push(top.to_owned());
    let describe = |path: &PathBuf| {
        let m = path.symlink_metadata().unwrap();
        format!("{} {:o} {} {} {} {}", path.display(), m.mode(), m.uid(), m.size(), m.ctime(), m.ctime_nsec())
    };
    paths.iter().map(describe).collect()
}
