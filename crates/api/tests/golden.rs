//! Real bodies, captured between Docker's CLI 28 and its daemon 26 (with the fields that 28 added): responses come
//! back exactly as the daemon sent them, `null` against `[]` against "absent" included; requests parse to what the
//! user asked for. One accident of the daemon is smoothed: `/system/df` sends `RepoDigests: null`, everything else `[]`.

use coracle_api::container::{
    ContainerInspect, ContainerSummary, CreateRequest, ExecCreateRequest, ExecInspect, Stats, TopResponse,
    UpdateRequest,
};
use coracle_api::image::{DeletedImage, HistoryItem, ImageInspect, ImageSummary};
use coracle_api::network::{Network, NetworkCreateRequest};
use coracle_api::system::{DiskUsage, Event, Info, Version};
use coracle_api::volume::VolumeList;
use coracle_api::{Empty, from_slice};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("golden/", $name, ".json"))
    };
}

/// Parses `text` as `T` and expects the same JSON back.
fn comes_back<T: Serialize + DeserializeOwned>(text: &str) {
    let original: Value = serde_json::from_str(text).expect("golden file is JSON");
    let parsed: T = from_slice(text.as_bytes()).expect("parses");
    let printed = serde_json::to_value(&parsed).expect("serialises");
    let mut differences = Vec::new();
    compare("", &original, &printed, &mut differences);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn compare(path: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                match found.get(key) {
                    Some(other) => compare(&format!("{path}.{key}"), value, other, differences),
                    None => differences.push(format!("{path}.{key}: {value} is missing")),
                }
            }
            let unexpected = found.iter().filter(|(key, _)| !expected.contains_key(*key));
            differences.extend(unexpected.map(|(key, value)| format!("{path}.{key}: {value} is new")));
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (value, other)) in expected.iter().zip(found).enumerate() {
                compare(&format!("{path}[{index}]"), value, other, differences);
            }
        }
        _ if expected == found => {}
        _ => differences.push(format!("{path}: expected {expected}, found {found}")),
    }
}

#[test]
fn container_responses_come_back_as_docker_sent_them() {
    comes_back::<ContainerInspect>(golden!("container_inspect"));
    comes_back::<Vec<ContainerSummary>>(golden!("container_list"));
    comes_back::<ExecInspect>(golden!("exec_inspect"));
    comes_back::<Stats>(golden!("stats"));
    comes_back::<TopResponse>(golden!("top"));
}

#[test]
fn image_responses_come_back_as_docker_sent_them() {
    comes_back::<ImageInspect>(golden!("image_inspect"));
    comes_back::<Vec<ImageSummary>>(golden!("image_list"));
    comes_back::<Vec<HistoryItem>>(golden!("image_history"));
    comes_back::<Vec<DeletedImage>>(golden!("deleted_images"));
}

#[test]
fn system_network_and_volume_responses_come_back_as_docker_sent_them() {
    comes_back::<Info>(golden!("info"));
    comes_back::<Version>(golden!("version"));
    comes_back::<DiskUsage>(golden!("df"));
    comes_back::<Vec<Network>>(golden!("networks"));
    comes_back::<VolumeList>(golden!("volumes"));
    comes_back::<Event>(
        r#"{"status":"start","id":"f4fa","from":"tiny","Type":"container","Action":"start",
            "Actor":{"ID":"f4fa","Attributes":{"image":"tiny","name":"c1"}},"scope":"local",
            "time":1795507108,"timeNano":1795507108396265780}"#,
    );
}

#[test]
fn requests_come_back_as_the_cli_sent_them() {
    comes_back::<CreateRequest>(golden!("create_request"));
    comes_back::<UpdateRequestResources>(golden!("update_request"));
    comes_back::<ExecCreateRequest>(golden!("exec_create"));
}

