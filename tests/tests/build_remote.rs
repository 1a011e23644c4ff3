//! Files and contexts of builds that come from addresses: web servers and Git repositories of this machine.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::{Context, build};
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::web::{GitDaemon, Web, git};
use coracle_tests::{Engine, Output};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What a command prints in an image that is built so.
fn printed(engine: &Engine, dockerfile: &str, check: &str) -> String {
    let context = Context::new(dockerfile, &[]);
    let image = engine.name("remote");
    build(engine, &context.path(), &["-t", &image]).ok();
    let printed = engine.docker(&["run", "--rm", "--network", "none", &image, "sh", "-c", check]).ok();
    engine.docker(&["rmi", &image]).ok();
    printed
}

fn refused(engine: &Engine, step: &str) -> Output {
    let context = Context::new(&format!("FROM BASE\n{step}\n"), &[]);
    build(engine, &context.path(), &[])
}

fn sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn files_of_a_web_server_are_added() {
    let engine = Engine::start();
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("dir")).unwrap();
    fs::write(place.path().join("dir/file.txt"), "content").unwrap();
    fs::write(place.path().join("packed"), "packed").unwrap();
    let tar =
        Command::new("tar").args(["czf", "a.tgz", "packed"]).current_dir(place.path()).status().unwrap();
    assert!(tar.success());
    let web = Web::start(place.path());
    web.with_header("moved", "Location: /dir/file.txt");
    let (file, moved, archive) =
        (web.address("dir/file.txt?x=1"), web.address("moved"), web.address("a.tgz"));
    let checksum = sum(&place.path().join("dir/file.txt"));
    let text = format!(
        "FROM BASE\nADD {file} /w/\nADD {file} /renamed\nADD --chown=7:8 --chmod=0644 {file} /owned\n\
         ADD --checksum=sha256:{checksum} {moved} /w/\nADD {archive} /w/\nARG A={archive}\nADD $A /w/again\n"
    );
    let check = "cd /w; stat -c '%n %a %u %g %Y' file.txt /renamed /owned; cat /renamed moved; echo; ls";
    let expected = "file.txt 600 0 0 1000000000\n/renamed 600 0 0 1000000000\n/owned 644 7 8 1000000000\ncontentcontent\na.tgz\nagain\n\
        file.txt\nmoved";
    assert_eq!(printed(&engine, &text, check), expected);

    let wrong = format!("ADD --checksum=sha256:{} {file} /x", "0".repeat(64));
    refused(&engine, &wrong).refused(1, "digest mismatch");
    refused(&engine, &format!("ADD {} /x", web.address("nothing"))).refused(1, "404");
    refused(&engine, "ADD http://127.0.0.1:1/x /x").refused(1, "127.0.0.1:1");
    refused(&engine, &format!("ADD --checksum=md5:00 {file} /x")).refused(1, "checksum");
    if engine.is_original() {
        // Its language is older, and it makes up a name where there is none.
        return;
    }
    let unpacked = format!("FROM BASE\nADD --unpack {archive} /w/\n");
    assert_eq!(printed(&engine, &unpacked, "cat /w/packed"), "packed");
    fs::write(place.path().join("nameless"), "N").unwrap();
    web.with_header("", "Content-Disposition: attachment; filename=\"../told.txt\"");
    refused(&engine, &format!("ADD {} /w/", web.address(""))).refused(1, "404");
    refused(&engine, "ADD ftp://127.0.0.1/x /x").refused(1, "only http, https, git and ssh");
}

