//! The calls about builds as a whole: begin one, hear of it, and what there is to build with.

use super::builds::{Build, HOST_NETWORK, Returned, Running};
use super::outputs::{self, Output};
use super::results::Results;
use super::{cache, frontend, run};
use crate::server::Context;
use coracle_buildkit::proto::moby::buildkit::v1::control_server::Control;
use coracle_buildkit::proto::moby::buildkit::v1::types::{BuildkitVersion, WorkerRecord};
use coracle_buildkit::proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse, InfoRequest,
    InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest, SolveResponse,
    StatusRequest, StatusResponse, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse, UsageRecord,
};
use coracle_buildkit::proto::pb;
use coracle_buildkit::status_of;
use coracle_spec::Platform;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Entitlements that a client may ask for: those that Docker gives unless its configuration says otherwise.
const ENTITLED: [&str; 1] = [HOST_NETWORK];

/// These calls.
pub(super) struct Controller {
    context: Arc<Context>,
}

impl Controller {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
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
        Ok(Response::new(ListWorkersResponse { record: vec![worker(&self.context)] }))
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let request = request.into_inner();
        check(&request)?;
        let outputs = outputs::read(&request)?;
        let running = self.context.door.builds.begin(&request);
        let running = running.ok_or_else(|| {
            Status::already_exists(format!("a build {:?} has begun already, or has no name", request.r#ref))
        })?;
        let build = Arc::clone(&running.build);
        let results = self.result(request, running).await;
        let exporter_response = match results {
            Ok((Some(results), running)) => {
                let told = self.put(&build, &results, &outputs).await;
                drop(running);
                told?
            }
            Ok((None, _)) => std::collections::HashMap::new(),
            Err(status) => return Err(status),
        };
        Ok(Response::new(SolveResponse { exporter_response }))
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

    /// No history is kept: whoever listens for what comes hears nothing, and who asks for what was hears that at once.
    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        let events =
            if request.into_inner().early_exit { stream::empty().boxed() } else { stream::pending().boxed() };
        Ok(Response::new(events))
    }

    async fn update_build_history(
        &self,
        request: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        let request = request.into_inner();
        if request.delete || request.finalize {
            // What is not kept is deleted, and complete.
            return Ok(Response::new(UpdateBuildHistoryResponse {}));
        }
        Err(Status::not_found(format!("no record of build {}: none are kept", request.r#ref)))
    }

    type SessionStream = Answers<BytesMessage>;

    async fn session(
        &self,
        _: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("sessions are opened by POST /session"))
    }
}

/// Refuses what a build may not have or this engine does not do.
fn check(request: &SolveRequest) -> Result<(), Status> {
    let refuse = |what: String| Err(Status::unknown(format!("{what} is not supported yet by this engine")));
    if let Some(other) = request.entitlements.iter().find(|name| !ENTITLED.contains(&name.as_str())) {
        let reason = "no command of a Dockerfile leaves its sandbox";
        return Err(Status::unknown(format!(
            "granting entitlement {other} is not allowed by this engine: {reason}"
        )));
    }
    if request.definition.as_ref().is_some_and(|definition| !definition.def.is_empty()) {
        return refuse("a build by a definition".to_owned());
    }
    if request.source_policy.is_some() || !request.source_policy_session.is_empty() {
        return refuse("a source policy".to_owned());
    }
    if request.enable_session_exporter {
        return refuse("an exporter of the client's".to_owned());
    }
    match request.cache.iter().flat_map(|cache| &cache.exports).next() {
        Some(export) => refuse(format!("a cache export of type {}", export.r#type)),
        None => Ok(()),
    }
}

impl Controller {
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
    ) -> Result<std::collections::HashMap<String, String>, Status> {
        let mut response = std::collections::HashMap::new();
        for output in outputs {
            response.extend(output.put(&self.context, build, results).await?);
        }
        Ok(response)
    }
}
