//! Mounts in the long form, both ways.

use crate::error::Failure;
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
    if bind.read_only_non_recursive {
        return Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "bind-recursive=writable is not supported: what is mounted below a read-only mount is read-only as well",
        ));
    }
    if !volume.subpath.is_empty() || mount.image_options.is_some_and(|image| !image.subpath.is_empty()) {
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, "subpaths of mounts are not supported yet"));
    }
    if tmpfs.options.is_some_and(|options| !options.is_empty()) {
        return Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "tmpfs options are not supported yet; use --tmpfs",
        ));
    }
    let driver = volume.driver_config.unwrap_or_default();
    Ok(domain::MountSetting {
        kind: mount.kind,
        is_engines: false,
        source: mount.source,
        target: mount.target,
        read_only: mount.read_only,
        propagation: bind.propagation,
        non_recursive: bind.non_recursive,
        create_source: bind.create_mountpoint,
        no_copy: volume.no_copy,
        labels: volume.labels.unwrap_or_default(),
        driver: driver.name,
        driver_options: driver.options.unwrap_or_default(),
        tmpfs_size: tmpfs.size_bytes,
        tmpfs_mode: tmpfs.mode,
    })
}

/// The mount as it was asked for.
pub(super) fn show(mount: &domain::MountSetting) -> api::Mount {
    let bind = api::BindOptions {
        propagation: mount.propagation.clone(),
        non_recursive: mount.non_recursive,
        create_mountpoint: mount.create_source,
        ..api::BindOptions::default()
    };
    let driver = api::VolumeDriverConfig {
        name: mount.driver.clone(),
        options: (!mount.driver_options.is_empty()).then(|| mount.driver_options.clone()),
    };
    let volume = api::VolumeOptions {
        no_copy: mount.no_copy,
        labels: (!mount.labels.is_empty()).then(|| mount.labels.clone()),
        driver_config: (driver != api::VolumeDriverConfig::default()).then_some(driver),
        ..api::VolumeOptions::default()
    };
    let tmpfs = api::TmpfsOptions { size_bytes: mount.tmpfs_size, mode: mount.tmpfs_mode, options: None };
    api::Mount {
        kind: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        bind_options: (bind != api::BindOptions::default()).then_some(bind),
        volume_options: (volume != api::VolumeOptions::default()).then_some(volume),
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
            {"Type": "volume", "Source": "v", "Target": "/c",
             "VolumeOptions": {"NoCopy": true, "Labels": {"a": "b"},
                               "DriverConfig": {"Name": "local", "Options": {"type": "nfs"}}}},
            {"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"SizeBytes": 5, "Mode": 448}},
        ]);
        let settings = |mount: &serde_json::Value| read(coracle_api::go::from_value(mount).unwrap());
        for mount in kept.as_array().unwrap() {
            assert_eq!(serde_json::to_value(show(&settings(mount).unwrap())).unwrap(), *mount);
        }
        for options in [
            json!({"BindOptions": {"ReadOnlyNonRecursive": true}}),
            json!({"VolumeOptions": {"Subpath": "x"}}),
            json!({"TmpfsOptions": {"Options": [["noexec"]]}}),
            json!({"ImageOptions": {"Subpath": "x"}}),
        ] {
            let failure = settings(&options).unwrap_err();
            assert_eq!(failure.status, StatusCode::NOT_IMPLEMENTED, "{options}");
        }
    }
}
