//! Images without registries: import, load, save, commit, tag, history, removal.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_corpus::tar::Tar;
use coracle_tests::image::SMALL;
use coracle_tests::{Engine, race_iterations};

#[test]
fn an_imported_archive_has_the_changes_that_were_asked_for() {
    let engine = Engine::start();
    let archive = coracle_tests::image::small(engine.directory()).display().to_string();
    let name = engine.name("imported");
    engine
        .docker(&[
            "import",
            "-c",
            "CMD [\"echo\", \"from the image\"]",
            "-c",
            "ENV A=1 B=2",
            "-c",
            "WORKDIR /var",
            "-m",
            "a message",
            &archive,
            &name,
        ])
        .ok();
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name]).ok(), "from the image");
    assert_eq!(
        engine.docker(&["run", "--rm", "--network", "none", &name, "sh", "-c", "pwd; echo $A$B"]).ok(),
        "/var\n12"
    );
    assert!(
        engine
            .docker(&["history", "--no-trunc", "--format", "{{.Comment}}", &name])
            .ok()
            .contains("a message")
    );
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn an_archive_is_imported_for_the_platform_that_is_named() {
    let engine = Engine::start();
    let name = engine.name("foreign");
    // What scratch is made of: an archive that holds nothing and ends.
    let import = |platform: &str| {
        let path = format!("/v1.45/images/create?fromSrc=-&repo={name}&platform={platform}");
        engine.upload("POST", &path, &[0; 1024])
    };
    for (platform, expected) in [("LINUX", "linux "), ("linux%2Fsparc64", "linux sparc64"), ("", "linux ")] {
        let (status, text) = import(platform);
        assert_eq!(status, 200, "{text}");
        let shown = engine.docker(&["image", "inspect", "-f", "{{.Os}} {{.Architecture}}", &name]).ok();
        assert!(shown.starts_with(expected), "{platform}: {shown}");
    }
    for (platform, expected) in [
        ("%20%20", "is an invalid component"),
        ("%2F", "is an invalid component"),
        ("macos", "operating system is not supported"),
        ("macos%2Farm64", "operating system is not supported"),
        ("nintendo64", "unknown operating system or architecture"),
    ] {
        let (status, text) = import(platform);
        assert_eq!((status, text.contains(expected)), (400, true), "{platform}: {text}");
    }
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn a_committed_container_is_an_image() {
    let engine = Engine::start();
    let (name, image) = (engine.name("c"), engine.name("committed"));
    engine
        .docker(&[
            "run",
            "--name",
            &name,
            "--network",
            "none",
            SMALL,
            "sh",
            "-c",
            "echo kept > /file; rm /etc/plain",
        ])
        .ok();
    engine.docker(&["commit", "-a", "me", "-m", "why", "-c", "ENTRYPOINT [\"cat\"]", &name, &image]).ok();
    engine.docker(&["rm", &name]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &image, "/file"]).ok(), "kept");
    assert_ne!(engine.docker(&["run", "--rm", "--network", "none", &image, "/etc/plain"]).code, 0);
    let inspected = engine.docker(&["image", "inspect", &image]).json();
    assert_eq!(inspected[0]["Author"], "me");
    assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(engine.docker(&["history", "-q", &image]).ok().lines().count(), 2);
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn a_saved_image_loads_again_the_same() {
    let engine = Engine::start();
    let (name, file) = (engine.name("saved"), engine.directory().join("saved.tar").display().to_string());
    engine.docker(&["tag", SMALL, &name]).ok();
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok();
    engine.docker(&["save", "-o", &file, &name]).ok();
    engine.docker(&["rmi", &name]).ok();
    engine.docker(&["inspect", &name]).refused(1, "no such object");
    let loaded = engine.docker(&["load", "-i", &file]).ok();
    assert!(loaded.contains(&format!("Loaded image: {name}:latest")), "{loaded}");
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok(), id);
    engine.docker(&["rmi", &name]).ok();
}

#[test]
fn an_image_in_use_is_kept_and_a_tag_is_only_a_name() {
    let engine = Engine::start();
    let (container, tag) = (engine.name("user"), engine.name("tag"));
    let archive = coracle_tests::image::small(engine.directory()).display().to_string();
    let own = engine.name("own");
    engine.docker(&["import", "-m", &own, &archive, &own]).ok();
    engine.docker(&["tag", &own, &tag]).ok();
    assert!(engine.docker(&["rmi", &tag]).ok().contains(&format!("Untagged: {tag}:latest")));
    engine.docker(&["create", "--name", &container, &own, "true"]).ok();
    engine.docker(&["rmi", &own]).refused(1, "container");
    engine.docker(&["rm", &container]).ok();
    assert!(engine.docker(&["rmi", &own]).ok().contains("Deleted: sha256:"));
}

#[test]
fn an_exported_container_has_its_files() {
    let engine = Engine::start();
    let (name, file) = (engine.name("export"), engine.directory().join("export.tar"));
    engine
        .docker(&["run", "--name", &name, "--network", "none", SMALL, "sh", "-c", "echo mine > /mine"])
        .ok();
    engine.docker(&["export", "-o", &file.display().to_string(), &name]).ok();
    let mut archive = tar::Archive::new(std::fs::File::open(&file).unwrap());
    let names: Vec<String> =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert!(names.iter().any(|name| name == "mine") && names.iter().any(|name| name == "bin/busybox"));
    engine.docker(&["rm", &name]).ok();
}

