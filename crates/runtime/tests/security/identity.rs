//! Users, groups and capabilities as the kernel has them, whatever an image's files say.

use crate::harness::canary::{Canary, Planted, plant};
use crate::harness::{Bench, demultiplex, execution, plan, read_all, run, stream_pair};
use coracle_runtime::protocol::{Failure, Reply, Request};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::path::Path;
use std::time::{Duration, Instant};

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n1000:x:0:0::/:/bin/sh\n0x1:x:0:0::/:/bin/sh\n\
    +1:x:0:0::/:/bin/sh\nlarge:x:4294967296:0::/:/bin/sh\nminus:x:-1:0::/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nwww:x:34:\nadm:x:4:web,root\n1000:x:0:\n";

fn bench() -> Bench {
    let bench = Bench::new();
    std::fs::write(bench.path("root/etc/passwd"), PASSWD).unwrap();
    std::fs::write(bench.path("root/etc/group"), GROUP).unwrap();
    bench
}

fn run_as(user: &str, script: &str) -> Result<String, Failure> {
    let bench = bench();
    let mut plan = plan(&bench, &["sh", "-c", script]);
    plan.user = user.into();
    let found = run(&bench, &mut plan);
    bench.assert_nothing_is_left();
    found.map(|(_, out, _)| out)
}

#[test]
fn a_user_is_a_number_or_a_name_and_never_root_by_mistake() {
    for (user, expected) in [
        ("", "0 0 0 4"),
        ("root", "0 0 0 4"),
        ("0", "0 0 0 4"),
        ("web", "33 34 34 4"),
        ("33", "33 34 34 4"),
        ("33:0", "33 0 0"),
        ("web:www", "33 34 34"),
        (":www", "0 34 34"),
        ("1", "1 0 0"),
        ("1:", "1 0 0"),
        ("01", "1 0 0"),
        ("1000", "1000 0 0"),
        ("1000:1000", "1000 1000 1000"),
        ("65534:65534", "65534 65534 65534"),
        ("2147483647", "2147483647 0 0"),
        // Names that look like numbers to some are names.
        ("0x1", "0 0 0"),
        ("+1", "0 0 0"),
    ] {
        let found = run_as(user, "echo $(id -u) $(id -g) $(id -G)");
        assert_eq!(found.unwrap_or_else(|e| panic!("{user:?}: {e:?}")).trim(), expected, "{user:?}");
    }
}

#[test]
fn what_is_no_user_starts_nothing() {
    let long = "x".repeat(64 << 10);
    for user in [
        "-1",
        " 1",
        "1 ",
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "18446744073709551616:0",
        "0:4294967296",
        "nobody",
        "a:b:c",
        "web:nobody",
        "large",
        "minus",
        "web\n",
        "\nroot",
        "0x2",
        "1e3",
        "１",
        "root:",
        "..",
        "/",
        "web:-1",
        "web: 4",
        "0 ",
        "1.0",
        "nil\0",
        &long,
    ] {
        let found = run_as(user, "id -u");
        match user {
            // An empty group is none.
            "root:" => assert_eq!(found.unwrap(), "0\n"),
            _ => assert!(found.is_err(), "{user:?} ran as {found:?}"),
        }
    }
}

#[test]
fn no_capability_is_inheritable_or_ambient_and_users_have_none_in_force() {
    const STATUS: &str = "grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status";
    // CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID.
    let (none, four) = ("0000000000000000", "00000000000000e1");
    let check = |status: &str, in_force: &str, bounding: &str, who: &str| {
        for (line, expected) in [
            ("CapInh", none),
            ("CapAmb", none),
            ("CapPrm", in_force),
            ("CapEff", in_force),
            ("CapBnd", bounding),
        ] {
            assert!(status.contains(&format!("{line}:\t{expected}\n")), "{who} {line}: {status}");
        }
    };
    check(&run_as("", STATUS).unwrap(), four, four, "root");
    check(&run_as("1000", STATUS).unwrap(), none, four, "a user");
    check(&run_as("1000:0", STATUS).unwrap(), none, four, "a user in root's group");
    let bench = bench();
    let mut shim = bench.start(&plan(&bench, &["sleep", "100"])).unwrap();
    for (user, in_force) in [("", four), ("33", none)] {
        let mut execution = execution("one", &["sh", "-c", STATUS]);
        execution.user = user.into();
        let (ours, theirs) = stream_pair();
        let reply = shim.ask_with(&Request::Exec(Box::new(execution)), &[theirs]);
        assert!(matches!(reply, Reply::Started { .. }), "{reply:?}");
        check(&demultiplex(&read_all(ours)).0, in_force, four, "an exec");
        shim.event();
    }
    shim.kill();
    bench.assert_nothing_is_left();
}

