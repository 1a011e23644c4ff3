//! Which function does which command on containers.

use super::{App, Code, done};
use super::{commit, cp, exec, inspect, lifecycle, logs, prune, ps, run, stats, transfer};
use crate::args::container::{ContainerCommand, ContainerGroup};

pub(super) async fn dispatch(app: &App, command: ContainerCommand) -> Code {
    match command {
        ContainerCommand::Run(args) => run::run(app, args).await.map(Some),
        ContainerCommand::Create(args) => run::create(app, args).await.map(done),
        ContainerCommand::Start(args) => run::start(app, args).await.map(Some),
        ContainerCommand::Attach(args) => run::attach(app, args).await.map(Some),
        ContainerCommand::Exec(args) => exec::exec(app, args).await.map(Some),
        ContainerCommand::Stop(args) => lifecycle::stop(app, args).await.map(done),
        ContainerCommand::Restart(args) => lifecycle::restart(app, args).await.map(done),
        ContainerCommand::Kill(args) => lifecycle::kill(app, args).await.map(done),
        ContainerCommand::Rm(args) => lifecycle::remove(app, args).await.map(done),
        ContainerCommand::Wait(args) => lifecycle::wait(app, args).await.map(done),
        ContainerCommand::Rename(args) => lifecycle::rename(app, args).await.map(done),
        ContainerCommand::Pause(args) => lifecycle::pause(app, args).await.map(done),
        ContainerCommand::Unpause(args) => lifecycle::unpause(app, args).await.map(done),
        ContainerCommand::Update(args) => lifecycle::update(app, args).await.map(done),
        ContainerCommand::Ps(args) => ps::ps(app, args).await.map(done),
        ContainerCommand::Stats(args) => stats::stats(app, args).await.map(done),
        ContainerCommand::Logs(args) => logs::logs(app, args).await.map(done),
        ContainerCommand::Top(args) => inspect::top(app, args).await.map(done),
        ContainerCommand::Port(args) => inspect::port(app, args).await.map(done),
        ContainerCommand::Diff(args) => inspect::diff(app, args).await.map(done),
        ContainerCommand::Commit(args) => commit::commit(app, args).await.map(done),
        ContainerCommand::Cp(args) => cp::cp(app, args).await.map(done),
        ContainerCommand::Export(args) => transfer::export(app, args).await.map(done),
    }
}

pub(super) async fn dispatch_group(app: &App, group: ContainerGroup) -> Code {
    match group {
        ContainerGroup::Shared(command) => dispatch(app, *command).await,
        ContainerGroup::Ls(args) => ps::ps(app, args).await.map(done),
        ContainerGroup::Inspect(args) => inspect::containers(app, args).await.map(done),
        ContainerGroup::Prune(args) => prune::containers(app, args).await.map(done),
    }
}
