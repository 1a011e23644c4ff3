//! `version` and `info`.

use coracle_api::ApiVersion;
use coracle_api::system::{Info, Version};
use serde_json::{Value, json};

use super::{App, print, print_line, say};
use crate::args::system::FormatArgs;
use crate::error::{Error, Result};
use crate::render::{table, units};
use crate::template::Template;
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
            let server = server.map(|(server, _)| serde_json::to_value(server).expect("wire types are JSON"));
            let data = json!({"Client": client_fields(used, &app.context), "Server": server});
            print_line(match format {
                "json" => data.to_string(),
                template => Template::parse(template)?.render(&data)?,
            })?;
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn server_version(app: &App) -> Result<(Version, ApiVersion)> {
    let client = app.client().await?;
    Ok((client.server_version().await?, client.version()))
}

fn client_fields(used: ApiVersion, context: &str) -> Value {
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": used.to_string(),
        "DefaultAPIVersion": ApiVersion::MAX.to_string(),
        "Os": std::env::consts::OS,
        "Arch": architecture(),
        "Context": context,
    })
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
        let detail = |key: &str| details.get(key).cloned().unwrap_or_default();
        text.push_str(&format!(" {}:\n  Version:\t{}\n", component.name, component.version));
        if component.name == "Engine" {
            let (newest, oldest) = (detail("ApiVersion"), detail("MinAPIVersion"));
            text.push_str(&format!("  API version:\t{newest} (minimum version {oldest})\n"));
        }
        for (key, label) in [("GoVersion", "Go version"), ("GitCommit", "Git commit"), ("BuildTime", "Built")]
        {
            if let Some(value) = details.get(key) {
                text.push_str(&format!("  {label}:\t{value}\n"));
            }
        }
        if component.name == "Engine" {
            text.push_str(&format!("  OS/Arch:\t{}/{}\n", detail("Os"), detail("Arch")));
            text.push_str(&format!("  Experimental:\t{}\n", detail("Experimental")));
        }
    }
    table::align(&text, 20, 1)
}

pub(super) async fn info(app: &App, args: FormatArgs) -> Result<()> {
    let info = match app.client().await {
        Ok(client) => client.info().await.map_err(Error::from),
        Err(error) => Err(error),
    };
    match args.format.as_deref() {
        None | Some("") => {
            print(format!("Client:\n Version:    {}\n\nServer:\n", env!("CARGO_PKG_VERSION")))?;
            let info =
                info.inspect_err(|error| say(format!("errors pretty printing info: {}", full_text(error))))?;
            print(lines(&info))?;
            info.warnings.iter().flatten().for_each(say);
        }
        Some(format) => {
            let mut data = serde_json::to_value(info?).expect("wire types are JSON");
            data["ClientInfo"] = json!({"Version": env!("CARGO_PKG_VERSION")});
            print_line(match format {
                "json" => data.to_string(),
                template => Template::parse(template)?.render(&data)?,
            })?;
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
        format!(" Log: {}", info.plugins.log.join(" ")),
        format!("Swarm: {}", info.swarm.local_node_state),
        format!("Runtimes: {}", info.runtimes.keys().cloned().collect::<Vec<_>>().join(" ")),
        format!("Default Runtime: {}", info.default_runtime),
        format!("Init Binary: {}", info.init_binary),
    ]);
    if let Some(directories) = info.cdi_spec_dirs.as_ref().filter(|directories| !directories.is_empty()) {
        lines.push("CDI spec directories:".into());
        lines.extend(directories.iter().map(|directory| format!(" {directory}")));
    }
    if !info.discovered_devices.is_empty() {
        lines.push("Discovered Devices:".into());
        let devices = info.discovered_devices.iter();
        lines.extend(devices.map(|device| format!(" {}: {}", device.source, device.id)));
    }
    security_lines(info, &mut lines);
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
        format!("Experimental: {}", info.experimental_build),
        format!("Live Restore Enabled: {}", info.live_restore_enabled),
    ]);
    if let Some(registries) = &info.registry_config {
        lines.push("Insecure Registries:".into());
        let named = registries.index_configs.values().filter(|index| !index.secure).map(|index| &index.name);
        lines.extend(named.chain(&registries.insecure_registry_cidrs).map(|name| format!(" {name}")));
    }
    lines.iter().map(|line| format!(" {line}\n")).collect()
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
