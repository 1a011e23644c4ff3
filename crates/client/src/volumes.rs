//! Requests on volumes.

use coracle_api::volume::{PruneResponse, Volume, VolumeCreateRequest, VolumeList};
use coracle_api::{Filters, Query};
use serde_json::value::RawValue;

use crate::Result;
use crate::containers::filters_query;
use crate::transport::{Call, Client, segment};

fn volume(name: &str) -> String {
    format!("/volumes/{}", segment(name).replace('/', "%2F"))
}

/// # Errors
/// Every method fails when the daemon refuses, in its words, or cannot be reached.
impl Client {
    /// Lists volumes.
    pub async fn volumes(&self, filters: &Filters) -> Result<VolumeList> {
        self.json(Call::get("/volumes").query(filters_query(filters))).await
    }

    /// The daemon's own JSON about a volume.
    pub async fn inspect_volume_raw(&self, name: &str) -> Result<Box<RawValue>> {
        self.raw(Call::get(volume(name))).await
    }

    /// Creates a volume, or answers with the one of that name.
    pub async fn create_volume(&self, request: &VolumeCreateRequest) -> Result<Volume> {
        self.json(Call::post("/volumes/create").json(request)).await
    }

    /// Removes a volume and its data.
    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        self.done(Call::delete(volume(name)).query(Query::new().with_flag("force", force))).await
    }

    /// Removes volumes nobody uses.
    pub async fn prune_volumes(&self, filters: &Filters) -> Result<PruneResponse> {
        self.json(Call::post("/volumes/prune").query(filters_query(filters))).await
    }
}
