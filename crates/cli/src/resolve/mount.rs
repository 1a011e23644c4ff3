//! `--mount`: comma-separated `key=value` pairs.

use coracle_api::container::{
    BindOptions, ImageMountOptions, Mount, TmpfsOptions, VolumeDriverConfig, VolumeOptions,
};
use coracle_spec::truth;

use super::{Invalid, invalid, pairs};

/// Parses one `--mount`. The type is `volume` unless given.
pub(crate) fn parse(text: &str, directory: &std::path::Path) -> Result<Mount, Invalid> {
    let fields = fields(text)?;
    let mut mount = Mount { kind: "volume".into(), ..Mount::default() };
    for field in &fields {
        let (key, value) =
            field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        apply(&mut mount, &key.to_lowercase(), value, field)?;
    }
    if mount.target.is_empty() {
        return invalid("target is required");
    }
    if mount.kind == "bind" && mount.source.starts_with('.') {
        mount.source = super::volume::clean(&directory.join(&mount.source));
    }
    let foreign = [
        ("bind", mount.bind_options.is_some()),
        ("volume", mount.volume_options.is_some()),
        ("tmpfs", mount.tmpfs_options.is_some()),
        ("image", mount.image_options.is_some()),
    ];
    match foreign.iter().find(|(kind, given)| *given && *kind != mount.kind) {
        Some((kind, _)) => invalid(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.kind)),
        None => recursion_fits(&mount).map(|()| mount),
    }
}

/// What is mounted below is said to be read-only, or not, of read-only mounts alone, and only where nothing comes later.
fn recursion_fits(mount: &Mount) -> Result<(), Invalid> {
    let Some(bind) = &mount.bind_options else { return Ok(()) };
    let needs = |value: &str, other: &str| {
        invalid(format!("option 'bind-recursive={value}' requires '{other}' to be specified in conjunction"))
    };
    match (bind.read_only_non_recursive, bind.read_only_force_recursive) {
        (true, _) if !mount.read_only => needs("writable", "readonly"),
        (_, true) if !mount.read_only => needs("readonly", "readonly"),
        (_, true) if bind.propagation != "rprivate" => needs("readonly", "bind-propagation=rprivate"),
        _ => Ok(()),
    }
}

