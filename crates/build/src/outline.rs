//! Which stages and images a build needs, before anything of an image is known.

use crate::dockerfile::{Dockerfile, Stage, Step};
use crate::error::{Error, Result};
use crate::limits;
use crate::scope::{Arguments, Resolver, Wanted};
use coracle_spec::Platform;
use std::collections::BTreeSet;

/// What a stage begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing, for a platform.
    Scratch(Platform),
    /// What an earlier stage has made.
    Stage(usize),
    /// An image, for a platform.
    Image(String, Platform),
    /// A context of the client's, for a platform.
    Context(String, Platform),
}

/// Where files come from that are not the context's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Another stage's result.
    Stage(usize),
    /// An image.
    Image(String),
    /// A context of the client's.
    Context(String),
}

/// What has to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The stage that is the result.
    pub target: usize,
    /// What every stage begins with.
    pub bases: Vec<Base>,
    /// The stages that the result needs, itself included; each comes after those that it needs.
    pub order: Vec<usize>,
    /// Arguments of the scope around the stages.
    pub arguments: Arguments,
    /// Stages in whose place the client has put something else.
    replaced: BTreeSet<usize>,
}

impl Outline {
    /// The stages that a stage needs, itself included; each comes after those that it needs.
    ///
    /// # Errors
    /// As [`outline`].
    pub fn order_of(&self, file: &Dockerfile, wanted: &Wanted, stage: usize) -> Result<Vec<usize>> {
        let state = vec![State::New; self.bases.len()];
        let mut walk = Walk { file, wanted, outline: self, state, order: Vec::new() };
        walk.visit(stage, 0)?;
        Ok(walk.order)
    }

    /// The stages whose result a stage takes something of.
    ///
    /// # Errors
    /// As [`outline`].
    pub fn needs(&self, file: &Dockerfile, wanted: &Wanted, stage: usize) -> Result<Vec<usize>> {
        let mut needed = Vec::new();
        if let Base::Stage(base) = self.bases[stage] {
            needed.push(base);
        }
        for step in self.steps(file, stage) {
            for name in step.instruction.origins() {
                let origin = origin(file, wanted, name).map_err(|error| error.at(step.lines.first, 1))?;
                if let Origin::Stage(stage) = origin {
                    needed.push(stage);
                }
            }
        }
        Ok(needed)
    }

    pub(crate) fn is_replaced(&self, stage: usize) -> bool {
        self.replaced.contains(&stage)
    }

    /// What is done for a stage: nothing, where something else is in its place.
    pub fn steps<'a>(&self, file: &'a Dockerfile, stage: usize) -> &'a [Step] {
        if self.is_replaced(stage) { &[] } else { &file.stages[stage].steps }
    }
}

/// Finds out what has to be built.
///
/// # Errors
/// For a target that is no stage, a `FROM` line without an image, and stages that need each other; [`Error::At`] where a
/// line is at fault.
pub fn outline(file: &Dockerfile, wanted: &Wanted) -> Result<Outline> {
    let mut resolver = Resolver::new(file.directives.escape);
    let around = wanted.platform_arguments();
    let mut arguments = around.clone();
    for declared in &file.arguments {
        resolver.declare(declared, &[], &mut arguments, &around, &wanted.arguments)?;
    }
    let mut bases = Vec::new();
    let mut replaced = BTreeSet::new();
    for (number, stage) in file.stages.iter().enumerate() {
        if let Some(name) = &stage.from.name
            && file.stage(name) != Some(number)
        {
            return Err(Error::value("duplicate name of a stage", name).at(stage.lines.first, 1));
        }
        let mut around = Around { file, arguments: &arguments, resolver: &mut resolver, wanted };
        let (base, is_replaced) =
            around.base(number, stage).map_err(|error| error.at(stage.lines.first, 1))?;
        bases.push(base);
        if is_replaced {
            replaced.insert(number);
        }
    }
    let target = target(file, wanted.target.as_deref())?;
    let mut outline = Outline { target, bases, order: Vec::new(), arguments, replaced };
    outline.order = outline.order_of(file, wanted, target)?;
    Ok(outline)
}

