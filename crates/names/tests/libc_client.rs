//! The resolver as a program with a C library sees it: `getent` in a namespace whose resolv.conf names 127.0.0.11.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};

use coracle_names::{Name, Service, Table, Upstream};
use coracle_sys::netlink::{Protocol, Socket, route};
use coracle_sys::netns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Serves until `fd` is readable or closed.
fn serve(service: &mut Service, fd: BorrowedFd<'_>) {
    let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
    loop {
        let own = service.as_fd();
        let mut fds = [PollFd::new(&fd, PollFlags::IN), PollFd::new(&own, PollFlags::IN)];
        assert_ne!(poll(&mut fds, Some(&patience)).expect("polled"), 0, "neither a question nor an end");
        if !fds[0].revents().is_empty() {
            return;
        }
        service.run_ready().expect("served");
    }
}

#[test]
fn getent_finds_names_and_addresses_of_containers() {
    let directory = tempfile::tempdir().unwrap();
    let tables = [directory.path().join("net")];
    let table = Table::open(&tables[0]).unwrap();
    table.publish("e1", &[Ipv4Addr::new(172, 17, 0, 2).into()], &[Name::parse("web").unwrap()]).unwrap();
    let conf = directory.path().join("resolv.conf");
    std::fs::write(&conf, "nameserver 127.0.0.11\noptions ndots:0 timeout:5 attempts:1\n").unwrap();
    netns::in_new(|| {
        Socket::open(Protocol::Route).unwrap().request(&[route::set_up(1)]).unwrap();
        let address = (Ipv4Addr::new(127, 0, 0, 11), 53);
        let (udp, tcp) = (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap());
        let mut service = Service::new(udp.into(), tcp.into(), &tables, Upstream::none()).unwrap();
        let mut getent = |arguments: &str| {
            let script =
                format!("mount --bind {} /etc/resolv.conf && exec getent {arguments}", conf.display());
            let mut child = Command::new("unshare")
                .args(["--mount", "sh", "-c", &script])
                .stdout(Stdio::piped())
                .spawn()
                .expect("util-linux is installed");
            let mut output = child.stdout.take().expect("piped");
            serve(&mut service, output.as_fd());
            let mut text = String::new();
            output.read_to_string(&mut text).expect("text");
            (
                child.wait().expect("ended").success(),
                text.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            )
        };
        // Both kinds of addresses are asked for; the one that is empty must not hide the other.
        let (found, words) = getent("ahosts WEB");
        assert!(found);
        assert_eq!(words[0], "172.17.0.2");
        assert_eq!(getent("hosts 172.17.0.2"), (true, vec!["172.17.0.2".to_owned(), "web".to_owned()]));
        let both = ["172.17.0.3".parse().unwrap(), "fd00::3".parse().unwrap()];
        table.publish("e2", &both, &[Name::parse("dual").unwrap()]).unwrap();
        // IPv6 is asked for first, and counts more.
        assert_eq!(getent("hosts dual"), (true, vec!["fd00::3".to_owned(), "dual".to_owned()]));
        assert_eq!(getent("hosts fd00::3"), (true, vec!["fd00::3".to_owned(), "dual".to_owned()]));
        let (found, _) = getent("ahostsv4 absent");
        assert!(!found);
    })
    .unwrap();
}
