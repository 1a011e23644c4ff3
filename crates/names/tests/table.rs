//! A network's names on disk.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Barrier;

use coracle_names::limits::NAMES_PER_ENDPOINT;
use coracle_names::{Error, Name, Table};

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 3));

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn names(list: &[&str]) -> Vec<Name> {
    list.iter().map(|text| name(text)).collect()
}

fn lookup(table: &Table, text: &str) -> BTreeSet<IpAddr> {
    table.lookup(&name(text)).expect("a table").into_iter().collect()
}

/// Every file of the table, with the value of links.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn what_is_published_is_found_by_every_name_and_by_address_until_it_is_withdrawn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("net");
    let table = Table::open(&path).unwrap();
    table.publish("e1", &[ONE], &names(&["Web", "frontend", "web.example"])).unwrap();
    table.publish("e2", &[TWO], &names(&["db", "frontend"])).unwrap();
    assert_eq!(lookup(&table, "WEB"), [ONE].into());
    assert_eq!(lookup(&table, "web.example"), [ONE].into());
    assert_eq!(lookup(&table, "frontend"), [ONE, TWO].into());
    assert_eq!(lookup(&table, "absent"), [].into());
    assert_eq!(table.reverse(ONE).unwrap(), Some(name("web")));
    // Another process sees the same.
    let other = Table::open(&path).unwrap();
    other.withdraw("e1").unwrap();
    other.withdraw("e1").unwrap();
    assert_eq!(lookup(&table, "web"), [].into());
    assert_eq!(lookup(&table, "frontend"), [TWO].into());
    assert_eq!((table.reverse(ONE).unwrap(), table.reverse(TWO).unwrap()), (None, Some(name("db"))));
    other.withdraw("e2").unwrap();
    assert_eq!(files(&path), [""; 0]);
    assert_eq!(std::fs::read_dir(path.join("names")).unwrap().count(), 0);
}

#[test]
fn an_endpoint_has_an_address_of_each_family_and_older_shims_find_that_of_ipv4() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("net");
    let table = Table::open(&path).unwrap();
    let (v6, other): (IpAddr, IpAddr) = ("fd00::2".parse().unwrap(), "fd00::3".parse().unwrap());
    table.publish("e1", &[ONE, v6], &names(&["web", "1.2.3.4"])).unwrap();
    assert_eq!(lookup(&table, "web"), [ONE, v6].into());
    assert_eq!(table.reverse(v6).unwrap(), Some(name("web")));
    // What they read: a link by the endpoint's own name, and a record that begins with an address.
    let link = std::fs::read_link(path.join("names/web/e1")).unwrap();
    assert_eq!(link.to_str(), Some("172.17.0.2"));
    let record = std::fs::read_to_string(path.join("endpoints/e1")).unwrap();
    assert_eq!(record, "172.17.0.2\nweb\n1.2.3.4\nfd00::2");
    // Other names, another address, only one of IPv6.
    table.publish("e1", &[ONE, v6], &names(&["site"])).unwrap();
    assert_eq!((lookup(&table, "web"), lookup(&table, "site")), ([].into(), [ONE, v6].into()));
    table.publish("e1", &[ONE, other], &names(&["site"])).unwrap();
    assert_eq!((lookup(&table, "site"), table.reverse(v6).unwrap()), ([ONE, other].into(), None));
    table.publish("e1", &[v6], &names(&["site"])).unwrap();
    assert_eq!((lookup(&table, "site"), table.reverse(ONE).unwrap()), ([v6].into(), None));
    table.withdraw("e1").unwrap();
    assert_eq!(files(&path), [""; 0]);
    for addresses in [&[][..], &[v6, ONE], &[ONE, TWO]] {
        assert!(matches!(table.publish("e1", addresses, &[]), Err(Error::Addresses { .. })));
    }
}

