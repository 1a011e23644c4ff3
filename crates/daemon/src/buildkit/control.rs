//! The calls about builds as a whole: begin one, hear of it, and what there is to build with.

use super::builds::{Build, Caches, Connection, Returned, Running, Wishes};
use super::cache_options::{self, Export};
use super::outputs::{self, Output};
use super::results::Results;
use super::{cache, cache_exports, frontend, history, provenance, run};
use crate::server::Context;
use coracle_buildkit::proto::moby::buildkit::v1::control_server::Control;
use coracle_buildkit::proto::moby::buildkit::v1::types::{BuildkitVersion, CdiDevice, WorkerRecord};
use coracle_buildkit::proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse, InfoRequest,
    InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest, SolveResponse,
    StatusRequest, StatusResponse, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse, UsageRecord,
};
use coracle_buildkit::proto::pb;
use coracle_buildkit::{status_of, tunnel};
use coracle_engine::ListedDevice;
use coracle_engine::build::Allowed;
use coracle_spec::{Platform, full_text};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// These calls.
pub(super) struct Controller {
    context: Arc<Context>,
    connection: Arc<Connection>,
}

impl Controller {
    /// For one connection.
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, connection: Arc::default() }
    }
}

fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "coracle".to_owned(),
        version: format!("v{}", env!("CARGO_PKG_VERSION")),
        revision: String::new(),
    }
}

/// What builds: this engine.
pub(super) fn worker(context: &Context) -> WorkerRecord {
    let Platform { os, architecture, variant, .. } = Platform::host();
    let label =
        |name: &str, value: &str| (format!("org.mobyproject.buildkit.worker.{name}"), value.to_owned());
    WorkerRecord {
        id: context.engine.config().engine_id(),
        labels: [label("executor", "coracle"), label("snapshotter", "overlayfs")].into(),
        platforms: vec![pb::Platform { os, architecture, variant, ..pb::Platform::default() }],
        buildkit_version: Some(version()),
        ..WorkerRecord::default()
    }
}

/// A device that commands can ask for.
fn device(device: ListedDevice) -> CdiDevice {
    CdiDevice {
        name: device.name,
        auto_allow: device.is_auto_allowed,
        annotations: device.annotations.into_iter().collect(),
        on_demand: false,
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl Control for Controller {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse { buildkit_version: Some(version()) }))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let (devices, _) =
            self.context.engine.devices().await.map_err(|error| Status::internal(error.chain()))?;
        let cdi_devices = devices.into_iter().map(device).collect();
        let record = WorkerRecord { cdi_devices, ..worker(&self.context) };
        Ok(Response::new(ListWorkersResponse { record: vec![record] }))
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let request = request.into_inner();
        check(&request)?;
        let builds = self.context.engine.config().builds;
        let allowed = Allowed::of(&request.entitlements, builds);
        let allowed = allowed.map_err(|error| Status::unknown(error.chain()))?;
        let outputs = outputs::read(&request)?;
        let exports = cache_options::exports(&request)?;
        let inline = exports.contains(&Export::Inline);
        let caches = Caches { imports: cache_options::imports(&request), inline };
        let provenance = provenance::of_request(&request)?;
        let wishes = Wishes { allowed, caches, provenance };
        let running = self.context.door.builds.begin(&request, wishes, &self.connection);
        let running = running.ok_or_else(|| {
            Status::already_exists(format!("a build {:?} has begun already, or has no name", request.r#ref))
        })?;
        let recorded = (!request.internal).then(|| history::record(&request));
        let counting = Arc::clone(&running.build.counting);
        let recording = recorded.map(|record| self.context.engine.begin_build_record(record, counting));
        let solved = self.solve_running(request, running, &outputs, &exports).await;
        if let Some(recording) = recording {
            history::end(recording, &solved).await;
        }
        Ok(Response::new(SolveResponse { exporter_response: solved? }))
    }

    type StatusStream = Answers<StatusResponse>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        let name = request.into_inner().r#ref;
        let progress = self.context.door.builds.progress(&name).await;
        let progress = progress.ok_or_else(|| Status::not_found(format!("no such job {name}")))?;
        let told = stream::unfold(progress.reader(), |mut reader| async move {
            reader.next().await.map(|response| (Ok(response), reader))
        });
        Ok(Response::new(told.boxed()))
    }

    async fn disk_usage(&self, _: Request<DiskUsageRequest>) -> Result<Response<DiskUsageResponse>, Status> {
        Ok(Response::new(DiskUsageResponse { record: cache::records(&self.context.engine).await? }))
    }

    type PruneStream = Answers<UsageRecord>;

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        let pruned = cache::prune(&self.context.engine, &request.into_inner()).await?;
        Ok(Response::new(stream::iter(pruned.into_iter().map(Ok)).boxed()))
    }

    type ListenBuildHistoryStream = Answers<BuildHistoryEvent>;

    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        Ok(Response::new(history::listen(&self.context.engine, request.into_inner())?))
    }

    async fn update_build_history(
        &self,
        request: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        history::update(&self.context.engine, &request.into_inner()).await?;
        Ok(Response::new(UpdateBuildHistoryResponse {}))
    }

    type SessionStream = Answers<BytesMessage>;

    /// The same as `POST /session`, within this connection.
    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (metadata, _, incoming) = request.into_parts();
        let offer = super::offer(&metadata.into_headers());
        let offer = offer.map_err(|error| Status::invalid_argument(full_text(&error)))?;
        let sessions = Arc::clone(&self.context.door.sessions);
        let told = tunnel(incoming, |io| async move {
            let served = sessions.serve(offer, io).await;
            served.map_err(|error| Status::unknown(full_text(&error)))
        });
        Ok(Response::new(told.boxed()))
    }
}

