//! Builds for a platform whose programs this machine runs by an emulator, with real programs of that platform.
//!
//! `cargo test -p coracle-tests --test emulated -- --ignored` fetches the emulator and the programs from Debian's mirror and tells
//! the kernel of the emulator, by a name of its own, for as long as it goes on.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::Engine;
use coracle_tests::context::{Context, classic_build};
use coracle_tests::image::{SMALL, extract};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How programs for this platform begin, and which bytes of that count.
const MAGIC: &str = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
const MASK: &str = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

/// An emulator that the kernel knows of, `Documentation/admin-guide/binfmt-misc.rst`.
struct Emulator {
    place: TempDir,
    entry: PathBuf,
}

impl Emulator {
    fn register(program: &Path) -> Self {
        let place = tempfile::tempdir().unwrap();
        mount("binfmt_misc", place.path(), "binfmt_misc", MountFlags::empty(), None).unwrap();
        let name = format!("coracle-test-{}", std::process::id());
        let text = format!(":{name}:M::{MAGIC}:{MASK}:{}:F", program.display());
        let emulator = Self { entry: place.path().join(name), place };
        fs::write(emulator.place.path().join("register"), text).unwrap();
        emulator
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let forgotten = fs::write(&self.entry, "-1");
        unmount(self.place.path(), UnmountFlags::empty()).unwrap();
        forgotten.unwrap();
    }
}

#[test]
#[ignore = "fetches packages, and tells the kernel of an emulator"]
fn commands_of_another_platform_run_by_an_emulator() {
    let engine = Engine::start();
    let packages = tempfile::tempdir().unwrap();
    extract("busybox-static", "arm64", &packages.path().join("arm64"));
    extract("qemu-user-static", "amd64", &packages.path().join("amd64"));
    let context = Context::new(
        &format!(
            "FROM --platform=$BUILDPLATFORM {SMALL} AS links\nRUN rm /bin/busybox\nFROM scratch\nCOPY --from=links / /\nCOPY busybox /bin/\n"
        ),
        &[],
    );
    fs::copy(packages.path().join("arm64/bin/busybox"), context.path().join("busybox")).unwrap();
    let base = engine.name("arm64");
    engine.buildx(&context.path(), &["--platform", "linux/arm64", "-t", &base]).ok();
    let dockerfile = format!(
        "FROM {base} AS foreign\nUSER web\nWORKDIR /tmp/x\nRUN --mount=type=cache,target=/cache uname -m >m && id -un >>m\n\
         FROM --platform=$BUILDPLATFORM {SMALL}\nCOPY --from=foreign /tmp/x/m /m\nRUN uname -m >>/m\n"
    );
    let (name, context) = (engine.name("emulated"), Context::new(&dockerfile, &[]));
    let arguments = ["--platform", "linux/arm64", "-t", &name];
    let told = engine.buildx(&context.path(), &arguments).fails_with(1);
    assert!(told.contains("cannot run a program for linux/arm64") && told.contains("binfmt_misc"), "{told}");
    let emulator = Emulator::register(&packages.path().join("amd64/usr/bin/qemu-aarch64-static"));
    for build in [Engine::buildx, classic_build] {
        build(&engine, &context.path(), &arguments).ok();
        let made = engine.docker(&["run", "--rm", &name, "cat", "/m"]).ok();
        assert_eq!(made, "aarch64\nweb\nx86_64");
    }
    let run = ["run", "--rm", "--platform", "linux/arm64", &base, "uname", "-m"];
    assert_eq!(engine.docker(&run).ok(), "aarch64");
    drop(emulator);
    let refusal = engine.docker(&run);
    assert!(refusal.stderr.contains("exec format error"), "{}", refusal.stderr);
    engine.docker(&["rmi", &name, &base]).ok();
}
