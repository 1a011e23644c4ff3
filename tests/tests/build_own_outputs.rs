//! `coracle build`: what becomes of the result, what is lent, and where others find what was done.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::Context;
use coracle_tests::engine::{programs, wait_until};
use coracle_tests::registry::Registry;
use coracle_tests::{Engine, Output};
use rustix::process::{Pid, Signal};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

/// A server of our own, or nothing: the original has no such command.
fn engine() -> Option<Engine> {
    std::env::var_os("TARGET").is_none().then(Engine::start)
}

fn command(engine: &Engine, context: &Path, arguments: &[&str]) -> Command {
    let mut command = engine.command(programs().join("coracle").to_str().unwrap());
    command.arg("build").args(arguments).arg(context);
    command
}

fn build(engine: &Engine, context: &Path, arguments: &[&str]) -> Output {
    let output = command(engine, context, arguments).output().unwrap();
    Output::new(format!("coracle build {}", arguments.join(" ")), &output)
}

#[test]
fn files_of_a_result_go_to_directories_and_archives_and_leave_no_image() {
    let Some(engine) = engine() else { return };
    let context = Context::new(
        "FROM BASE AS make\nRUN mkdir -p /o/d && echo content >/o/d/f && chmod 750 /o/d/f && ln -s d/f /o/l && chown -R 7:8 /o\n\
         FROM scratch\nCOPY --from=make /o /\nVOLUME /d\n",
        &[],
    );
    let before = engine.docker(&["images", "-aq", "--no-trunc"]).ok();
    let place = tempfile::tempdir().unwrap();
    let (directory, archive) = (place.path().join("new/out"), place.path().join("out.tar"));
    let to_archive = format!("type=tar,dest={}", archive.display());
    let arguments = ["-o", directory.to_str().unwrap(), "--output", &to_archive];
    build(&engine, &context.path(), &arguments).ok();
    let written = directory.join("d/f");
    assert_eq!(fs::read_to_string(&written).unwrap(), "content\n");
    let stat = written.metadata().unwrap();
    assert_eq!((stat.permissions().mode() & 0o7777, stat.uid()), (0o750, 0), "as files of whoever asks");
    assert_eq!(fs::read_link(directory.join("l")).unwrap(), Path::new("d/f"));
    let streamed = command(&engine, &context.path(), &["-q", "-o", "-"]).output().unwrap();
    assert!(streamed.status.success());
    for bytes in [fs::read(&archive).unwrap(), streamed.stdout] {
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().uid().unwrap())
            })
            .collect();
        entries.sort();
        let expected = [("d/", 7), ("d/f", 7), ("l", 7)].map(|(path, uid)| (path.to_owned(), uid));
        assert_eq!(entries, expected);
    }
    assert_eq!(engine.docker(&["images", "-aq", "--no-trunc"]).ok(), before);
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
    assert_eq!(engine.docker(&["volume", "ls", "-q"]).ok(), "");
    // What has a name stays, also where its files are wanted once more without one.
    build(&engine, &context.path(), &["-o", directory.to_str().unwrap(), "-t", "stays"]).ok();
    build(&engine, &context.path(), &["-o", directory.to_str().unwrap()]).ok();
    engine.docker(&["rmi", "stays"]).ok();
    // So does what was built before as an image, though it has none.
    let image = build(&engine, &context.path(), &["-q"]).ok();
    build(&engine, &context.path(), &["-o", directory.to_str().unwrap()]).ok();
    engine.docker(&["rmi", &image]).ok();
    // And one whose id is asked for.
    let id = place.path().join("id");
    let arguments = ["-o", directory.to_str().unwrap(), "--iidfile", id.to_str().unwrap()];
    build(&engine, &context.path(), &arguments).ok();
    engine.docker(&["rmi", &fs::read_to_string(id).unwrap()]).ok();
    for (arguments, words) in [
        (vec!["-o", "type=oci,dest=x"], "save makes archives of images"),
        (vec!["-o", "type=local"], "needs dest"),
        (vec!["-o", "x", "--platform", "linux/amd64,linux/arm64"], "one platform"),
        (vec!["-o", ""], "empty"),
        (vec!["-o", "-", "-o", "type=tar"], "one archive"),
        (vec!["--push"], "--tag"),
    ] {
        build(&engine, &context.path(), &arguments).refused(1, words);
    }
    // A place that cannot be written is told, and nothing stays.
    fs::write(place.path().join("file"), "").unwrap();
    let below = place.path().join("file/below");
    let told = build(&engine, &context.path(), &["-o", below.to_str().unwrap()]);
    assert!(told.code != 0 && told.stderr.contains("file/below"), "{}", told.stderr);
    assert_eq!(engine.docker(&["images", "-aq", "--no-trunc"]).ok(), before);
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn who_is_interrupted_while_files_are_written_leaves_nothing() {
    let Some(engine) = engine() else { return };
    let context = Context::new("FROM BASE\nRUN head -c 33554432 /dev/zero >/large\n", &[]);
    let before = engine.docker(&["images", "-aq", "--no-trunc"]).ok();
    let mut command = command(&engine, &context.path(), &["-o", "-"]);
    let mut building = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It is being written, and cannot go on until somebody reads.
    building.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    assert_ne!(engine.docker(&["ps", "-aq"]).ok(), "");
    let pid = Pid::from_raw(building.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    assert_eq!(building.wait().unwrap().code(), Some(130));
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
    assert_eq!(engine.docker(&["images", "-aq", "--no-trunc"]).ok(), before);
}

#[test]
fn an_image_and_its_cache_go_to_a_registry() {
    let Some(engine) = engine() else { return };
    let registry = Registry::start();
    let (name, cache) = (registry.name("app:1"), registry.name("app:cache"));
    let context = Context::new(
        "FROM BASE AS other\nRUN echo other >/o\nFROM BASE\nCOPY --from=other /o /\nRUN echo made >/f\n",
        &[],
    );
    let to = format!("type=registry,ref={cache},mode=max");
    build(&engine, &context.path(), &["-t", &name, "--push", "--cache-to", &to]).ok();
    let id = build(&engine, &context.path(), &["-q", "-t", &name, "--push"]).ok();
    assert!(id.starts_with("sha256:") && !id.contains('\n'), "the id and nothing else: {id}");
    let both = command(&engine, &context.path(), &["-o", "-", "-t", &name, "--push"]).output().unwrap();
    assert!(both.status.success() && both.stdout.ends_with(&[0; 1024]), "an archive and nothing else");
    let second = Engine::start();
    let output = build(&second, &context.path(), &["-t", &name, "--cache-from", &cache]);
    assert_eq!(output.stderr.matches("CACHED").count(), 3, "{}", output.stderr);
    output.ok();
    second.docker(&["rmi", &name]).ok();
    assert_eq!(second.docker(&["run", "--rm", &name, "cat", "/o", "/f"]).ok(), "other\nmade", "it is pulled");
    second.docker(&["rmi", &name]).ok();
    engine.docker(&["rmi", &name]).ok();
    for (text, words) in [
        ("type=local,dest=x", "unsupported 'type=local'"),
        ("type=registry", "needs a ref"),
        ("type=registry,ref=UPPER/x", "UPPER/x"),
        ("type=registry,ref=a,mode=all", "mode=all"),
    ] {
        let told = build(&engine, &context.path(), &["--cache-to", text]);
        assert!(told.code != 0 && told.stderr.contains(words), "{}", told.stderr);
    }
    let nowhere = build(&engine, &context.path(), &["--cache-to", "127.0.0.1:1/cache:1"]);
    assert!(nowhere.code != 0 && nowhere.stderr.contains("127.0.0.1:1"), "{}", nowhere.stderr);
}

/// Reads what is asked of an agent: it has no keys.
fn agent(listener: &UnixListener) {
    use std::io::Write;
    while let Ok((mut stream, _)) = listener.accept() {
        let mut length = [0; 4];
        while stream.read_exact(&mut length).is_ok() {
            let mut message = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut message).unwrap();
            if message == b"end" {
                return;
            }
            // SSH_AGENT_IDENTITIES_ANSWER without any, draft-miller-ssh-agent, section 4.4.
            stream.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]).unwrap();
        }
    }
}