#[test]
fn publishing_again_replaces_what_an_endpoint_had() {
    let directory = tempfile::tempdir().unwrap();
    let table = Table::open(directory.path()).unwrap();
    table.publish("e1", &[ONE], &names(&["old", "both", "both"])).unwrap();
    table.publish("e1", &[TWO], &names(&["both", "new"])).unwrap();
    assert_eq!((lookup(&table, "old"), lookup(&table, "both")), ([].into(), [TWO].into()));
    assert_eq!((table.reverse(ONE).unwrap(), table.reverse(TWO).unwrap()), (None, Some(name("both"))));
    // With the same address, what stays is never missing.
    table.publish("e1", &[TWO], &names(&["newer", "both"])).unwrap();
    assert_eq!((lookup(&table, "new"), lookup(&table, "both")), ([].into(), [TWO].into()));
    assert_eq!((lookup(&table, "newer"), table.reverse(TWO).unwrap()), ([TWO].into(), Some(name("newer"))));
    table.publish("e1", &[TWO], &[]).unwrap();
    assert_eq!((lookup(&table, "newer"), lookup(&table, "both")), ([].into(), [].into()));
    assert_eq!((lookup(&table, "new"), table.reverse(TWO).unwrap()), ([].into(), None));
}

#[test]
fn one_withdrawing_an_address_does_not_take_it_from_its_next_owner() {
    let directory = tempfile::tempdir().unwrap();
    let table = Table::open(directory.path()).unwrap();
    table.publish("e1", &[ONE], &names(&["web"])).unwrap();
    table.publish("e2", &[ONE], &names(&["web"])).unwrap();
    table.withdraw("e1").unwrap();
    assert_eq!((lookup(&table, "web"), table.reverse(ONE).unwrap()), ([ONE].into(), Some(name("web"))));
}

#[test]
fn identifiers_that_would_be_paths_and_lists_without_end_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let table = Table::open(directory.path()).unwrap();
    for bad in ["", ".", "..", ".hidden", "a/b", "../e1", "a\n", "a\0b", &"x".repeat(129)] {
        assert!(matches!(table.publish(bad, &[ONE], &[]), Err(Error::Endpoint { .. })), "{bad:?}");
        assert!(matches!(table.withdraw(bad), Err(Error::Endpoint { .. })), "{bad:?}");
    }
    let many: Vec<_> = (0..=NAMES_PER_ENDPOINT).map(|n| name(&format!("n{n}"))).collect();
    assert!(matches!(table.publish("e1", &[ONE], &many), Err(Error::TooManyNames { .. })));
    table.publish("e1", &[ONE], &many[1..]).unwrap();
    table.withdraw("e1").unwrap();
    assert_eq!(files(directory.path()), [""; 0]);
}

#[test]
fn a_name_that_an_endpoint_keeps_is_found_while_its_others_change() {
    let directory = tempfile::tempdir().unwrap();
    let table = Table::open(directory.path()).unwrap();
    table.publish("e1", &[ONE], &names(&["kept"])).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let table = Table::open(directory.path()).unwrap();
            let mut reads = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) || reads == 0 {
                assert_eq!(lookup(&table, "kept"), [ONE].into());
                assert!(table.reverse(ONE).unwrap().is_some());
                reads += 1;
            }
        });
        for round in 0..200 {
            table.publish("e1", &[ONE], &names(&[&format!("n{round}"), "kept"])).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn endpoints_that_come_and_go_at_once_never_lose_each_others_names() {
    let directory = tempfile::tempdir().unwrap();
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for worker in 0..4u8 {
            let (path, barrier) = (directory.path(), &barrier);
            scope.spawn(move || {
                let table = Table::open(path).unwrap();
                let (endpoint, address) = (format!("e{worker}"), IpAddr::from([10, 0, 0, worker]));
                barrier.wait();
                for _ in 0..200 {
                    table.publish(&endpoint, &[address], &names(&["shared"])).unwrap();
                    assert!(table.lookup(&name("shared")).unwrap().contains(&address));
                    table.withdraw(&endpoint).unwrap();
                    assert!(!table.lookup(&name("shared")).unwrap().contains(&address));
                }
            });
        }
    });
    assert_eq!(files(directory.path()), [""; 0]);
}
