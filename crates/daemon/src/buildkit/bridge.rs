//! The calls by which a client steers its build: it asks for Dockerfiles to be built, and says what the result is.

use super::builds::{Build, Returned};
use super::client::Caller;
use super::contexts::Inputs;
use super::frontend::{self, Asked, Context as Place};
use super::steps::Steps;
use crate::server::Context;
use coracle_buildkit::proto::google::rpc::Status as Proto;
use coracle_buildkit::proto::moby::buildkit::v1::VertexWarning;
use coracle_buildkit::proto::moby::buildkit::v1::apicaps::ApiCap;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridge;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::{
    EvaluateRequest, EvaluateResponse, ExecMessage, InputsRequest, InputsResponse, NewContainerRequest,
    NewContainerResponse, PingRequest, PongResponse, ReadDirRequest, ReadDirResponse, ReadFileRequest,
    ReadFileResponse, Ref, ReleaseContainerRequest, ReleaseContainerResponse, ResolveImageConfigRequest,
    ResolveImageConfigResponse, ResolveSourceMetaRequest, ResolveSourceMetaResponse, Result as Solved,
    ReturnRequest, ReturnResponse, SolveRequest, SolveResponse, StatFileRequest, StatFileResponse,
    WarnRequest, WarnResponse, result::Result as Which,
};
use coracle_buildkit::proto::pb::Definition;
use coracle_buildkit::{Event, Failure, Position, Session, definition_of};
use coracle_engine::build::{BuildError, BuildRequest, Listener, Product, Recipe, Source};
use coracle_engine::images::BodyReader;
use coracle_spec::full_text;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use tonic::{Code, Request, Response, Status, Streaming};

/// The header that says which build a call is for.
const BUILD: &str = "buildkit-controlapi-buildid";
/// What clients may count on in these calls.
const BRIDGE: [&str; 9] = [
    "solve.base",
    "return",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "frontend.caps",
    "gateway.solve.metadata",
    "gateway.solve.evaluate",
    "gateway.warnings",
];
/// What they may count on in builds.
const BUILDS: [&str; 11] = [
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
];

