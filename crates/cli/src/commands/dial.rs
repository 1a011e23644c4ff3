//! `system dial-stdio`: what an `ssh://` address runs on the other machine. It knows nothing of what goes over it.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::App;
use crate::error::{Error, Result};
use crate::terminal::session::stdio;

pub(super) async fn dial(app: &App) -> Result<()> {
    app.ensure().await?;
    let (from_engine, mut to_engine) = tokio::io::split(coracle_client::dial(&app.endpoint).await?);
    let stdin = stdio(std::io::stdin())?;
    // The engine may still have much to say when nothing more is asked.
    let asking = tokio::spawn(async move {
        let mut stdin = stdin;
        // An engine that listens no longer has said why.
        let _ = tokio::io::copy(&mut stdin, &mut to_engine).await;
        let _ = to_engine.shutdown().await;
    });
    let answered = answer(from_engine).await;
    asking.abort();
    answered
}

async fn answer(mut from: impl AsyncRead + Unpin) -> Result<()> {
    let mut stdout = stdio(std::io::stdout())?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await.map_err(Error::io("read what the engine says"))?;
        if length == 0 {
            return Ok(());
        }
        // At once: the other side waits for it.
        let written = stdout.write_all(&buffer[..length]).await;
        written.map_err(Error::io("write to stdout"))?;
        stdout.flush().await.map_err(Error::io("write to stdout"))?;
    }
}
