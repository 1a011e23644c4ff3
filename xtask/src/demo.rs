//! The main job on a fresh machine: build, start an engine, run a container of a real Debian userland.

use crate::metadata::Metadata;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn run() -> Result<(), String> {
    let metadata = Metadata::read()?;
    check_machine()?;
    let place = metadata.target_directory.join("demo");
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let programs = step("build the engine and its runtime (release)", || build(&metadata))?;
    let archive = step("make a Debian userland with mmdebstrap", || userland(&place))?;
    let mut engine = step("start an engine", || Engine::start(&programs, &place))?;
    let done = show(&engine, &archive);
    step("stop the engine and remove its data", || engine.stop())?;
    done
}

fn show(engine: &Engine, archive: &Path) -> Result<(), String> {
    let archive = archive.display().to_string();
    step("import it as an image", || engine.coracle(&["import", &archive, "debian"]))?;
    let script = "grep PRETTY /etc/os-release; echo \"process $$ of host $(hostname), user $(id -un)\"";
    step("run a container", || engine.coracle(&["run", "--rm", "debian", "sh", "-c", script]))?;
    step("run another, without a network", || {
        engine.coracle(&["run", "--rm", "--network", "none", "debian", "true"])
    })
}

/// Runs one step and says how long it took.
fn step<T>(what: &str, act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    println!("» {what}");
    let begin = Instant::now();
    let done = act().map_err(|reason| format!("could not {what}: {reason}"))?;
    println!("  {:.3} s", begin.elapsed().as_secs_f64());
    Ok(done)
}

/// Says what is missing, all of it at once.
fn check_machine() -> Result<(), String> {
    let mut missing = Vec::new();
    if !rustix_is_root() {
        missing.push("root: run it with sudo");
    }
    if find("mmdebstrap").is_none() {
        missing.push("mmdebstrap, which makes the Debian userland: apt-get install mmdebstrap");
    }
    let file_systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !file_systems.contains("overlay") {
        missing.push("overlayfs in the kernel: modprobe overlay");
    }
    if !fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().contains(" - cgroup") {
        missing.push("a cgroup file system: mount one at /sys/fs/cgroup");
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("this machine lacks\n  {}", missing.join("\n  "))) }
}

fn rustix_is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

fn build(metadata: &Metadata) -> Result<PathBuf, String> {
    run_command(Command::new(env!("CARGO")).args(["build", "--release", "--locked"]))?;
    // The target is named in the configuration, so its name is part of the path.
    let directories = fs::read_dir(&metadata.target_directory).map_err(|error| error.to_string())?;
    directories
        .flatten()
        .map(|entry| entry.path().join("release"))
        .filter(|directory| {
            directory.join("coracle").is_file() && directory.join("coracle-runtime").is_file()
        })
        .max_by_key(|directory| fs::metadata(directory.join("coracle")).and_then(|m| m.modified()).ok())
        .ok_or_else(|| "cargo has not put the programs where they were expected".to_owned())
}

/// A minimal Debian from this machine's own mirror, made once.
fn userland(place: &Path) -> Result<PathBuf, String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("stable");
    let archive = place.join(format!("debian-{suite}.tar"));
    if archive.is_file() {
        println!("  {} is there already", archive.display());
        return Ok(archive);
    }
    let unfinished = archive.with_extension("part.tar");
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", suite]).arg(&unfinished);
    if let Some(mirror) = mirror() {
        command.arg(format!("deb {mirror} {suite} main"));
    }
    run_command(&mut command)?;
    fs::rename(&unfinished, &archive).map_err(|error| error.to_string())?;
    Ok(archive)
}

/// The mirror that this machine's apt uses.
fn mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()),
    );
    let text: String =
        files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>().join("\n");
    let lines =
        text.lines().map(str::trim).filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    lines
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.starts_with("http") && word.ends_with("/debian"))
        .map(str::to_owned)
}

fn run_command(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().map_err(|error| format!("{name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) }
}

/// An engine with roots of its own.
struct Engine {
    program: PathBuf,
    place: PathBuf,
    child: Child,
}

impl Engine {
    fn start(programs: &Path, place: &Path) -> Result<Self, String> {
        let program = programs.join("coracle");
        let place = place.join("engine");
        fs::create_dir_all(&place).map_err(|error| error.to_string())?;
        let log = fs::File::create(place.join("engine.log")).map_err(|error| error.to_string())?;
        // In a network namespace, which takes bridge and firewall rules with it when the engine ends.
        let child = Command::new("unshare")
            .arg("--net")
            .arg(&program)
            .arg("daemon")
            .args(["--data-root".as_ref(), place.join("data").as_os_str()])
            .args(["--exec-root".as_ref(), place.join("run").as_os_str()])
            .args(["--pidfile".as_ref(), place.join("pid").as_os_str()])
            .args(["--host".to_owned(), format!("unix://{}", place.join("socket").display())])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut engine = Self { program, place, child };
        engine.wait()?;
        Ok(engine)
    }

    fn wait(&mut self) -> Result<(), String> {
        let limit = Instant::now() + Duration::from_secs(10);
        while std::os::unix::net::UnixStream::connect(self.place.join("socket")).is_err() {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?.is_some();
            if ended || Instant::now() > limit {
                let log = fs::read_to_string(self.place.join("engine.log")).unwrap_or_default();
                return Err(format!("it does not answer; its log says\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn coracle(&self, arguments: &[&str]) -> Result<(), String> {
        let host = format!("unix://{}", self.place.join("socket").display());
        run_command(Command::new(&self.program).args(["--host", &host]).args(arguments))
    }

    fn stop(&mut self) -> Result<(), String> {
        run_command(Command::new("kill").arg(self.child.id().to_string()))?;
        self.child.wait().map_err(|error| error.to_string())?;
        fs::remove_dir_all(&self.place).map_err(|error| format!("{}: {error}", self.place.display()))
    }
}
