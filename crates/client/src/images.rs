//! Requests on images.

use coracle_api::image::{
    DeletedImage, HistoryItem, ImageInspect, ImageSummary, PruneResponse, SearchResult,
};
use coracle_api::version::REGISTRY_AUTH_HEADER;
use coracle_api::{Filters, ProgressMessage, Query};
use hyper::header::{HeaderName, HeaderValue};
use serde_json::value::RawValue;
use tokio::io::AsyncRead;

use crate::Result;
use crate::containers::{filter_parameter, filters_query};
use crate::stream::JsonLines;
use crate::transport::{Body, Call, Client, segment};

fn image(name: &str, operation: &str) -> String {
    format!("/images/{}{operation}", segment(name))
}

/// # Errors
/// Every method fails when the daemon refuses, in its words, or cannot be reached.
impl Client {
    /// Lists images.
    pub async fn images(&self, all: bool, digests: bool, filters: &Filters) -> Result<Vec<ImageSummary>> {
        let query = Query::new()
            .with_flag("all", all)
            .with_flag("digests", digests)
            .with_some("filters", filter_parameter(filters));
        self.list(Call::get("/images/json").query(query)).await
    }

    /// Lists images with every manifest that their names stand for; since API 1.47.
    pub async fn images_with_manifests(&self, all: bool, filters: &Filters) -> Result<Vec<ImageSummary>> {
        let query = Query::new()
            .with_flag("all", all)
            .with_flag("manifests", true)
            .with_some("filters", filter_parameter(filters));
        self.list(Call::get("/images/json").query(query)).await
    }

    /// Everything about an image.
    pub async fn inspect_image(&self, name: &str) -> Result<ImageInspect> {
        self.json(Call::get(image(name, "/json"))).await
    }

    /// The daemon's own JSON about an image, with fields this client does not know. `platform` is a JSON document of OCI,
    /// as everywhere here; since API 1.49.
    pub async fn inspect_image_raw(&self, name: &str, platform: Option<&str>) -> Result<Box<RawValue>> {
        let query = Query::new().with_some("platform", platform);
        self.raw(Call::get(image(name, "/json")).query(query)).await
    }

    /// The steps an image was made in, newest first; `platform` since API 1.48.
    pub async fn image_history(&self, name: &str, platform: Option<&str>) -> Result<Vec<HistoryItem>> {
        let query = Query::new().with_some("platform", platform);
        self.list(Call::get(image(name, "/history")).query(query)).await
    }

    /// Gives an image another name.
    pub async fn tag_image(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let query = Query::new().with("repo", repository).with("tag", tag);
        self.done(Call::post(image(name, "/tag")).query(query)).await
    }

    /// Takes a name away, and the image with its last one; or removes only some `platforms` of it, since API 1.50.
    pub async fn remove_image(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
        platforms: &[String],
    ) -> Result<Vec<DeletedImage>> {
        let query = Query::new().with_flag("force", force).with_flag("noprune", no_prune);
        let query = platforms.iter().fold(query, |query, platform| query.with("platforms", platform));
        self.list(Call::delete(image(name, "")).query(query)).await
    }

    /// Pulls `repository:tag`; `tag` may be a digest. `auth` is the content of `X-Registry-Auth`.
    pub async fn pull_image(
        &self,
        repository: &str,
        tag: &str,
        platform: &str,
        auth: Option<&str>,
    ) -> Result<JsonLines<ProgressMessage>> {
        let tag = (!tag.is_empty()).then_some(tag);
        let platform = (!platform.is_empty()).then_some(platform);
        let query =
            Query::new().with("fromImage", repository).with_some("tag", tag).with_some("platform", platform);
        let mut call = Call::post("/images/create").query(query);
        if let Some(auth) = auth.and_then(|text| HeaderValue::from_str(text).ok()) {
            call = call.header(registry_auth(), auth);
        }
        self.stream(call).await.map(JsonLines::new)
    }

