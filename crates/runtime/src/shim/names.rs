//! The container's resolver: its names are answered here for as long as its first process runs, and its own are
//! withdrawn before anybody hears of its end.

use crate::error::{Error, Result};
use crate::protocol::Names;
use coracle_names::{Name, Service, Table, Upstream};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Where the machine's own servers are listed, resolv.conf(5).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The port of name servers.
const PORT: u16 = 53;

/// Answers a container's queries. Its sockets are in the container's network namespace, those to other servers in
/// the shim's.
pub(super) struct Resolver {
    service: Service,
    names: Names,
}

impl Resolver {
    /// Serves `names` on the sockets of a plan; nothing, when the plan has neither.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the plan has one without the other, [`Error::Names`] for tables that are not there.
    pub(super) fn new(
        names: Option<&Names>,
        datagrams: Option<OwnedFd>,
        listener: Option<OwnedFd>,
    ) -> Result<Option<Self>> {
        match (names, datagrams, listener) {
            (None, None, None) => Ok(None),
            (Some(names), Some(datagrams), Some(listener)) => {
                let mut service = Service::new(datagrams, listener, &names.tables, upstream(names))?;
                service.set_networks(networks(names));
                service.set_aliases(aliases(names));
                Ok(Some(Self { service, names: names.clone() }))
            }
            _ => Err(Error::Malformed("names need both of their sockets, and sockets need names".to_owned())),
        }
    }

    /// Readable when there is something to do.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.service.as_fd()
    }

    /// How long there is nothing to do unless the descriptor becomes readable.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.service.next_timeout()
    }

    pub(super) fn run_ready(&mut self) -> Result<()> {
        Ok(self.service.run_ready()?)
    }

    /// Serves `names` from now on, if it does not already.
    pub(super) fn become_for(&mut self, names: &Names) -> Result<()> {
        if self.names == *names { Ok(()) } else { self.change(names.clone()) }
    }

    /// Answers from other tables, and asks other servers, from now on.
    pub(super) fn change(&mut self, names: Names) -> Result<()> {
        self.service.set_tables(&names.tables)?;
        self.service.set_networks(networks(&names));
        self.service.set_aliases(aliases(&names));
        self.service.set_upstream(upstream(&names));
        self.names = names;
        Ok(())
    }

    /// Takes the container's names out of every table: the dead must not resolve. One table that fails leaves the
    /// others to be tried; the first failure is returned.
    pub(super) fn withdraw(&self) -> Result<()> {
        let withdrawals = self.names.tables.iter().map(|path| {
            if !path.exists() {
                // The network is gone, and its names with it; opening the table would make it anew.
                return Ok(());
            }
            Ok(Table::open(path)?.withdraw(&self.names.endpoint)?)
        });
        withdrawals.fold(Ok(()), Result::and)
    }
}

/// Those that are names; others are behind no name that can be asked for.
fn networks(names: &Names) -> Vec<Option<Name>> {
    names.networks.iter().map(|network| Name::parse(network).ok()).collect()
}

/// Those that are names; nobody can ask for the others.
fn aliases(names: &Names) -> HashMap<Name, Name> {
    let parse = |(alias, name): (&String, &String)| Some((Name::parse(alias).ok()?, Name::parse(name).ok()?));
    names.aliases.iter().filter_map(parse).collect()
}

fn upstream(names: &Names) -> Upstream {
    if names.is_internal {
        return Upstream::none();
    }
    if names.servers.is_empty() {
        return Upstream::file(RESOLV_CONF);
    }
    Upstream::servers(names.servers.iter().map(|server| SocketAddr::new(*server, PORT)).collect())
}