/// The build input that is the context.
const CONTEXT: &str = "context";

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
        if request.definition.as_ref().is_some_and(|definition| !definition.def.is_empty()) {
            return unsupported("a build by a definition");
        }
        if !request.source_policies.is_empty() {
            return unsupported("a source policy");
        }
        let asked = frontend::read(&request.frontend, &request.frontend_opt)?;
        let product = run(&self.context, &build, asked, &request.frontend_inputs).await?;
        let config = product.config().to_json();
        let id = build.keep(Arc::new(product));
        if !request.allow_result_return {
            return Ok(Response::new(SolveResponse { r#ref: id, result: None }));
        }
        let which = if request.allow_result_array_ref {
            let def = Some(definition_of(&id));
            Which::Ref(Ref { id, def })
        } else {
            Which::RefDeprecated(id)
        };
        let result = Solved {
            metadata: [("containerimage.config".to_owned(), config)].into(),
            result: Some(which),
            ..Solved::default()
        };
        Ok(Response::new(SolveResponse { result: Some(result), ..SolveResponse::default() }))
    }

    async fn r#return(&self, request: Request<ReturnRequest>) -> Result<Response<ReturnResponse>, Status> {
        let build = self.build(&request).await?;
        let ReturnRequest { result, error } = request.into_inner();
        let returned = match error {
            Some(error) => Returned::Failed(error),
            None => match reference(result.unwrap_or_default())? {
                None => Returned::Result(None),
                Some(name) => match self.context.door.builds.result(&name) {
                    Some(product) => Returned::Result(Some(product)),
                    None => Returned::Failed(Proto {
                        code: Code::NotFound.into(),
                        message: format!("the result {name} is not known"),
                        ..Proto::default()
                    }),
                },
            },
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

    /// Inputs are for frontends that run here, of which there are none.
    async fn inputs(&self, request: Request<InputsRequest>) -> Result<Response<InputsResponse>, Status> {
        self.build(&request).await?;
        Ok(Response::new(InputsResponse::default()))
    }

    async fn resolve_image_config(
        &self,
        _: Request<ResolveImageConfigRequest>,
    ) -> Result<Response<ResolveImageConfigResponse>, Status> {
        unsupported("the configuration of an image through a build")
    }

    async fn resolve_source_meta(
        &self,
        _: Request<ResolveSourceMetaRequest>,
    ) -> Result<Response<ResolveSourceMetaResponse>, Status> {
        unsupported("the description of a source through a build")
    }

    async fn read_file(&self, _: Request<ReadFileRequest>) -> Result<Response<ReadFileResponse>, Status> {
        unsupported("a file of a result")
    }

    async fn read_dir(&self, _: Request<ReadDirRequest>) -> Result<Response<ReadDirResponse>, Status> {
        unsupported("a directory of a result")
    }

    async fn stat_file(&self, _: Request<StatFileRequest>) -> Result<Response<StatFileResponse>, Status> {
        unsupported("a file of a result")
    }

    async fn new_container(
        &self,
        _: Request<NewContainerRequest>,
    ) -> Result<Response<NewContainerResponse>, Status> {
        unsupported("a container of a build's own")
    }

    async fn release_container(
        &self,
        _: Request<ReleaseContainerRequest>,
    ) -> Result<Response<ReleaseContainerResponse>, Status> {
        unsupported("a container of a build's own")
    }

    type ExecProcessStream = BoxStream<'static, Result<ExecMessage, Status>>;

    async fn exec_process(
        &self,
        _: Request<Streaming<ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        unsupported("a container of a build's own")
    }

    async fn read_file_container(
        &self,
        _: Request<ReadFileRequest>,
    ) -> Result<Response<ReadFileResponse>, Status> {
        unsupported("a container of a build's own")
    }

    async fn read_dir_container(
        &self,
        _: Request<ReadDirRequest>,
    ) -> Result<Response<ReadDirResponse>, Status> {
        unsupported("a container of a build's own")
    }

    async fn stat_file_container(
        &self,
        _: Request<StatFileRequest>,
    ) -> Result<Response<StatFileResponse>, Status> {
        unsupported("a container of a build's own")
    }
}

/// The name of the one result that is returned.
fn reference(result: Solved) -> Result<Option<String>, Status> {
    if !result.attestations.is_empty() {
        return Err(Status::unknown("attestations are not supported yet by this engine"));
    }
    let name = match result.result {
        None => String::new(),
        Some(Which::RefDeprecated(name)) => name,
        Some(Which::Ref(found)) => found.id,
        Some(Which::Refs(_) | Which::RefsDeprecated(_)) => {
            return Err(Status::unimplemented(
                "several results of one build are not supported yet by this engine",
            ));
        }
    };
    Ok(Some(name).filter(|name| !name.is_empty()))
}

/// Builds what was asked for, as part of a build that the client steers.
pub(super) async fn run(
    context: &Arc<Context>,
    build: &Arc<Build>,
    asked: Asked,
    definitions: &HashMap<String, Definition>,
) -> Result<Product, Status> {
    let session = session(context, &build.session).await?;
    let mut lenders = HashMap::new();
    for (directory, lender) in &asked.lenders {
        lenders.insert(directory.clone(), self::session(context, lender).await?);
    }
    for note in &asked.notes {
        build.progress.tell(Event::Warning(VertexWarning {
            level: 1,
            short: note.clone().into_bytes(),
            ..VertexWarning::default()
        }));
    }
    let place = match &asked.context {
        Place::Directory(name) => name.clone(),
        Place::Upload(_) | Place::Address(_) => String::new(),
    };
    let caller = Arc::new(Caller {
        session,
        lenders,
        progress: build.progress.clone(),
        build: build.id.clone(),
        recipe: (asked.recipe.clone().unwrap_or_default(), asked.file.clone()),
        context: place,
    });
    let inputs = Inputs { definitions, builds: &context.door.builds };
    let request = request(&caller, asked, inputs).await?;
    let (listener, told) = Listener::channel();
    let mut steps = Steps::new(&build.progress, &build.id);
    let building = async {
        let built = context.engine.build(request, &listener).await;
        drop(listener);
        built
    };
    let built = tokio::select! {
        (built, ()) = async { tokio::join!(building, steps.follow(told)) } => built,
        () = build.over() => return Err(Status::cancelled("the build is over")),
    };
    // Also of a build that failed, something may be left to delete.
    context.engine.tidy_soon();
    match built {
        Ok(product) => Ok(product),
        Err(error) => Err(explain(&caller, error).await.into()),
    }
}

async fn session(context: &Context, id: &str) -> Result<Arc<Session>, Status> {
    let session = context.door.sessions.get(id).await;
    session.map_err(|error| Status::unknown(full_text(&error)))
}

async fn request(
    caller: &Arc<Caller>,
    asked: Asked,
    inputs: Inputs<'_>,
) -> Result<BuildRequest, Status> {
    let source = match asked.context {
        Place::Directory(name) => match inputs.find(CONTEXT)? {
            Some(product) => Source::Product(product),
            None => Source::Client(name),
        },
        Place::Upload(path) => Source::Archive(upload(caller, &path).await?),
        Place::Address(address) => Source::Address(address),
    };
    let recipe = match asked.recipe {
        Some(directory) => Recipe::Client { directory, path: asked.file },
        None => Recipe::InContext(asked.file),
    };
    Ok(BuildRequest {
        source,
        recipe,
        contexts: inputs.resolve(asked.contexts)?,
        client: Arc::clone(caller) as Arc<dyn coracle_engine::build::Client>,
        wanted: asked.wanted,
        labels: asked.labels,
        pull: asked.pull,
        anew: asked.anew,
        host: asked.host,
    })
}

/// A context that the client has read from its standard input.
async fn upload(caller: &Caller, path: &str) -> Result<BodyReader, Status> {
    let failed = |error: coracle_buildkit::Error| Status::unknown(full_text(&error));
    let mut parts =
        coracle_buildkit::pull(&caller.session, "buildkit-session", path).await.map_err(failed)?;
    let (sender, reader) = BodyReader::channel();
    // Ends with the stream, and that with the session.
    tokio::spawn(async move {
        while let Some(part) = parts.next().await {
            match part {
                Ok(part) => {
                    if sender.send(part).await.is_err() {
                        return;
                    }
                }
                Err(error) => return sender.fail(io::Error::other(full_text(&error))).await,
            }
        }
        sender.finish().await;
    });
    Ok(reader)
}

/// Why a build failed, in BuildKit's words and with the lines to blame.
async fn explain(caller: &Caller, error: BuildError) -> Failure {
    let (message, lines) = match &error {
        BuildError::Command { words, code, lines } => {
            let words = words.join(" ");
            let text = format!("process {words:?} did not complete successfully: exit code: {code}");
            (text, Some(*lines))
        }
        BuildError::Engine(error) => (error.chain(), None),
    };
    let failure = Failure::new(message);
    let Some((first, last)) = lines else { return failure };
    // A client that does not show it again shows the reason alone.
    let Some(text) = caller.recipe_text().await else { return failure };
    let line = |line: usize| u32::try_from(line).unwrap_or(u32::MAX);
    failure.at(&Position { file: caller.recipe.1.clone(), text, first: line(first), last: line(last) })
}
