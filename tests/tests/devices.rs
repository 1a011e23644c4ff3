//! Devices of the Container Device Interface: what specifications of vendors make of a container.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::Context;
use coracle_tests::image::SMALL;
use coracle_tests::vendor::Vendor;
use coracle_tests::{Engine, Output};
use std::fs;

/// A device whose numbers no container may open by itself (fuse), and one that gives a file.
const DEVICES: &str = "\
containerEdits:
  env: [ANY=of all, OVER=device]
devices:
- name: node
  containerEdits:
    deviceNodes:
    - {path: /dev/vendor/node, type: c, major: 10, minor: 229, permissions: rw, fileMode: 0600}
- name: zero
  containerEdits:
    deviceNodes: [{path: /dev/mine, hostPath: /dev/zero, uid: 5, gid: 6, permissions: r}]
- name: file
  containerEdits:
    env: [FILE=/given/file]
    additionalGids: [0, 4321]
    mounts: [{hostPath: PLACE/file, containerPath: /given/file, options: [ro, nosuid, rbind, rprivate]}]
";

/// Our engine with these devices; nothing where the original is under test, whose daemon would have to be started with them.
fn engine(devices: &str) -> Option<(Engine, Vendor)> {
    if std::env::var_os("TARGET").is_some() {
        return None;
    }
    let vendor = Vendor::new("");
    let place = vendor.path("").display().to_string();
    let text = devices.replace("PLACE", place.trim_end_matches('/'));
    vendor.put("vendor.yaml", &format!("cdiVersion: 0.7.0\nkind: vendor.test/class\n{text}"));
    vendor.put("file", "content\n");
    Some((Engine::start_with(&[&vendor.option()]), vendor))
}

fn run(engine: &Engine, options: &[&str], script: &str) -> Output {
    let head = ["run", "--rm", "--network", "none"];
    engine.docker(&[&head[..], options, &[SMALL, "sh", "-c", script]].concat())
}

#[test]
fn a_container_gets_what_the_specification_says_and_nothing_else() {
    let Some((engine, _vendor)) = engine(DEVICES) else { return };
    let script = "ls -ln /dev/vendor/node | awk '{print $1, $3, $4, $5 $6}'; : </dev/vendor/node && echo opened; \
                  mknod /tmp/other c 10 237; (: </tmp/other) 2>/dev/null || echo closed; echo $ANY $OVER";
    let told = run(&engine, &["-e", "OVER=client", "--device", "vendor.test/class=node"], script).ok();
    assert_eq!(told, "crw------- 0 0 10,229\nopened\nclosed\nof all device");
    let script = "ls -ln /dev/mine | awk '{print $3, $4, $5 $6}'; head -c 3 /dev/mine | wc -c; cat $FILE; \
                  (echo x >$FILE) 2>/dev/null || echo read-only; id -G; ls /dev/vendor 2>/dev/null || echo no node";
    let options = ["--device", "vendor.test/class=zero", "--device=vendor.test/class=file"];
    let expected = "5 6 1,5\n3\ncontent\nread-only\n0 4321\nno node";
    assert_eq!(run(&engine, &options, script).ok(), expected);
    let own =
        ["run", "--rm", "--network", "none", "--device", "vendor.test/class=zero", SMALL, "ls", "/dev/mine"];
    assert_eq!(engine.coracle(&own).ok(), "/dev/mine");
    let script = "ls -ln /dev/vendor/node | awk '{print $3, $4}'; : </dev/vendor/node && echo opened";
    let options = ["--user", "33:34", "--device", "vendor.test/class=node"];
    assert_eq!(run(&engine, &options, script).ok(), "33 34\nopened", "the container's user has it");
}

#[test]
fn groups_are_numbers_whatever_the_image_calls_by_them() {
    let Some((engine, _vendor)) = engine(DEVICES) else { return };
    let (name, image) = (engine.name("named"), engine.name("groups"));
    let script = "echo 4321:x:99: >>/etc/group";
    engine.docker(&["run", "--name", &name, "--network", "none", SMALL, "sh", "-c", script]).ok();
    engine.docker(&["commit", &name, &image]).ok();
    let device = "vendor.test/class=file";
    let asking = ["run", "--rm", "--network", "none", "--user", "33", "--device", device, &image, "id", "-G"];
    assert_eq!(engine.docker(&asking).ok(), "33 77 4321");
    engine.docker(&["rmi", &image]).ok();
}

#[test]
fn the_record_keeps_what_was_asked_for() {
    let Some((mut engine, vendor)) = engine(DEVICES) else { return };
    let name = engine.name("kept");
    let create =
        ["create", "--name", &name, "--network", "none", "--device", "vendor.test/class=file", SMALL];
    engine.docker(&[&create[..], &["sh", "-c", "cat $FILE"]].concat()).ok();
    engine.kill();
    engine.start_again();
    let shown = engine.docker(&["inspect", "-f", "{{json .HostConfig.DeviceRequests}}", &name]).json();
    let expected = serde_json::json!([{
        "Driver": "cdi", "Count": 0, "DeviceIDs": ["vendor.test/class=file"], "Capabilities": null, "Options": null,
    }]);
    assert_eq!(shown, expected);
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "content");
    vendor.put("file", "changed\n");
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "changed");
    let text = fs::read_to_string(vendor.path("vendor.yaml")).unwrap();
    fs::remove_file(vendor.path("vendor.yaml")).unwrap();
    let words = "CDI device injection failed: unresolvable CDI devices vendor.test/class=file";
    engine.docker(&["start", "-a", &name]).refused(1, words);
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Status}}", &name]).ok(), "exited");
    vendor.put("vendor.yaml", &text);
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "changed");
}

