//! What is read of directories of specifications, and what devices make of a container.

use super::inject::Injection;
use super::*;
use crate::containers::settings::DeviceRequest;
use std::fs;
use tempfile::TempDir;

/// Directories of specifications, the last of which counts most.
struct Directories(Vec<TempDir>);

impl Directories {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| tempfile::tempdir().unwrap()).collect())
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(|directory| directory.path().to_owned()).collect()
    }

    fn write(&self, directory: usize, name: &str, text: &str) {
        fs::write(self.0[directory].path().join(name), text).unwrap();
    }

    fn read(&self) -> Catalogue {
        Catalogue::read(&self.paths())
    }

    fn inject(&self, names: &[&str]) -> Result<Injection> {
        let ids = Some(names.iter().map(ToString::to_string).collect());
        inject(&self.paths(), &[DeviceRequest { driver: "cdi".into(), ids, ..DeviceRequest::default() }])
    }
}

fn device(name: &str, edits: &str) -> String {
    let head = r#""cdiVersion":"1.1.0","kind":"v.com/c""#;
    format!(
        r#"{{{head},"devices":[{{"name":"{name}","containerEdits":{{{edits}}}}}],"containerEdits":{{"env":["ALL=1"]}}}}"#
    )
}

fn env_of(directories: &Directories, name: &str) -> Vec<String> {
    directories.inject(&[name]).unwrap().env
}