/// A repository with two branches, a tag, a submodule that is a repository of `web`, and links that lead out of it.
fn repository(place: &Path) -> (String, String) {
    let work = place.join("work");
    fs::create_dir_all(work.join("docs/deep")).unwrap();
    git(&work, &["init", "--quiet"]);
    fs::write(work.join("docs/read.me"), "one").unwrap();
    fs::write(work.join("docs/deep/x"), "x").unwrap();
    fs::write(work.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(work.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc", work.join("etc")).unwrap();
    symlink("../..", work.join("docs/up")).unwrap();
    fs::write(work.join("Dockerfile"), format!("FROM {SMALL}\nCOPY docs /d\n")).unwrap();
    // What would run if git took what a repository says for its own configuration.
    fs::write(work.join(".gitattributes"), "* filter=evil\n").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "-m", "one"]);
    git(&work, &["tag", "v1"]);
    let first = git(&work, &["rev-parse", "HEAD"]);
    fs::write(work.join("docs/read.me"), "two").unwrap();
    git(&work, &["commit", "--quiet", "-am", "two"]);
    let second = git(&work, &["rev-parse", "HEAD"]);
    git(&work, &["checkout", "--quiet", "-b", "feature/x", "v1"]);
    fs::write(work.join("docs/read.me"), "feature").unwrap();
    git(&work, &["commit", "--quiet", "-am", "feature"]);
    git(&work, &["checkout", "--quiet", "main"]);
    (first, second)
}

