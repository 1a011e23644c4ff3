//! `push`, `login`, `logout` and `search`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};

use coracle_api::ProgressMessage;
use coracle_api::auth::AuthConfig;
use coracle_api::image::PushedInsteadOfIndex;
use coracle_client::JsonLines;

use super::{App, print, print_line, say};
use crate::args::image::PushArgs;
use crate::args::registry::{LoginArgs, LogoutArgs, SearchArgs};
use crate::configuration::{self, Configuration};
use crate::credentials::{Credentials, registry_of};
use crate::error::{Error, Result};
use crate::render::listing::{Layout, Row, ellipsis};
use crate::render::progress::Display;
use crate::resolve::Invalid;
use crate::resolve::image_name::ImageName;
use crate::resolve::{pairs, platform};
use crate::terminal::raw;

const SEARCH: Layout = Layout {
    table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
};

/// Letters of a description in the table.
const DESCRIPTION: usize = 45;
/// Longest password that is read, in bytes.
const PASSWORD: u64 = 64 << 10;

fn credentials() -> Result<Credentials> {
    Ok(Credentials::of_configuration(Configuration::read(&configuration::directory())?))
}

/// Everything that is known, by registry.
pub(super) fn all_credentials() -> Result<BTreeMap<String, AuthConfig>> {
    credentials()?.all()
}

/// The header that says who asks for an image; nothing where nothing is known.
pub(super) fn auth_header(repository: &str) -> Result<Option<String>> {
    let Some(registry) = registry_of(repository) else { return Ok(None) };
    let known = credentials()?.of(&registry)?;
    Ok(known.map(|auth| auth.to_header()))
}

pub(super) async fn push(app: &App, args: PushArgs) -> Result<()> {
    send(app, &args).await?;
    if args.quiet { print_line(&args.name) } else { Ok(()) }
}

/// Pushes, and prints nothing where that is to be quiet.
pub(super) async fn send(app: &App, args: &PushArgs) -> Result<()> {
    let name = ImageName::parse(&args.name);
    if name.digest.is_some() {
        return Err(Invalid("cannot push a digest reference".to_owned()).into());
    }
    let tag = match (&name.tag, args.all_tags) {
        (Some(_), true) => {
            return Err(Invalid("tag can't be used with --all-tags/-a".to_owned()).into());
        }
        (None, true) => "",
        (None, false) => {
            if !args.quiet {
                print_line("Using default tag: latest")?;
            }
            "latest"
        }
        (Some(tag), false) => tag.as_str(),
    };
    let auth = auth_header(&name.repository)?;
    let wanted = args.platform.as_ref().map(platform::document);
    let client = app.client().await?;
    let lines = client.push_image(&name.repository, tag, wanted.as_deref(), auth.as_deref()).await?;
    let reduced = show(lines, args.quiet).await?;
    if let Some(reduced) = reduced.filter(|_| !args.quiet) {
        let digest =
            |descriptor: &serde_json::Value| descriptor["digest"].as_str().unwrap_or_default().to_owned();
        let (index, manifest) = (digest(&reduced.original_index), digest(&reduced.selected_manifest));
        say(format!(
            "Only one platform of this image is here, and it was pushed alone: {manifest} instead of index {index}"
        ));
    }
    Ok(())
}

/// Shows how a push goes; what it sent if that is less than the whole index.
async fn show(mut lines: JsonLines<ProgressMessage>, quiet: bool) -> Result<Option<PushedInsteadOfIndex>> {
    let mut reduced = None;
    let mut display = Display::new(std::io::stdout(), raw::stdout_is_terminal(), quiet);
    while let Some(line) = lines.next().await? {
        if let Some(failure) = line.failure_text() {
            return Err(Error::Progress(failure.to_owned()));
        }
        match line.aux {
            // What is for programs has no text.
            Some(aux) => {
                let found = serde_json::from_value::<PushedInsteadOfIndex>(aux).ok();
                reduced = found.filter(|found| found.manifest_pushed_instead_of_index).or(reduced);
            }
            None => display.show(&line).map_err(Error::io("show progress"))?,
        }
    }
    Ok(reduced)
}