#[test]
fn groups_that_are_denied_a_file_do_not_read_it() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let look = |groups: &[&str]| {
        let bench = bench();
        let file = bench.path("root/denied");
        std::fs::write(&file, "denied\n").unwrap();
        chown(&file, Some(0), Some(77)).unwrap();
        // Others read, the group does not.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o604)).unwrap();
        let mut plan = plan(&bench, &["sh", "-c", "grep Groups /proc/self/status; cat /denied"]);
        plan.user = "33".into();
        plan.groups = groups.iter().map(ToString::to_string).collect();
        let found = run(&bench, &mut plan).unwrap().1;
        bench.assert_nothing_is_left();
        found
    };
    // The primary group is in the set: a process that leaves it would lose what is denied to it (CVE-2022-2989).
    assert_eq!(look(&[]), "Groups:\t4 34 \ndenied\n");
    assert_eq!(look(&["77"]), "Groups:\t4 34 77 \n");
    assert_eq!(look(&["adm", "77", "77"]), "Groups:\t4 34 77 \n");
}

#[test]
fn files_of_users_that_are_endless_or_no_files_are_refused_at_once() {
    let device = |path: &Path, kind, number| {
        mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), number).unwrap();
    };
    type Make<'a> = Box<dyn Fn(&Path) + 'a>;
    let sparse = |path: &Path| std::fs::File::create(path).unwrap().set_len(4 << 30).unwrap();
    let odd: Vec<(&str, bool, Make<'_>)> = vec![
        ("4 GiB of nothing", true, Box::new(sparse)),
        ("a line of 2 MiB", true, Box::new(|path| std::fs::write(path, "x".repeat(2 << 20)).unwrap())),
        ("/dev/zero", true, Box::new(|path| device(path, FileType::CharacterDevice, makedev(1, 5)))),
        ("a fifo", true, Box::new(|path| device(path, FileType::Fifo, 0))),
        ("a socket", true, Box::new(|path| device(path, FileType::Socket, 0))),
        ("a directory", true, Box::new(|path| std::fs::create_dir(path).unwrap())),
        (
            "bytes that are no text",
            false,
            Box::new(|path| std::fs::write(path, [0xff, 0, 0x3a, 10]).unwrap()),
        ),
        ("nothing", false, Box::new(|path| std::fs::write(path, "").unwrap())),
    ];
    for file in ["root/etc/passwd", "root/etc/group"] {
        for (what, refused, make) in &odd {
            let bench = bench();
            std::fs::remove_file(bench.path(file)).unwrap();
            make(&bench.path(file));
            let began = Instant::now();
            let found = run(&bench, &mut plan(&bench, &["id", "-u"]));
            assert!(began.elapsed() < Duration::from_secs(2), "{file} is {what}");
            assert_eq!(found.is_err(), *refused, "{file} is {what}: {found:?}");
            bench.assert_nothing_is_left();
        }
    }
}

#[test]
fn files_of_users_that_are_links_lead_nowhere_outside() {
    let canary = Canary::new();
    for file in ["/etc/passwd", "/etc/group"] {
        for link in [Planted::AbsoluteLink, Planted::RelativeLink, Planted::DanglingLink] {
            let bench = bench();
            std::fs::remove_file(bench.path("root").join(&file[1..])).unwrap();
            plant(&bench.path("root"), file, link, &canary);
            let (_, out, _) = run(&bench, &mut plan(&bench, &["id", "-u"])).unwrap();
            assert_eq!(out, "0\n", "{file} {link:?}");
            bench.assert_nothing_is_left();
        }
    }
    // Inside the image a link is followed.
    let bench = bench();
    std::fs::rename(bench.path("root/etc/passwd"), bench.path("root/etc/users")).unwrap();
    std::os::unix::fs::symlink("/etc/users", bench.path("root/etc/passwd")).unwrap();
    let mut plan = plan(&bench, &["id", "-u"]);
    plan.user = "web".into();
    assert_eq!(run(&bench, &mut plan).unwrap().1, "33\n");
    bench.assert_nothing_is_left();
    canary.assert_whole();
}