/// An update holds a part of a host configuration; what is not in it must not come back.
#[derive(Serialize, serde::Deserialize)]
#[serde(transparent)]
struct UpdateRequestResources(#[serde(serialize_with = "resources")] UpdateRequest);

fn resources<S: serde::Serializer>(update: &UpdateRequest, out: S) -> Result<S::Ok, S::Error> {
    let sent: Value = serde_json::from_str(golden!("update_request")).expect("golden file is JSON");
    let mut value = serde_json::to_value(update).expect("serialises");
    value.as_object_mut().expect("an object").retain(|key, _| sent.get(key).is_some());
    value.serialize(out)
}

#[test]
fn a_create_request_of_the_cli_says_what_the_user_typed() {
    let request: CreateRequest = from_slice(golden!("create_request").as_bytes()).expect("parses");
    assert_eq!(request.config.image, "tiny");
    assert_eq!(request.config.cmd, Some(vec!["echo".into(), "hi".into()]));
    assert_eq!(request.config.entrypoint, None);
    assert_eq!(request.config.env, Some(vec!["A=b".into()]));
    assert!(request.config.attach_stdout && !request.config.attach_stdin);
    let host = request.host_config.expect("the CLI always sends one");
    assert_eq!(host.memory, 64 << 20);
    assert_eq!(host.memory_swappiness, Some(-1));
    assert_eq!(host.pids_limit, Some(0));
    assert!(host.auto_remove);
    let bindings = host.port_bindings.expect("a published port");
    assert_eq!(bindings["80/tcp"].as_ref().map(|list| list[0].host_port.as_str()), Some("8080"));
    let endpoints =
        request.networking_config.and_then(|networking| networking.endpoints_config).expect("given");
    assert_eq!(endpoints.keys().collect::<Vec<_>>(), ["default"]);
}

#[test]
fn a_body_written_by_hand_means_the_same() {
    let text = br#"{"image":"tiny","cmd":"true","EXPOSEDPORTS":{"80/tcp":null},"labels":{"Some.Key":null},
        "hostconfig":{"portbindings":{"80/tcp":[{"hostport":"8080"}]},"restartpolicy":null,"Memory":67108864,
        "nanocpus":500000000,"unknown":[1]},"networkingconfig":{"endpointsconfig":{"My-Net":null}}}"#;
    let request: CreateRequest = from_slice(text).expect("parses");
    assert_eq!(request.config.cmd, Some(vec!["true".into()]));
    assert_eq!(request.config.exposed_ports.expect("given")["80/tcp"], Empty {});
    assert_eq!(request.config.labels.expect("given")["Some.Key"], "");
    let host = request.host_config.expect("given");
    assert_eq!((host.memory, host.nano_cpus, host.restart_policy.name.as_str()), (64 << 20, 500_000_000, ""));
    assert_eq!(host.port_bindings.expect("given")["80/tcp"].as_ref().expect("given")[0].host_port, "8080");
    assert_eq!(request.networking_config.expect("given").endpoints_config.expect("given")["My-Net"], None);
}

#[test]
fn unknown_words_of_enumerations_parse_so_that_the_engine_can_refuse_them() {
    let text =
        br#"{"HostConfig":{"RestartPolicy":{"Name":"sometimes"},"Mounts":[{"Type":"warp"}],"IpcMode":"x"}}"#;
    let host = from_slice::<CreateRequest>(text).expect("parses").host_config.expect("given");
    assert_eq!(host.restart_policy.name, "sometimes");
    assert_eq!(host.mounts.expect("given")[0].kind, "warp");
    assert_eq!(host.ipc_mode, "x");
}

#[test]
fn what_docker_leaves_out_or_sends_empty_does_so_for_a_container_that_never_ran() {
    let value = serde_json::to_value(ContainerInspect::default()).expect("serialises");
    assert!(value["State"].get("Health").is_none());
    assert!(value.get("SizeRw").is_none() && value.get("GraphDriver").is_none());
    assert_eq!(value["Mounts"], serde_json::json!([]));
    assert_eq!(value["NetworkSettings"]["Ports"], serde_json::json!({}));
    assert_eq!(value["ExecIDs"], Value::Null);
    assert_eq!(value["Config"]["Env"], Value::Null);
    assert_eq!(value["HostConfig"]["Binds"], Value::Null);
}

#[test]
fn a_network_request_of_the_cli_parses() {
    let request: NetworkCreateRequest = from_slice(golden!("network_create").as_bytes()).expect("parses");
    assert_eq!((request.name.as_str(), request.driver.as_str()), ("nn", "bridge"));
    assert_eq!(request.ipam.expect("given").config, Some(vec![]));
    assert_eq!(request.enable_ipv6, None);
}