#[test]
fn agents_are_lent_by_their_sockets() {
    let Some(engine) = engine() else { return };
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let context = Context::new(
        "FROM BASE\nCOPY root /\nRUN --mount=type=ssh,required=true ssh-add -l >/default || true\n\
         RUN --mount=type=ssh,id=other ssh-add -l >/other || true\n",
        &[],
    );
    context.put_program("root", "/usr/bin/ssh-add");
    std::thread::scope(|scope| {
        scope.spawn(|| agent(&listener));
        let other = format!("other={}", socket.display());
        let output = command(&engine, &context.path(), &["-t", "lent", "--ssh", "default", "--ssh", &other])
            .env("SSH_AUTH_SOCK", &socket)
            .output()
            .unwrap();
        let output = Output::new("coracle build --ssh".to_owned(), &output);
        std::io::Write::write_all(&mut UnixStream::connect(&socket).unwrap(), b"\0\0\0\x03end").unwrap();
        output.ok();
    });
    let read = engine.docker(&["run", "--rm", "lent", "cat", "/default", "/other"]).ok();
    assert_eq!(read, ["The agent has no identities."; 2].join("\n"));
    engine.docker(&["rmi", "lent"]).ok();
    let context = Context::new("FROM BASE\nRUN --mount=type=ssh,required=true true\n", &[]);
    let told = build(&engine, &context.path(), &[]);
    assert!(told.code != 0 && told.stderr.contains("default"), "{}", told.stderr);
    drop(listener);
    let gone = build(&engine, &context.path(), &["--ssh", &format!("default={}", socket.display())]);
    assert!(gone.code != 0, "nobody listens there any more");
    let file = format!("default={}", context.path().join("Dockerfile").display());
    build(&engine, &context.path(), &["--ssh", &file]).refused(1, "is no socket");
    let told = command(&engine, &context.path(), &["--ssh", "default"]).env_remove("SSH_AUTH_SOCK").output();
    let told = Output::new("coracle build --ssh default".to_owned(), &told.unwrap());
    told.refused(1, "SSH_AUTH_SOCK is not set");
    let told = command(&engine, &context.path(), &["--ssh", "default"]).env("SSH_AUTH_SOCK", "").output();
    let told = Output::new("coracle build --ssh default".to_owned(), &told.unwrap());
    told.refused(1, "SSH_AUTH_SOCK is not set");
    wait_until("the socket is let go", || fs::remove_file(&socket).is_ok());
}
