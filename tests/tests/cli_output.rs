//! Our own command beside Docker's, against the same engine: what lists and inspections print, row by row, and how mistakes
//! end. Texts that name the program or its version differ, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_tests::image::SMALL;
use coracle_tests::{Engine, engine};
use serde_json::Value;
use std::time::SystemTime;

/// What both clients speak, and the original of the suite as well.
const VERSION: &str = "1.44";

struct Both {
    engine: Engine,
}

/// An original keeps what a test leaves, and goes on without it.
impl Drop for Both {
    fn drop(&mut self) {
        if !self.engine.is_original() {
            return;
        }
        let names = ["web", "db", "gone"].map(|name| self.engine.name(name));
        self.engine.docker(&[&["rm", "-fv"][..], &names.each_ref().map(String::as_str)].concat());
        self.engine.docker(&[
            "volume",
            "rm",
            "-f",
            &self.engine.name("volume"),
            &self.engine.name("labelled"),
        ]);
        let image = self.engine.name("image");
        self.engine.docker(&["rmi", "-f", &image, &format!("{image}:5000/team/app:v2")]);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Both {
    fn start() -> Self {
        Self { engine: Engine::start() }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Said {
        let output = self
            .engine
            .command(program)
            .env("DOCKER_API_VERSION", VERSION)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        Said {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn docker(&self, arguments: &[&str]) -> Said {
        self.run("docker", arguments)
    }

    fn coracle(&self, arguments: &[&str]) -> Said {
        self.run(&engine::programs().join("coracle").display().to_string(), arguments)
    }

    /// Both print the same and end the same. Times pass between the two, so they may try again.
    #[track_caller]
    fn same(&self, arguments: &[&str]) {
        // An original lists images of one moment in any order.
        let in_any_order =
            self.engine.is_original() && arguments.first().is_some_and(|verb| verb.starts_with("image"));
        self.same_but(arguments, |text| {
            let mut lines: Vec<&str> = text.trim_end().lines().collect();
            if in_any_order {
                lines.sort_unstable();
            }
            lines.join("\n")
        });
    }

    #[track_caller]
    fn same_but(&self, arguments: &[&str], shown: impl Fn(&str) -> String) {
        let mut pair = None;
        for _ in 0..5 {
            let (docker, coracle) = (self.docker(arguments), self.coracle(arguments));
            let both = [(docker.code, shown(&docker.stdout)), (coracle.code, shown(&coracle.stdout))];
            if both[0] == both[1] {
                return;
            }
            pair = Some((both, coracle.stderr));
        }
        let ([docker, coracle], stderr) = pair.unwrap();
        panic!(
            "{arguments:?}\ndocker: {}\n{}\ncoracle: {}\n{}\n{stderr}",
            docker.0, docker.1, coracle.0, coracle.1
        );
    }

    #[track_caller]
    fn all_same(&self, lines: &[&str]) {
        lines.iter().for_each(|line| self.same(&words(line)));
    }
}

/// Words of a line; quotes keep spaces together.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').expect("a quote that ends"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// Two containers that run, one that has ended, and their names.
fn containers(both: &Both) -> [String; 3] {
    let names = ["web", "db", "gone"].map(|name| both.engine.name(name));
    let [web, db, gone] = &names;
    let volume = format!("{}:/data", both.engine.name("volume"));
    let run = |arguments: &[&str]| both.engine.docker(&[&["run"], arguments].concat());
    let endless = "while :; do sleep 1000; done # a command that is too long for a table";
    let publish = ["-p", "127.0.0.1:0:80", "--expose", "99"];
    let labels = ["-l", "a=b", "-l", "com.x-y=z"];
    let start = [&["-d", "--name", web, "-v", &volume][..], &publish, &labels, &[SMALL, "sh", "-c", endless]]
        .concat();
    run(&start).ok();
    run(&["-d", "--name", db, "--network", "none", "-v", "/anonymous", SMALL, "sleep", "1000"]).ok();
    let script = "echo line; rm /etc/plain; touch /x; exit 3";
    assert_eq!(run(&["--name", gone, SMALL, "sh", "-c", script]).code, 3);
    names
}

#[test]
fn lists_of_containers_are_the_same() {
    let both = Both::start();
    let [web, ..] = containers(&both);
    both.all_same(&[
        "ps",
        "ps -a",
        "ps -aq",
        "ps -as",
        "ps -a --no-trunc",
        "ps -l",
        "ps -n 2",
        "ps -a --format json",
        "ps -a --format '{{json .}}'",
        "ps -a --format '{{json .Ports}} {{.Labels}}'",
        "ps -a --format table",
        r#"ps -a --format 'table {{.ID}}\t{{.Names}}\t{{.Label "a"}}\t{{.Label "com.x-y"}}\t{{.Mounts}}'"#,
        r"ps -a --format 'table {{.Networks}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.State}}\t{{.CreatedAt}}'",
        "ps --format '{{upper .Names}} {{len .Names}} {{pad .Image 1 2}}{{.Status}}'",
        "ps -a --filter status=exited -q",
        "ps -a --filter label=a=b --no-trunc",
        "ps -a --filter nosuch=1",
        "ps -a --filter bad",
        "ps -a --format '{{.Nope}}'",
        "ps -a --format '{{.Names'",
        "container ls -a",
    ]);
    both.same(&["ps", "-a", "--filter", &format!("name={web}")]);
}

#[test]
fn what_is_shown_of_a_container_is_the_same() {
    let both = Both::start();
    let [web, db, gone] = containers(&both);
    for (before, names, after) in [
        ("top", vec![&web], ""),
        ("top", vec![&web], "-o pid,comm"),
        ("top", vec![&gone], ""),
        ("port", vec![&web], ""),
        ("port", vec![&web], "80"),
        ("port", vec![&web], "80/tcp"),
        ("port", vec![&web], "99"),
        ("port", vec![&db], ""),
        ("diff", vec![&gone], ""),
        ("diff", vec![&web], ""),
        ("logs", vec![&gone], ""),
        ("logs -t", vec![&gone], ""),
        ("wait", vec![&gone], ""),
        ("inspect", vec![&web], ""),
        ("inspect", vec![&web, &db], ""),
        ("inspect", vec![&web], "nosuch"),
        ("inspect -f json", vec![&web], ""),
        ("inspect -f '{{json .Config}}'", vec![&web], ""),
        ("inspect -f '{{.Id}} {{.State.Status}}'", vec![&web, &gone], ""),
        (
            r#"inspect -f '{{index .Config.Labels "a"}} {{range .Mounts}}{{.Destination}} {{end}}'"#,
            vec![&web],
            "",
        ),
        ("inspect -s -f '{{.SizeRw}}'", vec![&gone], ""),
        ("inspect --type volume", vec![&web], ""),
        ("container inspect", vec![&web], ""),
        ("stats --no-stream --format '{{.Name}} {{.ID}} {{.Container}}'", vec![&web, &db], ""),
        (r"stats --no-stream --no-trunc --format 'table {{.ID}}\t{{.PIDs}}\t{{.NetIO}}'", vec![&db], ""),
        ("stats --no-stream", vec![], "nosuch"),
        ("start", vec![], "nosuch"),
        ("rename", vec![&web], &db),
        ("update", vec![&web], ""),
        ("kill", vec![&gone], ""),
        ("rm", vec![&web], ""),
        ("rm -f", vec![], "nosuch"),
        ("exec", vec![&web], "sh -c 'exit 7'"),
        ("exec", vec![&gone], "true"),
        ("cp", vec![], "nosuch:/x /tmp"),
    ] {
        let mut arguments = words(before);
        arguments.extend(names.iter().map(|name| name.as_str()));
        arguments.extend(words(after));
        both.same(&arguments);
    }
}

#[test]
fn lists_of_images_are_the_same() {
    let both = Both::start();
    let name = both.engine.name("image");
    let context = both.engine.directory().join("context");
    std::fs::create_dir(&context).unwrap();
    let lines = "RUN touch /a\nLABEL q=r\nENV A=\"b c\"\nRUN touch /b && echo '<&>' # a line that is too long for a table\n";
    std::fs::write(context.join("Dockerfile"), format!("FROM {SMALL}\n{lines}")).unwrap();
    let mut build = both.engine.command("docker");
    build.env("DOCKER_BUILDKIT", "0").args(["build", "-q", "-t", &name]).arg(&context);
    assert!(build.output().unwrap().status.success());
    both.engine.docker(&["tag", SMALL, &format!("{name}:5000/team/app:v2")]).ok();
    both.all_same(&[
        "images",
        "images -a",
        "images -q",
        "images --no-trunc",
        "images --digests",
        "images --format json",
        "images --format '{{json .}}'",
        r"images --format 'table {{.Repository}}\t{{.Tag}}\t{{.CreatedAt}}\t{{.Digest}}\t{{.SharedSize}}\t{{.Containers}}'",
        "images --filter dangling=true",
        "images --filter reference=coracle*",
        "images nosuch",
        "image ls",
        "image inspect nosuch",
        "history nosuch",
        "rmi nosuch",
        "rmi -f nosuch",
    ]);
    for line in [
        "history",
        "history -q",
        "history --no-trunc",
        "history -H=false",
        "history --format json",
        "history --format '{{json .}}'",
        r"history --no-trunc --format 'table {{.ID}}\t{{.CreatedBy}}\t{{.Comment}}'",
        "images",
        "image inspect",
        "inspect -f '{{.RepoTags}} {{json .RootFS}}'",
    ] {
        both.same(&[&words(line)[..], &[&name]].concat());
    }
    both.engine.docker(&["rmi", &name, &format!("{name}:5000/team/app:v2")]);
}

#[test]
fn lists_of_volumes_and_networks_are_the_same() {
    let both = Both::start();
    let name = both.engine.name("labelled");
    both.engine.docker(&["volume", "create", "--label", "k=v", &name]).ok();
    both.all_same(&[
        "volume ls",
        "volume ls -q",
        "volume ls --format json",
        "volume ls --format '{{json .}}'",
        r#"volume ls --format 'table {{.Name}}\t{{.Mountpoint}}\t{{.Label "k"}}\t{{.Scope}}\t{{.Size}}\t{{.Links}}'"#,
        "volume ls --filter label=k",
        "volume ls --filter dangling=true",
        "volume inspect nosuch",
        "volume rm nosuch",
        "volume rm -f nosuch",
        "network ls",
        "network ls -q",
        "network ls --no-trunc",
        "network ls --format json",
        "network ls --format '{{json .}}'",
        r"network ls --format 'table {{.ID}}\t{{.Name}}\t{{.Internal}}\t{{.IPv6}}\t{{.Labels}}'",
        "network ls --filter driver=bridge",
        "network inspect bridge",
        "network inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' bridge",
        "network inspect nosuch",
        "network rm bridge",
        "inspect bridge",
        "inspect nosuch",
    ]);
    both.same(&["volume", "inspect", &name]);
    both.engine.docker(&["volume", "rm", &name]).ok();
}

#[test]
fn usage_of_disk_and_events_are_the_same() {
    let both = Both::start();
    let [web, ..] = containers(&both);
    both.all_same(&[
        "system df",
        "system df --format json",
        "system df --format '{{json .}}'",
        r"system df --format 'table {{.Type}}\t{{.Size}}\t{{.Reclaimable}}'",
    ]);
    // An original lists volumes in an order of the moment.
    if !both.engine.is_original() {
        both.all_same(&[
            "system df -v",
            "system df -v --format json",
            "system df -v --format '{{json .}}'",
            "system df -v --format '{{range .Volumes}}{{.Name}} {{.Links}}{{println}}{{end}}'",
        ]);
    }
    // Docker's command rounds a span before now down to a second, in which the events may be.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let until = (now + 1).to_string();
    let ours = format!("container={web}");
    for format in [
        "json",
        "{{json .}}",
        "{{.Time}} {{.Type}} {{.Action}} {{.Actor.ID}} {{.Status}} {{.ID}} {{.From}} {{.Scope}} {{.TimeNano}}",
        "{{json .Actor.Attributes}}",
        "",
    ] {
        both.same(&[
            "events",
            "--since",
            "1000000000",
            "--until",
            &until,
            "--filter",
            &ours,
            "--format",
            format,
        ]);
    }
    both.all_same(&[
        "events --since 1000000000 --until 1000000001 --filter type=volume",
        "events --since nonsense",
    ]);
}

#[test]
fn the_engine_is_described_in_the_same_words() {
    let both = Both::start();
    let own = [
        "Version:  ",
        "Go version:",
        "Git commit:",
        "Built:",
        "API version:",
        "containerd version:",
        "runc version:",
        "init version:",
    ];
    let without_own = |text: &str| {
        let is_own = |line: &&str| own.iter().any(|own| line.trim_start().starts_with(own));
        let lines: Vec<&str> =
            text.trim_end().lines().filter(|line| !is_own(line) && !line.starts_with("Client")).collect();
        lines.join("\n")
    };
    both.same_but(&["info"], without_own);
    both.same_but(&["version"], without_own);
    // What changes from one moment to the next, and what is of the client.
    let settled = |text: &str| {
        let mut document: Value = serde_json::from_str(text).unwrap();
        let fields = document.as_object_mut().unwrap();
        for name in ["Client", "ClientInfo", "SystemTime", "NGoroutines", "NFd", "NEventsListener"] {
            fields.remove(name);
        }
        // Fields that Docker's client of today has forgotten.
        fields.retain(|name, _| !name.starts_with("BridgeNf"));
        document.to_string()
    };
    both.same_but(&["version", "--format", "json"], settled);
    let known = |text: &str| {
        let document: Value = serde_json::from_str(&settled(text)).unwrap();
        let names = [
            "ID",
            "Images",
            "Driver",
            "DriverStatus",
            "Plugins",
            "CgroupVersion",
            "MemTotal",
            "Runtimes",
            "SecurityOptions",
        ];
        names.map(|name| document[name].to_string()).join("\n")
    };
    both.same_but(&["info", "-f", "{{json .}}"], known);
    both.all_same(&[
        "info -f '{{.ServerVersion}} {{.NCPU}} {{.Driver}} {{.ClientInfo.Context}} {{.HTTPProxy}}'",
        "version -f '{{.Server.Version}} {{.Server.APIVersion}} {{.Client.Context}}'",
    ]);
}

#[test]
fn mistakes_end_the_same_and_are_told_in_the_same_words() {
    let both = Both::start();
    for line in [
        "ps --nosuch",
        "ps -aZ",
        "--nosuch ps",
        "nosuch",
        "ps x",
        "rename a",
        "rename a b c",
        "logs",
        "port a b c",
        "volume nosuch",
        "tag a",
        "ps --format",
        "load x",
        "history",
        "search",
        "context create",
        "manifest inspect",
        "stats --nosuch",
        "ps --filter",
    ] {
        let (docker, coracle) = (both.docker(&words(line)), both.coracle(&words(line)));
        assert_eq!((docker.code, &docker.stdout), (coracle.code, &coracle.stdout), "{line}");
        let expected = docker.stderr.replace("docker", "coracle");
        // Ours says where more is, of commands that do not exist, without how a command is used.
        let told = coracle.stderr.split("\n\nDid you mean").next().unwrap().trim_end();
        let usage = expected.find("\n\nUsage:  coracle volume COMMAND");
        match usage.filter(|_| line == "volume nosuch") {
            Some(at) => assert!(told.starts_with(&expected[..at]), "{line}: {told}"),
            None => assert_eq!(told, expected.trim_end(), "{line}"),
        }
    }
    for line in ["", "volume", "container", "context", "--help", "ps --help"] {
        let coracle = both.coracle(&words(line));
        assert_eq!((both.docker(&words(line)).code, coracle.code), (0, 0), "{line}");
        assert!(coracle.stdout.contains("Usage:") && coracle.stderr.is_empty(), "{line}: {coracle:?}");
    }
}