    /// Pushes `repository:tag`, or all its tags if `tag` is empty; only one `platform` of it since API 1.46. `auth` is the
    /// content of `X-Registry-Auth`.
    pub async fn push_image(
        &self,
        repository: &str,
        tag: &str,
        platform: Option<&str>,
        auth: Option<&str>,
    ) -> Result<JsonLines<ProgressMessage>> {
        let query = Query::new().with_some("tag", (!tag.is_empty()).then_some(tag));
        let query = query.with_some("platform", platform);
        // Older daemons want the header even of who has none.
        let auth = auth.and_then(|text| HeaderValue::from_str(text).ok());
        let auth = auth.unwrap_or_else(|| HeaderValue::from_static("e30="));
        let call = Call::post(image(repository, "/push")).query(query).header(registry_auth(), auth);
        self.stream(call).await.map(JsonLines::new)
    }

    /// Searches a registry; `limit` zero is the daemon's choice.
    pub async fn search_images(
        &self,
        term: &str,
        limit: u32,
        filters: &Filters,
        auth: Option<&str>,
    ) -> Result<Vec<SearchResult>> {
        let limit = (limit > 0).then(|| limit.to_string());
        let query = Query::new().with("term", term).with_some("limit", limit);
        let query = query.with_some("filters", filter_parameter(filters));
        let mut call = Call::get("/images/search").query(query);
        if let Some(auth) = auth.and_then(|text| HeaderValue::from_str(text).ok()) {
            call = call.header(registry_auth(), auth);
        }
        self.list(call).await
    }

    /// Makes an image of a tar archive of a root file system. `query` holds `repo`, `tag`, `message`, `changes`.
    pub async fn import_image(
        &self,
        query: Query,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<JsonLines<ProgressMessage>> {
        let query = query.with("fromSrc", "-");
        self.stream(Call::post("/images/create").query(query).upload(archive)).await.map(JsonLines::new)
    }

    /// Makes an image of what the daemon finds at a URL.
    pub async fn import_image_from(&self, query: Query, source: &str) -> Result<JsonLines<ProgressMessage>> {
        let query = query.with("fromSrc", source);
        self.stream(Call::post("/images/create").query(query)).await.map(JsonLines::new)
    }

    /// Loads the images of an archive that [`Self::save_images`] made; only for some `platforms` since API 1.48.
    pub async fn load_images(
        &self,
        quiet: bool,
        platforms: &[String],
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<JsonLines<ProgressMessage>> {
        let query = Query::new().with("quiet", if quiet { "1" } else { "0" });
        let query = platforms.iter().fold(query, |query, platform| query.with("platform", platform));
        self.stream(Call::post("/images/load").query(query).upload(archive)).await.map(JsonLines::new)
    }

    /// Images as one tar archive, with all that is there of them or only some `platforms`, since API 1.48; without the layers
    /// that the images `since` have, which only Coracle leaves out.
    pub async fn save_images(
        &self,
        names: &[String],
        platforms: &[String],
        since: &[String],
    ) -> Result<Body> {
        let query = names.iter().fold(Query::new(), |query, name| query.with("names", name));
        let query = platforms.iter().fold(query, |query, platform| query.with("platform", platform));
        let query = since.iter().fold(query, |query, image| query.with("since", image));
        self.stream(Call::get("/images/get").query(query)).await
    }

    /// Has the engine never remove an image to reclaim room.
    pub async fn pin_image(&self, name: &str) -> Result<()> {
        self.done(Call::post(pin_path(name))).await
    }

    /// Takes that back.
    pub async fn unpin_image(&self, name: &str) -> Result<()> {
        self.done(Call::delete(pin_path(name))).await
    }

    /// Removes images nobody uses.
    pub async fn prune_images(&self, filters: &Filters) -> Result<PruneResponse> {
        self.json(Call::post("/images/prune").query(filters_query(filters))).await
    }
}

fn pin_path(name: &str) -> String {
    format!("/coracle/images/{}/pin", segment(name))
}

pub(crate) fn registry_auth() -> HeaderName {
    REGISTRY_AUTH_HEADER.parse().expect("the constant is a header name")
}