/// What `FROM` lines are resolved with.
struct Around<'a> {
    file: &'a Dockerfile,
    arguments: &'a Arguments,
    resolver: &'a mut Resolver,
    wanted: &'a Wanted,
}

impl Around<'_> {
    /// What a stage begins with, and whether that is in its place altogether.
    fn base(&mut self, number: usize, stage: &Stage) -> Result<(Base, bool)> {
        let image = self.resolver.resolve(&stage.from.image, &[], self.arguments)?;
        if image.is_empty() {
            return Err(Error::value("base name should not be blank", &stage.from.image));
        }
        let platform = self.platform(stage)?;
        let instead = stage.from.name.as_deref().and_then(|name| self.wanted.context(name, &platform));
        if let Some(context) = instead {
            return Ok((Base::Context(context.to_owned(), platform), true));
        }
        let earlier = self.file.stage(&image).filter(|earlier| *earlier < number);
        let base = match (earlier, self.wanted.context(&image, &platform)) {
            (Some(earlier), _) => Base::Stage(earlier),
            (None, _) if image == "scratch" => Base::Scratch(platform),
            (None, Some(context)) => Base::Context(context.to_owned(), platform),
            (None, None) => Base::Image(image, platform),
        };
        Ok((base, false))
    }

    /// What a stage runs on.
    fn platform(&mut self, stage: &Stage) -> Result<Platform> {
        let Some(text) = &stage.from.platform else { return Ok(self.wanted.platform.clone()) };
        let text = self.resolver.resolve(text, &[], self.arguments)?;
        text.parse().map_err(|_| Error::value("failed to parse platform", &text))
    }
}

fn target(file: &Dockerfile, name: Option<&str>) -> Result<usize> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(file.stages.len() - 1) };
    let by_number = || name.parse::<usize>().ok().filter(|number| *number < file.stages.len());
    file.stage(name).or_else(by_number).ok_or_else(|| Error::no_stage(name))
}

