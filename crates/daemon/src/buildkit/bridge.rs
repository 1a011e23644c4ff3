//! The calls by which a client steers its build: it asks for Dockerfiles to be built, and says what the result is.

use super::builds::{Build, Returned};
use super::results::{Naming, Results, Returned as ByClient};
use super::{frontend, provenance, reading, run};
use crate::server::Context;
use coracle_buildkit::Event;
use coracle_buildkit::proto::google::rpc::Status as Proto;
use coracle_buildkit::proto::moby::buildkit::v1::VertexWarning;
use coracle_buildkit::proto::moby::buildkit::v1::apicaps::ApiCap;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridge;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::{
    EvaluateRequest, EvaluateResponse, ExecMessage, InputsRequest, InputsResponse, NewContainerRequest,
    NewContainerResponse, PingRequest, PongResponse, ReadDirRequest, ReadDirResponse, ReadFileRequest,
    ReadFileResponse, ReleaseContainerRequest, ReleaseContainerResponse, ResolveImageConfigRequest,
    ResolveImageConfigResponse, ResolveSourceMetaRequest, ResolveSourceMetaResponse, Result as Solved,
    ReturnRequest, ReturnResponse, SolveRequest, SolveResponse, StatFileRequest, StatFileResponse,
    WarnRequest, WarnResponse,
};
use futures_util::stream::BoxStream;
use std::sync::Arc;
use tonic::{Code, Request, Response, Status, Streaming};

/// The header that says which build a call is for.
const BUILD: &str = "buildkit-controlapi-buildid";
/// What clients may count on in these calls.
const BRIDGE: [&str; 18] = [
    "solve.base",
    "return",
    "returnmap",
    "resolveimage",
    "resolveimage.resolvemode",
    "source.metaresolver",
    "readfile",
    "readdir",
    "statfile",
    "gateway.evaluate",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "importcaches",
    "frontend.caps",
    "gateway.solve.metadata",
    "gateway.solve.evaluate",
    "gateway.warnings",
];
/// What they may count on in builds.
const BUILDS: [&str; 14] = [
    "constraints",
    "meta.description",
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "platform",
    "exporter.multiple",
    "exporter.image.attestations",
];

/// These calls, for any build.
pub(super) struct Bridge {
    context: Arc<Context>,
}

impl Bridge {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// The build that a call is for.
    async fn build<T>(&self, request: &Request<T>) -> Result<Arc<Build>, Status> {
        let name = request.metadata().get(BUILD).and_then(|value| value.to_str().ok());
        let name = name.ok_or_else(|| Status::unknown("no buildid found in context"))?;
        let build = self.context.door.builds.get(name).await;
        build.ok_or_else(|| Status::unknown(format!("no such job {name}")))
    }
}

/// What is not there, and which part of a build asked for it.
fn unsupported<T>(what: &str) -> Result<Response<T>, Status> {
    // Clients put the name of any other code before the text, each time that they pass it on.
    Err(Status::unknown(format!("{what} is not supported yet by this engine")))
}

/// A client that looks into a result runs commands in it.
fn no_containers<T>() -> Result<Response<T>, Status> {
    Err(Status::unknown(
        "this engine runs no containers for the client of a build: make an image of the result, and use docker run",
    ))
}

