//! The ports of containers: published when they are attached, and changed while they run.

use super::Driver;
use crate::endpoint::{Endpoint, PublishRequest, Published};
use crate::error::Result;
use crate::firewall::{self, PortElements};
use crate::ports::{self, Held};

impl Driver {
    /// Publishes further ports of a running container: all of them or none. Returns the endpoint as it is from now on and
    /// the sockets that hold the new ports.
    ///
    /// # Errors
    /// As [`Driver::attach`] for ports.
    pub fn publish_more(&self, endpoint: &Endpoint, requests: &[PublishRequest]) -> Result<(Endpoint, Held)> {
        let _shared = self.whole.read();
        let (ports, held) = ports::reserve(requests, endpoint)?;
        let added = Endpoint { ports, ..endpoint.clone() };
        self.publish(&added)?;
        let mut whole = endpoint.clone();
        whole.ports.extend_from_slice(&added.ports);
        self.state().endpoints.insert(whole.host_interface.clone(), whole.clone());
        Ok((whole, held))
    }

    /// Publishes ports that another network has just withdrawn, and whose sockets are still held: all of them or none.
    /// Returns the endpoint as it is from now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn carry(&self, endpoint: &Endpoint, ports: &[Published]) -> Result<Endpoint> {
        let _shared = self.whole.read();
        let mut whole = endpoint.clone();
        self.publish(&Endpoint { ports: ports.to_vec(), ..endpoint.clone() })?;
        whole.ports.extend_from_slice(ports);
        self.state().endpoints.insert(whole.host_interface.clone(), whole.clone());
        Ok(whole)
    }

    /// Withdraws some ports of a running container. Returns the endpoint as it is from now on; the sockets that hold the
    /// ports are its shim's to close.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unpublish(&self, endpoint: &Endpoint, ports: &[Published]) -> Result<Endpoint> {
        let _shared = self.whole.read();
        let (gone, left) = endpoint.ports.iter().partition(|port| ports.contains(port));
        let gone = Endpoint { ports: gone, ..endpoint.clone() };
        let rest = Endpoint { ports: left, ..endpoint.clone() };
        self.state().endpoints.insert(rest.host_interface.clone(), rest.clone());
        self.firewall.withdraw(&PortElements::of(&gone))?;
        self.firewall.forget_flows(&gone)?;
        Ok(rest)
    }

    /// Publishes the ports of an endpoint that is not known yet, or nothing.
    pub(super) fn publish(&self, endpoint: &Endpoint) -> Result<()> {
        let elements = PortElements::of(endpoint);
        if elements.is_empty() {
            return Ok(());
        }
        let mut published = self.firewall.publish(&elements);
        if published.as_ref().is_err_and(|error| error.errno() == Some(rustix::io::Errno::NOENT)) {
            // Somebody flushed the table since it was last healed.
            self.restore()?;
            published = self.firewall.publish(&elements);
        }
        published.map_err(|error| firewall::refusal(error, &endpoint.ports))?;
        self.firewall.forget_flows(endpoint).inspect_err(|_| {
            // The endpoint is being undone; the failure reported is the first.
            let _ = self.firewall.withdraw(&elements);
        })
    }
}
