//! Containers of a real engine: real shims, a real kernel, no HTTP.

use super::exec::ExecSettings;
use super::modes::NetworkMode;
use super::settings::{HostSettings, Settings};
use super::state::Status;
use super::{AttachSettings, WaitCondition};
use crate::images::NewImage;
use crate::{Config, Engine, Error};
use coracle_spec::ContainerId;
use coracle_spec::image::ImageConfig;
use coracle_store::Expected;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An engine in a directory of its own, with an image `small` of a busybox.
struct Field {
    engine: Engine,
    dir: TempDir,
    group: OwnGroup,
}

/// The cgroup of the engine's containers; removed with the value, which fails if a container is in it still.
struct OwnGroup(String);

impl Drop for OwnGroup {
    fn drop(&mut self) {
        let layout = coracle_runtime::cgroup::Layout::detect().unwrap();
        let group = coracle_runtime::cgroup::Group::existing(&layout, std::path::Path::new(&self.0));
        let removed = group.remove();
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

fn runtime() -> PathBuf {
    // Cargo builds the program of another package only when it is asked to; the suite's command builds everything.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("coracle-runtime");
    assert!(program.is_file(), "build coracle-runtime first: cargo build --workspace");
    program
}

fn config(dir: &TempDir) -> Config {
    Config {
        remap: None,
        runtimes: crate::runtimes::Runtimes::default(),
        data_root: dir.path().join("data"),
        exec_root: dir.path().join("run"),
        runtime: runtime(),
        bridge: Some("none".into()),
        default_v4: crate::config::DefaultAddressing::default(),
        default_v6: None,
        mtu: 1500,
        networks: crate::config::NetworkDefaults::default(),
        init: false,
        cgroup_parent: None,
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        log: super::LogDefaults {
            driver: "json-file".into(),
            size: 1 << 20,
            files: 2,
            marks: Default::default(),
        },
        builds: crate::config::BuildSettings::default(),
        cdi_directories: Vec::new(),
        registries: crate::config::RegistrySettings::default(),
        labels: Vec::new(),
        storage: crate::config::StorageSettings::default(),
        defaults: crate::config::ContainerDefaults::default(),
    }
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/bin/busybox").expect("the package busybox-static is installed");
    let mut add = |name: &str, kind: tar::EntryType, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
    };
    add("bin", tar::EntryType::Directory, 0o755, &[]);
    add("bin/busybox", tar::EntryType::Regular, 0o755, &busybox);
    for applet in ["sh", "cat", "sleep", "echo", "true", "test"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    builder.into_inner().unwrap()
}

impl Field {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(config(&dir)).await.unwrap();
        let store = std::sync::Arc::clone(&engine.shared.store);
        let id = tokio::task::spawn_blocking(move || {
            let layer = store.import(archive().as_slice(), &Expected::default()).unwrap();
            let mut config = ImageConfig::default();
            config.rootfs.diff_ids = vec![layer.diff_id];
            store.put_config(&config).unwrap()
        })
        .await
        .unwrap();
        let image =
            NewImage { id, references: vec!["small".parse().unwrap()], parent: None, manifests: Vec::new() };
        engine.shared.images.adopt(image).await.unwrap();
        let group = OwnGroup(engine.config().cgroup());
        Self { engine, dir, group }
    }

    /// What remains when the engine's process is killed: the same roots, another engine.
    async fn another(self) -> Self {
        let Self { engine, dir, group } = self;
        // The tasks of the containers hold the old engine's parts until they are dropped with their runtime, so the
        // test runs each engine on a runtime of its own.
        drop(engine);
        let engine = Engine::open(config(&dir)).await.unwrap();
        Self { engine, dir, group }
    }

    async fn create(&self, script: &str, change: impl FnOnce(&mut Settings)) -> String {
        let host = HostSettings { network: NetworkMode::None, ..HostSettings::default() };
        let cmd = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        let mut settings = Settings { image: "small".into(), cmd, host, ..Settings::default() };
        change(&mut settings);
        self.engine.create(None, settings).await.unwrap().id.to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_and_its_output_and_end_are_seen() {
    let field = Field::new().await;
    let id = field.create("echo out; exit 3", |_| ()).await;
    let wanted = AttachSettings { stdin: false, stdout: true, stderr: true };
    let mut attached = field.engine.attach(&id, wanted).await.unwrap();
    let waiting = field.engine.wait(&id, WaitCondition::NextExit).unwrap();
    assert!(field.engine.start(&id).await.unwrap());
    let mut output = Vec::new();
    attached.stream.read_to_end(&mut output).await.unwrap();
    assert_eq!(output, b"\x01\0\0\0\0\0\0\x04out\n");
    let ended = waiting.done().await;
    assert_eq!((ended.state.status, ended.state.exit_code), (Status::Exited, 3));
    field.engine.remove(&id, false, true).await.unwrap();
    assert!(matches!(field.engine.inspect(&id), Err(Error::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ended_starts_again_and_an_exec_joins_it() {
    let field = Field::new().await;
    let id = field.create("test -e /again && exec sleep 100; echo > /again", |_| ()).await;
    let waiting = field.engine.wait(&id, WaitCondition::NextExit).unwrap();
    field.engine.start(&id).await.unwrap();
    waiting.done().await;
    field.engine.start(&id).await.unwrap();
    let settings = ExecSettings {
        cmd: ["sh", "-c", "cat; exit 4"].map(str::to_owned).to_vec(),
        attach: [true, true, true],
        ..ExecSettings::default()
    };
    let exec = field.engine.create_exec(&id, settings).unwrap();
    let mut attached = field.engine.take_exec(exec.as_str()).unwrap().start(None).await.unwrap();
    attached.stream.write_all(b"in").await.unwrap();
    attached.stream.shutdown().await.unwrap();
    let mut output = Vec::new();
    attached.stream.read_to_end(&mut output).await.unwrap();
    assert_eq!(output, b"\x01\0\0\0\0\0\0\x02in");
    while field.engine.inspect_exec(exec.as_str()).unwrap().running {
        tokio::task::yield_now().await;
    }
    assert_eq!(field.engine.inspect_exec(exec.as_str()).unwrap().exit_code, Some(4));
    field.engine.stop(&id, Some(0), None).await.unwrap();
    assert_eq!(field.engine.inspect(&id).unwrap().state.exit_code, 137);
    field.engine.remove(&id, true, true).await.unwrap();
}

/// Of what nobody knows after the engine was killed, nobody was told before.
#[tokio::test]
async fn an_end_is_seen_when_it_is_on_record() {
    let field = Field::new().await;
    let id = field.create("exec sleep 100", |_| ()).await;
    field.engine.start(&id).await.unwrap();
    let (_, mut events) = field.engine.listen_events();
    let waiting = field.engine.wait(&id, WaitCondition::NextExit).unwrap();
    let index = rusqlite::Connection::open(field.engine.config().data_root.join("meta.db")).unwrap();
    index.execute_batch("BEGIN IMMEDIATE").unwrap();
    let pid = rustix::process::Pid::from_raw(field.engine.inspect(&id).unwrap().state.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    while events.recv().await.unwrap().action != "die" {}
    // What the task does after it has told of the end, it has done by now, as there is one thread, but for what it waits for.
    assert_eq!(field.engine.inspect(&id).unwrap().state.status, Status::Running);
    index.execute_batch("COMMIT").unwrap();
    assert_eq!(waiting.done().await.state.status, Status::Exited);
    field.engine.remove(&id, false, true).await.unwrap();
}

#[test]
fn a_network_with_options_of_tomorrow_is_left_out() {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let id = ContainerId::random().to_string();
    let text = format!(
        r#"{{"version":1,"id":"{id}","name":"sea","created":1,"bridge":"cn-{}","subnet":"10.255.255.1/24","mtu":1500,
            "shows_gateway":false,"range":null,"internal":false,"attachable":false,"labels":{{}},
            "options":{{"com.docker.network.bridge.of_tomorrow":"false"}}}}"#,
        &id[..8]
    );
    let first = run();
    let field = first.block_on(async {
        let field = Field::new().await;
        field.engine.shared.index.put_network(&id, "sea", text).await.unwrap();
        field
    });
    let known = field.engine.networks().len();
    drop(first);
    let field = run().block_on(field.another());
    assert_eq!(field.engine.networks().len(), known);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_default_network_who_wants_it_has_a_loopback() {
    let field = Field::new().await;
    let script = "case $(cat /proc/net/dev) in *eth0*) exit 1;; *lo:*) exit 0;; esac; exit 2";
    for mode in [NetworkMode::Default, NetworkMode::Bridge] {
        let id = field.create(script, |settings| settings.host.network = mode).await;
        let waiting = field.engine.wait(&id, WaitCondition::NextExit).unwrap();
        field.engine.start(&id).await.unwrap();
        assert_eq!(waiting.done().await.state.exit_code, 0);
        field.engine.remove(&id, false, true).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_a_container_that_says_why() {
    let field = Field::new().await;
    let id = field.create("", |settings| settings.cmd = Some(vec!["no-such-program".into()])).await;
    let error = field.engine.start(&id).await.unwrap_err();
    assert!(matches!(error, Error::Start { code: 127, .. }), "{error}");
    let state = field.engine.inspect(&id).unwrap().state.clone();
    assert_eq!((state.status, state.exit_code), (Status::Created, 127));
    assert!(state.error.contains("no-such-program"), "{}", state.error);
    field.engine.remove(&id, false, true).await.unwrap();
}

#[test]
fn another_engine_finds_what_runs_and_what_has_ended() {
    let run = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = run();
    let (field, runs, ends) = first.block_on(async {
        let field = Field::new().await;
        let runs = field.create("exec sleep 100", |_| ()).await;
        let ends = field.create("while ! test -e /go; do sleep 0.01; done; exit 9", |_| ()).await;
        field.engine.start(&runs).await.unwrap();
        field.engine.start(&ends).await.unwrap();
        (field, runs, ends)
    });
    let pids = [&runs, &ends].map(|id| field.engine.inspect(id).unwrap().state.pid);
    // Everything of the first engine ends with its runtime, as with its process.
    first.shutdown_background();
    std::fs::write(format!("/proc/{}/root/go", pids[1]), "").unwrap();
    while std::path::Path::new(&format!("/proc/{}", pids[1])).exists() {
        std::thread::yield_now();
    }
    run().block_on(async {
        let field = field.another().await;
        assert_eq!(field.engine.inspect(&runs).unwrap().state.pid, pids[0]);
        assert_eq!(field.engine.inspect(&runs).unwrap().state.status, Status::Running);
        let ended = field.engine.wait(&ends, WaitCondition::NotRunning).unwrap().done().await;
        assert_eq!((ended.state.status, ended.state.exit_code), (Status::Exited, 9));
        for id in [&runs, &ends] {
            field.engine.remove(id, true, true).await.unwrap();
        }
    });
}
