//! `RUN --device`: which commands of a Dockerfile get which devices, and who says so.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::context::{Context, classic_build};
use coracle_tests::door::Door;
use coracle_tests::image::SMALL;
use coracle_tests::lender::{Lender, file};
use coracle_tests::vendor::Vendor;
use coracle_tests::{Engine, Output};

const AUTO: &str = "org.mobyproject.buildkit.device.autoallow: true";

fn devices(auto: &str) -> String {
    let class = "org.mobyproject.buildkit.device.class: fast";
    format!(
        "devices:\n- name: a\n  containerEdits: {{env: [A=1]}}\n- name: b\n  annotations: {{{class}}}\n  containerEdits:\n    \
         env: [B=1]\n    deviceNodes: [{{path: /dev/mine, hostPath: /dev/zero}}]\n    mounts: [{{hostPath: /etc/hostname, \
         containerPath: /given/by/device}}]\n{auto}"
    )
}

fn engine(vendor: &Vendor, more: &[&str]) -> Engine {
    Engine::start_with(&[&[vendor.option().as_str()], more].concat())
}

fn is_original() -> bool {
    std::env::var_os("TARGET").is_some()
}

fn own(engine: &Engine, context: &Context, arguments: &[&str]) -> Output {
    let path = context.path().display().to_string();
    engine.coracle(&[&["build"], arguments, &[&path]].concat())
}

fn context(flags: &str) -> Context {
    let script =
        "echo A=$A B=$B; head -c 2 /dev/mine 2>/dev/null | wc -c; ls /given/by/device 2>/dev/null || true";
    Context::new(
        &format!("FROM BASE\nRUN {flags} {script}\nRUN echo A=$A; ls /dev/mine 2>/dev/null || echo gone\n"),
        &[],
    )
}

#[test]
fn a_command_gets_devices_where_operator_and_client_allow_it() {
    if is_original() {
        return;
    }
    let vendor = Vendor::new(&devices(""));
    let engine = engine(&vendor, &["--build-entitlement", "device"]);
    let one = context("--device=vendor.test/class=b");
    own(&engine, &one, &[])
        .refused(1, "device vendor.test/class=b is requested by the build but not allowed");
    engine.buildx(&one.path(), &[]).refused(1, "--build-entitlement device");
    let elsewhere = ["--allow", "device=vendor.test/class=a"];
    own(&engine, &one, &elsewhere).refused(1, "device vendor.test/class=b is requested");
    let told = own(&engine, &one, &["-t", "devices", "--allow", "device=vendor.test/class=b"]);
    for line in ["A= B=1", " 2", "/given/by/device", " gone"] {
        assert!(told.stderr.contains(line), "{line:?} is not in {}", told.stderr);
    }
    told.ok();
    let left = [
        "run",
        "--rm",
        "--network",
        "none",
        "devices",
        "sh",
        "-c",
        "ls / | grep given; ls /dev/mine; env | grep B=",
    ];
    let left = engine.docker(&left);
    assert_eq!(left.stdout, "", "what a device was attached to does not stay");
    own(&engine, &one, &[]).refused(1, "not allowed");
    let cached = own(&engine, &one, &["--allow", "device"]);
    assert!(cached.stderr.contains("CACHED"), "{}", cached.stderr);
    cached.ok();
    engine.docker(&["rmi", "devices"]).ok();
}

#[test]
fn clients_grant_nothing_that_the_operator_keeps() {
    if is_original() {
        return;
    }
    let vendor = Vendor::new(&devices(""));
    let engine = engine(&vendor, &["--build-entitlement", "security.insecure"]);
    let one = context("--device=vendor.test/class=b");
    for name in ["device", "device=vendor.test/class=b"] {
        own(&engine, &one, &["--allow", name])
            .refused(1, &format!("granting entitlement {name} is not allowed"));
    }
    own(&engine, &one, &[]).refused(1, "not allowed");
    classic_build(&engine, &one.path(), &[]).refused(1, "not allowed");
}

