//! What answers have that the newest schema does not allow, each group with its reason.
//!
//! Three kinds of reasons: older versions of the API have what newer ones lost (CHANGELOG of the API), Docker 26 answers
//! otherwise than its schema says and clients have lived with it, and what only one of the two engines has.

use super::{Fault, Version, Violation};

/// Whose answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The original's, which ours do not have to copy.
    Original,
    /// Ours: extensions.
    Ours,
    /// Everybody's.
    Both,
}

/// Faults that are allowed for one reason.
struct Group {
    because: &'static str,
    whose: Whose,
    fault: Fault,
    /// The newest version that has it.
    until: Version,
    /// Where: a definition, and after a dot its fields, separated by spaces.
    places: &'static [&'static str],
}

const ALWAYS: Version = (1, u16::MAX);

/// The table.
const TABLE: &[Group] = &[
    Group {
        because: "Go writes null for a slice or map that is not there, and Docker 26 does so in these",
        whose: Whose::Both,
        fault: Fault::Null,
        until: ALWAYS,
        places: &[
            "ContainerBlkioStats.io_merged_recursive io_queue_recursive io_service_bytes_recursive \
             io_service_time_recursive io_serviced_recursive io_time_recursive io_wait_time_recursive \
             sectors_recursive",
            "ContainerConfig.Entrypoint Volumes",
            "DeviceRequest.Capabilities DeviceIDs Options",
            "EndpointSettings.Aliases DNSNames Links",
            "HostConfig.Binds CapAdd CapDrop DeviceCgroupRules DeviceRequests ExtraHosts GroupAdd Links SecurityOpt \
             VolumesFrom",
            "ImageHistoryResponseItem.Tags",
            "ImageSummary.Labels",
            "IPAM.Options",
            "PluginsInfo.Authorization",
            "SystemInfo.GenericResources Warnings",
            "Volume.Options",
            "VolumeListResponse.Warnings",
        ],
    },
    Group {
        because: "Docker 26 writes null here as well; ours has the empty list or map",
        whose: Whose::Original,
        fault: Fault::Null,
        until: ALWAYS,
        places: &[
            "RegistryServiceConfig.Mirrors",
            "ContainerUpdateResponse.Warnings",
            "ContainerConfig.Env",
            "HostConfig.BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps \
             BlkioWeightDevice Devices Dns DnsOptions DnsSearch PortBindings Ulimits MaskedPaths ReadonlyPaths",
            "ContainerUpdateResponse.Warnings",
            "GET /containers/{id}/changes",
            "IPAM.Config",
            "ImageConfig.Env",
            "ImageSummary.RepoDigests",
            "Volume.Labels",
        ],
    },
    Group {
        because: "a pointer in Docker's own type, null when there is nothing",
        whose: Whose::Both,
        fault: Fault::Null,
        until: ALWAYS,
        places: &["GET /exec/{id}/json.ExitCode", "HostConfig.MemorySwappiness"],
    },
    Group {
        because: "the schema names it as one that there must be, and has no such field: it means Size.Unpacked",
        whose: Whose::Both,
        fault: Fault::Missing,
        until: ALWAYS,
        places: &["ImageManifestSummary.ImageData.UnpackedSize"],
    },
    Group {
        because: "1.52 omits what is not set of an image's configuration",
        whose: Whose::Both,
        fault: Fault::Null,
        until: (1, 51),
        places: &["ImageConfig.Cmd Entrypoint Labels Volumes"],
    },
    Group {
        because: "1.50 leaves out what is no configuration of an image",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 49),
        places: &[
            "ImageConfig.AttachStderr AttachStdin AttachStdout Domainname Hostname Image OpenStdin StdinOnce Tty",
        ],
    },
    Group {
        because: "1.52 has lost the fields of the classic builder",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 51),
        places: &["ImageInspect.DockerVersion"],
    },
    Group {
        because: "an image of the classic builder has a parent, which 1.52 only omits where there is none",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: ALWAYS,
        places: &["ImageInspect.Parent"],
    },
    Group {
        because: "1.44 has lost the second name of the size",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 43),
        places: &["ImageSummary.VirtualSize", "ImageInspect.VirtualSize"],
    },
    Group {
        because: "1.45 has lost what an image was committed from",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 44),
        places: &["ImageInspect.Container ContainerConfig"],
    },
    Group {
        because: "1.52 has lost what events had before 1.22",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 51),
        places: &["EventMessage.from id status"],
    },
    Group {
        because: "1.52 has lost the addresses of the default bridge beside those of all networks",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 51),
        places: &[
            "NetworkSettings.Bridge EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen HairpinMode \
                   IPAddress IPPrefixLen IPv6Gateway LinkLocalIPv6Address LinkLocalIPv6PrefixLen MacAddress \
                   SecondaryIPAddresses SecondaryIPv6Addresses",
        ],
    },
    Group {
        because: "1.53 has summaries of what takes room in their place",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 52),
        places: &["GET /system/df.BuildCache Containers Images LayersSize Volumes"],
    },
    Group {
        because: "1.42 has lost it",
        whose: Whose::Original,
        fault: Fault::Unknown,
        until: (1, 41),
        places: &["GET /system/df.BuilderSize", "SystemInfo.KernelMemory"],
    },
    Group {
        because: "1.52 has lost it",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 51),
        places: &["ContainerConfig.MacAddress"],
    },
    Group {
        because: "1.52 has lost it",
        whose: Whose::Original,
        fault: Fault::Unknown,
        until: (1, 51),
        places: &["SystemInfo.KernelMemoryTCP"],
    },
    Group {
        because: "1.25 has lost it",
        whose: Whose::Original,
        fault: Fault::Unknown,
        until: (1, 24),
        places: &["SystemInfo.ExecutionDriver"],
    },
    Group {
        because: "1.52 lists networks without who is on them; until then the list is always empty",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 51),
        places: &["Network.Containers"],
    },
    Group {
        because: "1.50 has lost what the kernel module decides now",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 49),
        places: &["SystemInfo.BridgeNfIp6tables BridgeNfIptables"],
    },
    Group {
        because: "1.49 has lost what is always allowed, and which versions of programs were expected",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: (1, 48),
        places: &[
            "RegistryServiceConfig.AllowNondistributableArtifactsCIDRs AllowNondistributableArtifactsHostnames",
            "Commit.Expected",
        ],
    },
    Group {
        because: "progress has these besides errorDetail and progressDetail until some future version",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: ALWAYS,
        places: &[
            "CreateImageInfo.error progress",
            "PushImageInfo.error progress",
            "BuildInfo.error progress",
        ],
    },
    Group {
        because: "a load tells what it has loaded as a build tells what it does; a push tells of layers by their ids, \
                  and at its end what it has pushed",
        whose: Whose::Both,
        fault: Fault::Unknown,
        until: ALWAYS,
        places: &["CreateImageInfo.stream", "PushImageInfo.aux id"],
    },
    Group {
        because: "an exec turns its connection as attach does, which the schema says of attach alone",
        whose: Whose::Both,
        fault: Fault::Status,
        until: ALWAYS,
        places: &["POST /exec/{id}/start 101"],
    },
    Group {
        because: "Docker 26 does not say what a stream of stats is",
        whose: Whose::Original,
        fault: Fault::ContentType,
        until: ALWAYS,
        places: &["content type of GET /containers/{id}/stats"],
    },
    Group {
        because: "when an image was used last, which only this engine knows",
        whose: Whose::Ours,
        fault: Fault::Unknown,
        until: ALWAYS,
        places: &["ImageInspect.Metadata.LastUsed"],
    },
];

