//! What clients ask of a Dockerfile instead of building it (`docker buildx build --print`, `--call`, `--check`). An answer is a
//! document, and the same as a text; names and forms are those of BuildKit's subrequests.

use crate::server::Context;
use coracle_buildkit::Failure;
use coracle_engine::build::{Answer, BuildRequest, Checked, Lines, Loan, Parameters, Target, Warning};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write;

/// The version of every question's form.
const VERSION: &str = "1.0.0";
/// What the names of questions begin with.
const PREFIX: &str = "frontend.";
/// Lines that are shown before and after those that a warning is about.
const AROUND: usize = 3;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Which questions there are.
    Describe,
    /// What a build can be given.
    Outline,
    /// Which stages there are.
    Targets,
    /// What is wrong.
    Lint,
}

/// How questions are told of: what they are called and for, and what can be said with them.
const ALL: [(Question, &str, &str); 4] = [
    (Question::Outline, "frontend.outline", "List all parameters current build target supports"),
    (Question::Targets, "frontend.targets", "List all targets current build supports"),
    (Question::Lint, "frontend.lint", "Lint a Dockerfile"),
    (Question::Describe, "frontend.subrequests.describe", "List available subrequest types"),
];

impl Question {
    /// The question of this name.
    ///
    /// # Errors
    /// For one that is not answered here: clients then ask another way.
    pub(super) fn of(name: &str) -> Result<Self, Failure> {
        let known = ALL.iter().find(|(_, known, _)| *known == name);
        known.map(|(question, ..)| *question).ok_or_else(|| Failure::unsupported_request(name))
    }
}

/// Answers, as what stands beside a result that there is none of. `file` is what the Dockerfile is called.
pub(super) async fn answer(
    context: &Context,
    question: Question,
    request: BuildRequest,
    file: &str,
) -> coracle_engine::Result<HashMap<String, Vec<u8>>> {
    let engine = &context.engine;
    Ok(match question {
        Question::Describe => told(&described(), &table_of_questions()),
        Question::Targets => {
            let answer = engine.dockerfile_targets(request).await?;
            told(&TargetList::of(&answer), &table_of_targets(&answer.answer))
        }
        Question::Outline => {
            let answer = engine.dockerfile_parameters(request).await?;
            told(&Outline::of(&answer), &text_of_outline(&answer.answer))
        }
        Question::Lint => {
            let answer = engine.check_dockerfile(request).await?;
            let is_clean = answer.answer.warnings.is_empty() && answer.answer.failure.is_none();
            let mut told = told(&LintResults::of(&answer, file), &text_of_lint(&answer, file));
            let status = if is_clean { "0" } else { "1" };
            told.insert("result.statuscode".to_owned(), status.into());
            told
        }
    })
}

fn told(document: &impl Serialize, text: &str) -> HashMap<String, Vec<u8>> {
    let document = serde_json::to_vec_pretty(document).expect("plain data has a document");
    [("result.json", document), ("result.txt", text.into()), ("version", VERSION.into())]
        .map(|(name, content)| (name.to_owned(), content))
        .into()
}

#[derive(Serialize)]
struct Named {
    name: &'static str,
    description: &'static str,
}

#[derive(Serialize)]
struct Described {
    name: &'static str,
    version: &'static str,
    r#type: &'static str,
    description: &'static str,
    opts: Option<Vec<Named>>,
    inputs: Option<Vec<Named>>,
    metadata: Vec<Named>,
    refs: Option<Vec<Named>>,
}

fn described() -> Vec<Described> {
    let named = |name, description| Named { name, description };
    let describe = |(question, name, description): (Question, &'static str, &'static str)| {
        let mut metadata = vec![named("result.json", ""), named("result.txt", "")];
        let opts = match question {
            Question::Describe => None,
            Question::Outline => Some(vec![named("target", "Target build stage")]),
            Question::Targets => Some(Vec::new()),
            Question::Lint => {
                metadata.push(named("result.statuscode", ""));
                Some(Vec::new())
            }
        };
        Described {
            name,
            version: VERSION,
            r#type: "rpc",
            description,
            opts,
            inputs: None,
            metadata,
            refs: None,
        }
    };
    ALL.map(describe).into()
}