#[test]
fn a_later_directory_counts_more_and_a_name_twice_in_one_is_nobodys() {
    let directories = Directories::new(2);
    directories.write(0, "a.json", &device("one", r#""env":["FROM=a"]"#));
    directories.write(0, "b.txt", "no specification");
    assert_eq!(env_of(&directories, "v.com/c=one"), ["ALL=1", "FROM=a"]);
    directories.write(1, "a.json", &device("one", r#""env":["FROM=b"]"#));
    assert_eq!(env_of(&directories, "v.com/c=one"), ["ALL=1", "FROM=b"]);
    directories.write(1, "c.yaml", &device("one", r#""env":["FROM=c"]"#));
    let refused = directories.inject(&["v.com/c=one", "v.com/c=two"]).unwrap_err().chain();
    let place = directories.0[1].path().display();
    let reason = format!("the device v.com/c=one stands in {place}/a.json and {place}/c.yaml");
    assert_eq!(
        refused,
        format!("CDI device injection failed: unresolvable CDI devices v.com/c=one, v.com/c=two ({reason})")
    );
    directories.write(0, "d.json", &device("two", r#""env":["FROM=d"]"#));
    assert_eq!(env_of(&directories, "v.com/c=two"), ["ALL=1", "FROM=d"]);
}

#[test]
fn hostile_files_are_named_and_leave_the_others_usable() {
    let directories = Directories::new(1);
    directories.write(0, "good.yaml", &device("good", r#""env":["A=b"]"#));
    directories.write(0, "huge.json", &" ".repeat(coracle_spec::limits::DEVICES_DOCUMENT + 1));
    directories.write(0, "bad.yaml", "cdiVersion: [");
    fs::write(directories.0[0].path().join("binary.json"), [0xff, 0xfe]).unwrap();
    fs::create_dir(directories.0[0].path().join("directory.json")).unwrap();
    let fifo = directories.0[0].path().join("fifo.json");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::os::unix::fs::symlink("/nowhere", directories.0[0].path().join("link.json")).unwrap();
    let catalogue = directories.read();
    assert_eq!(catalogue.all().map(|(name, _)| name).collect::<Vec<_>>(), ["v.com/c=good"]);
    for (name, words) in [
        ("huge.json", "it has more than"),
        ("bad.yaml", "line"),
        ("binary.json", "UTF-8"),
        ("directory.json", "it is no file"),
        ("fifo.json", "it is no file"),
        ("link.json", "No such file"),
    ] {
        let told = catalogue.problems.iter().find(|problem| problem.contains(name)).unwrap();
        assert!(told.contains(words), "{told}");
    }
    assert!(catalogue.reasons().contains("huge.json"));
}

#[test]
fn what_all_specifications_have_together_is_bounded() {
    let directories = Directories::new(1);
    let filler = " ".repeat(coracle_spec::limits::DEVICES_DOCUMENT - 1000);
    let count = limits::DEVICE_DOCUMENTS / coracle_spec::limits::DEVICES_DOCUMENT + 2;
    for number in 0..count {
        let text = device(&format!("d{number:02}"), r#""env":["A=b"]"#) + &filler;
        directories.write(0, &format!("{number:02}.json"), &text);
    }
    let catalogue = directories.read();
    assert!(catalogue.find("v.com/c=d00").is_some());
    assert!(catalogue.find(&format!("v.com/c=d{:02}", count - 1)).is_none());
    for number in 0..=limits::DEVICE_FILES {
        directories.write(0, &format!("more{number}.json"), "");
    }
    assert!(directories.read().reasons().contains("there are more than"));
}

#[test]
fn what_a_node_leaves_open_is_looked_up() {
    let directories = Directories::new(1);
    let nodes = |nodes: &str| {
        directories.write(0, "a.json", &device("one", &format!(r#""deviceNodes":[{nodes}]"#)));
        directories.inject(&["v.com/c=one"])
    };
    let made = nodes(
        r#"{"path":"/dev/mine","hostPath":"/dev/zero","permissions":"r","fileMode":384,"uid":5},
           {"path":"/dev/deep/other","type":"b","major":7,"minor":300,"permissions":"none"},
           {"path":"/dev/pipe","type":"p"},{"path":"/dev/raw","type":"u","major":9,"minor":8}"#,
    )
    .unwrap();
    let (mine, rule) = &made.devices[0];
    assert_eq!((mine.kind.as_str(), mine.major, mine.minor), ("c", 1, 5));
    assert_eq!((mine.file_mode, mine.uid, mine.gid), (Some(0o600), Some(5), None));
    let rule = rule.as_ref().unwrap();
    assert_eq!((rule.major, rule.minor, rule.access.as_deref()), (Some(1), Some(5), Some("r")));
    let (other, rule) = &made.devices[1];
    assert_eq!((other.major, other.minor, rule.is_none()), (7, 300, true));
    assert_eq!((made.devices[2].0.kind.as_str(), &made.devices[2].1), ("p", &None));
    assert_eq!(made.devices[3].1.as_ref().unwrap().kind.as_deref(), Some("c"));
    for (node, words) in [
        (
            r#"{"path":"/dev/mine","hostPath":"/dev/no-such"}"#,
            "failed to stat CDI host device \"/dev/no-such\"",
        ),
        (r#"{"path":"/dev/mine","hostPath":"/etc/passwd"}"#, "/etc/passwd is not a device node"),
        (r#"{"path":"/dev/mine","hostPath":"/dev/zero","type":"b"}"#, "has the type c, not b"),
        (r#"{"path":"/mine","hostPath":"/dev/zero"}"#, "below /dev and nowhere else"),
        (r#"{"path":"/dev","hostPath":"/dev/zero"}"#, "below /dev and nowhere else"),
        (r#"{"path":"/dev/null","hostPath":"/dev/zero"}"#, "every container has its own there"),
        (r#"{"path":"/dev/pts/7","hostPath":"/dev/zero"}"#, "every container has its own there"),
    ] {
        let refused = nodes(node).unwrap_err().chain();
        assert!(refused.contains(words) && refused.contains("v.com/c=one"), "{refused}");
    }
}

#[test]
fn what_is_not_done_is_refused_with_the_device_and_the_file() {
    let directories = Directories::new(1);
    for (edits, words) in [
        (r#""hooks":[{"hookName":"createContainer","path":"/bin/x"}]"#, "the hook createContainer (/bin/x)"),
        (r#""netDevices":[{"hostInterfaceName":"eth7","name":"e"}]"#, "the network interface eth7"),
        (r#""intelRdt":{"closID":"x"}"#, "intelRdt"),
        (r#""mounts":[{"hostPath":"/etc","containerPath":"/proc/sys"}]"#, "nothing may lie on /proc"),
    ] {
        directories.write(0, "a.json", &device("one", edits));
        let refused = directories.inject(&["v.com/c=one"]).unwrap_err();
        assert!(matches!(refused, Error::Unsupported(_)), "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("device v.com/c=one") && text.contains("a.json") && text.contains(words),
            "{text}"
        );
    }
}

#[test]
fn edits_of_all_come_once_and_mounts_are_binds_unless_they_say_otherwise() {
    let directories = Directories::new(1);
    let edits = r#""env":["A=b"],"additionalGids":[0,7],"mounts":[
        {"hostPath":"/etc","containerPath":"/etc/mine/","options":["ro"]},
        {"hostPath":"tmpfs","containerPath":"/t","type":"tmpfs","options":["size=1m"]}]"#;
    directories.write(0, "a.json", &device("one", edits));
    let made = directories.inject(&["v.com/c=one", "v.com/c=one"]).unwrap();
    assert_eq!((made.env, made.groups), (vec!["ALL=1".to_owned(), "A=b".to_owned()], vec![7]));
    let shown: Vec<_> = made.mounts.iter().map(|m| (m.destination.as_str(), m.options.join(","))).collect();
    assert_eq!(shown, [("/etc/mine", "bind,ro".to_owned()), ("/t", "size=1m".to_owned())]);
    directories.write(
        0,
        "a.json",
        &device("one", r#""mounts":[{"hostPath":"/no/such","containerPath":"/a"}]"#),
    );
    let refused = directories.inject(&["v.com/c=one"]).unwrap_err().chain();
    assert!(refused.contains("cannot mount /no/such: No such file"), "{refused}");
}
