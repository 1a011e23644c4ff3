//! `context …`.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use coracle_client::Endpoint;
use serde_json::{Map, Value, json};

use super::{Code, print, print_line, say, variable};
use crate::args::Globals;
use crate::args::context::{
    ContextCommand, ContextCreateArgs, ContextExportArgs, ContextImportArgs, ContextInspectArgs,
    ContextListArgs, ContextRemoveArgs, ContextUpdateArgs,
};
use crate::configuration::{self, Configuration};
use crate::contexts::{self, Choice, Context, DEFAULT, DOCKER, Store, TlsFile, check_name};
use crate::error::{Error, Result};
use crate::render::json;
use crate::render::listing::{Layout, Row, ellipsis};
use crate::resolve::Invalid;
use crate::template::{self, Template};
use coracle_spec::full_text;

const LAYOUT: Layout = Layout {
    table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
    ],
};

/// Letters of an error in the table.
const ERROR: usize = 45;
/// Largest archive and largest certificate, in bytes.
const FILE: u64 = 10 << 20;

/// What contexts are chosen from.
struct Shelf {
    store: Store,
    configuration: Configuration,
    globals: Globals,
}

pub(super) fn dispatch(globals: Globals, command: ContextCommand) -> Code {
    let directory = configuration::directory();
    let configuration = Configuration::read(&directory)?;
    let mut shelf = Shelf { store: Store::below(&directory), configuration, globals };
    match command {
        ContextCommand::Create(args) => shelf.create(&args),
        ContextCommand::Export(args) => shelf.export(&args),
        ContextCommand::Import(args) => shelf.import(&args),
        ContextCommand::Inspect(args) => shelf.inspect(args),
        ContextCommand::Ls(args) => shelf.list(&args),
        ContextCommand::Rm(args) => shelf.remove(&args),
        ContextCommand::Show => shelf.current().and_then(|choice| print_line(choice.name)),
        ContextCommand::Update(args) => shelf.update(&args),
        ContextCommand::Use(args) => shelf.choose(&args.name),
    }
    .map(super::done)
}

impl Shelf {
    fn current(&self) -> Result<Choice> {
        Ok(contexts::current(&self.globals, variable, &self.configuration)?)
    }

    fn get(&self, name: &str) -> Result<Context> {
        if name == DEFAULT { Ok(self.surroundings()?.0) } else { self.store.get(name) }
    }

    /// The certificates and keys of a context.
    fn tls(&self, name: &str) -> Result<Vec<TlsFile>> {
        if name == DEFAULT { Ok(self.surroundings()?.1) } else { self.store.tls(name) }
    }

    /// The context that is in no file.
    fn surroundings(&self) -> Result<(Context, Vec<TlsFile>)> {
        let (context, files) = contexts::surroundings(&self.globals, variable)?;
        Endpoint::parse(context.host())?;
        Ok((context, files))
    }

    fn create(&self, args: &ContextCreateArgs) -> Result<()> {
        check_name(&args.name)?;
        if self.store.has(&args.name) {
            return Err(Invalid(format!("context {:?} already exists", args.name)).into());
        }
        let mut context = Context { name: args.name.clone(), ..Context::default() };
        let mut files = Vec::new();
        if args.docker.is_empty() {
            let from = args.from.clone().map_or_else(|| self.current().map(|choice| choice.name), Ok)?;
            let origin = self.get(&from)?;
            context.metadata = if from == DEFAULT { Map::new() } else { origin.metadata };
            context.endpoints = origin.endpoints;
            files = self.tls(&from)?;
        } else if args.from.is_some() {
            return Err(Invalid("use --from, or --docker with from=CONTEXT, and not both".to_owned()).into());
        } else {
            self.point(&mut context, &mut files, &args.docker)?;
        }
        if let Some(text) = &args.description {
            context.describe(text);
        }
        self.store.put_tls(&args.name, &files)?;
        self.store.put(&context)?;
        print_line(&args.name)?;
        say(format!("Successfully created context {:?}", args.name));
        Ok(())
    }

    fn update(&self, args: &ContextUpdateArgs) -> Result<()> {
        check_name(&args.name)?;
        let mut context = self.store.get(&args.name)?;
        if let Some(text) = &args.description {
            context.describe(text);
        }
        if !args.docker.is_empty() {
            let mut files = self.store.tls(&args.name)?;
            self.point(&mut context, &mut files, &args.docker)?;
            self.store.put_tls(&args.name, &files)?;
        }
        self.store.put(&context)?;
        print_line(&args.name)?;
        say(format!("Successfully updated context {:?}", args.name));
        Ok(())
    }

