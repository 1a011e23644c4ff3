//! Commands that change containers and print their names.

use coracle_api::container::{ContainerInspect, PortBinding, PortMap, UpdateRequest};
use coracle_client::WaitCondition;

use super::{App, for_each, for_each_that_exists, say};
use crate::args::container::{KillArgs, NamesArgs, RemoveArgs, RenameArgs, StopArgs, UpdateArgs};
use crate::error::Result;
use crate::resolve::port::Ports;
use crate::resolve::{Invalid, health, pairs, resources};

pub(super) async fn stop(app: &App, args: StopArgs) -> Result<()> {
    let client = &app.client().await?;
    let signal = args.signal.as_deref();
    for_each(&args.names, async |name: String| {
        client.stop_container(&name, signal, args.timeout).await?;
        Ok(name)
    })
    .await
}

pub(super) async fn restart(app: &App, args: StopArgs) -> Result<()> {
    let client = &app.client().await?;
    let signal = args.signal.as_deref();
    for_each(&args.names, async |name: String| {
        client.restart_container(&name, signal, args.timeout).await?;
        Ok(name)
    })
    .await
}

pub(super) async fn kill(app: &App, args: KillArgs) -> Result<()> {
    let client = &app.client().await?;
    let signal = args.signal.as_deref();
    for_each(&args.names, async |name: String| {
        client.kill_container(&name, signal).await?;
        Ok(name)
    })
    .await
}

pub(super) async fn remove(app: &App, args: RemoveArgs) -> Result<()> {
    let client = &app.client().await?;
    let remove = async |name: String| {
        client.remove_container(name.trim_start_matches('/'), args.force, args.volumes, args.link).await?;
        Ok(name)
    };
    if args.force {
        for_each_that_exists(&args.names, remove).await
    } else {
        for_each(&args.names, remove).await
    }
}

pub(super) async fn wait(app: &App, args: NamesArgs) -> Result<()> {
    let client = &app.client().await?;
    for_each(&args.names, async |name: String| {
        let end = client.wait_container(&name, WaitCondition::NotRunning).await?.exit().await?;
        Ok(end.status_code.to_string())
    })
    .await
}

pub(super) async fn rename(app: &App, args: RenameArgs) -> Result<()> {
    Ok(app.client().await?.rename_container(&args.name, &args.new_name).await?)
}

pub(super) async fn pause(app: &App, args: NamesArgs) -> Result<()> {
    let client = &app.client().await?;
    for_each(&args.names, async |name: String| {
        client.pause_container(&name).await?;
        Ok(name)
    })
    .await
}

pub(super) async fn unpause(app: &App, args: NamesArgs) -> Result<()> {
    let client = &app.client().await?;
    for_each(&args.names, async |name: String| {
        client.unpause_container(&name).await?;
        Ok(name)
    })
    .await
}

pub(super) async fn update(app: &App, args: UpdateArgs) -> Result<()> {
    let mut request = UpdateRequest::default();
    let nothing = request.clone();
    resources::apply(&args.resources, &mut request.host)?;
    if let Some(policy) = &args.restart {
        request.host.restart_policy = resources::restart(policy)?;
    }
    request.healthcheck = health::check(&args.health)?;
    request.host.log_config.config = (!args.log_opt.is_empty()).then(|| pairs::map(&args.log_opt));
    let has_ports = !(args.publish.is_empty() && args.publish_rm.is_empty());
    if request == nothing && !has_ports {
        return Err(Invalid("you must provide one or more flags when using this command".to_owned()).into());
    }
    let client = &app.client().await?;
    let (request, args) = (&request, &args);
    for_each(&args.names, async |name: String| {
        let mut request = request.clone();
        if has_ports {
            let now = client.inspect_container(&name).await?;
            request.host.port_bindings = Some(published(now, args)?);
        }
        let answer = client.update_container(&name, &request).await?;
        answer.warnings.unwrap_or_default().iter().for_each(say);
        Ok(name)
    })
    .await
}

/// What a container is to publish from now on. One that publishes all that it exposes does so by name from then on.
fn published(now: ContainerInspect, args: &UpdateArgs) -> Result<PortMap> {
    let mut bindings = now.host_config.port_bindings.unwrap_or_default();
    let exposed = now.config.exposed_ports.unwrap_or_default();
    for port in exposed.into_keys().filter(|_| now.host_config.publish_all_ports) {
        bindings.entry(port).or_insert_with(|| Some(vec![PortBinding::default()]));
    }
    let mut ports = Ports { bindings, ..Ports::default() };
    args.publish_rm.iter().try_for_each(|text| ports.withdraw(text))?;
    args.publish.iter().try_for_each(|text| ports.publish(text))?;
    Ok(ports.bindings)
}
