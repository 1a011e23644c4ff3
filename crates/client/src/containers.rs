//! Requests on containers.

use coracle_api::container::{
    CommitResponse, Config, ContainerInspect, ContainerSummary, CreateRequest, CreateResponse,
    FilesystemChange, PathStat, PruneResponse, Stats, TopResponse, UpdateRequest, UpdateResponse,
    WaitResponse,
};
use coracle_api::version::PATH_STAT_HEADER;
use coracle_api::{Filters, Query};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::io::AsyncRead;

use crate::stream::{BodyReader, Demultiplexer, Hijacked, JsonLines};
use crate::transport::{Body, Call, Client, segment};
use crate::{Error, Result};

/// Which streams of a container to attach to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Send input.
    pub stdin: bool,
    /// Get output.
    pub stdout: bool,
    /// Get error output.
    pub stderr: bool,
    /// First everything that was logged so far.
    pub logs: bool,
    /// Keys that detach; empty for the daemon's.
    pub detach_keys: String,
}

/// Which part of a log to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Wait for more.
    pub follow: bool,
    /// Begin each line with its time.
    pub timestamps: bool,
    /// Begin each line with the attributes of the log driver.
    pub details: bool,
    /// The last so many lines, or `all`.
    pub tail: String,
    /// Unix time in seconds with a fraction, or RFC 3339; empty for the beginning.
    pub since: String,
    /// As `since`; empty for the end.
    pub until: String,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// Not running, which may be now.
    NotRunning,
    /// The end of the run that is going on or begins next.
    NextExit,
    /// Gone.
    Removed,
}

/// An end that the daemon has promised to report.
#[derive(Debug)]
pub struct PendingExit(Body);

impl PendingExit {
    /// Waits for it.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn exit(self) -> Result<WaitResponse> {
        JsonLines::new(self.0).next().await?.ok_or_else(|| Error::Stream {
            attempt: "wait for the container",
            source: std::io::ErrorKind::UnexpectedEof.into(),
        })
    }
}

fn container(id: &str, operation: &str) -> String {
    format!("/containers/{}{operation}", segment(id).replace('/', "%2F"))
}

/// # Errors
/// Every method fails when the daemon refuses, in its words, or cannot be reached.
/// Whose files of an uploaded archive become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadedOwner {
    /// Whom the archive names.
    Archive,
    /// The user that the container runs as, if it has one; else whom the archive names.
    ContainerUser,
}

impl Client {
    /// Lists containers, and of their endpoints the networks alone.
    pub async fn containers(
        &self,
        all: bool,
        limit: Option<i64>,
        size: bool,
        filters: &Filters,
    ) -> Result<Vec<ContainerSummary<IgnoredAny>>> {
        let query = Query::new()
            .with_flag("all", all)
            .with_some("limit", limit)
            .with_flag("size", size)
            .with_some("filters", filter_parameter(filters));
        self.list(Call::get("/containers/json").query(query)).await
    }

    /// Creates a container; an empty `name` is the daemon's choice.
    pub async fn create_container(
        &self,
        name: &str,
        platform: &str,
        request: &CreateRequest,
    ) -> Result<CreateResponse> {
        let given = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let query = Query::new().with_some("name", given(name)).with_some("platform", given(platform));
        self.json(Call::post("/containers/create").query(query).json(request)).await
    }

    /// Everything about a container.
    pub async fn inspect_container(&self, id: &str) -> Result<ContainerInspect> {
        self.json(Call::get(container(id, "/json"))).await
    }

    /// The daemon's own JSON about a container, with fields this client does not know.
    pub async fn inspect_container_raw(&self, id: &str, size: bool) -> Result<Box<RawValue>> {
        self.raw(Call::get(container(id, "/json")).query(Query::new().with_flag("size", size))).await
    }

    /// Starts a container.
    pub async fn start_container(&self, id: &str, detach_keys: &str) -> Result<()> {
        let keys = (!detach_keys.is_empty()).then_some(detach_keys);
        self.done(Call::post(container(id, "/start")).query(Query::new().with_some("detachKeys", keys))).await
    }

    /// Stops a container, by force after `timeout` seconds (-1 never, `None` its own).
    pub async fn stop_container(&self, id: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let query = Query::new().with_some("signal", signal).with_some("t", timeout);
        self.done(Call::post(container(id, "/stop")).query(query)).await
    }

    /// Stops and starts a container.
    pub async fn restart_container(
        &self,
        id: &str,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        let query = Query::new().with_some("signal", signal).with_some("t", timeout);
        self.done(Call::post(container(id, "/restart")).query(query)).await
    }

    /// Sends a signal, `SIGKILL` unless named.
    pub async fn kill_container(&self, id: &str, signal: Option<&str>) -> Result<()> {
        self.done(Call::post(container(id, "/kill")).query(Query::new().with_some("signal", signal))).await
    }

    /// Freezes a container.
    pub async fn pause_container(&self, id: &str) -> Result<()> {
        self.done(Call::post(container(id, "/pause"))).await
    }

    /// Lets it go on.
    pub async fn unpause_container(&self, id: &str) -> Result<()> {
        self.done(Call::post(container(id, "/unpause"))).await
    }

    /// Renames a container.
    pub async fn rename_container(&self, id: &str, name: &str) -> Result<()> {
        self.done(Call::post(container(id, "/rename")).query(Query::new().with("name", name))).await
    }

    /// Removes a container.
    pub async fn remove_container(&self, id: &str, force: bool, volumes: bool, link: bool) -> Result<()> {
        let query = Query::new().with_flag("force", force).with_flag("v", volumes).with_flag("link", link);
        self.done(Call::delete(container(id, "")).query(query)).await
    }