    /// Makes a context stand for the engine that `--docker` describes.
    fn point(&self, context: &mut Context, files: &mut Vec<TlsFile>, texts: &[String]) -> Result<()> {
        let settings = Settings::parse(texts)?;
        files.retain(|file| file.endpoint != DOCKER);
        if let Some(from) = &settings.from {
            let origin = self.get(from)?;
            let endpoint = origin.endpoints.get(DOCKER).cloned().unwrap_or_default();
            context.endpoints.insert(DOCKER.to_owned(), endpoint);
            files.extend(self.tls(from)?.into_iter().filter(|file| file.endpoint == DOCKER));
            return Ok(());
        }
        context.set_host(&settings.host, settings.skip_tls_verify);
        for (name, path) in &settings.files {
            let content = read_bounded(Path::new(path))?;
            files.push(TlsFile { endpoint: DOCKER.to_owned(), name: format!("{name}.pem"), content });
        }
        // A name for an engine that no command could reach helps nobody.
        contexts::endpoint(context, files)?;
        Ok(())
    }

    fn list(&self, args: &ContextListArgs) -> Result<()> {
        let current = self.current()?;
        let mut contexts = self.store.all()?;
        let mut row_of_default = self.get(DEFAULT).map_or_else(
            |error| (Context { name: DEFAULT.to_owned(), ..Context::default() }, full_text(&error)),
            |context| (context, String::new()),
        );
        row_of_default.0.describe("Current DOCKER_HOST based configuration");
        let missing = current.name != DEFAULT && !contexts.iter().any(|context| context.name == current.name);
        let mut all: Vec<(Context, String)> =
            contexts.drain(..).map(|context| (context, String::new())).chain([row_of_default]).collect();
        if missing {
            let error =
                self.store.get(&current.name).err().map(|error| full_text(&error)).unwrap_or_default();
            all.push((Context { name: current.name.clone(), ..Context::default() }, error));
        }
        all.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));
        let rows: Vec<Row> = all.iter().map(|(context, error)| row(context, error, &current.name)).collect();
        let format = if args.quiet { Some("{{.Name}}") } else { args.format.as_deref() };
        print(LAYOUT.render(format, rows)?)?;
        if let Some(name) = current.overridden_by {
            say(format!(
                "Warning: {name} environment variable overrides the active context. To use a context, either set the global --context flag, or unset {name} environment variable."
            ));
        }
        Ok(())
    }

    fn inspect(&self, args: ContextInspectArgs) -> Result<()> {
        let template = match args.format.as_deref() {
            None | Some("" | "json") => None,
            Some(format) => Some(Template::parse(format)?),
        };
        let names = if args.names.is_empty() { vec![self.current()?.name] } else { args.names };
        let (mut found, mut failed) = (Vec::new(), false);
        for name in &names {
            match self.shown(name) {
                Ok(document) => found.push(document),
                Err(error) => {
                    say(full_text(&error));
                    failed = true;
                }
            }
        }
        match template {
            Some(template) => {
                for document in &found {
                    let value: template::Value = serde_json::from_str(document).expect("it was just written");
                    print_line(template.render(&value)?)?;
                }
            }
            None => {
                let list = format!("[{}]", found.join(","));
                print_line(if args.format.as_deref() == Some("json") { list } else { json::indent(&list) })?;
            }
        }
        if failed { Err(Error::Reported) } else { Ok(()) }
    }

    /// A context with what the store knows besides, in Docker's order.
    fn shown(&self, name: &str) -> Result<String> {
        let context = self.get(name)?;
        let mut tls: Map<String, Value> = Map::new();
        let kept = name != DEFAULT;
        for file in self.tls(name)? {
            let names = tls.entry(file.endpoint).or_insert_with(|| json!([]));
            names.as_array_mut().expect("made as one").push(file.name.into());
        }
        let place = |path: std::path::PathBuf| {
            if kept { path.display().to_string() } else { "<IN MEMORY>".to_owned() }
        };
        let storage = json!({
            "MetadataPath": place(self.store.metadata_of(name)),
            "TLSPath": place(self.store.tls_of(name)),
        });
        let document = format!(
            "{{\"Name\":{},\"Metadata\":{},\"Endpoints\":{},\"TLSMaterial\":{},\"Storage\":{}}}",
            json!(context.name),
            json!(context.metadata),
            json!(context.endpoints),
            json!(tls),
            storage,
        );
        Ok(json::harmless(&document))
    }

    fn remove(&mut self, args: &ContextRemoveArgs) -> Result<()> {
        let current = self.current()?.name;
        let mut failed = false;
        for name in &args.names {
            match self.remove_one(name, &current, args.force) {
                Ok(()) => print_line(name)?,
                Err(error) => {
                    say(full_text(&error));
                    failed = true;
                }
            }
        }
        if failed { Err(Error::Reported) } else { Ok(()) }
    }

    fn remove_one(&mut self, name: &str, current: &str, force: bool) -> Result<()> {
        let refused = |text: String| Err(Error::Configuration(text));
        if name == DEFAULT {
            return refused(format!("context {name:?} cannot be removed"));
        }
        if !force && !self.store.has(name) {
            return refused(format!("context {name:?} does not exist"));
        }
        let used = self.configuration.text("currentContext") == Some(name);
        if !force && (used || name == current) {
            return refused(format!("context {name:?} is in use, set -f flag to force remove"));
        }
        if used {
            self.write_choice(DEFAULT)?;
        }
        self.store.remove(name)
    }

    fn choose(&mut self, name: &str) -> Result<()> {
        if name != DEFAULT {
            check_name(name)?;
            self.store.get(name)?;
        }
        self.write_choice(name)?;
        print_line(name)?;
        say(format!("Current context is now {name:?}"));
        let variables = ["CORACLE_HOST", "DOCKER_HOST"];
        let set = variables.into_iter().find(|name| variable(name).is_some_and(|value| !value.is_empty()));
        if let Some(set) = set.filter(|_| name != DEFAULT) {
            say(format!(
                "Warning: {set} environment variable overrides the active context. To use {name:?}, either set the global --context flag, or unset {set} environment variable."
            ));
        }
        Ok(())
    }

    fn write_choice(&mut self, name: &str) -> Result<()> {
        match name {
            DEFAULT => self.configuration.document.remove("currentContext"),
            name => self.configuration.document.insert("currentContext".to_owned(), name.into()),
        };
        self.configuration.write()
    }

    fn export(&self, args: &ContextExportArgs) -> Result<()> {
        let context = self.get(&args.name)?;
        let files = self.tls(&args.name)?;
        let archive = contexts::pack(&context, &files)?;
        let path = args.file.clone().unwrap_or_else(|| format!("{}.dockercontext", args.name).into());
        if path.as_os_str() == "-" {
            if crate::terminal::raw::stdout_is_terminal() {
                return Err(Invalid(
                    "cowardly refusing to export to a terminal, specify a file path".to_owned(),
                )
                .into());
            }
            return std::io::stdout().write_all(&archive).map_err(Error::io("write to stdout"));
        }
        let failed = || Error::io(format!("write {}", path.display()));
        let mut options = std::fs::OpenOptions::new();
        // There may be keys in it.
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&archive)).map_err(failed())?;
        say(format!("Written file {:?}", path.display().to_string()));
        Ok(())
    }

    fn import(&self, args: &ContextImportArgs) -> Result<()> {
        check_name(&args.name)?;
        if self.store.has(&args.name) {
            return Err(Invalid(format!("context {:?} already exists", args.name)).into());
        }
        let archive = if args.file.as_os_str() == "-" {
            let mut archive = Vec::new();
            std::io::stdin().take(FILE).read_to_end(&mut archive).map_err(Error::io("read stdin"))?;
            archive
        } else {
            read_bounded(&args.file)?
        };
        let (context, files) = contexts::unpack(&archive)?;
        self.store.put_tls(&args.name, &files)?;
        self.store.put(&Context { name: args.name.clone(), ..context })?;
        print_line(&args.name)?;
        say(format!("Successfully imported context {:?}", args.name));
        Ok(())
    }
}

