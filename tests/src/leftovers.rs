//! What an engine may have left on the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The bridge of the engine whose roots are below `place`, by its name in the engine's log of the network.
pub fn bridge_of(place: &Path) -> Option<String> {
    let id = engine_id(place);
    let name = format!("co-{id}");
    Path::new("/sys/class/net").join(&name).exists().then_some(name)
}

/// Eight digits that the engine derives from its data root.
fn engine_id(place: &Path) -> String {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("printf %s '{}' | sha256sum", place.join("data").display()))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()[..8].to_owned()
}

/// Everything that is left of an engine that was stopped after all its containers were removed.
pub fn find(place: &Path) -> Vec<String> {
    let id = engine_id(place);
    let path = place.display().to_string();
    let mut found = Vec::new();
    let mut look = |what: &str, text: &str, needle: &str| {
        found.extend(text.lines().filter(|line| line.contains(needle)).map(|line| format!("{what}: {line}")));
    };
    look("mount", &fs::read_to_string("/proc/self/mountinfo").unwrap(), &path);
    look("interface", &run("ip", &["-o", "link", "show", "type", "veth"]), &format!("co-{id}"));
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let text = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).replace('\0', " ");
        // A shim's arguments say nothing of where it is; what it complains into does.
        let complains_into = fs::read_link(process.path().join("fd/2")).unwrap_or_default();
        if text.contains(&path) || complains_into.starts_with(place) {
            found.push(format!("process: {} {text}", process.file_name().display()));
        }
    }
    found.extend(cgroups(&id));
    let bridges = bridges(&id).into_iter().filter(|name| *name != format!("co-{id}"));
    found.extend(bridges.map(|name| format!("bridge: {name}")));
    for directory in ["data/containers", "data/tmp", "data/trash", "run/containers"] {
        let entries = fs::read_dir(place.join(directory)).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| format!("file: {}", entry.path().display())));
    }
    found
}

/// The processes that the engine has started and not collected, with their states.
pub fn children_of(engine: u32) -> Vec<String> {
    let output = run("ps", &["-o", "pid=,stat=,args=", "--ppid", &engine.to_string()]);
    output.lines().map(|line| line.trim().to_owned()).collect()
}

/// The engine's tables: what they hold before the first container they must hold after the last. Other engines' bridges,
/// which they follow, come and go as those want.
pub fn table(place: &Path) -> String {
    FAMILIES.map(|family| table_of(place, family)).concat()
}

const FAMILIES: [&str; 2] = ["ip", "ip6"];

fn table_of(place: &Path, family: &str) -> String {
    let table = run("nft", &["list", "table", family, &format!("coracle-{}", engine_id(place))]);
    let Some((before, rest)) = table.split_once("\tset foreign {") else { return table };
    let after = rest.split_once("\n\t}\n").map_or("", |(_, after)| after);
    format!("{before}{after}")
}

fn cgroups(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let group = hierarchy.path().join(format!("coracle-{id}"));
        let children =
            fs::read_dir(&group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
        found.extend(children.map(|child| format!("cgroup: {}", child.path().display())));
        // The engine's own, empty one is of no use to anybody after the test.
        let _ = fs::remove_dir(&group);
    }
    found
}

/// The bridges of all networks of an engine, as its table names them.
fn bridges(id: &str) -> Vec<String> {
    let table = format!("coracle-{id}");
    let sets = FAMILIES.map(|family| run("nft", &["list", "set", family, &table, "bridges"])).concat();
    let names: std::collections::BTreeSet<_> =
        sets.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    names.into_iter().collect()
}

/// Removes the bridges and the tables of an engine that will not come back.
pub fn remove_bridge(name: Option<&str>) {
    let Some(name) = name else { return };
    run("ip", &["link", "delete", name]);
    if let Some(id) = name.strip_prefix("co-") {
        for bridge in bridges(id) {
            run("ip", &["link", "delete", &bridge]);
        }
        for family in FAMILIES {
            run("nft", &["delete", "table", family, &format!("coracle-{id}")]);
        }
        // The two rules that let our packets pass a Docker that drops what it forwards.
        let script = format!(
            "for tables in iptables ip6tables; do for chain in DOCKER-USER FORWARD; do \
             $tables -S $chain 2>/dev/null | grep 'coracle-{id}' | sed 's/^-A/-D/' | xargs -r -L1 $tables; done; done"
        );
        run("sh", &["-c", &script]);
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