/// Before 2.30, `devices` of a service are paths and nothing else; what is reserved goes to the driver that it names.
#[test]
fn compose_gives_services_devices() {
    let Some((engine, _vendor)) = engine(DEVICES) else { return };
    let project = engine.name("project");
    let context = Context::new("", &[]);
    let file = format!(
        "services:\n  one:\n    image: {SMALL}\n    network_mode: none\n    command: cat /given/file\n    deploy:\n      \
         resources:\n        reservations:\n          devices:\n          - {{driver: cdi, device_ids: \
         [vendor.test/class=file], capabilities: [gpu]}}\n"
    );
    context.put("compose.yaml", &file);
    let up = engine.plugin_in(&context.path(), &["compose", "-p", &project, "up", "--no-log-prefix"]);
    assert!(up.stdout.contains("content"), "{}{}", up.stdout, up.stderr);
    engine.plugin_in(&context.path(), &["compose", "-p", &project, "down"]).ok();
}

#[test]
fn info_names_directories_devices_and_what_is_wrong() {
    let Some((engine, vendor)) = engine(DEVICES) else { return };
    vendor.put("wrong.json", "{}");
    let info = engine.docker(&["info", "-f", "{{json .}}"]).json();
    assert_eq!(
        info["CDISpecDirs"],
        serde_json::json!([vendor.path("").display().to_string().trim_end_matches('/')])
    );
    let warnings = info["Warnings"].to_string();
    assert!(warnings.contains("wrong.json") && warnings.contains("missing field"), "{warnings}");
    let told = engine.coracle(&["info"]).ok();
    assert!(told.contains("CDI spec directories:") && told.contains("cdi: vendor.test/class=zero"), "{told}");
    let (_, old) = engine.request("GET", "/v1.49/info", None);
    let (_, new) = engine.request("GET", "/v1.50/info", None);
    assert!(new.contains("DiscoveredDevices") && !old.contains("DiscoveredDevices"));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let Some((engine, vendor)) = engine(DEVICES) else { return };
    let device = |edits: &str| format!("devices: [{{name: bad, containerEdits: {{{edits}}}}}]\n");
    let many: String =
        (0..100_000).map(|n| format!("- {{name: d{n}, containerEdits: {{env: [A=b]}}}}\n")).collect();
    let hook = "hooks: [{hookName: createContainer, path: /usr/bin/vendor-hook}]";
    for (text, words) in [
        (
            device("deviceNodes: [{path: /dev/x, hostPath: zero}]"),
            "the hostPath of a device node is \"zero\"",
        ),
        (device("deviceNodes: [{path: /dev/x, hostPath: /dev/../etc/shadow}]"), "bad.yaml"),
        (device("deviceNodes: [{path: /dev/../etc/x, hostPath: /dev/zero}]"), "have no .. in it"),
        (device("deviceNodes: [{path: /proc/x, hostPath: /dev/zero}]"), "below /dev and nowhere else"),
        (
            device("deviceNodes: [{path: /dev/null, hostPath: /dev/zero}]"),
            "every container has its own there",
        ),
        (device("deviceNodes: [{path: /dev/x, hostPath: /dev/no-such}]"), "failed to stat CDI host device"),
        (
            device("mounts: [{hostPath: /etc, containerPath: /proc/sys, options: [bind]}]"),
            "nothing may lie on /proc",
        ),
        (device("mounts: [{hostPath: ../etc, containerPath: /x, options: [bind]}]"), "bad.yaml"),
        (device("mounts: [{hostPath: /etc, containerPath: /}]"), "is the root"),
        (device("mounts: [{hostPath: /no/such, containerPath: /x}]"), "cannot mount /no/such"),
        (device(hook), "asks for the hook createContainer (/usr/bin/vendor-hook)"),
        (device("intelRdt: {}"), "asks for intelRdt"),
        (format!("devices:\n{many}"), "bytes"),
        (" ".repeat(8 << 20), "bytes"),
        ("devices: &a [*a, *a]\n".to_owned(), "not supported"),
    ] {
        vendor.put("bad.yaml", &format!("cdiVersion: 0.7.0\nkind: bad.test/class\n{text}"));
        run(&engine, &["--device", "bad.test/class=bad"], "true").refused(125, words);
    }
    assert_eq!(run(&engine, &["--device", "vendor.test/class=zero"], "echo fine").ok(), "fine");
}