fn row(context: &Context, error: &str, current: &str) -> Row {
    Row::default()
        .with("Name", context.name.as_str())
        .with("Description", context.description())
        .with("DockerEndpoint", context.host())
        .with("Current", context.name == current)
        .with("Error", ellipsis(error, ERROR))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let failed = || Error::io(format!("read {}", path.display()));
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(failed())?;
    file.take(FILE + 1).read_to_end(&mut content).map_err(failed())?;
    if content.len() as u64 > FILE {
        return Err(Invalid(format!("{} is larger than {FILE} bytes", path.display())).into());
    }
    Ok(content)
}

/// `--docker KEY=VALUE,…`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    from: Option<String>,
    host: String,
    skip_tls_verify: bool,
    /// Name without its ending, and path.
    files: Vec<(&'static str, String)>,
}

impl Settings {
    fn parse(texts: &[String]) -> Result<Self, Invalid> {
        let mut settings = Self::default();
        for text in texts.iter().flat_map(|text| text.split(',')) {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| Invalid(format!("{text} must be formatted as key=value")))?;
            match key {
                "from" => settings.from = Some(value.to_owned()),
                "host" => value.clone_into(&mut settings.host),
                "ca" => settings.files.push(("ca", value.to_owned())),
                "cert" => settings.files.push(("cert", value.to_owned())),
                "key" => settings.files.push(("key", value.to_owned())),
                "skip-tls-verify" => {
                    let wrong = || Invalid(format!("skip-tls-verify: {value:?} is neither true nor false"));
                    settings.skip_tls_verify = coracle_spec::truth(value).ok_or_else(wrong)?;
                }
                _ => return Err(Invalid(format!("unrecognized config key: {key}"))),
            }
        }
        if settings.from.is_none() && settings.host.is_empty() {
            return Err(Invalid("docker endpoint configuration is required: host=ADDRESS".to_owned()));
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_of_a_context_is_described_by_pairs() {
        let parse = |text: &str| Settings::parse(&[text.to_owned()]);
        let expected = Settings {
            host: "tcp://h:1".into(),
            skip_tls_verify: true,
            files: vec![("ca", "x.pem".into())],
            from: None,
        };
        assert_eq!(parse("host=tcp://h:1,ca=x.pem,skip-tls-verify=true"), Ok(expected));
        for text in ["host", "nope=1", "ca=x", "host=x,skip-tls-verify=maybe"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
