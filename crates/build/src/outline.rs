//! Which stages and images a build needs, before anything of an image is known.

use crate::dockerfile::{Dockerfile, Stage};
use crate::error::{Error, Result};
use crate::limits;
use crate::scope::{Arguments, Resolver, Wanted};
use coracle_spec::Platform;

/// What a stage begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// What an earlier stage has made.
    Stage(usize),
    /// An image, for a platform.
    Image(String, Platform),
}

/// Where files come from that are not the context's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Another stage's result.
    Stage(usize),
    /// An image.
    Image(String),
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
    for (number, stage) in file.stages.iter().enumerate() {
        if let Some(name) = &stage.from.name
            && file.stage(name) != Some(number)
        {
            return Err(Error::value("duplicate name of a stage", name).at(stage.lines.first, 1));
        }
        let base = base(file, number, stage, &arguments, &mut resolver, wanted);
        bases.push(base.map_err(|error| error.at(stage.lines.first, 1))?);
    }
    let target = target(file, wanted.target.as_deref())?;
    let mut walk = Walk { file, bases: &bases, state: vec![State::New; bases.len()], order: Vec::new() };
    walk.visit(target, 0)?;
    let order = walk.order;
    Ok(Outline { target, bases, order, arguments })
}

fn base(
    file: &Dockerfile,
    number: usize,
    stage: &Stage,
    arguments: &Arguments,
    resolver: &mut Resolver,
    wanted: &Wanted,
) -> Result<Base> {
    let image = resolver.resolve(&stage.from.image, &[], arguments)?;
    if image.is_empty() {
        return Err(Error::value("base name should not be blank", &stage.from.image));
    }
    if let Some(earlier) = file.stage(&image).filter(|earlier| *earlier < number) {
        return Ok(Base::Stage(earlier));
    }
    if image == "scratch" {
        return Ok(Base::Scratch);
    }
    let platform = match &stage.from.platform {
        None => wanted.platform.clone(),
        Some(text) => {
            let text = resolver.resolve(text, &[], arguments)?;
            text.parse().map_err(|_| Error::value("failed to parse platform", &text))?
        }
    };
    Ok(Base::Image(image, platform))
}

fn target(file: &Dockerfile, name: Option<&str>) -> Result<usize> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(file.stages.len() - 1) };
    let by_number = || name.parse::<usize>().ok().filter(|number| *number < file.stages.len());
    file.stage(name).or_else(by_number).ok_or_else(|| Error::value("target stage could not be found", name))
}

/// Where `--from` leads.
///
/// # Errors
/// For the number of a stage that does not exist.
pub(crate) fn origin(file: &Dockerfile, name: &str) -> Result<Origin> {
    if let Some(stage) = file.stage(name) {
        return Ok(Origin::Stage(stage));
    }
    match name.parse::<usize>() {
        Ok(number) if number < file.stages.len() => Ok(Origin::Stage(number)),
        Ok(_) => Err(Error::value("there is no stage with this number", name)),
        Err(_) if name.is_empty() => Err(Error::syntax("--from needs the name of a stage or an image")),
        Err(_) => Ok(Origin::Image(name.to_owned())),
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
    bases: &'a [Base],
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
        if let Base::Stage(base) = self.bases[number] {
            self.visit(base, depth + 1)?;
        }
        for step in &stage.steps {
            for name in step.instruction.origins() {
                let origin = origin(self.file, name).map_err(|error| error.at(step.lines.first, 1))?;
                if let Origin::Stage(needed) = origin {
                    self.visit(needed, depth + 1)?;
                }
            }
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
                Base::Scratch,
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
            ("FROM a", Some("b"), "target stage could not be found: b"),
            ("ARG A=${B?gone}\nFROM a", None, "B: gone"),
        ];
        for (text, target, expected) in cases {
            let file = Dockerfile::parse(text).unwrap();
            let error = outline(&file, &wanted(target, &[])).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
