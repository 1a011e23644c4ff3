//! A build by a frontend, for a client that steers it: what it asked for becomes what the engine is asked for.

use super::builds::Build;
use super::client::{Caller, hand_on};
use super::contexts::Inputs;
use super::frontend::{Asked, Context as Place};
use super::questions::{self, Question};
use super::results::Results;
use super::steps::Steps;
use crate::server::Context;
use coracle_buildkit::proto::moby::buildkit::v1::VertexWarning;
use coracle_buildkit::proto::pb::Definition;
use coracle_buildkit::{Event, Failure, Position, Session};
use coracle_engine::Engine;
use coracle_engine::build::{Allowed, BuildError, BuildRequest, Listener, Recipe, Source};
use coracle_engine::images::BodyReader;
use coracle_spec::full_text;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::Status;

/// The build input that is the context.
const CONTEXT: &str = "context";

/// Has what is left to delete deleted in the end, also when nobody waits for that end any more.
struct Tidying<'a>(&'a Engine);

impl Drop for Tidying<'_> {
    fn drop(&mut self) {
        self.0.tidy_soon();
    }
}

/// Builds what was asked for, as part of a build that the client steers.
pub(super) async fn run(
    context: &Arc<Context>,
    build: &Arc<Build>,
    asked: Asked,
    definitions: &HashMap<String, Definition>,
) -> Result<Results, Status> {
    // The last to go: what goes before may leave something.
    let _tidying = Tidying(&context.engine);
    let caller = caller(context, build, &asked).await?;
    let mut caches = build.caches.imports.clone();
    caches.extend(asked.caches.clone());
    for note in &caches.notes {
        build.progress.tell(Event::Warning(VertexWarning {
            level: 1,
            short: note.clone().into_bytes(),
            ..VertexWarning::default()
        }));
    }
    let (platforms, is_for_several) = (asked.platforms.clone(), asked.is_for_several);
    let inputs = Inputs { definitions, builds: &context.door.builds };
    let mut request = request(&caller, asked, inputs, build.allowed.clone()).await?;
    (request.caches, request.inline_cache) = (caches.sources, build.caches.inline);
    let (listener, told) = Listener::channel(Arc::clone(&build.counting));
    let mut steps = Steps::new(&build.progress, &build.id);
    let building = async {
        let built = context.engine.build_for(request, &platforms, &listener).await;
        drop(listener);
        built
    };
    let built = tokio::select! {
        (built, ()) = async { tokio::join!(building, steps.follow(told)) } => built,
        () = build.over() => return Err(Status::cancelled("the build is over")),
    };
    match built {
        Ok(products) => Ok(Results::of(&platforms, products, is_for_several)),
        // Its call may be heard to end later than its session.
        Err(_) if caller.session.has_ended() => Err(Status::cancelled("the client has gone")),
        Err(error) => Err(explain(&caller, error).await.into()),
    }
}

/// Answers what is asked instead of building.
pub(super) async fn answer(
    context: &Arc<Context>,
    build: &Arc<Build>,
    question: Question,
    asked: Asked,
    definitions: &HashMap<String, Definition>,
) -> Result<HashMap<String, Vec<u8>>, Status> {
    let _tidying = Tidying(&context.engine);
    let caller = caller(context, build, &asked).await?;
    let file = asked.file.clone();
    let inputs = Inputs { definitions, builds: &context.door.builds };
    let request = request(&caller, asked, inputs, build.allowed.clone()).await?;
    let answering = questions::answer(context, question, request, &file);
    let answered = tokio::select! {
        answered = answering => answered,
        () = build.over() => return Err(Status::cancelled("the build is over")),
    };
    answered.map_err(|error| Status::unknown(error.chain()))
}

/// The client, as the engine asks it back.
async fn caller(context: &Context, build: &Build, asked: &Asked) -> Result<Arc<Caller>, Status> {
    let mut lenders = HashMap::new();
    for (directory, lender) in &asked.lenders {
        lenders.insert(directory.clone(), session(context, lender).await?);
    }
    let place = match &asked.context {
        Place::Directory(name) => name.clone(),
        Place::Upload(_) | Place::Address(_) => String::new(),
    };
    Ok(Arc::new(Caller {
        session: session(context, &build.session).await?,
        lenders,
        progress: build.progress.clone(),
        build: build.id.clone(),
        recipe: (asked.recipe.clone().unwrap_or_default(), asked.file.clone()),
        context: place,
    }))
}

async fn session(context: &Context, id: &str) -> Result<Arc<Session>, Status> {
    let session = context.door.sessions.get(id).await;
    session.map_err(|error| Status::unknown(full_text(&error)))
}

async fn request(
    caller: &Arc<Caller>,
    asked: Asked,
    inputs: Inputs<'_>,
    allowed: Allowed,
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
        caches: Vec::new(),
        inline_cache: false,
        squash: false,
        allowed,
    })
}

/// A context that the client has read from its standard input.
async fn upload(caller: &Caller, path: &str) -> Result<BodyReader, Status> {
    let failed = |error: coracle_buildkit::Error| Status::unknown(full_text(&error));
    let parts = coracle_buildkit::pull(&caller.session, "buildkit-session", path).await.map_err(failed)?;
    let (sender, reader) = BodyReader::channel();
    // Ends with the stream, and that with the session.
    tokio::spawn(hand_on(parts, sender));
    Ok(reader)
}

/// Why a build failed, in BuildKit's words and with the lines to blame.
async fn explain(caller: &Caller, error: BuildError) -> Failure {
    let message = match &error {
        BuildError::Command { words, code, .. } => {
            let words = words.join(" ");
            format!("process {words:?} did not complete successfully: exit code: {code}")
        }
        error => error.chain(),
    };
    let failure = Failure::new(message);
    let Some((first, last)) = error.lines() else { return failure };
    // A client that does not show it again shows the reason alone.
    let Some(text) = caller.recipe_text().await else { return failure };
    let line = |line: usize| u32::try_from(line).unwrap_or(u32::MAX);
    failure.at(&Position { file: caller.recipe.1.clone(), text, first: line(first), last: line(last) })
}
