//! One network in the kernel, and the names on it.

use crate::error::{Attempt, Error, Result, blocking};
use coracle_names::{Name, Table};
use coracle_network::{Driver, Endpoint, EndpointRequest, Held, Namespace, PublishRequest, Published};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A bridge with its addresses and names; without a setup, a network that this engine does not have.
#[derive(Debug)]
pub(crate) struct Bridge {
    network: String,
    setup: Option<coracle_network::Config>,
    /// Absent until it is set up.
    driver: Arc<Mutex<Option<Arc<Driver>>>>,
    names: PathBuf,
    table: Arc<Table>,
    /// Whether it is removed. Held shared while containers come, and alone while the network goes.
    gone: tokio::sync::RwLock<bool>,
}

impl Bridge {
    /// A bridge that is not looked at yet, and names below the directory `names`.
    pub(super) fn new(network: &str, setup: Option<coracle_network::Config>, names: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&names).attempt(|| format!("make {}", names.display()))?;
        let table =
            Arc::new(Table::open(&names).attempt(|| format!("open the names in {}", names.display()))?);
        let (network, driver, gone) = (network.to_owned(), Arc::default(), tokio::sync::RwLock::new(false));
        Ok(Self { network, setup, driver, names, table, gone })
    }

    /// Makes the bridge, or takes over the one that is there.
    pub(super) async fn ready(&self) -> Result<()> {
        self.with_driver(|_| Ok(())).await
    }

    /// Attaches a namespace.
    pub(crate) async fn attach(
        &self,
        namespace: Namespace,
        request: EndpointRequest,
    ) -> Result<(Namespace, Endpoint, Held)> {
        let gone = self.gone.read().await;
        if *gone {
            return Err(self.missing());
        }
        self.with_driver(move |driver| {
            let (endpoint, held) = driver.attach(&namespace, &request).map_err(refused)?;
            Ok((namespace, endpoint, held))
        })
        .await
    }

    /// Takes a container off the network. Its interface dies with its namespace.
    pub(crate) async fn detach(&self, endpoint: Endpoint) -> Result<()> {
        self.with_driver(move |driver| driver.detach(&endpoint).map_err(refused)).await
    }

    /// Takes a container off the network that goes on running, its interface included.
    pub(crate) async fn disconnect(&self, endpoint: Endpoint) -> Result<()> {
        self.with_driver(move |driver| {
            let detached = driver.detach(&endpoint);
            driver.remove_interface(&endpoint).and(detached).map_err(refused)
        })
        .await
    }

    /// Makes this network a running container's way to everywhere, by which its published `ports` are reached, which
    /// another network had until now. Returns the endpoint as it is from now on.
    pub(crate) async fn lead_out(
        &self,
        namespace: Namespace,
        endpoint: Endpoint,
        ports: Vec<Published>,
    ) -> Result<Endpoint> {
        self.with_driver(move |driver| {
            driver.add_default_route(&namespace, &endpoint).map_err(refused)?;
            driver.carry(&endpoint, &ports).map_err(refused)
        })
        .await
    }

    /// Publishes further ports of a running container, all or none. Returns the endpoint as it is from now on, with the new
    /// ports last, and what holds them.
    pub(crate) async fn publish_ports(
        &self,
        endpoint: Endpoint,
        requests: Vec<PublishRequest>,
    ) -> Result<(Endpoint, Held)> {
        self.with_driver(move |driver| driver.publish_more(&endpoint, &requests).map_err(refused)).await
    }

    /// Publishes ports whose sockets are held already. Returns the endpoint as it is from now on.
    pub(crate) async fn carry_ports(&self, endpoint: Endpoint, ports: Vec<Published>) -> Result<Endpoint> {
        self.with_driver(move |driver| driver.carry(&endpoint, &ports).map_err(refused)).await
    }

    /// Withdraws some ports of a running container. Returns the endpoint as it is from now on.
    pub(crate) async fn withdraw_ports(&self, endpoint: Endpoint, ports: Vec<Published>) -> Result<Endpoint> {
        self.with_driver(move |driver| driver.unpublish(&endpoint, &ports).map_err(refused)).await
    }

    /// Takes over a container that an earlier engine attached.
    pub(crate) async fn adopt(&self, endpoint: Endpoint) -> Result<()> {
        self.with_driver(move |driver| driver.adopt(&endpoint).map_err(refused)).await
    }

    /// Removes what containers left that nobody has adopted, and repairs what others have damaged.
    pub(super) async fn sweep(&self) -> Result<()> {
        let Some(driver) = self.opened() else { return Ok(()) };
        blocking(move || driver.sweep().map(|_| ()).map_err(refused)).await?
    }

    /// Repairs rules and bridge where somebody flushed or removed them.
    pub(super) async fn heal(&self) -> Result<()> {
        let gone = self.gone.read().await;
        let Some(driver) = self.opened().filter(|_| !*gone) else { return Ok(()) };
        let healed = blocking(move || driver.heal().map_err(refused)).await??;
        if healed.bridge || healed.firewall {
            tracing::warn!(
                network = self.network,
                bridge = healed.bridge,
                firewall = healed.firewall,
                "the network was damaged and is repaired"
            );
        }
        Ok(())
    }

    /// Removes the network from the kernel, and its names; `false` while a container is connected to it.
    pub(super) async fn remove(&self) -> Result<bool> {
        let mut gone = self.gone.write().await;
        let removed = self
            .with_driver(|driver| match driver.is_in_use() {
                true => Ok(false),
                false => driver.remove().map(|()| true).map_err(refused),
            })
            .await?;
        if removed {
            *gone = true;
            if let Err(error) = std::fs::remove_dir_all(&self.names) {
                tracing::warn!(network = self.network, error = %error, "the names of a removed network are left");
            }
        }
        Ok(removed)
    }

    /// Lets other containers find `endpoint` by these names; those that are no host names are left out.
    pub(crate) async fn publish(&self, endpoint: &Endpoint, names: &[String]) -> Result<()> {
        let table = Arc::clone(&self.table);
        let names: Vec<Name> = names.iter().filter_map(|name| Name::parse(name).ok()).collect();
        let (id, ips) = (endpoint.container_id.clone(), endpoint.ips().collect::<Vec<_>>());
        blocking(move || table.publish(&id, &ips, &names).attempt(|| format!("publish the names of {id}")))
            .await?
    }

    /// Makes a container's names unknown.
    pub(crate) async fn withdraw(&self, id: &str) -> Result<()> {
        let (table, id) = (Arc::clone(&self.table), id.to_owned());
        blocking(move || table.withdraw(&id).attempt(|| format!("withdraw the names of {id}"))).await?
    }

    /// Does something that blocks, with the network set up.
    async fn with_driver<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Driver) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let setup = self.setup.clone().ok_or_else(|| self.missing())?;
        let (slot, network) = (Arc::clone(&self.driver), self.network.clone());
        blocking(move || {
            let driver = {
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                match &*slot {
                    Some(driver) => Arc::clone(driver),
                    None => {
                        let opened =
                            Driver::open(setup).attempt(|| format!("set up the network {network}"))?;
                        Arc::clone(slot.insert(Arc::new(opened)))
                    }
                }
            };
            work(&driver)
        })
        .await?
    }

    fn opened(&self) -> Option<Arc<Driver>> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the engine has this network at all.
    pub(crate) fn exists(&self) -> bool {
        self.setup.is_some()
    }

    fn missing(&self) -> Error {
        if self.exists() {
            return Error::NotFound { kind: "network", name: self.network.clone() };
        }
        Error::Missing(format!("network {}: the engine was started without it (--bridge none)", self.network))
    }
}

/// A port or address that is taken is the client's to change; the rest is a failure.
fn refused(error: coracle_network::Error) -> Error {
    match error {
        coracle_network::Error::AddressTaken { .. } => {
            Error::Forbidden(format!("Address already in use: {error}"))
        }
        coracle_network::Error::AddressOutside { .. } => Error::Invalid(error.to_string()),
        error => Error::Failed {
            action: "driver failed programming external connectivity".to_owned(),
            source: Box::new(error),
        },
    }
}
