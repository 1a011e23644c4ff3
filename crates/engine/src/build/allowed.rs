//! What commands of a Dockerfile may have that ask for it (BuildKit's entitlements): what the client grants, where the
//! operator lets clients grant it.

use crate::config::BuildSettings;
use crate::error::{Error, Result};

/// The host's network: `RUN --network=host`. Clients may grant it anyway, as with Docker.
const HOST_NETWORK: &str = "network.host";
/// No sandbox: `RUN --security=insecure`.
const INSECURE: &str = "security.insecure";
/// Devices: `RUN --device`; `device=NAME` is some of them.
const DEVICE: &str = "device";

/// What a client lets commands have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The host's network.
    pub(super) host_network: bool,
    /// No sandbox.
    pub(super) insecure: bool,
    /// Any device.
    pub(super) all_devices: bool,
    /// Devices that are named as a Dockerfile names them.
    pub(super) devices: Vec<String>,
}

impl Allowed {
    /// Reads what a client grants.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what the engine does not know, or its operator does not let clients grant.
    pub fn of(entitlements: &[String], builds: BuildSettings) -> Result<Self> {
        let mut allowed = Self::default();
        for entitlement in entitlements {
            let (name, value) =
                entitlement.split_once('=').map_or((entitlement.as_str(), None), |(n, v)| (n, Some(v)));
            match (name, value) {
                (HOST_NETWORK, None) => allowed.host_network = true,
                (INSECURE, None) if builds.insecure => allowed.insecure = true,
                (DEVICE, None) if builds.devices => allowed.all_devices = true,
                (DEVICE, Some(device)) if device.is_empty() || device.contains(',') => {
                    return Err(Error::Invalid(format!(
                        "invalid entitlement {entitlement}: it is not device=NAME, and aliases are not supported"
                    )));
                }
                (DEVICE, Some(device)) if builds.devices => allowed.devices.push(device.to_owned()),
                _ => {
                    return Err(Error::Invalid(format!(
                        "granting entitlement {entitlement} is not allowed by this engine, which has not been started with \
                         it: see --build-entitlement"
                    )));
                }
            }
        }
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], insecure: bool, devices: bool) -> Result<Allowed> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Allowed::of(&names, BuildSettings { insecure, devices, ..BuildSettings::default() })
    }

    #[test]
    fn clients_grant_what_the_operator_lets_them() {
        assert!(of(&["network.host"], false, false).unwrap().host_network);
        assert!(of(&["security.insecure"], true, false).unwrap().insecure);
        let both = of(&["device=v/c=a", "device"], false, true).unwrap();
        assert_eq!((both.all_devices, both.devices), (true, vec!["v/c=a".to_owned()]));
        for (name, insecure, devices) in [
            ("security.insecure", false, true),
            ("device", true, false),
            ("device=v/c=a", true, false),
            ("everything", true, true),
            ("network.host=x", true, true),
            ("device=", true, true),
            ("device=a,alias=b", true, true),
        ] {
            let refused = of(&[name], insecure, devices).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
    }
}