#[tonic::async_trait]
impl LlbBridge for Bridge {
    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PongResponse>, Status> {
        self.build(&request).await?;
        let capability = |id: &&str| ApiCap { id: (*id).to_owned(), enabled: true, ..ApiCap::default() };
        Ok(Response::new(PongResponse {
            frontend_api_caps: BRIDGE.iter().map(capability).collect(),
            llb_caps: BUILDS.iter().map(capability).collect(),
            workers: vec![super::control::worker(&self.context)],
        }))
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let build = self.build(&request).await?;
        let request = request.into_inner();
        if !request.source_policies.is_empty() {
            return unsupported("a source policy");
        }
        if provenance::read(&request.frontend_opt)?.is_some() && build.provenance.is_none() {
            return unsupported("a provenance that the request of the build does not ask for");
        }
        let naming = if request.allow_result_array_ref { Naming::Reference } else { Naming::Name };
        let definition = request.definition.as_ref().filter(|definition| !definition.def.is_empty());
        if let Some(definition) = definition {
            let product = self.context.door.builds.defined(definition, "what is to be built")?;
            let mut result = Results::One(product).tell(&build, naming);
            // It stands for files, and says nothing of an image.
            result.metadata.clear();
            return Ok(Response::new(SolveResponse { result: Some(result), ..SolveResponse::default() }));
        }
        let mut asked = frontend::read(&request.frontend, &request.frontend_opt)?;
        request.cache_imports.iter().for_each(|entry| asked.caches.add(&entry.r#type, &entry.attrs));
        let (inputs, context) = (&request.frontend_inputs, &self.context);
        if let Some(question) = asked.question {
            let metadata = run::answer(context, &build, question, asked, inputs).await?;
            let result = Some(Solved { metadata, ..Solved::default() });
            return Ok(Response::new(SolveResponse { result, ..SolveResponse::default() }));
        }
        let results = run::run(context, &build, asked, inputs).await?;
        let response = match (results, request.allow_result_return) {
            // An old client, which knows nothing but a name.
            (Results::One(product), false) => SolveResponse { r#ref: build.keep(product), result: None },
            (results, _) => {
                SolveResponse { result: Some(results.tell(&build, naming)), ..SolveResponse::default() }
            }
        };
        Ok(Response::new(response))
    }

    async fn r#return(&self, request: Request<ReturnRequest>) -> Result<Response<ReturnResponse>, Status> {
        let build = self.build(&request).await?;
        let ReturnRequest { result, error } = request.into_inner();
        let returned = match error {
            Some(error) => Returned::Failed(error),
            None => {
                let find = |name: &str| self.context.door.builds.result(name);
                match Results::returned(result.unwrap_or_default(), find)? {
                    ByClient::Nothing => Returned::Result(None),
                    ByClient::Results(results) => Returned::Result(Some(results)),
                    ByClient::Unknown(name) => Returned::Failed(Proto {
                        code: Code::NotFound.into(),
                        message: format!("the result {name} is not known"),
                        ..Proto::default()
                    }),
                }
            }
        };
        if !build.give(returned) {
            return Err(Status::failed_precondition("the build has returned already"));
        }
        Ok(Response::new(ReturnResponse {}))
    }

    async fn warn(&self, request: Request<WarnRequest>) -> Result<Response<WarnResponse>, Status> {
        let build = self.build(&request).await?;
        let warning = request.into_inner();
        build.progress.tell(Event::Warning(VertexWarning {
            vertex: warning.digest,
            level: warning.level,
            short: warning.short,
            detail: warning.detail,
            url: warning.url,
            info: warning.info,
            ranges: warning.ranges,
        }));
        Ok(Response::new(WarnResponse {}))
    }

    /// There is nothing that was not built already.
    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        self.build(&request).await?;
        let name = request.into_inner().r#ref;
        match self.context.door.builds.result(&name) {
            Some(_) => Ok(Response::new(EvaluateResponse {})),
            None => Err(Status::not_found(format!("the result {name} is not known"))),
        }
    }

    /// What the client itself has given with its build.
    async fn inputs(&self, request: Request<InputsRequest>) -> Result<Response<InputsResponse>, Status> {
        let build = self.build(&request).await?;
        Ok(Response::new(InputsResponse { definitions: build.inputs.clone() }))
    }

    async fn resolve_image_config(
        &self,
        request: Request<ResolveImageConfigRequest>,
    ) -> Result<Response<ResolveImageConfigResponse>, Status> {
        let build = self.build(&request).await?;
        reading::image_config(&self.context, &build, request.into_inner()).await.map(Response::new)
    }

    async fn resolve_source_meta(
        &self,
        request: Request<ResolveSourceMetaRequest>,
    ) -> Result<Response<ResolveSourceMetaResponse>, Status> {
        let build = self.build(&request).await?;
        reading::source(&self.context, &build, request.into_inner()).await.map(Response::new)
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        self.build(&request).await?;
        reading::file(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn read_dir(&self, request: Request<ReadDirRequest>) -> Result<Response<ReadDirResponse>, Status> {
        self.build(&request).await?;
        reading::directory(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn stat_file(
        &self,
        request: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        self.build(&request).await?;
        reading::look(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn new_container(
        &self,
        _: Request<NewContainerRequest>,
    ) -> Result<Response<NewContainerResponse>, Status> {
        no_containers()
    }

    async fn release_container(
        &self,
        _: Request<ReleaseContainerRequest>,
    ) -> Result<Response<ReleaseContainerResponse>, Status> {
        no_containers()
    }

    type ExecProcessStream = BoxStream<'static, Result<ExecMessage, Status>>;

    async fn exec_process(
        &self,
        _: Request<Streaming<ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        no_containers()
    }

    async fn read_file_container(
        &self,
        _: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        no_containers()
    }

    async fn read_dir_container(
        &self,
        _: Request<ReadDirRequest>,
    ) -> Result<Response<ReadDirResponse>, Status> {
        no_containers()
    }

    async fn stat_file_container(
        &self,
        _: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        no_containers()
    }
}