fn table_of_questions() -> String {
    let mut rows = vec![["NAME", "VERSION", "DESCRIPTION"].map(str::to_owned).to_vec()];
    for (_, name, description) in ALL {
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        rows.push([name, VERSION, description].map(str::to_owned).to_vec());
    }
    table(&rows)
}

#[derive(Serialize)]
struct Place {
    ranges: Vec<Range>,
}

#[derive(Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Serialize)]
struct Position {
    line: usize,
}

impl From<Lines> for Place {
    fn from(lines: Lines) -> Self {
        Self {
            ranges: vec![Range { start: Position { line: lines.first }, end: Position { line: lines.last } }],
        }
    }
}

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

#[derive(Serialize)]
struct TargetList<'a> {
    targets: Vec<ListedTarget<'a>>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct ListedTarget<'a> {
    #[serde(skip_serializing_if = "is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    base: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    platform: &'a str,
    location: Place,
}

impl<'a> TargetList<'a> {
    fn of(answer: &'a Answer<Vec<Target>>) -> Self {
        let listed = |target: &'a Target| ListedTarget {
            name: &target.name,
            default: target.is_default,
            description: &target.description,
            base: &target.base,
            platform: &target.platform,
            location: target.lines.into(),
        };
        Self { targets: answer.answer.iter().map(listed).collect(), sources: vec![encoded(&answer.text)] }
    }
}

fn encoded(text: &str) -> String {
    coracle_api::base64::encode(text.as_bytes())
}

fn table_of_targets(targets: &[Target]) -> String {
    let mut rows = vec![vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
    for target in targets {
        let name = match (target.name.as_str(), target.is_default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        rows.push(vec![name, target.description.clone()]);
    }
    table(&rows)
}

#[derive(Serialize)]
struct Outline<'a> {
    #[serde(skip_serializing_if = "is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Argument<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Lent<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Lent<'a>>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct Argument<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    value: &'a str,
    location: Place,
}

#[derive(Serialize)]
struct Lent<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Place,
}

impl<'a> Outline<'a> {
    fn of(answer: &'a Answer<Parameters>) -> Self {
        let Parameters { name, description, arguments, secrets, agents } = &answer.answer;
        let lent =
            |loan: &'a Loan| Lent { name: &loan.name, required: loan.required, location: loan.lines.into() };
        let args = arguments.iter().map(|argument| Argument {
            name: &argument.name,
            description: &argument.description,
            value: &argument.value,
            location: argument.lines.into(),
        });
        Self {
            name,
            description,
            args: args.collect(),
            secrets: secrets.iter().map(lent).collect(),
            ssh: agents.iter().map(lent).collect(),
            sources: vec![encoded(&answer.text)],
        }
    }
}

fn text_of_outline(outline: &Parameters) -> String {
    let mut text = String::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = if outline.name.is_empty() { "(default)" } else { &outline.name };
        let mut rows = vec![vec!["TARGET:".to_owned(), name.to_owned()]];
        if !outline.description.is_empty() {
            rows.push(vec!["DESCRIPTION:".to_owned(), outline.description.clone()]);
        }
        text.push_str(&format!("{}\n", table(&rows)));
    }
    if !outline.arguments.is_empty() {
        let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned).to_vec()];
        for one in &outline.arguments {
            rows.push(vec![one.name.clone(), one.value.clone(), one.description.clone()]);
        }
        text.push_str(&format!("{}\n", table(&rows)));
    }
    for (head, loans) in [("SECRET", &outline.secrets), ("SSH", &outline.agents)] {
        if loans.is_empty() {
            continue;
        }
        let mut rows = vec![vec![head.to_owned(), "REQUIRED".to_owned()]];
        let required = |loan: &Loan| if loan.required { "true".to_owned() } else { String::new() };
        rows.extend(loans.iter().map(|loan| vec![loan.name.clone(), required(loan)]));
        text.push_str(&format!("{}\n", table(&rows)));
    }
    text
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LintResults<'a> {
    warnings: Vec<Lint<'a>>,
    sources: Vec<SourceFile<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lint<'a> {
    rule_name: String,
    description: &'static str,
    url: String,
    detail: &'a str,
    location: Place,
}

