//! All stages of a build at once: each goes on as soon as what it needs of others is there.

use super::cache::{DoneStep, Imports};
use super::context::Contexts;
use super::inputs::Client;
use super::late::Late;
use super::named::{Found, NOTHING};
use super::product::Product;
use super::provenance::{Ingredients, Notes};
use super::told::{Listener, StepInfo};
use super::{Allowed, Anew, BuildError, BuildResult, invalid};
use crate::containers::settings::HostSettings;
use crate::engine::{Engine, Shared};
use crate::error::{Error, Result, blocking};
use crate::images::{Hold, Image};
use coracle_build::{
    Arguments, Base, Dockerfile, FileRules, Files, Operation, Origin, Outline, Plan, Planned, Stage,
    Transfer, Wanted, plan,
};
use coracle_spec::image::{History, ImageConfig, RunConfig};
use coracle_spec::{Digest, Platform};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::SetOnce;

/// The argument that says how new files and times of an image may be, in seconds since 1970.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What [`EPOCH`] says.
///
/// # Errors
/// [`Error::Invalid`] for what is no time.
pub(super) fn epoch(wanted: &Wanted) -> Result<Option<i64>> {
    let Some(text) = wanted.arguments.get(EPOCH).filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.parse::<i64>().ok().filter(|seconds| *seconds >= 0);
    let invalid = || Error::Invalid(format!("invalid {EPOCH}: it is no number of seconds since 1970"));
    seconds.map(Some).ok_or_else(invalid)
}

/// What is asked for, as far as steps need it.
pub(super) struct Request {
    pub(super) client: Arc<dyn Client>,
    pub(super) wanted: Wanted,
    pub(super) pull: bool,
    pub(super) anew: Anew,
    pub(super) host: HostSettings,
    pub(super) allowed: Allowed,
    /// How new files and times may be, in seconds since 1970, where that is asked for.
    pub(super) epoch: Option<i64>,
    /// Caches of others.
    pub(super) caches: Imports,
    /// Whether the same is built for other platforms as well.
    pub(super) is_one_of_several: bool,
}

/// What the builds of one request have in common.
pub(super) struct Shares {
    pub(super) contexts: Contexts,
    /// The number of the next step that nobody has named yet.
    next: AtomicUsize,
    /// The keys of steps that one of them has done: another one finds them, although they are done anew.
    done: Mutex<HashSet<Digest>>,
}

impl Shares {
    pub(super) fn new(contexts: Contexts) -> Self {
        Self { contexts, next: AtomicUsize::new(0), done: Mutex::default() }
    }

    /// Numbers for this many steps that follow each other; the first of them.
    pub(super) fn take_numbers(&self, count: usize) -> usize {
        self.next.fetch_add(count, Ordering::Relaxed)
    }

    /// Whether one of the builds has done the step of this key.
    pub(super) fn has_done(&self, key: &Digest) -> bool {
        self.lock().contains(key)
    }

