//! The objects that requests are about: some that may be changed, which come back when they are gone, and some that no
//! request may touch.

use crate::words;
use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use serde_json::Value;

/// The engine's objects.
pub(crate) struct Field<'a> {
    engine: &'a Engine,
    /// An exec of the container that nobody touches.
    exec: String,
    /// What that container was at the beginning.
    keeper: String,
    archive: Vec<u8>,
}

/// What of the container must stay.
const KEPT: &str = "{{.Id}} {{.State.Status}} {{.State.Pid}} {{.State.StartedAt}} {{.Image}} {{json .Mounts}} \
    {{json .NetworkSettings.Networks}}";

impl<'a> Field<'a> {
    /// Makes them all.
    pub(crate) fn plant(engine: &'a Engine) -> Self {
        unlike_words(engine, &["network", "create", "keeper-net"], &["network", "rm", "keeper-net"]);
        let keep = [
            "create",
            "--init",
            "--name",
            "keeper",
            "--network",
            "keeper-net",
            "-v",
            "keeper-volume:/kept",
            "--health-cmd",
            "true",
            SMALL,
            "sh",
            "-c",
            "echo kept > /kept/file; sleep 100000",
        ];
        unlike_words(engine, &keep, &["rm", "-v", "keeper"]);
        engine.docker(&["start", "keeper"]).ok();
        wait_until("the file is there", || {
            engine.docker(&["exec", "keeper", "test", "-s", "/kept/file"]).code == 0
        });
        let (status, answer) =
            engine.request("POST", "/containers/keeper/exec", Some(r#"{"Cmd":["sleep","1"]}"#));
        assert_eq!(status, 201, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let mut field = Self {
            engine,
            exec: answer["Id"].as_str().unwrap().to_owned(),
            keeper: String::new(),
            archive: archive(),
        };
        field.keeper = field.kept();
        field.tend();
        field
    }

    fn kept(&self) -> String {
        self.engine.docker(&["inspect", "-f", KEPT, "keeper"]).ok()
    }

    /// Brings back what may be changed and was.
    pub(crate) fn tend(&self) {
        let engine = self.engine;
        let docker = |arguments: &[&str]| drop(engine.docker(arguments));
        engine.request("POST", &format!("/images/{SMALL}/tag?repo=spare&tag=v1"), None);
        engine.request("POST", "/volumes/create", Some(r#"{"Name":"spare-volume"}"#));
        engine.request("POST", "/networks/create", Some(r#"{"Name":"spare-net"}"#));
        let state = |name: &str| {
            let (_, answer) = engine.request("GET", &format!("/containers/{name}/json"), None);
            let answer: Value = serde_json::from_str(&answer).unwrap();
            answer["State"]["Status"].as_str().unwrap_or_default().to_owned()
        };
        let make = |name: &str, arguments: &[&str]| {
            docker(&["rm", "-fv", name]);
            let all = [&["run", "-d", "--init", "--name", name][..], arguments];
            docker(&all.concat());
        };
        let sleeps = [SMALL, "sleep", "100000"];
        if state("running") != "running" {
            make("running", &sleeps);
        }
        if state("paused") != "paused" {
            make("paused", &sleeps);
            docker(&["pause", "paused"]);
        }
        if state("stopped") != "exited" {
            make("stopped", &[SMALL, "true"]);
        }
        if state("unhealthy") != "running" {
            let check = ["--health-cmd", "false", "--health-interval", "1s", "--health-retries", "1"];
            make("unhealthy", &[&check[..], &sleeps].concat());
        }
        // What requests have made is not to pile up.
        let extra =
            engine.docker(&["ps", "-aq", "--filter", "name=extra", "--filter", "status=running"]).stdout;
        if extra.lines().count() > 5 {
            let arguments: Vec<&str> = ["rm", "-fv"].into_iter().chain(extra.split_whitespace()).collect();
            docker(&arguments);
        }
    }

    /// Fails if what no request may touch has changed.
    pub(crate) fn is_whole(&self) {
        assert_eq!(self.kept(), self.keeper);
        assert_eq!(self.engine.docker(&["exec", "keeper", "cat", "/kept/file"]).ok(), "kept");
        self.engine.docker(&["network", "inspect", "keeper-net"]).ok();
        self.engine.docker(&["volume", "inspect", "keeper-volume"]).ok();
    }

    /// Removes all networks; the rest is the suite's to remove.
    pub(crate) fn clear(&self) {
        let engine = self.engine;
        let all = engine.docker(&["ps", "-aq"]).ok();
        let arguments: Vec<&str> = ["rm", "-fv"].into_iter().chain(all.split_whitespace()).collect();
        engine.docker(&arguments).ok();
        let networks = engine.docker(&["network", "ls", "-q", "--filter", "type=custom"]).ok();
        for network in networks.split_whitespace() {
            engine.docker(&["network", "rm", network]).ok();
        }
    }

    /// An exec that has not run, or has.
    pub(crate) fn exec(&self) -> &str {
        &self.exec
    }

    /// An archive that is a context and has files.
    pub(crate) fn archive(&self) -> &[u8] {
        &self.archive
    }

    /// The directory that may be bound.
    pub(crate) fn own_directory(&self) -> String {
        self.engine.shared_directory().1.display().to_string()
    }
}

/// Makes an object whose id begins with none of the words that requests are made of: what is named by the beginning of
/// its id may be changed by whoever names it.
fn unlike_words(engine: &Engine, make: &[&str], remove: &[&str]) {
    while words::begin(&engine.docker(make).ok()) {
        engine.docker(remove).ok();
    }
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in
        [("Dockerfile", format!("FROM {SMALL}\nRUN true\n")), ("file", "text\n".to_owned())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}
