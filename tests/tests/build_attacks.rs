//! Hostile Dockerfiles, stages and contexts: what they reach of the machine is nothing. Each line of
//! docs/security-of-builds.md that has no test among those of what it is about has it here.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::{Context, build};
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, Output, race_iterations};
use rustix::fs::{CWD, RenameFlags};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// Everything that can be seen of a directory: names, modes, owners, times, contents.
fn state(directory: &Path) -> String {
    let script =
        "find . -printf '%p %y %m %U:%G %s %T@ %C@ %l\\n' | sort; find . -type f -exec sha256sum {} + | sort";
    let output = Command::new("sh").args(["-c", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// By our own command, which reads the context where it is.
fn own_build(engine: &Engine, context: &Path) -> Output {
    engine.coracle(&["build", "--no-cache", &context.display().to_string()])
}

/// CVE-2024-23652 (BuildKit): what a mount was attached to was removed through a link that led out.
#[test]
fn mounts_below_links_neither_make_nor_remove_anything_of_the_machine() {
    let engine = Engine::start();
    let (canaries, seen) = engine.shared_directory();
    fs::create_dir_all(canaries.join("x/empty")).unwrap();
    fs::write(canaries.join("file"), "").unwrap();
    fs::write(canaries.join("x/full"), "canary").unwrap();
    let before = state(&canaries);
    let seen = seen.display();
    // A link of the image; one that the command puts in the place of the directory above while it is mounted on.
    let text = format!(
        "FROM BASE\nRUN ln -s {seen} /l\n\
         RUN --mount=type=tmpfs,target=/l/x --mount=type=tmpfs,target=/l/new --mount=source=a,target=/l/file true\n\
         RUN --mount=type=tmpfs,target=/m/x/empty --mount=source=a,target=/m/file \
             mv /m /moved; ln -s {seen} /m; ls /m >/dev/null; true\n\
         RUN --mount=type=cache,id={id},target=/n/x rm -rf /n/x/*; mv /n /elsewhere && ln -s {seen} /n; true\n",
        id = engine.name("stub")
    );
    let context = Context::new(&text, &[("a", "A")]);
    build(&engine, &context.path(), &["--no-cache"]).ok();
    assert_eq!(state(&canaries), before);
    fs::remove_dir_all(&canaries).unwrap();
}

/// CVE-2024-1753, CVE-2024-9407 (Buildah): options that were handed on to mount(2) unread, and links that led out.
#[test]
fn mounts_have_no_options_and_places_but_their_own() {
    let engine = Engine::start();
    let files = [
        ("link", "-> /etc"),
        ("up", "-> ../../../../../../etc"),
        ("host", "-> /proc/1/root/etc"),
        ("a", "A"),
    ];
    let refused = |options: &str, complaint: &str| {
        let context = Context::new(&format!("FROM BASE\nRUN --mount={options} true\n"), &files);
        build(&engine, &context.path(), &["--no-cache"]).refused(1, complaint);
    };
    for source in ["link", "up", "host", "link/passwd", "../../../../etc"] {
        refused(&format!("source={source},target=/m"), "not found");
    }
    for option in
        ["bind-propagation=rshared", "exec", "dev", "suid", "options=rw", "relabel=shared", "Z", "U", "idmap"]
    {
        refused(&format!("source=a,target=/m,{option}"), option.split('=').next().unwrap());
    }
    // The original mounts on its own root, and fails at what is missing then.
    let kinds: &[&str] = if engine.is_original() { &[] } else { &["bind", "cache", "tmpfs"] };
    for kind in kinds {
        refused(&format!("type={kind},target=/"), "\"/\"");
        refused(&format!("type={kind},target=/a/.."), "\"/\"");
        refused(&format!("type={kind},target=/proc"), "/proc");
        refused(&format!("type={kind},target=/x/../proc/self/attr"), "/proc");
    }
    refused("from=.,target=/m", "");
    refused("from=../../x,target=/m", "");
    // Upwards from the root of what is below is the root.
    let context = Context::new(
        "FROM BASE AS s\nRUN ln -s /etc /out && ln -s ../../../../../etc /up\nFROM BASE\n\
         RUN --mount=from=s,source=/out,target=/m --mount=from=s,source=/up,target=/n \
             --mount=from=s,source=../../../../etc,target=/o cat /m/plain /n/plain /o/plain | uniq | grep -x 'no program'\n",
        &[],
    );
    build(&engine, &context.path(), &["--no-cache"]).ok();
}

/// CVE-2025-4953 (Podman): what a command wrote into a bind mount stayed in the directory of the context.
#[test]
fn a_context_that_is_read_in_place_stays_as_it_is_byte_for_byte() {
    let engine = Engine::start();
    if engine.is_original() {
        // It has no contexts that are read in place.
        return;
    }
    let files = [("a", "A"), ("d/f", "F"), ("ignored", "I"), (".dockerignore", "ignored\n"), ("l", "-> d/f")];
    let context = Context::new(
        "FROM BASE\nRUN --mount=target=/c,rw cd /c; echo x >a; echo >>d/f; rm l; ln -s / l; chmod 777 . d; chown 7:8 d; \
             touch -t 200001010000 d/f; mkdir new; mv d e; mknod n c 1 3; ln a hard; test ! -e ignored\n\
         RUN --mount=target=/c ! touch /c/a && ! rm /c/a && ! chmod 777 /c/a && ! touch /c/new && ! mount -o remount,rw /c\n\
         RUN --mount=source=a,target=/a,rw echo changed >/a\nCOPY . /all\nRUN rm -rf /all && ! test -e /all\n",
        &files,
    );
    let before = state(&context.path());
    own_build(&engine, &context.path()).ok();
    assert_eq!(state(&context.path()), before);
}

/// CVE-2024-11218, CVE-2024-23651: a directory becomes a link between the look at it and its use.
#[test]
fn a_directory_that_becomes_a_link_meanwhile_leads_nowhere() {
    let engine = Engine::start();
    if engine.is_original() {
        // As above.
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), "canary of the machine\n").unwrap();
    let context = Context::new(
        "FROM BASE\nCOPY d /d\nRUN --mount=source=d,target=/m cat /m/f /d/f && ! grep -r canary /m /d\n",
        &[("d/f", "inside\n")],
    );
    let (directory, link) = (context.path().join("d"), context.path().join("swapped"));
    symlink(outside.path(), &link).unwrap();
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let outputs: Vec<Output> =
            (0..race_iterations(8)).map(|_| own_build(&engine, &context.path())).collect();
        end.store(true, Ordering::Relaxed);
        for output in outputs {
            // It may be missing what it looks for: a link to elsewhere leads to nothing, and what is a link by the time it is
            // read is not read.
            assert!(!output.stderr.contains("canary of"), "{}", output.stderr);
            assert!(matches!(output.code, 0 | 1), "{}", output.stderr);
        }
    });
}

