//! Images for tests, made of what Debian's packages bring.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of the small image in every engine of the suite.
pub const SMALL: &str = "coracle-test-busybox";

/// The name of the Debian in engines that have it.
pub const DEBIAN: &str = "coracle-test-debian";

/// Gives an engine the Debian, unless it has it.
pub fn import_debian(engine: &crate::Engine) {
    if engine.docker(&["image", "inspect", DEBIAN]).code != 0 {
        engine.docker(&["import", &debian().display().to_string(), DEBIAN]).ok();
    }
}

/// The archive of a root with a static busybox and little else.
pub fn small(directory: &Path) -> PathBuf {
    let archive = directory.join("busybox.tar");
    let mut builder = tar::Builder::new(File::create(&archive).unwrap());
    for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var", "home"] {
        let mode = if name == "tmp" { 0o1777 } else { 0o755 };
        append(&mut builder, name, tar::EntryType::Directory, mode, &[]);
    }
    let busybox = fs::read("/bin/busybox").expect("the package busybox-static is installed");
    append(&mut builder, "bin/busybox", tar::EntryType::Regular, 0o755, &busybox);
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        builder.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/home:/bin/sh\n1000:x:0:0::/:/bin/sh\n";
    append(&mut builder, "etc/passwd", tar::EntryType::Regular, 0o644, passwd);
    append(
        &mut builder,
        "etc/group",
        tar::EntryType::Regular,
        0o644,
        b"root:x:0:\nweb:x:33:\nextra:x:77:web\n",
    );
    append(&mut builder, "etc/plain", tar::EntryType::Regular, 0o644, b"no program\n");
    builder.finish().unwrap();
    archive
}

fn append(builder: &mut tar::Builder<File>, name: &str, kind: tar::EntryType, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, name, content).unwrap();
}

/// The archive of a minimal Debian, made once for all test programs from this machine's own mirror. About 30 s.
pub fn debian() -> PathBuf {
    let place = crate::engine::programs().join("test-images");
    fs::create_dir_all(&place).unwrap();
    let archive = place.join("debian.tar");
    let lock = File::create(place.join("debian.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if archive.is_file() {
        return archive;
    }
    let part = place.join("debian.part.tar");
    mmdebstrap(&["--variant=minbase", "--include=ca-certificates"], &part);
    fs::set_permissions(&part, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&part, &archive).unwrap();
    archive
}

/// The files of a package for an architecture, as Debian calls it, below `directory`. Nothing of it is installed.
pub fn extract(package: &str, architecture: &str, directory: &Path) {
    let architecture = format!("--architectures={architecture}");
    mmdebstrap(&["--variant=extract", &architecture, &format!("--include={package}")], directory);
}

/// A root made of packages of this machine's own release and mirror.
fn mmdebstrap(options: &[&str], target: &Path) {
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap();
    let mut command = Command::new("mmdebstrap");
    command.arg("--quiet").args(options).arg(suite).arg(target);
    if let Some(mirror) = mirror() {
        command.arg(format!("deb {mirror} {suite} main"));
    }
    assert!(command.status().expect("the package mmdebstrap is installed").success());
}

/// The mirror that this machine's apt uses.
pub fn mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()),
    );
    let text: Vec<String> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    text.join("\n")
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.starts_with("http") && word.ends_with("/debian"))
        .map(str::to_owned)
}