pub(super) async fn login(app: &App, args: LoginArgs) -> Result<()> {
    let server = args.server.unwrap_or_default();
    let mut kept = credentials()?;
    let mut auth = AuthConfig { serveraddress: server.clone(), ..AuthConfig::default() };
    match (&args.username, args.password_stdin, args.password) {
        (None, true, _) => {
            return Err(Invalid("Must provide --username with --password-stdin".to_owned()).into());
        }
        (Some(_), true, Some(_)) => {
            return Err(Invalid("--password and --password-stdin are mutually exclusive".to_owned()).into());
        }
        (Some(name), true, None) => {
            (auth.username, auth.password) = (name.clone(), read_password()?);
        }
        (Some(name), false, Some(password)) => {
            say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            (auth.username, auth.password) = (name.clone(), password);
        }
        (name, false, None) => {
            match kept.of(&server)?.filter(|known| name.as_ref().is_none_or(|n| *n == known.username)) {
                Some(known) => auth = AuthConfig { serveraddress: server.clone(), ..known },
                None => ask(&mut auth, name.clone())?,
            }
        }
        (None, false, Some(_)) => {
            return Err(Invalid("Must provide --username with --password".to_owned()).into());
        }
    }
    let answer = app.client().await?.login(&auth).await?;
    if !answer.identity_token.is_empty() {
        auth.password.clear();
        auth.identitytoken = answer.identity_token;
    }
    if let Some(warning) = kept.store(&auth)? {
        say(warning);
    }
    print_line(if answer.status.is_empty() { "Login Succeeded" } else { &answer.status })
}

/// The password on stdin, without the newline behind it.
fn read_password() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().take(PASSWORD).read_to_string(&mut text).map_err(Error::io("read the password"))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn ask(auth: &mut AuthConfig, name: Option<String>) -> Result<()> {
    if !raw::stdin_is_terminal() {
        let text =
            "Cannot perform an interactive login from a non TTY device: use --username and --password-stdin";
        return Err(Invalid(text.to_owned()).into());
    }
    auth.username = match name {
        Some(name) => name,
        None => {
            print("Username: ")?;
            line()?
        }
    };
    print("Password: ")?;
    let hidden = raw::WithoutEcho::enter().map_err(Error::io("hide the password"))?;
    auth.password = line()?;
    drop(hidden);
    print_line("")
}

fn line() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text).map_err(Error::io("read the answer"))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Needs no engine: nothing is told to the registry.
pub(super) fn logout(args: LogoutArgs) -> Result<()> {
    let server = args.server.unwrap_or_default();
    let shown = if server.is_empty() { crate::credentials::DEFAULT_SERVER } else { &server };
    print_line(format!("Removing login credentials for {shown}"))?;
    if !credentials()?.erase(&server)? {
        say(format!("Not logged in to {shown}"));
    }
    Ok(())
}

pub(super) async fn search(app: &App, args: SearchArgs) -> Result<()> {
    let filters = pairs::filters(&args.filter)?;
    let auth = auth_header(&args.term)?;
    let found = app.client().await?.search_images(&args.term, args.limit, &filters, auth.as_deref()).await?;
    let rows: Vec<Row> = found
        .iter()
        .map(|row| {
            let description = row.description.replace(['\n', '\r'], " ");
            let short = if args.no_trunc { description } else { ellipsis(&description, DESCRIPTION) };
            let flag = |is: bool| if is { "[OK]" } else { "" };
            Row::default()
                .with("Name", row.name.as_str())
                .with("Description", short)
                .with("StarCount", row.star_count.to_string())
                .with("IsOfficial", flag(row.is_official))
                .with("IsAutomated", flag(row.is_automated))
        })
        .collect();
    print(SEARCH.render(args.format.as_deref(), rows)?)
}