#[test]
fn devices_that_vendors_give_builds_come_through_every_door() {
    if is_original() {
        return;
    }
    let vendor = Vendor::new(&devices(&format!("annotations: {{{AUTO}}}\n")));
    let engine = engine(&vendor, &[]);
    for (flags, said) in [
        ("--device=vendor.test/class=b", "A= B=1"),
        ("--device=vendor.test/class", "A=1 B="),
        ("--device=vendor.test/class=*,required", "A=1 B=1"),
        ("--device=fast", "A= B=1"),
        ("--device=vendor.test/class=none", "A= B="),
    ] {
        let context = context(flags);
        for told in [
            own(&engine, &context, &["--no-cache"]),
            engine.buildx(&context.path(), &["--no-cache"]),
            classic_build(&engine, &context.path(), &["--no-cache"]),
        ] {
            let all = format!("{}{}", told.stdout, told.stderr);
            assert!(all.lines().any(|line| line.ends_with(said)), "{flags}: {said:?} is not in {all}");
            told.ok();
        }
    }
    let missing = context("--device=vendor.test/class=none,required");
    for told in [own(&engine, &missing, &[]), engine.buildx(&missing.path(), &[])] {
        told.refused(1, "required device \"vendor.test/class=none\" is not registered");
    }
    let wrong = context("--device=vendor.test/class=b,optional");
    own(&engine, &wrong, &[]).refused(1, "unexpected key of a device: optional");
    engine.docker(&["image", "inspect", SMALL]).ok();
}

#[test]
fn a_step_is_done_again_when_the_device_is_another() {
    if is_original() {
        return;
    }
    let auto = format!("annotations: {{{AUTO}}}\n");
    let vendor = Vendor::new(&devices(&auto));
    let engine = engine(&vendor, &[]);
    let one = context("--device=vendor.test/class=b");
    own(&engine, &one, &[]).ok();
    let again = own(&engine, &one, &[]);
    assert_eq!(again.stderr.matches("CACHED").count(), 2, "{}", again.stderr);
    let write = |devices: &str| {
        vendor.put("vendor.yaml", &format!("cdiVersion: 0.7.0\nkind: vendor.test/class\n{devices}"));
    };
    write(&devices(&auto).replace("A=1", "A=2"));
    let again = own(&engine, &one, &[]);
    assert_eq!(again.stderr.matches("CACHED").count(), 2, "another device has changed: {}", again.stderr);
    write(&devices(&auto).replace("B=1", "B=2"));
    let changed = own(&engine, &one, &["--explain-cache"]);
    assert!(changed.stderr.contains("B=2"), "{}", changed.stderr);
    assert!(changed.stderr.contains("what the device vendor.test/class=b is"), "{}", changed.stderr);
    changed.ok();
}

#[tokio::test]
async fn buildkits_clients_grant_devices_and_hear_which_there_are() {
    use coracle_buildkit::proto::moby::buildkit::v1::{ListWorkersRequest, SolveRequest};
    if is_original() {
        return;
    }
    let vendor = Vendor::new(&devices(""));
    let engine = engine(&vendor, &["--build-entitlement", "device"]);
    let text = format!("FROM {SMALL}\nRUN --device=vendor.test/class=b,required echo B=$B\n");
    let directories =
        [("dockerfile".to_owned(), vec![file("Dockerfile", text)]), ("context".to_owned(), Vec::new())];
    let lender = Lender { directories: directories.into(), ..Lender::default() };
    let door = Door::open(&engine, lender).await;
    let listed = door.control().list_workers(ListWorkersRequest::default()).await.unwrap().into_inner();
    let names: Vec<_> =
        listed.record[0].cdi_devices.iter().map(|device| (device.name.as_str(), device.auto_allow)).collect();
    assert_eq!(names, [("vendor.test/class=a", false), ("vendor.test/class=b", false)]);
    for (entitlements, words) in [
        (vec![], Some("not allowed")),
        (vec!["device=vendor.test/class=a"], Some("not allowed")),
        (vec!["device=vendor.test/class=a", "device=vendor.test/class=b"], None),
        (vec!["device"], None),
    ] {
        let entitlements = entitlements.into_iter().map(str::to_owned).collect();
        let frontend = "dockerfile.v0".to_owned();
        let request = SolveRequest { entitlements, frontend, ..door.request("", &[]) };
        let solved = door.control().solve(request).await;
        match words {
            None => drop(solved.unwrap()),
            Some(words) => assert!(solved.unwrap_err().message().contains(words)),
        }
    }
}
