//! The daemon: the Engine API over sockets. It parses, converts and answers; what a request means is the engine's.
#![forbid(unsafe_code)]

mod answer;
mod buildkit;
mod config;
mod convert;
mod dump;
mod error;
mod hijack;
mod input;
mod listen;
mod metrics;
mod notify;
mod options;
mod peer;
mod pidfile;
mod reload;
mod routes;
mod server;
mod session;
mod websocket;

use buildkit::Door;
use config::{LogFormat, Settings};
use coracle_engine::Engine;
use coracle_spec::full_text;
use listen::{Bound, Listener, Passed};
use metrics::Metrics;
use notify::Manager;
use peer::Peer;
use pidfile::PidFile;
use reload::{Again, Reloadable, SetLevel};
use server::Context;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use tokio::signal::unix::{Signal, SignalKind, signal};
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
    let set_level = start_log(&settings);
    let result = prepare().and_then(|passed| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let again = Again { arguments: arguments.to_vec(), set_level };
        runtime.map_err(Failure::Runtime)?.block_on(run(settings, passed, again))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Sets what the daemon must not inherit, and takes over what it does.
fn prepare() -> Result<Passed, Failure> {
    let passed = Passed::take()?;
    // Modes are chosen, not inherited; descriptors of whoever started us are nothing to shims.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    coracle_engine::forget_inherited_signals();
    coracle_engine::keep_descriptors_private()?;
    Ok(passed)
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
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    PidFile(#[from] pidfile::Error),
    #[error(transparent)]
    Engine(#[from] coracle_engine::Error),
    #[error(transparent)]
    Listen(#[from] listen::Error),
    #[error("cannot serve metrics at {address}; --metrics-addr names another address, HOST:PORT")]
    Metrics { address: String, source: std::io::Error },
    #[error("cannot count")]
    Counting(#[from] prometheus::Error),
}

async fn run(settings: Settings, passed: Passed, again: Again) -> Result<(), Failure> {
    for note in &settings.notes {
        tracing::info!("{note}");
    }
    // First of all, so that a signal while the engine starts does not end it half-way.
    let signals = Signals::listen().map_err(Failure::Signals)?;
    // Removed on every way out.
    let _pidfile = settings.pidfile.as_deref().map(PidFile::write).transpose()?;
    // Before the engine, so that what cannot be served leaves nothing behind; served when it is ready.
    let mut bound = listen::bind(&settings.hosts, &settings.group, &settings.security, passed).await?;
    let dockers = settings.docker_socket.as_deref();
    bound.extend(dockers.and_then(|path| listen::bind_if_free(path, &settings.group, &bound)));
    let measured = match &settings.metrics {
        None => None,
        Some(address) => Some(
            metrics::bind(address)
                .await
                .map_err(|source| Failure::Metrics { address: address.clone(), source })?,
        ),
    };
    let engine = Engine::open(settings.engine.clone()).await?;
    let listeners = bound.into_iter().map(Bound::listen).collect::<Result<Vec<_>, _>>()?;
    let reloadable = RwLock::new(Reloadable::of(&settings));
    let metrics = measured.is_some().then(|| Metrics::new(&engine.config().engine_id())).transpose()?;
    let context = Arc::new(Context { engine, settings, reloadable, door: Door::default(), metrics });
    tracing::info!(hosts = ?context.settings.hosts, "the API is served");
    let mut serving: Vec<_> =
        listeners.into_iter().map(|listener| tokio::spawn(accept(listener, Arc::clone(&context)))).collect();
    if let Some(listener) = measured {
        serving.push(tokio::spawn(metrics::serve(listener, Arc::clone(&context))));
    }
    let manager = Manager::of_environment();
    manager.ready();
    signals.serve(&context, &again, &manager).await;
    manager.stopping();
    for task in serving {
        task.abort();
        // Its listener, and with it the socket's file, is gone when the task is.
        let _ = task.await;
    }
    context.engine.shutdown().await;
    tracing::info!("ended; containers go on");
    Ok(())
}

async fn accept(listener: Listener, context: Arc<Context>) {
    loop {
        match listener.accept().await {
            Ok((connection, handshake)) => {
                let serving = server::serve(Arc::clone(&context), Peer::new(connection), handshake);
                drop(tokio::spawn(serving));
            }
            Err(error) => {
                // Out of descriptors: they come back when connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

/// The signals that mean something to the daemon. They are kept from the moment this is made.
struct Signals {
    term: Signal,
    int: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Does what signals ask for until one asks for the end.
    async fn serve(mut self, context: &Context, again: &Again, manager: &Manager) {
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                _ = self.int.recv() => return,
                _ = self.hangup.recv() => {
                    manager.reloading();
                    again.reload(context);
                    manager.ready();
                }
                _ = self.user.recv() => dump::dump(context).await,
            }
        }
    }
}

fn start_log(settings: &Settings) -> SetLevel {
    let filter = EnvFilter::new(&settings.log_level);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // The two logs are of different types, and so are their handles.
    macro_rules! start {
        ($log:expr) => {{
            let log = $log.with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |level: &str| {
                if let Err(error) = handle.reload(EnvFilter::new(level)) {
                    tracing::error!(%error, "the log level stays");
                }
            })
        }};
    }
    if settings.log_format == LogFormat::Json { start!(log.json()) } else { start!(log) }
}

#[expect(clippy::print_stderr, reason = "why the daemon does not start is for whoever started it")]
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("coracle daemon: {}", full_text(error));
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "what was asked for")]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}