/// Refuses what this engine does not do.
fn check(request: &SolveRequest) -> Result<(), Status> {
    let refuse = |what: String| Err(Status::unknown(format!("{what} is not supported yet by this engine")));
    if request.definition.as_ref().is_some_and(|definition| !definition.def.is_empty()) {
        return refuse("a build by a definition".to_owned());
    }
    if request.source_policy.is_some() || !request.source_policy_session.is_empty() {
        return refuse("a source policy".to_owned());
    }
    if request.enable_session_exporter {
        return refuse("an exporter of the client's".to_owned());
    }
    Ok(())
}

impl Controller {
    /// Does a build, and puts its result where it is wanted; what clients want to know of that.
    async fn solve_running(
        &self,
        request: SolveRequest,
        running: Running<'_>,
        outputs: &[Output],
        exports: &[Export],
    ) -> Result<std::collections::HashMap<String, String>, Status> {
        let build = Arc::clone(&running.build);
        // Until its outputs are written, the build goes on.
        let (results, _running) = self.result(request, running).await?;
        match results {
            Some(results) => self.put(&build, &results, outputs, exports).await,
            None => Ok(std::collections::HashMap::new()),
        }
    }

    /// The result of a build: what the client returns, or of the frontend that the request names itself.
    async fn result<'a>(
        &self,
        request: SolveRequest,
        mut running: Running<'a>,
    ) -> Result<(Option<Results>, Running<'a>), Status> {
        if !request.frontend.is_empty() {
            let asked = frontend::read(&request.frontend, &request.frontend_attrs)?;
            if asked.question.is_some() {
                return Err(Status::unknown(
                    "questions to a Dockerfile are asked by a client that steers its build",
                ));
            }
            let inputs = &request.frontend_inputs;
            let results = run::run(&self.context, &running.build, asked, inputs).await?;
            return Ok((Some(results), running));
        }
        match (&mut running.returned).await {
            Ok(Returned::Result(results)) => Ok((results, running)),
            Ok(Returned::Failed(failure)) => Err(status_of(&failure)),
            Err(_) => Err(Status::internal("the build ended without a word")),
        }
    }

    async fn put(
        &self,
        build: &Build,
        results: &Results,
        outputs: &[Output],
        exports: &[Export],
    ) -> Result<std::collections::HashMap<String, String>, Status> {
        let mut response = std::collections::HashMap::new();
        for output in outputs {
            response.extend(output.put(&self.context, build, results).await?);
        }
        response.extend(cache_exports::write(&self.context, build, &results.products(), exports).await?);
        Ok(response)
    }
}
