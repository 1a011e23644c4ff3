//! Requests on networks.

use coracle_api::Filters;
use coracle_api::network::{
    ConnectRequest, DisconnectRequest, Network, NetworkCreateRequest, NetworkCreateResponse, PruneResponse,
};
use serde_json::value::RawValue;

use crate::Result;
use crate::containers::filters_query;
use crate::transport::{Call, Client, segment};

fn network(id: &str, operation: &str) -> String {
    format!("/networks/{}{operation}", segment(id).replace('/', "%2F"))
}

/// # Errors
/// Every method fails when the daemon refuses, in its words, or cannot be reached.
impl Client {
    /// Lists networks.
    pub async fn networks(&self, filters: &Filters) -> Result<Vec<Network>> {
        self.list(Call::get("/networks").query(filters_query(filters))).await
    }

    /// The daemon's own JSON about a network.
    pub async fn inspect_network_raw(&self, id: &str) -> Result<Box<RawValue>> {
        self.raw(Call::get(network(id, ""))).await
    }

    /// Creates a network.
    pub async fn create_network(&self, request: &NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        self.json(Call::post("/networks/create").json(request)).await
    }

    /// Removes a network.
    pub async fn remove_network(&self, id: &str) -> Result<()> {
        self.done(Call::delete(network(id, ""))).await
    }

    /// Joins a container to a network.
    pub async fn connect_network(&self, id: &str, request: &ConnectRequest) -> Result<()> {
        self.done(Call::post(network(id, "/connect")).json(request)).await
    }

    /// Takes a container out of a network.
    pub async fn disconnect_network(&self, id: &str, request: &DisconnectRequest) -> Result<()> {
        self.done(Call::post(network(id, "/disconnect")).json(request)).await
    }

    /// Removes networks nobody uses.
    pub async fn prune_networks(&self, filters: &Filters) -> Result<PruneResponse> {
        self.json(Call::post("/networks/prune").query(filters_query(filters))).await
    }
}
