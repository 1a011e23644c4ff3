//! The daemon: the Engine API over sockets. It parses, converts and answers; what a request means is the engine's.
#![forbid(unsafe_code)]

mod answer;
mod config;
mod convert;
mod error;
mod hijack;
mod input;
mod listen;
mod options;
mod routes;
mod server;
mod session;

use config::Settings;
use coracle_engine::Engine;
use listen::{Connection, Listener};
use server::Context;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs the daemon with these arguments until it is told to end.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let settings = match config::read(arguments) {
        Ok(settings) => settings,
        Err(config::Error::Usage(usage)) => {
            // Help and the version go to the standard output and are no failure.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(1));
        }
        Err(error) => return fail(&error),
    };
    if settings.validate {
        return say("configuration OK");
    }
    start_log(&settings);
    // Modes are chosen, not inherited; descriptors of whoever started us are nothing to shims.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    coracle_engine::forget_inherited_signals();
    if let Err(error) = coracle_engine::keep_descriptors_private() {
        return fail(&error);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Failure::Runtime).and_then(|runtime| runtime.block_on(run(settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Has what this process was started with, but for its three standard streams, closed by its next exec.
///
/// # Errors
/// What to exit with, after saying why.
pub fn leave_descriptors_behind() -> Result<(), ExitCode> {
    coracle_engine::keep_descriptors_private().map_err(|error| fail(&error))
}

/// Why the daemon ends.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot write the pid file {path}")]
    PidFile { path: std::path::PathBuf, source: std::io::Error },
    #[error(transparent)]
    Engine(#[from] coracle_engine::Error),
    #[error(transparent)]
    Listen(#[from] listen::Error),
}

async fn run(settings: Settings) -> Result<(), Failure> {
    for note in &settings.notes {
        tracing::info!("{note}");
    }
    let engine = Engine::open(settings.engine.clone()).await?;
    if let Some(path) = &settings.pidfile {
        let written = std::fs::write(path, std::process::id().to_string());
        written.map_err(|source| Failure::PidFile { path: path.clone(), source })?;
    }
    let listeners = listen::open(&settings.hosts, &settings.group, settings.plain_tcp).await?;
    let pidfile = settings.pidfile.clone();
    let context = Arc::new(Context { engine, settings });
    tracing::info!(hosts = ?context.settings.hosts, "the API is served");
    let listeners: Vec<Arc<Listener>> = listeners.into_iter().map(Arc::new).collect();
    let serving: Vec<_> = listeners
        .iter()
        .map(|listener| tokio::spawn(accept(Arc::clone(listener), Arc::clone(&context))))
        .collect();
    wait_for_the_end().await;
    for task in serving {
        task.abort();
    }
    listeners.iter().for_each(|listener| listener.remove());
    if let Some(path) = pidfile {
        // Whoever has removed it already has done our work.
        let _ = std::fs::remove_file(path);
    }
    context.engine.shutdown().await;
    tracing::info!("ended; containers go on");
    Ok(())
}

async fn accept(listener: Arc<Listener>, context: Arc<Context>) {
    loop {
        match listener.accept().await {
            Ok(Connection::Unix(stream)) => drop(tokio::spawn(server::serve(Arc::clone(&context), stream))),
            Ok(Connection::Tcp(stream)) => drop(tokio::spawn(server::serve(Arc::clone(&context), stream))),
            Err(error) => {
                // Out of descriptors: they come back when connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn wait_for_the_end() {
    let (Ok(mut term), Ok(mut int), Ok(mut hangup), Ok(mut user)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
        signal(SignalKind::user_defined1()),
    ) else {
        return;
    };
    loop {
        tokio::select! {
            _ = term.recv() => return,
            _ = int.recv() => return,
            _ = hangup.recv() => tracing::info!("SIGHUP: nothing that is configured can change while the engine runs"),
            _ = user.recv() => {
                let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
                tracing::info!(tasks, "SIGUSR1");
            }
        }
    }
}

fn start_log(settings: &Settings) {
    let filter = EnvFilter::new(&settings.log_level);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if settings.log_format == "json" {
        log.json().init();
    } else {
        log.init();
    }
}

#[expect(clippy::print_stderr, reason = "why the daemon does not start is for whoever started it")]
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    eprintln!("coracle daemon: {text}");
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "what was asked for")]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}