fn apply(mount: &mut Mount, key: &str, value: Option<&str>, field: &str) -> Result<(), Invalid> {
    match (key, value) {
        ("readonly" | "ro", value) => mount.read_only = boolean(key, value)?,
        ("volume-nocopy", value) => volume(mount).no_copy = boolean(key, value)?,
        ("bind-nonrecursive", value) => bind(mount).non_recursive = boolean(key, value)?,
        (_, None) => return invalid(format!("invalid field '{field}' must be a key=value pair")),
        ("type", Some(value)) => mount.kind = value.to_lowercase(),
        ("source" | "src", Some(value)) => value.clone_into(&mut mount.source),
        ("target" | "dst" | "destination", Some(value)) => value.clone_into(&mut mount.target),
        ("consistency", Some(value)) => mount.consistency = value.to_lowercase(),
        ("bind-propagation", Some(value)) => bind(mount).propagation = value.to_lowercase(),
        ("bind-recursive", Some(value)) => recursive(bind(mount), value)?,
        ("volume-subpath", Some(value)) => value.clone_into(&mut volume(mount).subpath),
        ("volume-driver", Some(value)) => value.clone_into(&mut driver(mount).name),
        ("volume-label", Some(value)) => {
            volume(mount).labels.get_or_insert_default().extend(pairs::map(&[value.to_owned()]));
        }
        ("volume-opt", Some(value)) => {
            driver(mount).options.get_or_insert_default().extend(pairs::map(&[value.to_owned()]));
        }
        ("tmpfs-size", Some(value)) => {
            mount.tmpfs_options.get_or_insert_default().size_bytes = super::size::bytes(value)?;
        }
        ("tmpfs-mode", Some(value)) => tmpfs(mount).mode = octal(value)?,
        ("image-subpath", Some(value)) => {
            let options: &mut ImageMountOptions = mount.image_options.get_or_insert_default();
            value.clone_into(&mut options.subpath);
        }
        (key, Some(_)) => return invalid(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn driver(mount: &mut Mount) -> &mut VolumeDriverConfig {
    volume(mount).driver_config.get_or_insert_default()
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, Invalid> {
    let Some(text) = value else { return Ok(true) };
    truth(text).map_or_else(|| invalid(format!("invalid value for {key}: {text}")), Ok)
}

fn octal(text: &str) -> Result<u32, Invalid> {
    u32::from_str_radix(text, 8).or_else(|_| invalid(format!("invalid value for tmpfs-mode: {text}")))
}

fn recursive(options: &mut BindOptions, value: &str) -> Result<(), Invalid> {
    match value {
        "enabled" => {}
        "disabled" => options.non_recursive = true,
        "writable" => options.read_only_non_recursive = true,
        "readonly" => options.read_only_force_recursive = true,
        other => return invalid(format!("invalid value for bind-recursive: {other}")),
    }
    Ok(())
}

/// Fields of one CSV line: a field in quotes may contain commas, and two quotes stand for one.
fn fields(text: &str) -> Result<Vec<String>, Invalid> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().expect("there is always a field");
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if quoted || text.is_empty() {
        return invalid(format!("invalid mount {text:?}"));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Option<serde_json::Value> {
        parse(text, std::path::Path::new("/d"))
            .ok()
            .map(|mount| serde_json::to_value(mount).expect("serialises"))
    }

    #[test]
    fn mounts_parse_to_what_docker_sends() {
        let cases = [
            ("dst=/t", serde_json::json!({"Type": "volume", "Target": "/t"})),
            (
                "type=bind,src=./s,dst=/t,readonly,bind-propagation=rslave",
                serde_json::json!({"Type": "bind", "Source": "/d/s", "Target": "/t", "ReadOnly": true,
                    "BindOptions": {"Propagation": "rslave"}}),
            ),
            (
                "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777",
                serde_json::json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 1023}}),
            ),
            (
                "type=image,src=i:1,dst=/t,image-subpath=a/b",
                serde_json::json!({"Type": "image", "Source": "i:1", "Target": "/t", "ImageOptions": {"Subpath": "a/b"}}),
            ),
            (
                "type=bind,src=/s,dst=/t,ro,bind-recursive=readonly,bind-propagation=rprivate",
                serde_json::json!({"Type": "bind", "Source": "/s", "Target": "/t", "ReadOnly": true,
                    "BindOptions": {"Propagation": "rprivate", "ReadOnlyForceRecursive": true}}),
            ),
            (
                "type=bind,src=/s,dst=/t,ro,bind-recursive=writable",
                serde_json::json!({"Type": "bind", "Source": "/s", "Target": "/t", "ReadOnly": true,
                    "BindOptions": {"ReadOnlyNonRecursive": true}}),
            ),
            (
                r#"source=v,dst=/t,ro=false,volume-nocopy,"volume-opt=o=a,b",volume-label=l=1"#,
                serde_json::json!({"Type": "volume", "Source": "v", "Target": "/t", "VolumeOptions": {"NoCopy": true,
                    "Labels": {"l": "1"}, "DriverConfig": {"Options": {"o": "a,b"}}}}),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(json(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "type=bind",
            "dst=/t,ro=maybe",
            "dst=/t,x=y",
            "dst=/t,bind-propagation=private",
            "dst",
            "type=bind,src=/s,dst=/t,bind-recursive=writable",
            "type=bind,src=/s,dst=/t,ro,bind-recursive=readonly",
            "\"dst=/t",
        ] {
            assert_eq!(json(text), None, "{text}");
        }
    }
}