impl Group {
    fn has(&self, place: &str) -> bool {
        self.places.iter().any(|known| match known.rsplit_once('.').filter(|_| self.fault != Fault::Status) {
            Some((definition, fields)) => {
                let field = place.strip_prefix(definition).and_then(|rest| rest.strip_prefix('.'));
                field.is_some_and(|field| fields.split_whitespace().any(|known| known == field))
            }
            None => *known == place,
        })
    }
}

/// Why an answer may have this, if it may; `original` tells whose answer it is.
pub(super) fn reason(violation: &Violation, original: bool) -> Option<&'static str> {
    let theirs = |group: &&Group| match group.whose {
        Whose::Both => true,
        Whose::Original => original,
        Whose::Ours => !original,
    };
    let fitting = TABLE.iter().filter(theirs).filter(|group| group.fault == violation.fault);
    let mut fitting = fitting.filter(|group| violation.version <= group.until && group.has(&violation.place));
    fitting.next().map(|group| group.because)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(place: &str, fault: Fault, version: Version, original: bool) -> bool {
        let (found, operation) = (String::new(), String::new());
        let violation = Violation { place: place.to_owned(), fault, found, operation, version };
        reason(&violation, original).is_some()
    }

    #[test]
    fn what_is_allowed_has_its_place_version_and_engine() {
        assert!(may("HostConfig.CapDrop", Fault::Null, (1, 53), false));
        assert!(!may("HostConfig.CapDrop", Fault::Type, (1, 53), false));
        assert!(!may("HostConfig.Cap", Fault::Null, (1, 53), false));
        assert!(may("EventMessage.id", Fault::Unknown, (1, 51), false));
        assert!(!may("EventMessage.id", Fault::Unknown, (1, 52), false));
        assert!(may("IPAM.Config", Fault::Null, (1, 30), true));
        assert!(!may("IPAM.Config", Fault::Null, (1, 30), false));
        assert!(may("POST /exec/{id}/start 101", Fault::Status, (1, 30), false));
        assert!(may("GET /system/df.Volumes", Fault::Unknown, (1, 30), false));
    }
}
