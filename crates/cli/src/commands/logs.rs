//! `logs`.

use coracle_client::LogOptions;

use super::App;
use crate::args::container::LogsArgs;
use crate::error::{Error, Result};
use crate::render::units::moment;
use crate::resolve::Invalid;
use crate::terminal::session::{show_frames, stdio};

pub(super) async fn logs(app: &App, args: LogsArgs) -> Result<()> {
    let options = LogOptions {
        follow: args.follow,
        timestamps: args.timestamps,
        details: args.details,
        tail: args.tail.clone(),
        since: instant(args.since.as_deref(), "since")?,
        until: instant(args.until.as_deref(), "until")?,
    };
    let client = app.client().await?;
    let container = client.inspect_container(&args.name).await?;
    let mut stdout = stdio(std::io::stdout())?;
    if !container.config.tty {
        let mut frames = client.container_logs_framed(&container.id, &options).await?;
        return show_frames(&mut frames, &mut stdout).await;
    }
    let mut body = client.container_logs(&container.id, &options).await?;
    use tokio::io::AsyncWriteExt as _;
    while let Some(piece) = body.chunk().await? {
        stdout.write_all(&piece).await.map_err(Error::io("write to stdout"))?;
    }
    stdout.flush().await.map_err(Error::io("write to stdout"))
}

/// A time as the API takes it, empty when not given.
pub(super) fn instant(text: Option<&str>, flag: &str) -> Result<String> {
    let Some(text) = text else { return Ok(String::new()) };
    Ok(moment(text).ok_or_else(|| Invalid(format!("invalid value for {flag:?}: {text:?} is not a time")))?)
}