#[derive(Serialize)]
struct SourceFile<'a> {
    filename: &'a str,
    language: &'static str,
    data: String,
}

#[derive(Serialize)]
struct BuildError<'a> {
    message: &'a str,
    location: Option<Place>,
}

impl<'a> LintResults<'a> {
    fn of(answer: &'a Answer<Checked>, file: &'a str) -> Self {
        let lint = |warning: &'a Warning| Lint {
            rule_name: warning.rule.name(),
            description: warning.rule.description(),
            url: warning.rule.url(),
            detail: &warning.text,
            location: warning.lines.into(),
        };
        let failure = answer.answer.failure.as_ref();
        Self {
            warnings: answer.answer.warnings.iter().map(lint).collect(),
            sources: vec![SourceFile { filename: file, language: "Dockerfile", data: encoded(&answer.text) }],
            build_error: failure.map(|(message, line)| BuildError {
                message,
                location: line.map(|line| Lines { first: line, last: line }.into()),
            }),
        }
    }
}

fn text_of_lint(answer: &Answer<Checked>, file: &str) -> String {
    let mut text = String::new();
    for warning in &answer.answer.warnings {
        let (name, url) = (warning.rule.name(), warning.rule.url());
        text.push_str(&format!("\nWARNING: {name} - {url}\n{}\n", warning.text));
        show(&mut text, &answer.text, file, warning.lines);
    }
    if let Some((message, line)) = &answer.answer.failure {
        text.push_str(&format!("\nERROR: {message}\n"));
        if let Some(line) = line {
            show(&mut text, &answer.text, file, Lines { first: *line, last: *line });
        }
    }
    text
}

/// Some lines of a file, those that are meant among them.
fn show(out: &mut String, text: &str, file: &str, meant: Lines) {
    const RULE: &str = "--------------------";
    out.push_str(&format!("{file}:{}\n{RULE}\n", meant.first));
    let shown = meant.first.saturating_sub(AROUND + 1)..meant.last + AROUND;
    for (at, line) in text.lines().enumerate().filter(|(at, _)| shown.contains(at)) {
        let number = at + 1;
        let mark = if (meant.first..=meant.last).contains(&number) { ">>>" } else { "   " };
        // Writing to a text never fails.
        let _ = writeln!(out, "{number:4} | {mark} {line}");
    }
    out.push_str(&format!("{RULE}\n"));
}

/// Rows of columns, each as wide as its widest cell but the last.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 < row.len() { widths[column] + 3 } else { 0 };
            text.push_str(&format!("{cell:width$}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_questions_are_answered() {
        assert_eq!(Question::of("frontend.lint").unwrap(), Question::Lint);
        let refusal = Question::of("frontend.sing").unwrap_err().to_proto();
        assert!(refusal.message.contains("unsupported request frontend.sing"), "{refusal:?}");
    }

    #[test]
    fn an_outline_is_a_text_of_tables() {
        let lines = Lines { first: 1, last: 1 };
        let argument = |name: &str, value: &str| coracle_engine::build::Parameter {
            name: name.into(),
            value: value.into(),
            description: "d".into(),
            lines,
        };
        let outline = Parameters {
            name: "final".into(),
            description: "what you want".into(),
            arguments: vec![argument("A", "1"), argument("LONG", "")],
            secrets: vec![Loan { name: "s".into(), required: true, lines }],
            agents: Vec::new(),
        };
        let expected = "TARGET:        final\nDESCRIPTION:   what you want\n\nBUILD ARG   VALUE   DESCRIPTION\nA           1       d\n\
            LONG                d\n\nSECRET   REQUIRED\ns        true\n\n";
        assert_eq!(text_of_outline(&outline), expected);
    }

    #[test]
    fn a_warning_shows_its_lines() {
        let mut out = String::new();
        show(&mut out, "a\nb\nc\nd\ne\nf\ng\nh\ni", "Dockerfile", Lines { first: 5, last: 6 });
        let expected = "Dockerfile:5\n--------------------\n   2 |     b\n   3 |     c\n   4 |     d\n   5 | >>> e\n   6 | >>> f\n   \
            7 |     g\n   8 |     h\n   9 |     i\n--------------------\n";
        assert_eq!(out, expected);
    }
}
