//! `--gpus`: graphics processors by number or by how many, as devices of the vendors that have specifications here.
//!
//! Docker's own drivers run a hook of the vendor's at each start. Here what the vendor's specification says is done, as newer
//! releases of Docker do.

use super::Catalogue;
use crate::containers::settings::DeviceRequest;
use crate::error::{Attempt, Error, Result};
use std::path::PathBuf;

/// A vendor by Docker's name of its driver.
struct Vendor {
    driver: &'static str,
    /// What its devices are called before the `=`.
    kind: &'static str,
    /// What may be asked of them.
    capabilities: &'static [&'static str],
}

/// The first counts most where nobody says which. The second's capabilities are Docker's for its driver `amd`.
const VENDORS: [Vendor; 2] = [
    Vendor {
        driver: "nvidia",
        kind: "nvidia.com/gpu",
        capabilities: &[
            "gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display", "ngx",
        ],
    },
    Vendor { driver: "amd", kind: "amd.com/gpu", capabilities: &["gpu", "amd"] },
];

/// The device that stands for all of its kind.
const ALL: &str = "all";

impl Vendor {
    fn is_here(&self, catalogue: &Catalogue) -> bool {
        self.numbers(catalogue).next().is_some()
    }

    /// What its devices are called after the `=`.
    fn numbers<'a>(&self, catalogue: &'a Catalogue) -> impl Iterator<Item = &'a str> {
        let names = catalogue.all().map(|(name, _)| name);
        names.filter_map(|name| name.strip_prefix(self.kind)?.strip_prefix('='))
    }

    /// Whether its driver is asked for, with all capabilities of one set at least.
    fn is_meant(&self, request: &DeviceRequest) -> bool {
        let sets = request.capabilities.as_deref().unwrap_or_default();
        let can = |capability: &String| self.capabilities.contains(&capability.as_str());
        (request.driver.is_empty() || request.driver == self.driver)
            && (sets.is_empty() || sets.iter().any(|set| set.iter().all(can)))
    }

    fn name(&self, number: &str) -> String {
        format!("{}={number}", self.kind)
    }

    /// The names of what a request asks for.
    fn named(&self, catalogue: &Catalogue, request: &DeviceRequest) -> Vec<String> {
        if let Some(ids) = request.ids.as_ref().filter(|ids| !ids.is_empty()) {
            return ids.iter().map(|id| self.name(id)).collect();
        }
        match usize::try_from(request.count) {
            // One more than there can be is missing all the same.
            Ok(count) => (0..count.min(self.numbers(catalogue).count() + 1))
                .map(|number| self.name(&number.to_string()))
                .collect(),
            Err(_) if self.numbers(catalogue).any(|number| number == ALL) => vec![self.name(ALL)],
            Err(_) => self.numbers(catalogue).map(|number| self.name(number)).collect(),
        }
    }
}

/// The names of the devices that `request`, of another driver than `cdi`, asks for.
///
/// # Errors
/// In Docker's words when no vendor of such devices has a specification here.
pub(super) fn names(
    catalogue: &Catalogue,
    directories: &[PathBuf],
    request: &DeviceRequest,
) -> Result<Vec<String>> {
    let vendor = VENDORS.iter().find(|vendor| vendor.is_meant(request) && vendor.is_here(catalogue));
    let Some(vendor) = vendor else { return Err(none(catalogue, directories, request)) };
    Ok(vendor.named(catalogue, request))
}

fn none(catalogue: &Catalogue, directories: &[PathBuf], request: &DeviceRequest) -> Error {
    let sets = request.capabilities.as_deref().unwrap_or_default();
    let sets: Vec<String> = sets.iter().map(|set| format!("[{}]", set.join(" "))).collect();
    let kinds: Vec<&str> =
        VENDORS.iter().filter(|vendor| vendor.is_meant(request)).map(|vendor| vendor.kind).collect();
    let places: Vec<String> = directories.iter().map(|path| path.display().to_string()).collect();
    let reason = match (kinds.is_empty(), places.is_empty()) {
        (true, _) => "the drivers are nvidia and amd, each with its capabilities, and cdi".to_owned(),
        (false, true) => "this engine was started without CDI devices (features: cdi=false)".to_owned(),
        (false, false) => format!(
            "no specification in {} has devices {}{}",
            places.join(", "),
            kinds.join(" or "),
            catalogue.reasons()
        ),
    };
    let action = || {
        format!("could not select device driver {:?} with capabilities: [{}]", request.driver, sets.join(" "))
    };
    Err::<(), _>(std::io::Error::other(reason)).attempt(action).expect_err("it is an error")
}
