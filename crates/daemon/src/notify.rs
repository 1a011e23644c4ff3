//! What the service manager is told of this daemon, sd_notify(3): nothing where none has started it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// The way to the service manager.
#[derive(Debug, Default)]
pub(crate) struct Manager(Option<(UnixDatagram, SocketAddr)>);

impl Manager {
    /// The one that `NOTIFY_SOCKET` names: a path, or an abstract address that begins with `@`.
    pub(crate) fn of_environment() -> Self {
        std::env::var_os("NOTIFY_SOCKET").map_or_else(Self::default, |name| Self::at(name.as_bytes()))
    }

    fn at(name: &[u8]) -> Self {
        let address = match name {
            [] => return Self::default(),
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            path => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(path))),
        };
        match address.and_then(|address| Ok((UnixDatagram::unbound()?, address))) {
            Ok(way) => Self(Some(way)),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET is no address");
                Self::default()
            }
        }
    }

    /// The API is served, or the configuration was read again.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read again.
    pub(crate) fn reloading(&self) {
        // systemd takes it for this reload by the time, which is that of CLOCK_MONOTONIC in microseconds.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
    }

    /// The daemon ends.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        let Some((socket, address)) = &self.0 else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::warn!(%error, state, "the service manager could not be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_at_a_path_and_at_an_abstract_address() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager::at(path.as_os_str().as_bytes()).ready();
        assert_eq!(told(&socket), "READY=1");
        let name = format!("coracle-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let manager = Manager::at(format!("@{name}").as_bytes());
        manager.reloading();
        assert!(told(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        manager.stopping();
        assert_eq!(told(&socket), "STOPPING=1");
        Manager::at(b"").ready();
    }
}