/// A web server for one file, which it cuts short for whoever asks for `/cut`.
fn serve(file: Vec<u8>) -> String {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut request).unwrap();
            let mut header = String::new();
            while reader.read_line(&mut header).unwrap() > 2 {
                header.clear();
            }
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (status, sent) = match path {
                "/file" => ("200 OK", file.len()),
                "/cut" => ("200 OK", file.len() / 2),
                _ => ("404 Not Found", 0),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                if sent == 0 { 0 } else { file.len() }
            );
            // Whoever has heard enough may go.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&file[..sent]));
        }
    });
    address.to_string()
}

#[test]
fn an_archive_is_imported_from_an_address() {
    let engine = Engine::start();
    let place = tempfile::tempdir().unwrap();
    let archive = std::fs::read(coracle_tests::image::small(place.path())).unwrap();
    let server = serve(archive);
    let name = engine.name("fetched");
    let told = engine.docker(&["import", "-c", "ENV A=1", &format!("http://{server}/file"), &name]).ok();
    assert!(told.contains(&format!("Downloading from http://{server}/file")), "{told}");
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok();
    assert!(told.ends_with(&id), "{told} does not end with {id}");
    let run = engine.docker(&["run", "--rm", "--network", "none", &name, "sh", "-c", "echo $A"]);
    assert_eq!(run.ok(), "1");
    engine.docker(&["rmi", &name]).ok();
    for (path, complaint) in [("/nothing", "404"), ("/cut", "")] {
        let refused = engine.docker(&["import", &format!("http://{server}{path}"), &name]);
        assert_ne!(refused.code, 0, "{path}");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains(complaint), "{said}");
        engine.docker(&["inspect", &name]).refused(1, "no such");
    }
    if !engine.is_original() {
        let (status, answer) = engine.request("POST", "/v1.44/images/create?fromSrc=ftp%3A%2F%2Fx%2Fy", None);
        assert!(status == 404 && answer.contains("only http and https"), "{status} {answer}");
        let (status, answer) = engine.request("POST", "/v1.44/images/create", None);
        assert!(status == 400 && answer.contains("neither fromImage nor fromSrc"), "{status} {answer}");
    }
}

#[test]
fn of_a_removal_and_a_container_that_want_the_same_image_one_comes_too_late() {
    let engine = Engine::start();
    for number in 0..race_iterations(40) {
        let name = engine.name(&format!("raced{number}"));
        let archive = Tar::new().file("number", number.to_string().as_bytes()).end();
        let import = format!("/images/create?fromSrc=-&repo={name}");
        assert_eq!(engine.upload("POST", &import, &archive).0, 200);
        let body = serde_json::json!({"Image": name, "Cmd": ["true"]}).to_string();
        let begin = std::sync::Barrier::new(2);
        let (created, removed) = std::thread::scope(|scope| {
            let creating = scope.spawn(|| {
                begin.wait();
                engine.request("POST", &format!("/containers/create?name={name}"), Some(&body))
            });
            begin.wait();
            let removed = engine.request("DELETE", &format!("/images/{name}"), None);
            (creating.join().unwrap(), removed)
        });
        match (created.0, removed.0) {
            // The container was first, or the removal.
            (201, 409) => {
                engine.docker(&["rm", &name]).ok();
                engine.docker(&["rmi", &name]).ok();
            }
            (404, 200) => {}
            _ => panic!("round {number}: {created:?}, {removed:?}"),
        }
    }
}

#[test]
fn a_filter_that_is_neither_true_nor_false_is_refused() {
    let engine = Engine::start();
    for what in [&["images"][..], &["volume", "ls"]] {
        for (given, told) in [
            (&["dangling=maybe"][..], "invalid filter 'dangling=[maybe]'"),
            (&["dangling=true", "dangling=false"], "invalid filter 'dangling=["),
        ] {
            let filters = given.iter().flat_map(|filter| ["--filter", *filter]);
            let arguments: Vec<&str> = what.iter().copied().chain(filters).collect();
            engine.docker(&arguments).refused(1, told);
        }
    }
    engine.docker(&["network", "ls", "--filter", "dangling=maybe"]).refused(1, "dangling");
    engine.docker(&["pull", "--platform", "amd46", "127.0.0.1:1/x"]).refused(1, "amd46");
}

/// Clients give several moments, and mean what is older than each.
#[test]
fn images_are_listed_until_the_earliest_moment() {
    let engine = Engine::start();
    let list = |moments: &[&str]| {
        let filters = moments.iter().flat_map(|moment| ["--filter", *moment]);
        engine.docker(&["images", "-q", SMALL].into_iter().chain(filters).collect::<Vec<_>>()).ok()
    };
    assert!(!list(&["until=2100-01-01", "until=2101-01-01"]).is_empty());
    assert_eq!(list(&["until=2100-01-01", "until=2001-01-01"]), "");
    assert_eq!(list(&["until=2001-01-01", "until=2100-01-01"]), "");
}

#[test]
fn changes_of_a_commit_see_the_environment_that_they_change() {
    let engine = Engine::start();
    let (name, image) = (engine.name("changed"), engine.name("way"));
    engine.docker(&["create", "--name", &name, "-e", "WAY=/bin", "-e", "KEPT=yes", SMALL, "true"]).ok();
    engine.docker(&["commit", "-c", "ENV WAY=/usr/bin:$WAY", &name, &image]).ok();
    let variables = engine.docker(&["inspect", "-f", "{{.Config.Env}}", &image]).ok();
    assert!(variables.contains("WAY=/usr/bin:/bin") && variables.contains("KEPT=yes"), "{variables}");
    engine.docker(&["rm", &name]).ok();
    engine.docker(&["rmi", &image]).ok();
}