/// Where `--from` leads.
///
/// # Errors
/// For the number of a stage that does not exist.
pub(crate) fn origin(file: &Dockerfile, wanted: &Wanted, name: &str) -> Result<Origin> {
    if let Some(stage) = file.stage(name) {
        return Ok(Origin::Stage(stage));
    }
    match name.parse::<usize>() {
        Ok(number) if number < file.stages.len() => Ok(Origin::Stage(number)),
        Ok(_) => Err(Error::value("there is no stage with this number", name)),
        Err(_) if name.is_empty() => Err(Error::syntax("--from needs the name of a stage or an image")),
        Err(_) => Ok(match wanted.context(name, &wanted.platform) {
            Some(context) => Origin::Context(context.to_owned()),
            None => Origin::Image(name.to_owned()),
        }),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

struct Walk<'a> {
    file: &'a Dockerfile,
    wanted: &'a Wanted,
    outline: &'a Outline,
    state: Vec<State>,
    order: Vec<usize>,
}

impl Walk<'_> {
    fn visit(&mut self, number: usize, depth: usize) -> Result<()> {
        let stage = &self.file.stages[number];
        match self.state[number] {
            State::Done => return Ok(()),
            State::Open => {
                let name = stage.from.name.clone().unwrap_or_else(|| number.to_string());
                let error = Error::value("circular dependency detected on stage", &name);
                return Err(error.at(stage.lines.first, 1));
            }
            State::New if depth >= limits::STAGES => {
                return Err(Error::TooLarge {
                    what: "number of stages that need each other",
                    limit: limits::STAGES,
                });
            }
            State::New => self.state[number] = State::Open,
        }
        for needed in self.outline.needs(self.file, self.wanted, number)? {
            self.visit(needed, depth + 1)?;
        }
        self.state[number] = State::Done;
        self.order.push(number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(target: Option<&str>, arguments: &[(&str, &str)]) -> Wanted {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Wanted {
            target: target.map(str::to_owned),
            arguments: arguments.iter().map(owned).collect(),
            platform: "linux/arm64".parse().unwrap(),
            build_platform: "linux/amd64".parse().unwrap(),
            ..Wanted::default()
        }
    }

    const FILE: &str = "ARG V=12\nARG B=debian:$V\nFROM --platform=$BUILDPLATFORM $B AS one\nFROM one AS two\nCOPY --from=four / /\n\
        FROM scratch AS three\nFROM ${X:-alpine} AS four\nRUN --mount=from=0,target=/x true\nFROM two\nCOPY --from=busybox / /\n";

    #[test]
    fn only_what_the_result_needs_is_built() {
        let file = Dockerfile::parse(FILE).unwrap();
        let all = outline(&file, &wanted(None, &[("V", "13")])).unwrap();
        let image = |name: &str, platform: &str| Base::Image(name.to_owned(), platform.parse().unwrap());
        assert_eq!(
            all.bases,
            [
                image("debian:13", "linux/amd64"),
                Base::Stage(0),
                Base::Scratch("linux/arm64".parse().unwrap()),
                image("alpine", "linux/arm64"),
                Base::Stage(1)
            ]
        );
        assert_eq!((all.target, all.order.as_slice()), (4, &[0, 3, 1, 4][..]));
        for (target, order) in [("THREE", &[2][..]), ("3", &[0, 3]), ("two", &[0, 3, 1])] {
            assert_eq!(outline(&file, &wanted(Some(target), &[])).unwrap().order, order, "{target}");
        }
    }

    #[test]
    fn contexts_take_the_place_of_images_and_stages() {
        let file = Dockerfile::parse(FILE).unwrap();
        let with = |names: &[&str]| {
            let contexts = names.iter().map(|name| (*name).to_owned()).collect();
            outline(&file, &Wanted { contexts, ..wanted(None, &[]) }).unwrap()
        };
        let context = |name: &str, platform: &str| Base::Context(name.to_owned(), platform.parse().unwrap());
        let replaced = with(&["two", "debian:12", "busybox"]);
        assert_eq!(replaced.bases[1], context("two", "linux/arm64"));
        assert_eq!(replaced.order, [1, 4], "what a replaced stage needed is not needed");
        assert!(replaced.steps(&file, 1).is_empty() && replaced.steps(&file, 4).len() == 1);
        assert_eq!(replaced.bases[0], context("debian:12", "linux/amd64"));
        let origin = |name: &str, outline: &[&str]| {
            let contexts = outline.iter().map(|name| (*name).to_owned()).collect();
            origin(&file, &Wanted { contexts, ..wanted(None, &[]) }, name).unwrap()
        };
        assert_eq!(origin("busybox:latest", &["busybox"]), Origin::Context("busybox".to_owned()));
        assert_eq!(origin("two", &["two"]), Origin::Stage(1), "the stage itself is the context then");
        assert_eq!(origin("4", &["4"]), Origin::Stage(4));
        let pinned = with(&["debian:12::linux/amd64", "alpine::linux/amd64"]);
        assert_eq!(pinned.bases[0], context("debian:12::linux/amd64", "linux/amd64"));
        assert_eq!(pinned.bases[3], Base::Image("alpine".to_owned(), "linux/arm64".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_built_is_refused() {
        let cases = [
            (
                "FROM a AS x\nCOPY --from=y / /\nFROM b AS y\nCOPY --from=x / /\n",
                None,
                "circular dependency detected on stage",
            ),
            ("FROM a AS x\nCOPY --from=x / /", None, "circular dependency detected on stage: x"),
            ("FROM a\nCOPY --from=7 / /", None, "there is no stage with this number: 7"),
            ("FROM a AS b\nFROM c AS B", None, "line 2: duplicate name of a stage: b"),
            ("FROM $NOTHING", None, "base name should not be blank: $NOTHING"),
            ("FROM --platform=x/y/z/w a", None, "failed to parse platform: x/y/z/w"),
            ("FROM a", Some("b"), "target stage \"b\" could not be found"),
            ("ARG A=${B?gone}\nFROM a", None, "B: gone"),
        ];
        for (text, target, expected) in cases {
            let file = Dockerfile::parse(text).unwrap();
            let error = outline(&file, &wanted(target, &[])).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
