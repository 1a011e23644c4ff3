//! Requests on volumes.

use coracle_api::volume::{PruneResponse, Volume, VolumeCreateRequest, VolumeList};
use coracle_api::{Filters, Query};
use serde_json::value::RawValue;
use tokio::io::AsyncRead;

use crate::containers::filters_query;
use crate::transport::{Call, Client, segment};
use crate::{Body, Result};

fn volume(name: &str) -> String {
    format!("/volumes/{}", encoded(name))
}

/// One part of a path.
fn encoded(name: &str) -> String {
    segment(name).replace('/', "%2F")
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

    /// The files of a volume as a tar archive. `writers` says what becomes of running containers that can write to it: they are
    /// refused if it is empty, stand still meanwhile (`pause`), or go on (`live`).
    pub async fn save_volume(&self, name: &str, writers: &str) -> Result<Body> {
        let call = Call::get(own(&format!("{}/archive", encoded(name))));
        self.stream(call.query(writers_query(writers))).await
    }

    /// Makes a volume of a tar archive, compressed or not. `query` has its `name`, and each `label` and `opt`.
    pub async fn load_volume(
        &self,
        query: Query,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Volume> {
        self.json(Call::post(own("load")).query(query).upload(archive)).await
    }

    /// Makes a volume with the files of another one; `writers` as with [`Self::save_volume`].
    pub async fn copy_volume(
        &self,
        name: &str,
        writers: &str,
        request: &VolumeCreateRequest,
    ) -> Result<Volume> {
        let call = Call::post(own(&format!("{}/copy", encoded(name))));
        self.json(call.query(writers_query(writers)).json(request)).await
    }
}

/// Below what Docker has not.
fn own(path: &str) -> String {
    format!("/coracle/volumes/{path}")
}

fn writers_query(writers: &str) -> Query {
    Query::new().with_some("writers", (!writers.is_empty()).then(|| writers.to_owned()))
}