    /// Asks to be told of a container's end. When this returns, the daemon is waiting.
    pub async fn wait_container(&self, id: &str, condition: WaitCondition) -> Result<PendingExit> {
        let condition = match condition {
            WaitCondition::NotRunning => "not-running",
            WaitCondition::NextExit => "next-exit",
            WaitCondition::Removed => "removed",
        };
        let query = Query::new().with("condition", condition);
        self.stream(Call::post(container(id, "/wait")).query(query)).await.map(PendingExit)
    }

    /// Attaches to a container.
    pub async fn attach_container(&self, id: &str, options: &AttachOptions) -> Result<Hijacked> {
        let keys = (!options.detach_keys.is_empty()).then_some(&options.detach_keys);
        let query = Query::new()
            .with("stream", "1")
            .with_flag("stdin", options.stdin)
            .with_flag("stdout", options.stdout)
            .with_flag("stderr", options.stderr)
            .with_flag("logs", options.logs)
            .with_some("detachKeys", keys);
        self.hijack(Call::post(container(id, "/attach")).query(query)).await
    }

    /// Reads the log: raw bytes with a terminal, else for [`Self::container_logs_framed`].
    pub async fn container_logs(&self, id: &str, options: &LogOptions) -> Result<Body> {
        let given = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let query = Query::new()
            .with("stdout", "1")
            .with("stderr", "1")
            .with_flag("follow", options.follow)
            .with_flag("timestamps", options.timestamps)
            .with_flag("details", options.details)
            .with_some("tail", given(&options.tail))
            .with_some("since", given(&options.since))
            .with_some("until", given(&options.until));
        self.stream(Call::get(container(id, "/logs")).query(query)).await
    }

    /// Reads the log of a container without a terminal, taken apart.
    pub async fn container_logs_framed(
        &self,
        id: &str,
        options: &LogOptions,
    ) -> Result<Demultiplexer<impl AsyncRead + Unpin + Send + use<>>> {
        Ok(Demultiplexer::new(BodyReader::from(self.container_logs(id, options).await?)))
    }

    /// Tells the terminal its size.
    pub async fn resize_container(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let query = Query::new().with("h", &rows).with("w", &columns);
        self.done(Call::post(container(id, "/resize")).query(query)).await
    }

    /// Lists processes; `ps_args` are those of `ps`.
    pub async fn top_container(&self, id: &str, ps_args: &str) -> Result<TopResponse> {
        let args = (!ps_args.is_empty()).then_some(ps_args);
        self.json(Call::get(container(id, "/top")).query(Query::new().with_some("ps_args", args))).await
    }

    /// Samples of resource use, one a second.
    pub async fn container_stats(&self, id: &str) -> Result<JsonLines<Stats>> {
        let query = Query::new().with("stream", "1");
        self.stream(Call::get(container(id, "/stats")).query(query)).await.map(JsonLines::new)
    }

    /// One sample of resource use, with the one of a second before in it.
    pub async fn container_stats_once(&self, id: &str) -> Result<Stats> {
        self.json(Call::get(container(id, "/stats")).query(Query::new().with("stream", "0"))).await
    }

    /// Changes limits and the restart policy.
    pub async fn update_container(&self, id: &str, request: &UpdateRequest) -> Result<UpdateResponse> {
        self.json(Call::post(container(id, "/update")).json(request)).await
    }

    /// Paths that differ from the image.
    pub async fn container_changes(&self, id: &str) -> Result<Vec<FilesystemChange>> {
        self.list(Call::get(container(id, "/changes"))).await
    }

    /// The whole file system as a tar archive.
    pub async fn export_container(&self, id: &str) -> Result<Body> {
        self.stream(Call::get(container(id, "/export"))).await
    }

    /// Attributes of a path; `None` when there is no such path. A missing container is a failure of the next request.
    pub async fn stat_archive(&self, id: &str, path: &str) -> Result<Option<PathStat>> {
        let call = Call::head(container(id, "/archive")).query(Query::new().with("path", path));
        let text = match self.header(call, PATH_STAT_HEADER).await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let decoded = text.and_then(|text| coracle_api::base64::decode(&text));
        let bytes = decoded.unwrap_or_default();
        let attempt = format!("HEAD {}", container(id, "/archive"));
        coracle_api::from_slice(&bytes).map(Some).map_err(|source| Error::Answer { attempt, source })
    }

    /// A path of the container as a tar archive.
    pub async fn download_archive(&self, id: &str, path: &str) -> Result<Body> {
        self.stream(Call::get(container(id, "/archive")).query(Query::new().with("path", path))).await
    }

    /// Unpacks a tar archive into a directory of the container.
    pub async fn upload_archive(
        &self,
        id: &str,
        path: &str,
        owner: UploadedOwner,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<()> {
        let mut query = Query::new().with("path", path).with("noOverwriteDirNonDir", "true");
        if owner == UploadedOwner::ContainerUser {
            query = query.with("copyUIDGID", "true");
        }
        self.done(Call::put(container(id, "/archive")).query(query).upload(archive)).await
    }

    /// Makes an image of a container. `changes` are lines of a Dockerfile.
    pub async fn commit_container(&self, id: &str, query: Query, config: &Config) -> Result<CommitResponse> {
        self.json(Call::post("/commit").query(query.with("container", id)).json(config)).await
    }

    /// Removes stopped containers.
    pub async fn prune_containers(&self, filters: &Filters) -> Result<PruneResponse> {
        self.json(Call::post("/containers/prune").query(filters_query(filters))).await
    }
}

pub(crate) fn filter_parameter(filters: &Filters) -> Option<String> {
    (!filters.is_empty()).then(|| filters.to_parameter())
}

pub(crate) fn filters_query(filters: &Filters) -> Query {
    Query::new().with_some("filters", filter_parameter(filters))
}