    /// Notes that the step of this key was done.
    pub(super) fn note_done(&self, key: Digest) {
        self.lock().insert(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        // What is under it is changed by single calls.
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a stage is.
#[derive(Clone, Debug)]
pub(super) struct Built {
    /// Lowest first.
    pub(super) layers: Vec<Digest>,
    pub(super) config: ImageConfig,
    /// What was done or found for it, and for the stages below.
    pub(super) steps: Vec<DoneStep>,
    /// For the stages that begin with this one.
    arguments: Arguments,
    /// How much of the history is an image's that was there before.
    inherited: usize,
    /// How many of the layers are.
    pub(super) base: usize,
}

/// A build under way.
pub(super) struct Build<'a> {
    pub(super) engine: &'a Engine,
    pub(super) request: Request,
    pub(super) listener: &'a Listener,
    /// Whatever the build needs or has made stays.
    pub(super) hold: Hold,
    /// When it began, in seconds since 1970.
    pub(super) begun: i64,
    /// What it is made of, as far as that is known.
    pub(super) notes: Notes,
    pub(super) file: Arc<Dockerfile>,
    pub(super) outline: Arc<Outline>,
    /// The stages that are done, by their number in the file.
    done: HashMap<usize, SetOnce<Arc<Built>>>,
    /// Those that only triggers of a base need.
    pub(super) late: Late,
    /// The number of the first step of each stage.
    first_steps: HashMap<usize, usize>,
    pub(super) shares: Arc<Shares>,
}

/// A Dockerfile, and what of it a build needs.
pub(super) type Read = (Dockerfile, Outline);

impl<'a> Build<'a> {
    /// A build whose steps have the next numbers.
    pub(super) fn new(
        engine: &'a Engine,
        request: Request,
        (file, outline): Read,
        listener: &'a Listener,
        hold: Hold,
        shares: Arc<Shares>,
    ) -> Self {
        let done = outline.order.iter().map(|stage| (*stage, SetOnce::new())).collect();
        let mut first_steps = HashMap::new();
        for stage in &outline.order {
            first_steps.insert(*stage, shares.take_numbers(outline.steps(&file, *stage).len() + 1));
        }
        let late = Late::new(file.stages.len());
        let (file, outline) = (Arc::new(file), Arc::new(outline));
        let begun = OffsetDateTime::now_utc().unix_timestamp();
        let notes = Notes::default();
        Self { engine, request, listener, hold, begun, notes, file, outline, done, late, first_steps, shares }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.engine.shared
    }

    pub(super) fn into_hold(self) -> Hold {
        self.hold
    }

    /// Builds every stage that is needed, and returns the last one. Whatever fails first ends all.
    pub(super) async fn all(&self) -> BuildResult<Arc<Built>> {
        let stages = self.outline.order.iter().map(|stage| self.stage(*stage));
        futures_util::future::try_join_all(stages).await?;
        Ok(Arc::clone(self.done[&self.outline.target].wait().await))
    }

    /// What it was made of, once that is over.
    pub(super) fn ingredients(&self, recipe: &str) -> Ingredients {
        let steps = self.steps().into_iter().map(|step| (step.stage, step.text)).collect();
        Ingredients {
            context: self.shares.contexts.origin().cloned(),
            steps,
            recipe: recipe.to_owned(),
            ..self.notes.take()
        }
    }

    /// What was done or found for all stages, once that is over.
    pub(super) fn done_steps(&self) -> Vec<DoneStep> {
        let stages = 0..self.file.stages.len();
        let done = stages.filter_map(|stage| {
            self.done.get(&stage).and_then(SetOnce::get).or_else(|| self.late.built(stage))
        });
        done.flat_map(|built| built.steps.iter().cloned()).collect()
    }

    /// What a stage has made, once it has.
    pub(super) async fn built(&self, stage: usize) -> Result<Arc<Built>> {
        match (self.done.get(&stage), self.late.built(stage)) {
            (Some(built), _) => Ok(Arc::clone(built.wait().await)),
            (None, Some(built)) => Ok(Arc::clone(built)),
            (None, None) => Err(Error::Invalid(format!("stage {stage} is not built"))),
        }
    }

    /// Whether a stage was known to be needed from the beginning.
    pub(super) fn is_in_order(&self, stage: usize) -> bool {
        self.done.contains_key(&stage)
    }

    /// What will be done.
    pub(super) fn steps(&self) -> Vec<StepInfo> {
        self.outline.order.iter().flat_map(|number| self.steps_of(*number)).collect()
    }

    /// What will be done for one stage.
    pub(super) fn steps_of(&self, number: usize) -> Vec<StepInfo> {
        let stage = &self.file.stages[number];
        let name = self.name_of(number);
        let info = |text: &str, lines: coracle_build::Lines| StepInfo {
            number: 0,
            stage: name.clone(),
            one_of_stages: self.request.is_one_of_several || self.outline.order.len() > 1,
            text: text.to_owned(),
            place: None,
            inputs: Vec::new(),
            lines: (lines.first, lines.last),
        };
        let makes_files = |step: &&coracle_build::Step| step.instruction.makes_files();
        let own = self.outline.steps(&self.file, number);
        let all = own.iter().filter(makes_files).count() + 1;
        let (mut place, first) = (1, self.first_step(number));
        let mut last = first;
        let mut from = info(&stage.text, stage.lines);
        from.place = Some((1, all));
        from.number = first;
        if let Base::Stage(base) = self.outline.bases[number] {
            from.inputs = self.last_step(base).into_iter().collect();
        }
        let mut steps = vec![from];
        for (at, step) in own.iter().enumerate() {
            let mut info = info(&step.text, step.lines);
            info.number = first + 1 + at;
            if step.instruction.makes_files() {
                place += 1;
                info.place = Some((place, all));
                info.inputs = std::iter::once(last).chain(self.origins(&step.instruction)).collect();
                last = info.number;
            }
            steps.push(info);
        }
        steps
    }

    /// The number of the first step of a stage that is built or will be.
    fn first_step(&self, stage: usize) -> usize {
        self.number_of(stage).expect("steps of a stage have numbers before it is built")
    }

    fn number_of(&self, stage: usize) -> Option<usize> {
        self.first_steps.get(&stage).copied().or_else(|| self.late.first_step(stage))
    }

    /// What a stage is called, to whoever sees several: by its name or number, and by the platform where there are several.
    fn name_of(&self, number: usize) -> String {
        let name = name_in(&self.file, number);
        match self.request.is_one_of_several {
            true => format!("{} {name}", self.request.wanted.platform),
            false => name,
        }
    }

    /// The last steps of the stages that an instruction takes files of.
    fn origins(&self, instruction: &coracle_build::Instruction) -> Vec<usize> {
        let names = instruction.origins();
        names
            .iter()
            .filter_map(|name| self.file.stage(name))
            .filter_map(|stage| self.last_step(stage))
            .collect()
    }

    fn last_step(&self, stage: usize) -> Option<usize> {
        let first = self.number_of(stage)?;
        let steps = self.outline.steps(&self.file, stage);
        let last = steps.iter().rposition(|step| step.instruction.makes_files());
        Some(last.map_or(first, |last| first + 1 + last))
    }

    async fn stage(&self, number: usize) -> BuildResult<()> {
        let built = self.build_stage(number).await?;
        self.done[&number].set(built).expect("each stage is built once");
        Ok(())
    }

    /// Builds a stage whose steps have numbers.
    pub(super) async fn build_stage(&self, number: usize) -> BuildResult<Arc<Built>> {
        let first = self.first_step(number);
        let stage = &self.file.stages[number];
        let anew = self.request.anew.covers(stage.from.name.as_deref());
        if let Base::Stage(base) = self.outline.bases[number] {
            // Nothing of this one begins before.
            self.built(base).await?;
        }
        let (mut built, plan) = self.told(first, self.begin_stage(number, anew)).await?;
        let own = plan.steps.len() - self.outline.steps(&self.file, number).len();
        for (at, planned) in plan.steps.iter().enumerate().skip(own) {
            let step = first + 1 + at - own;
            let left = self.told(step, self.take_step(step, &built, planned, anew)).await?;
            built.add(planned, left);
        }
        built.finish(plan, self.request.epoch);
        Ok(Arc::new(built))
    }

    /// What a stage begins with, the triggers of its base done, and what it does then.
    async fn begin_stage(&self, number: usize, anew: bool) -> BuildResult<(Built, Plan)> {
        let begun = self.begin(number, anew).await;
        // What cannot be planned says by itself where it stands.
        let (mut built, config, inherited) =
            begun.map_err(|error| error.at(self.file.stages[number].lines))?;
        let plan = self.plan(number, config, inherited).await?;
        let triggers = plan.steps.len() - self.outline.steps(&self.file, number).len();
        self.prepare(number, &plan.steps[..triggers]).await?;
        for planned in plan.steps.iter().take(triggers) {
            let left = self.take_step(self.first_step(number), &built, planned, anew).await?;
            built.add(planned, left);
        }
        Ok((built, plan))
    }

    async fn take_step(
        &self,
        step: usize,
        built: &Built,
        planned: &Planned,
        anew: bool,
    ) -> BuildResult<Option<Left>> {
        let Some(operation) = &planned.operation else { return Ok(None) };
        self.step(step, built, operation, planned, anew).await.map_err(|error| error.at(planned.lines))
    }

    /// Tells of the beginning and the end of what is done for a step.
    async fn told<T>(&self, step: usize, work: impl Future<Output = BuildResult<T>>) -> BuildResult<T> {
        self.listener.begun(step).await;
        let done = work.await;
        self.listener.ended(step, done.as_ref().err().map(BuildError::chain)).await;
        done
    }

    async fn plan(&self, number: usize, config: RunConfig, inherited: Arguments) -> Result<Plan> {
        let (file, outline, wanted) =
            (Arc::clone(&self.file), Arc::clone(&self.outline), self.request.wanted.clone());
        let planning = move || plan(&file, &outline, &wanted, number, &config, inherited);
        blocking(planning).await?.map_err(invalid)
    }

    /// What a stage begins with: layers and history, the configuration, and arguments of the stage below.
    async fn begin(&self, number: usize, anew: bool) -> BuildResult<(Built, RunConfig, Arguments)> {
        match &self.outline.bases[number] {
            Base::Scratch(platform) => {
                let built = Built::scratch(platform.clone());
                let config = built.config.config.clone();
                Ok((built, config, Arguments::new()))
            }
            Base::Stage(earlier) => {
                let built = self.built(*earlier).await?.as_ref().clone();
                let (config, arguments) = (built.config.config.clone(), built.arguments.clone());
                Ok((built, config, arguments))
            }
            Base::Image(name, platform) => {
                let built = Built::on(&self.image(name, platform).await?);
                let config = built.config.config.clone();
                Ok((built, config, Arguments::new()))
            }
            Base::Context(name, platform) => {
                let built = self.begin_with(number, name, platform, anew).await?;
                let config = built.config.config.clone();
                Ok((built, config, Arguments::new()))
            }
        }
    }

    /// What a stage begins with that begins with a context. Files of one are a layer.
    async fn begin_with(
        &self,
        number: usize,
        name: &str,
        platform: &Platform,
        anew: bool,
    ) -> BuildResult<Built> {
        match self.shares.contexts.named(name).await? {
            Found::Image(NOTHING) => Ok(Built::scratch(platform.clone())),
            Found::Image(image) => Ok(Built::on(&self.image(image, platform).await?)),
            Found::Product(product, config) => Ok(Built::with(product, self.layers_of(product), config)),
            Found::Files(_) => {
                let mut built = Built::scratch(platform.clone());
                let planned = whole(name, &self.file.stages[number]);
                let left = self.take_step(self.first_step(number), &built, &planned, anew).await?;
                built.add(&planned, left);
                Ok(built)
            }
        }
    }
}

/// What a stage is called: by its name or number.
pub(super) fn name_in(file: &Dockerfile, number: usize) -> String {
    file.stages[number].from.name.clone().unwrap_or_else(|| format!("stage-{number}"))
}

/// What makes a layer of a whole context, where a stage says that it begins with it.
fn whole(context: &str, stage: &Stage) -> Planned {
    let transfer = Transfer {
        sources: vec!["/".to_owned()],
        inline: Vec::new(),
        destination: "/".to_owned(),
        owner: None,
        mode: None,
        link: false,
        exclude: Vec::new(),
    };
    let from = Some(Origin::Context(context.to_owned()));
    let files = Files { transfer, from, rules: FileRules::Copy { parents: false } };
    Planned {
        text: stage.text.clone(),
        lines: stage.lines,
        history: Some(format!("COPY --from={context} / / # buildkit")),
        operation: Some(Operation::Files(files)),
    }
}

/// What a step left.
pub(super) struct Left {
    /// The layer, if it changed anything.
    pub(super) layer: Option<Digest>,
    /// Seconds since 1970.
    pub(super) created: i64,
    /// Under what it may be found again; nothing where it may not.
    pub(super) key: Option<Digest>,
}

impl Built {
    fn scratch(platform: Platform) -> Self {
        Self {
            layers: Vec::new(),
            steps: Vec::new(),
            config: ImageConfig {
                platform,
                config: RunConfig { working_dir: "/".to_owned(), ..RunConfig::default() },
                ..ImageConfig::default()
            },
            arguments: Arguments::new(),
            inherited: 0,
            base: 0,
        }
    }

    fn on(image: &Image) -> Self {
        let mut config = image.config.as_ref().clone();
        // They were the base's: what it was built in, and by what.
        config.other.clear();
        let inherited = config.history.len();
        let layers = image.layers.clone();
        let (base, steps) = (layers.len(), Vec::new());
        Self { base, layers, steps, config, arguments: Arguments::new(), inherited }
    }

    /// What another build has made, with another configuration of what runs.
    fn with(product: &Product, layers: Vec<Digest>, config: &RunConfig) -> Self {
        let config = ImageConfig { config: config.clone(), ..product.config().clone() };
        let inherited = config.history.len();
        let (base, steps) = (layers.len(), Vec::new());
        Self { base, layers, steps, config, arguments: Arguments::new(), inherited }
    }

    /// Notes what a step has left.
    fn add(&mut self, step: &Planned, left: Option<Left>) {
        let layer = left.as_ref().and_then(|left| left.layer);
        if let Some(layer) = layer {
            self.layers.push(layer);
            self.config.rootfs.diff_ids.push(layer);
        }
        if let Some(Left { layer, created, key: Some(key) }) = &left {
            self.steps.push(DoneStep { key: *key, layer: *layer, created: *created });
        }
        let Some(created_by) = step.history.clone() else { return };
        // What only changes the configuration is as old as what it stands on: the same build gives the same image.
        let before = self.config.history.iter().rev().find_map(|step| step.created.clone());
        let created = left.and_then(|left| written(left.created)).or(before).or(self.config.created.clone());
        self.config.history.push(History {
            created,
            created_by,
            comment: "buildkit.dockerfile.v0".to_owned(),
            empty_layer: layer.is_none(),
            ..History::default()
        });
    }

    /// With one layer, or none, instead of those that its own steps have left.
    pub(super) fn squashed(&self, layer: Option<Digest>) -> Self {
        let mut squashed = self.clone();
        let count = self.layers.len() - self.base;
        squashed.layers.truncate(self.base);
        squashed.layers.extend(layer);
        squashed.config.rootfs.diff_ids.clone_from(&squashed.layers);
        for step in squashed.config.history.iter_mut().skip(self.inherited) {
            step.empty_layer = true;
        }
        squashed.config.history.push(History {
            created: self.config.created.clone(),
            comment: format!("squash of {count} layers"),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        squashed
    }

    /// With all times the same, where that is asked for.
    fn finish(&mut self, plan: Plan, epoch: Option<i64>) {
        self.config.config = plan.config;
        self.arguments = plan.arguments;
        if let Some(author) = plan.author {
            self.config.author = author;
        }
        let latest = self.config.history.iter().rev().find_map(|step| step.created.clone());
        self.config.created = latest.or_else(|| Some(crate::images::now()));
        if let Some(epoch) = epoch {
            self.config.created = written(epoch);
            self.config
                .history
                .iter_mut()
                .skip(self.inherited)
                .for_each(|step| step.created = written(epoch));
        }
    }
}

/// A time as configurations have it.
fn written(seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}
