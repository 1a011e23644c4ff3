//! Requests on the engine itself.

use coracle_api::auth::{AuthConfig, AuthResponse};
use coracle_api::system::{
    BuildPruneResponse, CheckMessage, DiskUsage, Event, Info, ObjectLists, ReclaimReport, Version,
};
use coracle_api::{ApiVersion, Filters, Query};

use crate::Result;
use crate::containers::filter_parameter;
use crate::stream::JsonLines;
use crate::transport::{Call, Client};

/// What of the build cache goes.
#[derive(Debug, Clone, Default)]
pub struct BuildPrune {
    /// Everything, not only what is not used.
    pub all: bool,
    /// Only what these say.
    pub filters: Filters,
    /// Bytes that may stay.
    pub keep: Option<i64>,
}

/// # Errors
/// Every method fails when the daemon refuses, in its words, or cannot be reached.
impl Client {
    /// Whether it is there.
    pub async fn ping(&self) -> Result<()> {
        self.done(Call::get("/_ping")).await
    }

    /// The engine and its host.
    pub async fn info(&self) -> Result<Info> {
        self.json(Call::get("/info")).await
    }

    /// Versions of the engine and of its parts.
    pub async fn server_version(&self) -> Result<Version> {
        self.json(Call::get("/version")).await
    }

    /// All objects, with how much they use.
    pub async fn disk_usage(&self) -> Result<ObjectLists> {
        let query = Query::new().with_flag("verbose", true);
        self.json::<DiskUsage>(Call::get("/system/df").query(query)).await.map(DiskUsage::into_lists)
    }

    /// Whether all image content is whole; what is damaged is moved into the quarantine if `quarantine`.
    pub async fn check(&self, quarantine: bool) -> Result<JsonLines<CheckMessage>> {
        let query = Query::new().with_flag("quarantine", quarantine);
        self.stream(Call::post("/coracle/system/check").query(query)).await.map(JsonLines::new)
    }

    /// Which images would go, that they take no more room than `budget`, or than the daemon was told. Both as text.
    pub async fn plan_to_reclaim(
        &self,
        budget: Option<&str>,
        keep_recent: Option<&str>,
    ) -> Result<ReclaimReport> {
        self.json(Call::get("/coracle/system/reclaim").query(reclaim_query(budget, keep_recent))).await
    }

    /// Removes them.
    pub async fn reclaim(&self, budget: Option<&str>, keep_recent: Option<&str>) -> Result<ReclaimReport> {
        self.json(Call::post("/coracle/system/reclaim").query(reclaim_query(budget, keep_recent))).await
    }

    /// Stops all containers as for the end of the machine; the next engine starts those that have a restart policy.
    pub async fn stop_for_the_end(&self) -> Result<()> {
        self.done(Call::post("/coracle/system/shutdown")).await
    }

    /// Empties the build cache.
    pub async fn prune_build_cache(&self, wanted: &BuildPrune) -> Result<BuildPruneResponse> {
        let keep = if self.version() < ApiVersion::new(1, 48) { "keep-storage" } else { "reserved-space" };
        let query = Query::new()
            .with_flag("all", wanted.all)
            .with_some("filters", filter_parameter(&wanted.filters))
            .with_some(keep, wanted.keep);
        self.json(Call::post("/build/prune").query(query)).await
    }

    /// What happens, and what happened since `since`; with `until` the stream ends then. Both as the API takes them.
    pub async fn events(
        &self,
        since: Option<&str>,
        until: Option<&str>,
        filters: &Filters,
    ) -> Result<JsonLines<Event>> {
        let query = Query::new()
            .with_some("since", since)
            .with_some("until", until)
            .with_some("filters", filter_parameter(filters));
        self.stream(Call::get("/events").query(query)).await.map(JsonLines::new)
    }

    /// Tries credentials.
    pub async fn login(&self, auth: &AuthConfig) -> Result<AuthResponse> {
        self.json(Call::post("/auth").json(auth)).await
    }
}

fn reclaim_query(budget: Option<&str>, keep_recent: Option<&str>) -> Query {
    Query::new().with_some("budget", budget).with_some("keep-recent", keep_recent)
}