#[test]
fn a_name_twice_is_nobodys_and_a_later_directory_counts_more() {
    let Some((first, second)) = std::env::var_os("TARGET").is_none().then(|| {
        let devices =
            |value: &str| format!("devices: [{{name: one, containerEdits: {{env: [FROM={value}]}}}}]\n");
        (Vendor::new(&devices("first")), Vendor::new(&devices("second")))
    }) else {
        return;
    };
    let engine = Engine::start_with(&[&first.option(), &second.option()]);
    let options = ["--device", "vendor.test/class=one"];
    assert_eq!(run(&engine, &options, "echo $FROM").ok(), "second");
    let text = fs::read_to_string(second.path("vendor.yaml")).unwrap();
    second.put("again.yaml", &text);
    run(&engine, &options, "true").refused(125, "again.yaml and");
    fs::remove_file(second.path("again.yaml")).unwrap();
    fs::remove_file(second.path("vendor.yaml")).unwrap();
    assert_eq!(run(&engine, &options, "echo $FROM").ok(), "first");
}

#[test]
fn devices_can_be_switched_off() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let engine = Engine::start_with(&["--feature", "cdi=false"]);
    assert_eq!(engine.docker(&["info", "-f", "{{json .CDISpecDirs}}"]).ok(), "[]");
    run(&engine, &["--device", "vendor.test/class=one"], "true").refused(125, "without CDI devices");
}

/// What Docker says without its vendor's hook, and this engine without its specification.
#[test]
fn graphics_processors_that_are_not_there_are_refused_in_dockers_words() {
    let engine = Engine::start();
    let name = engine.name("none");
    for (options, words) in [
        (&["--gpus", "all"][..], r#"could not select device driver "" with capabilities: [[gpu]]"#),
        (
            &["--gpus", "driver=nvidia,capabilities=utility"],
            r#"could not select device driver "nvidia" with capabilities: [[utility gpu]]"#,
        ),
        (&["--gpus", "driver=none"], r#"could not select device driver "none" with capabilities: [[gpu]]"#),
    ] {
        run(&engine, options, "true").refused(125, words);
        let own = [&["run", "--rm", "--network", "none"], options, &[SMALL, "true"]].concat();
        engine.coracle(&own).refused(125, words);
    }
    engine.docker(&["create", "--name", &name, "--gpus", "2", SMALL, "true"]).ok();
    let (status, body) = engine.request("POST", &format!("/v1.44/containers/{name}/start"), None);
    assert_eq!(status, 500, "{body}");
    let shown = engine.docker(&["inspect", "-f", "{{json .HostConfig.DeviceRequests}}", &name]).json();
    let expected = serde_json::json!([{
        "Driver": "", "Count": 2, "DeviceIDs": null, "Capabilities": [["gpu"]], "Options": {},
    }]);
    assert_eq!(shown, expected);
    engine.docker(&["rm", &name]).ok();
}

/// A specification of `kind` whose devices say by a variable which they are.
fn processors(kind: &str, names: &[&str]) -> String {
    let device = |name: &&str| format!("- {{name: '{name}', containerEdits: {{env: [GOT_{name}=yes]}}}}\n");
    let devices: String = names.iter().map(device).collect();
    format!("cdiVersion: 0.7.0\nkind: {kind}\ndevices:\n{devices}")
}

#[test]
fn graphics_processors_are_devices_of_their_vendors() {
    let Some((mut engine, vendor)) = engine(DEVICES) else { return };
    vendor.put("nvidia.yaml", &processors("nvidia.com/gpu", &["0", "1", "all"]));
    let script = "echo $(env | sed -n 's/^GOT_//p' | sort)";
    let got = |engine: &Engine, gpus: &str| run(engine, &["--gpus", gpus], script).ok();
    assert_eq!(got(&engine, "all"), "all=yes");
    assert_eq!(got(&engine, "1"), "0=yes");
    assert_eq!(got(&engine, "\"device=0,1\",driver=nvidia,\"capabilities=compute,utility\""), "0=yes 1=yes");
    run(&engine, &["--gpus", "3"], "true").refused(125, "unresolvable CDI devices nvidia.com/gpu=2");
    run(&engine, &["--gpus", "1000000000000"], "true")
        .refused(125, "unresolvable CDI devices nvidia.com/gpu=2");
    run(&engine, &["--gpus", "driver=amd"], "true").refused(125, "has devices amd.com/gpu");
    // Without a device for all of them, all are meant.
    vendor.put("amd.yaml", &processors("amd.com/gpu", &["0", "1"]));
    assert_eq!(got(&engine, "driver=amd,count=all"), "0=yes 1=yes");
    assert_eq!(got(&engine, "capabilities=amd"), "0=yes");
    assert_eq!(got(&engine, "all"), "all=yes", "the first vendor where nobody says which");
    fs::remove_file(vendor.path("nvidia.yaml")).unwrap();
    assert_eq!(got(&engine, "all"), "0=yes 1=yes");
    let name = engine.name("kept");
    let create = ["create", "--name", &name, "--network", "none", "--gpus", "device=1", SMALL];
    engine.docker(&[&create[..], &["sh", "-c", script]].concat()).ok();
    engine.kill();
    engine.start_again();
    assert_eq!(engine.docker(&["start", "-a", &name]).ok(), "1=yes");
}