/// What an image calls its users may be anything, and is read by the engine.
#[test]
fn files_of_users_and_destinations_that_are_no_files_stop_nobody() {
    let engine = Engine::start();
    if engine.is_original() {
        // It waits for ever for somebody to write into the pipe.
        return;
    }
    for made in ["mkfifo /etc/passwd", "mknod /etc/passwd c 1 5", "mkdir /etc/passwd"] {
        let text = format!("FROM BASE\nRUN rm /etc/passwd; {made}\nCOPY --chown=web a /x\n");
        let context = Context::new(&text, &[("a", "A")]);
        assert_eq!(build(&engine, &context.path(), &["--no-cache"]).code, 1, "{made}");
    }
    // A copy takes the place of what is there, and is not written into it.
    let context = Context::new(
        "FROM BASE\nRUN mkfifo /f && mknod /n c 1 3\nCOPY a /f\nCOPY a /n\nADD pipe.tar /p\n\
         RUN test -f /f && test -f /n && test -p /p && cat /f /n\n",
        &[("a", "A")],
    );
    let pipe = context.path().join("pipe.tar");
    rustix::fs::mkfifoat(CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    build(&engine, &context.path(), &["--no-cache"]).ok();
}

/// CVE-2024-24557: an image was taken for what a step makes, though its HEALTHCHECK and ONBUILD were another's.
#[test]
fn a_poisoned_image_gives_no_build_its_configuration() {
    let engine = Engine::start();
    let poison = engine.name("poison");
    let files = [("f", "F")];
    let poisoning = Context::new(
        "FROM scratch\nHEALTHCHECK CMD evil\nENTRYPOINT [\"/evil\"]\nLABEL evil=1\nENV LD_PRELOAD=/evil\nCOPY f /f\nONBUILD RUN false\n",
        &files,
    );
    build(&engine, &poisoning.path(), &["-t", &poison]).ok();
    let victim = Context::new("FROM scratch\nCOPY f /f\n", &files);
    let image = engine.name("victim");
    for arguments in [&[][..], &["--cache-from", &poison]] {
        build(&engine, &victim.path(), &[arguments, &["-t", &image]].concat()).ok();
        let config = engine.docker(&["inspect", "-f", "{{json .Config}}", &image]).ok();
        assert!(!config.contains("evil") && !config.contains("false\""), "{config}");
        engine.docker(&["rmi", "-f", &image]).ok();
    }
    engine.docker(&["rmi", "-f", &poison]).ok();
}

/// GHSA-7236-3392-c5c6: what a client has not allowed, nobody else can: neither the Dockerfile, nor an image's triggers.
#[test]
fn triggers_of_an_image_have_no_entitlement_either() {
    let engine = Engine::start();
    if engine.is_original() {
        // The language that it has built in knows no --security.
        return;
    }
    let base = engine.name("triggers");
    for (flag, complaint) in [
        ("--security=insecure", "security.insecure is not allowed"),
        ("--network=host", "network.host is not allowed"),
    ] {
        let parent = Context::new(&format!("FROM BASE\nONBUILD RUN {flag} true\n"), &[]);
        build(&engine, &parent.path(), &["-t", &base]).ok();
        let context = Context::new(&format!("FROM {base}\n"), &[]);
        build(&engine, &context.path(), &[]).refused(1, complaint);
        own_build(&engine, &context.path()).refused(1, complaint);
        engine.docker(&["rmi", &base]).ok();
    }
    let evil = Context::new("# syntax=evil.example/frontend\nFROM BASE\n", &[]);
    build(&engine, &evil.path(), &[]).refused(1, "evil.example/frontend");
    own_build(&engine, &evil.path()).refused(1, "evil.example/frontend");
}

/// An archive of a context, or one that `ADD` unpacks, is as foreign as a layer.
#[test]
fn archives_of_a_context_write_nothing_elsewhere() {
    let engine = Engine::start();
    let canary = format!("/tmp/{}", engine.name("canary"));
    let name = canary.rsplit('/').next().unwrap();
    let header = |kind: tar::EntryType, size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_size(size as u64);
        header
    };
    for (what, first, path) in [
        ("up", None, format!("../../../../../../tmp/{name}")),
        ("absolute", None, canary.clone()),
        ("a link", Some((tar::EntryType::Symlink, "l", "/tmp")), format!("l/{name}")),
        ("a link up", Some((tar::EntryType::Symlink, "l", "../../../../../../tmp")), format!("l/{name}")),
        ("a hard link", Some((tar::EntryType::Link, "l", "/etc/hostname")), "l".to_owned()),
    ] {
        let mut archive = tar::Builder::new(Vec::new());
        let text = format!("FROM {SMALL}\nADD inner.tar /i/\nCOPY . /c\n");
        let put = |archive: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]| {
            let mut header = header(tar::EntryType::Regular, content.len());
            // As it is: the library would not write it.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, content).unwrap();
        };
        let evil = |archive: &mut tar::Builder<Vec<u8>>| {
            if let Some((kind, name, target)) = first {
                archive.append_link(&mut header(kind, 0), name, target).unwrap();
            }
            put(archive, &path, b"x");
        };
        let mut inner = tar::Builder::new(Vec::new());
        evil(&mut inner);
        put(&mut archive, "inner.tar", &inner.into_inner().unwrap());
        put(&mut archive, "Dockerfile", text.as_bytes());
        let inside = archive.get_ref().clone();
        // Whether it is refused or kept inside: it is not there.
        engine.upload("POST", "/v1.41/build?nocache=1", &[&inside[..], &[0; 1024]].concat());
        evil(&mut archive);
        engine.upload("POST", "/v1.41/build?nocache=1", &archive.into_inner().unwrap());
        assert!(!Path::new(&canary).exists(), "{what}");
    }
    assert_ne!(fs::read("/etc/hostname").unwrap(), b"x");
    engine.docker(&["image", "prune", "-f"]).ok();
    let mode = fs::metadata("/tmp").unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o1777);
}
