//! Mounts in the long form, both ways.

use crate::error::Failure;
use coracle_api::ApiVersion;
use coracle_api::container as api;
use coracle_engine::containers::settings as domain;
use hyper::StatusCode;

/// The engine's setting.
///
/// # Errors
/// 501 for what is not supported.
pub(super) fn read(mount: api::Mount) -> Result<domain::MountSetting, Failure> {
    let (bind, volume) = (mount.bind_options.unwrap_or_default(), mount.volume_options.unwrap_or_default());
    let tmpfs = mount.tmpfs_options.unwrap_or_default();
    if tmpfs.options.is_some_and(|options| !options.is_empty()) {
        return Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "tmpfs options are not supported yet; use --tmpfs",
        ));
    }
    let driver = volume.driver_config.unwrap_or_default();
    let image = mount.image_options.unwrap_or_default();
    Ok(domain::MountSetting {
        subpath: if mount.kind == "image" { image.subpath } else { volume.subpath },
        kind: mount.kind,
        is_engines: false,
        source: mount.source,
        target: mount.target,
        read_only: mount.read_only,
        propagation: bind.propagation,
        non_recursive: bind.non_recursive,
        read_only_non_recursive: bind.read_only_non_recursive,
        read_only_force_recursive: bind.read_only_force_recursive,
        create_source: bind.create_mountpoint,
        no_copy: volume.no_copy,
        labels: volume.labels.unwrap_or_default(),
        driver: driver.name,
        driver_options: driver.options.unwrap_or_default(),
        tmpfs_size: tmpfs.size_bytes,
        tmpfs_mode: tmpfs.mode,
    })
}

/// Makes of mounts what clients of `version` mean, and refuses what they cannot know.
///
/// # Errors
/// 400 with Docker's words.
pub(crate) fn understand(host: &mut api::HostConfig, version: ApiVersion) -> Result<(), Failure> {
    let mounts = host.mounts.as_deref_mut().unwrap_or_default();
    for mount in &*mounts {
        if version >= ApiVersion::new(1, 42) {
            refuse_foreign_options(mount)?;
        }
        let needs = |what: &str, major_minor: &str| {
            Err(Failure::invalid(format!("{what} needs API v{major_minor} or newer")))
        };
        let forces = mount.bind_options.as_ref().is_some_and(|bind| bind.read_only_force_recursive);
        if forces && version < ApiVersion::new(1, 44) {
            return needs("BindOptions.ReadOnlyForceRecursive", "1.44");
        }
        let has_part = mount.volume_options.as_ref().is_some_and(|volume| !volume.subpath.is_empty());
        if has_part && version < ApiVersion::new(1, 45) {
            return needs("VolumeOptions.Subpath", "1.45");
        }
        if mount.kind == "image" && version < ApiVersion::new(1, 48) {
            return needs("a mount of type \"image\"", "1.48");
        }
    }
    if version < ApiVersion::new(1, 44) {
        for mount in mounts {
            if let Some(bind) = &mut mount.bind_options {
                // It was not known.
                bind.read_only_non_recursive = false;
            }
        }
    }
    Ok(())
}

/// Refuses options that are for mounts of another type.
fn refuse_foreign_options(mount: &api::Mount) -> Result<(), Failure> {
    for (name, kind, given) in [
        ("VolumeOptions", "volume", mount.volume_options.is_some()),
        ("BindOptions", "bind", mount.bind_options.is_some()),
        ("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some()),
        ("ImageOptions", "image", mount.image_options.is_some()),
    ] {
        if given && mount.kind != kind {
            let text = format!("{name} must not be specified on mount type \"{}\"", mount.kind);
            return Err(Failure::invalid(text));
        }
    }
    Ok(())
}

/// The mount as it was asked for.
pub(super) fn show(mount: &domain::MountSetting) -> api::Mount {
    let bind = api::BindOptions {
        propagation: mount.propagation.clone(),
        non_recursive: mount.non_recursive,
        create_mountpoint: mount.create_source,
        read_only_non_recursive: mount.read_only_non_recursive,
        read_only_force_recursive: mount.read_only_force_recursive,
    };
    let driver = api::VolumeDriverConfig {
        name: mount.driver.clone(),
        options: (!mount.driver_options.is_empty()).then(|| mount.driver_options.clone()),
    };
    let volume = api::VolumeOptions {
        no_copy: mount.no_copy,
        labels: (!mount.labels.is_empty()).then(|| mount.labels.clone()),
        driver_config: (driver != api::VolumeDriverConfig::default()).then_some(driver),
        subpath: if mount.kind == "volume" { mount.subpath.clone() } else { String::new() },
    };
    let image = api::ImageMountOptions {
        subpath: if mount.kind == "image" { mount.subpath.clone() } else { String::new() },
    };
    let tmpfs = api::TmpfsOptions { size_bytes: mount.tmpfs_size, mode: mount.tmpfs_mode, options: None };
    api::Mount {
        kind: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        bind_options: (bind != api::BindOptions::default()).then_some(bind),
        volume_options: (volume != api::VolumeOptions::default()).then_some(volume),
        image_options: (image != api::ImageMountOptions::default()).then_some(image),
        tmpfs_options: (tmpfs != api::TmpfsOptions::default()).then_some(tmpfs),
        ..api::Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_mount_is_kept_or_refused() {
        use serde_json::json;
        let kept = json!([
            {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
             "BindOptions": {"Propagation": "rslave", "NonRecursive": true, "CreateMountpoint": true}},
            {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
             "BindOptions": {"ReadOnlyNonRecursive": true}},
            {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
             "BindOptions": {"ReadOnlyForceRecursive": true}},
            {"Type": "volume", "Source": "v", "Target": "/c",
             "VolumeOptions": {"NoCopy": true, "Labels": {"a": "b"}, "Subpath": "a/b",
                               "DriverConfig": {"Name": "local", "Options": {"type": "nfs"}}}},
            {"Type": "image", "Source": "i", "Target": "/e", "ImageOptions": {"Subpath": "a/b"}},
            {"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"SizeBytes": 5, "Mode": 448}},
        ]);
        let settings = |mount: &serde_json::Value| read(coracle_api::go::from_value(mount).unwrap());
        for mount in kept.as_array().unwrap() {
            assert_eq!(serde_json::to_value(show(&settings(mount).unwrap())).unwrap(), *mount);
        }
        let failure = settings(&json!({"TmpfsOptions": {"Options": [["noexec"]]}})).unwrap_err();
        assert_eq!(failure.status, StatusCode::NOT_IMPLEMENTED);
    }
}
