//! The default network of an engine, and the names on it.

use crate::config::Config;
use crate::error::{Attempt, Error, Result, blocking};
use coracle_names::{Name, Table};
pub use coracle_network::{HostPort, Ipv4Net as Subnet, Protocol, PublishRequest, Published};

use coracle_network::{Driver, Endpoint, EndpointRequest, EngineId, Held, InterfaceName, Ipv4Net, Namespace};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The id of the default network, as clients see it.
pub const BRIDGE: &str = "bridge";

/// The default bridge; absent where the configuration wants none.
#[derive(Debug)]
pub(crate) struct Network {
    driver: Option<Arc<Driver>>,
    name: String,
    names: PathBuf,
    table: Arc<Table>,
}

impl Network {
    /// Makes the bridge, or takes over the one that is there.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let name = config.bridge_name();
        let names = config.exec_root.join("networks").join(BRIDGE);
        std::fs::create_dir_all(&names).attempt(|| format!("make {}", names.display()))?;
        let table =
            Arc::new(Table::open(&names).attempt(|| format!("open the names in {}", names.display()))?);
        if name == "none" {
            return Ok(Self { driver: None, name, names, table });
        }
        let config = config.clone();
        let bridge = name.clone();
        let driver = blocking(move || open_driver(&config, &bridge)).await??;
        Ok(Self { driver: Some(Arc::new(driver)), name, names, table })
    }

    /// The bridge's name on the host.
    pub(crate) fn bridge(&self) -> &str {
        &self.name
    }

    /// The bridge's address and network.
    pub(crate) fn subnet(&self) -> Option<Ipv4Net> {
        self.driver.as_ref().map(|driver| driver.subnet())
    }

    /// Where the names of the network are.
    pub(crate) fn names(&self) -> &Path {
        &self.names
    }

    /// Makes a namespace that can be attached.
    pub(crate) async fn namespace(&self) -> Result<Namespace> {
        let driver = self.driver()?;
        blocking(move || driver.create_namespace().map_err(refused)).await?
    }

    /// Attaches a namespace, which is made unless it was before.
    pub(crate) async fn attach(
        &self,
        request: EndpointRequest,
        made: Option<Namespace>,
    ) -> Result<(Namespace, Endpoint, Held)> {
        let driver = self.driver()?;
        blocking(move || {
            let namespace = made.map_or_else(|| driver.create_namespace(), Ok).map_err(refused)?;
            let (endpoint, held) = driver.attach(&namespace, &request).map_err(refused)?;
            Ok((namespace, endpoint, held))
        })
        .await?
    }

    /// Takes a container off the network. Its interface dies with its namespace.
    pub(crate) async fn detach(&self, endpoint: Endpoint) -> Result<()> {
        let driver = self.driver()?;
        blocking(move || driver.detach(&endpoint).map_err(refused)).await?
    }

    /// Takes over a container that an earlier engine attached.
    pub(crate) async fn adopt(&self, endpoint: Endpoint) -> Result<()> {
        let driver = self.driver()?;
        blocking(move || driver.adopt(&endpoint).map_err(refused)).await?
    }

    /// Removes what containers left that nobody has adopted, and repairs what others have damaged.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let Ok(driver) = self.driver() else { return Ok(()) };
        blocking(move || driver.sweep().map(|_| ()).map_err(refused)).await?
    }

    /// Repairs rules and bridge where somebody flushed or removed them.
    pub(crate) async fn heal(&self) -> Result<()> {
        let Ok(driver) = self.driver() else { return Ok(()) };
        let healed = blocking(move || driver.heal().map_err(refused)).await??;
        if healed.bridge || healed.firewall {
            tracing::warn!(
                bridge = healed.bridge,
                firewall = healed.firewall,
                "the network was damaged and is repaired"
            );
        }
        Ok(())
    }

    /// Lets other containers find `endpoint` by these names; those that are no host names are left out.
    pub(crate) async fn publish(&self, endpoint: &Endpoint, names: &[String]) -> Result<()> {
        let table = Arc::clone(&self.table);
        let names: Vec<Name> = names.iter().filter_map(|name| Name::parse(name).ok()).collect();
        let (id, ip) = (endpoint.container_id.clone(), endpoint.ip);
        blocking(move || table.publish(&id, ip, &names).attempt(|| format!("publish the names of {id}")))
            .await?
    }

    /// Makes a container's names unknown.
    pub(crate) async fn withdraw(&self, id: &str) -> Result<()> {
        let (table, id) = (Arc::clone(&self.table), id.to_owned());
        blocking(move || table.withdraw(&id).attempt(|| format!("withdraw the names of {id}"))).await?
    }

    fn driver(&self) -> Result<Arc<Driver>> {
        self.driver.clone().ok_or_else(|| Error::NotFound {
            kind: "network",
            name: format!("{BRIDGE}: this engine has none"),
        })
    }
}

fn open_driver(config: &Config, bridge: &str) -> Result<Driver> {
    let subject = || format!("set up the network {bridge}");
    let bridge = InterfaceName::new(bridge).attempt(subject)?;
    let subnet = match config.bip {
        Some(subnet) => subnet,
        None => coracle_network::default_subnet(&bridge).attempt(subject)?,
    };
    let engine = config.engine_id().parse::<EngineId>().attempt(subject)?;
    Driver::open(coracle_network::Config { engine, bridge, subnet, mtu: config.mtu }).attempt(subject)
}

/// A port or address that is taken is the client's to change; the rest is a failure.
fn refused(error: coracle_network::Error) -> Error {
    Error::Failed {
        action: "driver failed programming external connectivity".to_owned(),
        source: Box::new(error),
    }
}
