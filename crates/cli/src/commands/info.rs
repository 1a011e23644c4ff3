//! `version` and `info`.

use std::collections::BTreeMap;

use coracle_api::ApiVersion;
use coracle_api::system::{Info, Version};

use super::{App, print, print_line, say};
use crate::args::system::FormatArgs;
use crate::error::{Error, Result};
use crate::render::{table, units};
use crate::template::{Object, Template, Value};
use coracle_spec::full_text;

pub(super) async fn version(app: &App, args: FormatArgs) -> Result<()> {
    let server = server_version(app).await;
    let (server, failure) = match server {
        Ok((server, used)) => (Some((server, used)), None),
        Err(error) => (None, Some(error)),
    };
    let used = server.as_ref().map_or(ApiVersion::MAX, |(_, used)| *used);
    match args.format.as_deref() {
        None | Some("") => {
            print(client_lines(used, &app.context))?;
            if let Some((server, _)) = &server {
                print(format!("\n{}", server_lines(server)))?;
            }
        }
        Some(format) => {
            let server = server.map_or(Value::Null, |(server, _)| with_go_names(Value::of(&server)));
            let mut data = Object::default();
            data.set("Client", with_go_names(client_fields(used, &app.context).into()));
            data.set("Server", server);
            print_line(formatted(format, &data.into())?)?;
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn server_version(app: &App) -> Result<(Version, ApiVersion)> {
    let client = app.client().await?;
    let mut version = client.server_version().await?;
    let engine = version.components.iter_mut().find(|component| component.name == "Engine");
    if let Some(built) = engine.and_then(|engine| engine.details.as_mut()?.get_mut("BuildTime")) {
        *built = units::calendar(built);
    }
    Ok((version, client.version()))
}

fn client_fields(used: ApiVersion, context: &str) -> Object {
    let mut fields = Object::default();
    fields.set("Version", env!("CARGO_PKG_VERSION"));
    fields.set("ApiVersion", used.to_string());
    fields.set("DefaultAPIVersion", ApiVersion::MAX.to_string());
    fields.set("Os", std::env::consts::OS);
    fields.set("Arch", architecture());
    fields.set("Context", context);
    fields
}

/// Fields whose names in JSON are not those of Go's structures, which templates use.
fn with_go_names(value: Value) -> Value {
    let mut fields = value.into_object();
    fields.alias("APIVersion", "ApiVersion");
    fields.into()
}

fn formatted(format: &str, data: &Value) -> Result<String> {
    match format {
        "json" => Ok(data.to_json()),
        template => Ok(Template::parse(template)?.render(data)?),
    }
}

/// Go's name of the architecture this program was built for.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn client_lines(used: ApiVersion, context: &str) -> String {
    let newest = ApiVersion::MAX;
    let note = if used == newest { String::new() } else { format!(" (downgraded from {newest})") };
    let text = format!(
        "Client:\n Version:\t{}\n API version:\t{used}{note}\n OS/Arch:\t{}/{}\n Context:\t{context}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        architecture(),
    );
    table::align(&text, 20, 1)
}

fn server_lines(server: &Version) -> String {
    let name = &server.platform.name;
    let mut text = if name.is_empty() { "Server:\n".to_owned() } else { format!("Server: {name}\n") };
    for component in &server.components {
        let details = component.details.clone().unwrap_or_default();
        text.push_str(&format!(" {}:\n  Version:\t{}\n", component.name, component.version));
        if component.name == "Engine" {
            engine_lines(&details, &mut text);
        } else {
            details.iter().for_each(|(key, value)| text.push_str(&format!("  {key}:\t{value}\n")));
        }
    }
    table::align(&text, 20, 1)
}

fn engine_lines(details: &BTreeMap<String, String>, text: &mut String) {
    let detail = |key: &str| details.get(key).cloned().unwrap_or_default();
    let (newest, oldest) = (detail("ApiVersion"), detail("MinAPIVersion"));
    text.push_str(&format!("  API version:\t{newest} (minimum version {oldest})\n"));
    for (key, label) in [("GoVersion", "Go version"), ("GitCommit", "Git commit"), ("BuildTime", "Built")] {
        if let Some(value) = details.get(key).filter(|value| !value.is_empty()) {
            text.push_str(&format!("  {label}:\t{value}\n"));
        }
    }
    text.push_str(&format!("  OS/Arch:\t{}/{}\n", detail("Os"), detail("Arch")));
    text.push_str(&format!("  Experimental:\t{}\n", detail("Experimental")));
}

pub(super) async fn info(app: &App, args: FormatArgs) -> Result<()> {
    let info = match app.client().await {
        Ok(client) => client.info().await.map_err(Error::from),
        Err(error) => Err(error),
    };
    match args.format.as_deref() {
        None | Some("") => {
            print(format!(
                "Client:\n Version:    {}\n Context:    {}\n Debug Mode: {}\n\nServer:\n",
                env!("CARGO_PKG_VERSION"),
                app.context,
                app.watcher.is_some()
            ))?;
            let info =
                info.inspect_err(|error| say(format!("errors pretty printing info: {}", full_text(error))))?;
            print(lines(&info) + "\n")?;
            info.warnings.iter().flatten().for_each(say);
        }
        Some(format) => {
            let mut data = Value::of(&info?).into_object();
            let mut client = Object::default();
            client.set("Debug", app.watcher.is_some());
            client.set("Version", env!("CARGO_PKG_VERSION"));
            client.set("DefaultAPIVersion", ApiVersion::MAX.to_string());
            client.set("Os", std::env::consts::OS);
            client.set("Arch", architecture());
            client.set("Context", app.context.as_str());
            data.set("ClientInfo", client);
            for (alias, name) in [
                ("HTTPProxy", "HttpProxy"),
                ("HTTPSProxy", "HttpsProxy"),
                ("CPUCfsPeriod", "CpuCfsPeriod"),
                ("CPUCfsQuota", "CpuCfsQuota"),
            ] {
                data.alias(alias, name);
            }
            print_line(formatted(format, &data.into())?)?;
        }
    }
    Ok(())
}

fn lines(info: &Info) -> String {
    let mut lines = vec![
        format!("Containers: {}", info.containers),
        format!(" Running: {}", info.containers_running),
        format!(" Paused: {}", info.containers_paused),
        format!(" Stopped: {}", info.containers_stopped),
        format!("Images: {}", info.images),
        format!("Server Version: {}", info.server_version),
        format!("Storage Driver: {}", info.driver),
    ];
    lines.extend(info.driver_status.iter().map(|[key, value]| format!(" {key}: {value}")));
    lines.extend([
        format!("Logging Driver: {}", info.logging_driver),
        format!("Cgroup Driver: {}", info.cgroup_driver),
        format!("Cgroup Version: {}", info.cgroup_version),
        "Plugins:".into(),
        format!(" Volume: {}", info.plugins.volume.join(" ")),
        format!(" Network: {}", info.plugins.network.join(" ")),
    ]);
    let authorization = info.plugins.authorization.as_ref().filter(|names| !names.is_empty());
    lines.extend(authorization.map(|names| format!(" Authorization: {}", names.join(" "))));
    lines.push(format!(" Log: {}", info.plugins.log.join(" ")));
    list("CDI spec directories", info.cdi_spec_dirs.iter().flatten().cloned(), &mut lines);
    let devices = info.discovered_devices.iter().map(|device| format!("{}: {}", device.source, device.id));
    list("Discovered Devices", devices, &mut lines);
    lines.extend([
        format!("Swarm: {}", info.swarm.local_node_state),
        format!("Runtimes: {}", info.runtimes.keys().cloned().collect::<Vec<_>>().join(" ")),
        format!("Default Runtime: {}", info.default_runtime),
        format!("Init Binary: {}", info.init_binary),
    ]);
    for (name, commit) in
        [("containerd", &info.containerd_commit), ("runc", &info.runc_commit), ("init", &info.init_commit)]
    {
        // Nothing of that name takes part where there is no version of it.
        lines.extend((!commit.id.is_empty()).then(|| format!("{name} version: {}", commit.id)));
    }
    security_lines(info, &mut lines);
    host_lines(info, &mut lines);
    lines.iter().map(|line| format!(" {line}\n")).collect()
}

fn host_lines(info: &Info, lines: &mut Vec<String>) {
    lines.extend([
        format!("Kernel Version: {}", info.kernel_version),
        format!("Operating System: {}", info.operating_system),
        format!("OSType: {}", info.os_type),
        format!("Architecture: {}", info.architecture),
        format!("CPUs: {}", info.cpus),
        format!("Total Memory: {}", units::binary_size(info.mem_total)),
        format!("Name: {}", info.name),
        format!("ID: {}", info.id),
        format!("Docker Root Dir: {}", info.docker_root_dir),
        format!("Debug Mode: {}", info.debug),
    ]);
    for (name, value) in
        [("HTTP Proxy", &info.http_proxy), ("HTTPS Proxy", &info.https_proxy), ("No Proxy", &info.no_proxy)]
    {
        lines.extend((!value.is_empty()).then(|| format!("{name}: {value}")));
    }
    list("Labels", info.labels.iter().cloned(), lines);
    lines.push(format!("Experimental: {}", info.experimental_build));
    if let Some(registries) = &info.registry_config {
        let named = registries.index_configs.values().filter(|index| !index.secure).map(|index| &index.name);
        list("Insecure Registries", named.chain(&registries.insecure_registry_cidrs).cloned(), lines);
        list("Registry Mirrors", registries.mirrors.iter().flatten().cloned(), lines);
    }
    lines.push(format!("Live Restore Enabled: {}", info.live_restore_enabled));
    if !info.product_license.is_empty() {
        lines.push(format!("Product License: {}", info.product_license));
    }
    let pools =
        info.default_address_pools.iter().map(|pool| format!("Base: {}, Size: {}", pool.base, pool.size));
    let pools: Vec<String> = pools.map(|pool| format!("  {pool}")).collect();
    if !pools.is_empty() {
        lines.push("Default Address Pools:".to_owned());
        lines.extend(pools);
    }
}

/// A title and what belongs to it, where there is anything.
fn list(title: &str, items: impl Iterator<Item = String>, lines: &mut Vec<String>) {
    let mut items = items.peekable();
    if items.peek().is_some() {
        lines.push(format!("{title}:"));
        lines.extend(items.map(|item| format!(" {item}")));
    }
}

/// `name=seccomp,profile=builtin` as a line for the name and one for each other pair.
fn security_lines(info: &Info, lines: &mut Vec<String>) {
    if info.security_options.is_empty() {
        return;
    }
    lines.push("Security Options:".into());
    for option in &info.security_options {
        for pair in option.split(',') {
            match pair.split_once('=') {
                Some(("name", name)) => lines.push(format!(" {name}")),
                Some(("profile", profile)) => lines.push(format!("  Profile: {profile}")),
                Some((key, value)) => lines.push(format!("  {key}: {value}")),
                None => lines.push(format!(" {pair}")),
            }
        }
    }
}