#[test]
fn repositories_are_added_at_any_of_their_references() {
    let engine = Engine::start();
    if engine.is_original() {
        // The one of the test has no git beside it.
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (first, second) = repository(place.path());
    let served = place.path().join("served");
    fs::create_dir(&served).unwrap();
    let web = Web::start(&served);
    web.publish(&place.path().join("work"), "r.git");
    let daemon = GitDaemon::start(&served);
    for address in [web.address("r.git"), daemon.address("r.git")] {
        let text = format!(
            "FROM BASE\nADD {address} /head\nADD {address}#v1 /tag\nADD {address}#feature/x /branch\nADD {address}#{first} /commit\n\
             ADD {address}#main:docs /sub\nADD --chown=7:8 {address}#:docs/deep /deep/\nADD --keep-git-dir {address} /kept\n"
        );
        let check = "cat /head/docs/read.me /tag/docs/read.me /branch/docs/read.me /commit/docs/read.me /sub/read.me; echo; \
            stat -c '%n %a %u' /head/run /head/docs /head/Dockerfile /deep/x; ls -A /sub; ls -d /head/.git /kept/.git 2>/dev/null; \
            cat /kept/.git/HEAD; readlink /head/etc";
        let expected = format!(
            "twoonefeatureonetwo\n/head/run 755 0\n/head/docs 755 0\n/head/Dockerfile 644 0\n/deep/x 644 7\ndeep\nread.me\nup\n/kept/.git\n\
             {second}\n/etc"
        );
        assert_eq!(printed(&engine, &text, check), expected, "{address}");
    }
    let address = web.address("r.git");
    let text = format!(
        "FROM BASE\nADD {address}?tag=v1&subdir=docs /tag\nADD {address}?branch=feature%2Fx /branch\nADD --checksum={first} {address}#v1 /sum\n\
         ADD {address}#{} /short\n",
        &first[..10]
    );
    let check = "cat /tag/read.me /branch/docs/read.me /sum/docs/read.me /short/docs/read.me";
    assert_eq!(printed(&engine, &text, check), "onefeatureoneone");
    refused(&engine, &format!("ADD --checksum={second} {address}#v1 /x"))
        .refused(1, "expected checksum to match");
}

#[test]
fn submodules_come_along_and_only_from_addresses_that_may_be() {
    let engine = Engine::start();
    if engine.is_original() {
        // The one of the test is older than what fixed these, and has no git beside it.
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let served = place.path().join("served");
    let inner = place.path().join("inner");
    fs::create_dir(&served).unwrap();
    fs::create_dir(&inner).unwrap();
    repository(place.path());
    let work = place.path().join("work");
    git(&inner, &["init", "--quiet"]);
    fs::write(inner.join("inside"), "I").unwrap();
    git(&inner, &["add", "."]);
    git(&inner, &["commit", "--quiet", "-m", "inner"]);
    let web = Web::start(&served);
    web.publish(&inner, "inner.git");
    git(&work, &["submodule", "--quiet", "add", &web.address("inner.git"), "module"]);
    git(&work, &["commit", "--quiet", "-m", "module"]);
    web.publish(&work, "r.git");
    let address = web.address("r.git");
    let text = format!("FROM BASE\nADD {address} /all\nADD {address}?submodules=false /alone\n");
    assert_eq!(
        printed(&engine, &text, "cat /all/module/inside; ls -A /all/module /alone/module"),
        "I/all/module:\ninside\n\n/alone/module:"
    );

    // A file of this machine, and a command: neither is a protocol that is spoken.
    let marker = place.path().join("pwned");
    for (name, evil) in [
        ("file.git", format!("file://{}", inner.display())),
        ("path.git", inner.display().to_string()),
        ("ext.git", format!("ext::sh -c touch% {}", marker.display())),
    ] {
        git(&work, &["config", "-f", ".gitmodules", "submodule.module.url", &evil]);
        git(&work, &["commit", "--quiet", "-am", name]);
        web.publish(&work, name);
        refused(&engine, &format!("ADD {} /x", web.address(name)))
            .refused(1, "failed to fetch the repository");
    }
    assert!(!marker.exists(), "a command of a repository was run");
}

#[test]
fn nothing_of_an_address_or_a_repository_reaches_the_machine() {
    let engine = Engine::start();
    if engine.is_original() {
        // The one of the test is older than what fixed these, and has no git beside it.
        return;
    }
    let place = tempfile::tempdir().unwrap();
    repository(place.path());
    let served = place.path().join("served");
    fs::create_dir(&served).unwrap();
    let web = Web::start(&served);
    let bare = web.publish(&place.path().join("work"), "r.git");
    let (address, marker) = (web.address("r.git"), place.path().join("pwned"));
    for (end, complaint) in [
        // CVE-2019-13139
        ("#--upload-pack=touch${IFS}/pwned", "invalid reference"),
        ("#-uX", "invalid reference"),
        // CVE-2026-33748: out of the repository by dots, by a link, by git's own directory.
        ("#main:../..", "invalid subdirectory"),
        ("#main:docs/../../..", "invalid subdirectory"),
        ("#main:etc", "has no directory etc"),
        ("#main:docs/up", "has no directory docs/up"),
        ("#main:.git/hooks", "invalid subdirectory"),
        ("#nowhere", "does not contain ref nowhere"),
        ("#main:nowhere", "has no directory nowhere"),
    ] {
        refused(&engine, &format!("ADD {} /x", format!("{address}{end}").replace("${IFS}", "-")))
            .refused(1, complaint);
    }
    for source in ["ext::sh -c touch% /pwned", "file:///etc/passwd", "ssh://-oProxyCommand=touch/x"] {
        let step = serde_json::json!([source, "/x"]);
        assert_ne!(refused(&engine, &format!("ADD {step}")).code, 0, "{source}");
    }
    // CVE-2022-39253: objects that are links to files of the machine.
    let secret = place.path().join("secret");
    fs::write(&secret, "canary of the host").unwrap();
    fs::remove_dir_all(bare.join("objects")).unwrap();
    symlink(&secret, bare.join("objects")).unwrap();
    refused(&engine, &format!("ADD --keep-git-dir {address} /x"))
        .refused(1, "failed to fetch the repository");
    assert!(!marker.exists() && !Path::new("/pwned").exists());
}

#[test]
fn contexts_are_taken_from_addresses() {
    let engine = Engine::start();
    let place = tempfile::tempdir().unwrap();
    repository(place.path());
    let served = place.path().join("served");
    fs::create_dir_all(served.join("c")).unwrap();
    let web = Web::start(&served);
    web.publish(&place.path().join("work"), "r.git");
    fs::write(served.join("plain"), format!("FROM {SMALL}\nRUN echo plain >/plain\n")).unwrap();
    fs::write(served.join("c/Dockerfile"), format!("FROM {SMALL}\nCOPY f /f\n")).unwrap();
    fs::write(served.join("c/f"), "F").unwrap();
    let tar =
        Command::new("tar").args(["czf", "c.tgz", "-C", "c", "."]).current_dir(&served).status().unwrap();
    assert!(tar.success());
    let image = engine.name("context");
    for (path, check, expected) in
        [("plain", "cat /plain", "plain"), ("c.tgz", "cat /f", "F"), ("r.git%23v1", "cat /d/read.me", "one")]
    {
        if path.contains(".git") && engine.is_original() {
            // As above.
            continue;
        }
        let query = format!("/v1.41/build?t={image}&remote={}", web.address(path));
        let (status, answer) = engine.request("POST", &query, None);
        assert!(status == 200 && answer.contains("Successfully built"), "{path}: {status} {answer}");
        let printed = engine.docker(&["run", "--rm", "--network", "none", &image, "sh", "-c", check]).ok();
        assert_eq!(printed, expected, "{path}");
        engine.docker(&["rmi", &image]).ok();
    }
    for path in ["nothing", "r.git%23main:nowhere", "r.git%23-x"] {
        let (status, answer) =
            engine.request("POST", &format!("/v1.41/build?remote={}", web.address(path)), None);
        assert!(status >= 400 || answer.contains("errorDetail"), "{path}: {status} {answer}");
    }
}

/// Who a client is to a host is that host's alone to know: not another's to which it leads, nor the image's.
#[test]
fn credentials_go_to_the_host_that_is_named_and_into_no_image() {
    let engine = Engine::start();
    if engine.is_original() {
        // The one of the test has no git beside it.
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (work, served) = (place.path().join("work"), place.path().join("served"));
    repository(place.path());
    fs::create_dir(&served).unwrap();
    let (web, other) = (Web::start(&served), Web::start(&served));
    web.publish(&work, "inner.git");
    git(&work, &["submodule", "--quiet", "add", &web.address("inner.git"), "module"]);
    git(&work, &["config", "-f", ".gitmodules", "submodule.module.url", "../inner.git"]);
    git(&work, &["commit", "--quiet", "-am", "module"]);
    web.publish(&work, "r.git");
    let token = place.path().join("token");
    fs::write(&token, "canary").unwrap();
    let host = |web: &Web| web.address("").trim_end_matches('/').replace("http://", "");
    let given = |name: &str| format!("id={name}{},src={}", host(&web), token.display());
    let built = |step: &str| {
        let context = Context::new(&format!("FROM BASE\n{step}\nRUN ! grep -r canary /k\n"), &[]);
        let path = context.path().display().to_string();
        let secrets = [given("GIT_AUTH_TOKEN."), given("HTTP_AUTH_TOKEN_")];
        engine.coracle(&["build", "--no-cache", "--secret", &secrets[0], "--secret", &secrets[1], &path])
    };

    // Whom it names itself, with a submodule beside it, and its history kept.
    let user = web.address("r.git").replace("http://", "http://user:canary@");
    built(&format!("ADD --keep-git-dir {user} /k")).ok();
    let authorized = |web: &Web| web.asked().iter().filter(|line| line.contains("uthorization")).count();
    assert!(authorized(&web) > 0, "{:?}", web.asked());
    let of_user = web.asked().iter().filter(|line| line.contains("dXNlcjpjYW5hcnk=")).count();
    assert_eq!(of_user, authorized(&web), "user:canary, and nothing else");

    // By a secret; then the host leads to another.
    built(&format!("ADD --keep-git-dir {} /k", web.address("r.git"))).ok();
    let of_token = web.asked().iter().filter(|line| line.contains("eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5")).count();
    assert!(of_token > 0, "x-access-token:canary: {:?}", web.asked());
    web.with_header("moved.git/info/refs", &format!("Location: {}", other.address("r.git/info/refs")));
    web.with_header("moved", &format!("Location: {}", other.address("r.git/HEAD")));
    built(&format!("ADD {} /k", web.address("moved.git"))).refused(1, "name the other address");
    built(&format!("ADD {} /k/", web.address("moved"))).ok();
    assert!(!other.asked().is_empty(), "the file was fetched there");
    // A repository of the host that is named brings one of another host along.
    git(&work, &["config", "-f", ".gitmodules", "submodule.module.url", &other.address("inner.git")]);
    git(&work, &["commit", "--quiet", "-am", "foreign"]);
    web.publish(&work, "foreign.git");
    built(&format!("ADD --keep-git-dir {} /k", web.address("foreign.git"))).ok();
    assert!(other.asked().iter().any(|line| line.contains("inner.git")), "{:?}", other.asked());
    assert_eq!(authorized(&other), 0, "{:?}", other.asked());
}

/// Objects that git itself would not write: files in its own directory, which it would run or read as its configuration.
#[test]
fn files_of_a_repository_are_never_git_s_own() {
    let engine = Engine::start();
    if engine.is_original() {
        // The one of the test has no git beside it.
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (work, served) = (place.path().join("work"), place.path().join("served"));
    fs::create_dir(&served).unwrap();
    repository(place.path());
    let web = Web::start(&served);
    let marker = place.path().join("pwned");
    let run = format!("touch {}", marker.display());
    let config = format!(
        "[core]\nfsmonitor = {run}\nsshCommand = {run}\n[filter \"evil\"]\nsmudge = {run}\n[url \"{}\"]\ninsteadOf = http\n",
        place.path().display()
    );
    let blob = |content: &str| {
        fs::write(place.path().join("content"), content).unwrap();
        git(&work, &["hash-object", "-w", &place.path().join("content").display().to_string()])
    };
    let (hook, config) = (blob(&format!("#!/bin/sh\n{run}\n")), blob(&config));
    let inner = tree(&work, &[("100755", "post-checkout", &hook)]);
    let git_directory = tree(&work, &[("100644", "config", &config), ("40000", "hooks", &inner)]);
    let file = blob("x");
    let canary = blob("canary");
    for (name, entries) in [
        ("own.git", vec![("40000", ".git", &git_directory), ("100644", "a", &file)]),
        ("up.git", vec![("40000", "..", &git_directory)]),
        ("slash.git", vec![("100644", "../../pwned", &canary)]),
        ("absolute.git", vec![("100644", marker.to_str().unwrap(), &canary)]),
        ("bare.git", vec![("40000", ".GIT ", &git_directory), ("120000", ".git", &canary)]),
    ] {
        let entries: Vec<(&str, &str, &str)> =
            entries.iter().map(|(mode, name, object)| (*mode, *name, object.as_str())).collect();
        let commit = git(&work, &["commit-tree", "-m", "evil", &tree(&work, &entries)]);
        git(&work, &["update-ref", "refs/heads/main", &commit]);
        web.publish(&work, name);
        for flag in ["", "--keep-git-dir "] {
            refused(&engine, &format!("ADD {flag}{} /x", web.address(name))).refused(1, "failed to fetch");
        }
        assert!(!marker.exists(), "{name}");
    }
}

/// Writes a tree as it is said, by git's plumbing.
fn tree(work: &Path, entries: &[(&str, &str, &str)]) -> String {
    let mut content = Vec::new();
    for (mode, name, object) in entries {
        content.extend(format!("{mode} {name}\0").bytes());
        content.extend((0..40).step_by(2).map(|at| u8::from_str_radix(&object[at..at + 2], 16).unwrap()));
    }
    let file = work.with_extension("tree");
    fs::write(&file, content).unwrap();
    git(work, &["hash-object", "-t", "tree", "-w", "--literally", &file.display().to_string()])
}

/// A server whose answer never ends, and is not slow enough to be given up.
#[test]
fn a_client_that_goes_ends_every_program_that_fetches_for_it() {
    let engine = Engine::start();
    if engine.is_original() {
        // As above.
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/endless.git", listener.local_addr().unwrap());
    let pieces = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pieces);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || {
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes());
                // Slower than it can be read, faster than is slow.
                while sent.is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                    sent = stream.write_all(&[b'#'; 400]);
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let context = Context::new(&format!("FROM BASE\nADD {address} /x\n"), &[]);
    let mut child = engine
        .command("docker")
        .args(["build", "."])
        .current_dir(context.path())
        .env("DOCKER_BUILDKIT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("it is fetched", || {
        pieces.load(Ordering::Relaxed) > 20 && !programs_with(&address).is_empty()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("nobody fetches any more", || programs_with(&address).is_empty());
}

/// The command lines of this machine's processes that have a word in them.
fn programs_with(word: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(word))
        .collect()
}
