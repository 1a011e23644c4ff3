//! Networks, volumes, events and the engine itself.

use crate::{body, connect, name, remove, started, status, with_binds};
use bollard::models::{
    EndpointSettings, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest,
    VolumeCreateRequest,
};
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectNetworkOptions, ListVolumesOptionsBuilder, RemoveVolumeOptions,
};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::pin::pin;
use std::time::SystemTime;

#[tokio::test]
async fn networks_are_joined_and_left() {
    let docker = connect().await;
    let sea = name("sea");
    docker.create_network(NetworkCreateRequest { name: sea.clone(), ..Default::default() }).await.unwrap();
    let id = started(&docker, &name("joining"), body(&["sleep", "1000"])).await;
    let endpoint = EndpointSettings { aliases: Some(vec!["boat".to_owned()]), ..Default::default() };
    let join = NetworkConnectRequest { container: id.clone(), endpoint_config: Some(endpoint) };
    docker.connect_network(&sea, join).await.unwrap();
    let shown =
        docker.inspect_container(&id, None).await.unwrap().network_settings.unwrap().networks.unwrap();
    assert!(shown[&sea].aliases.as_ref().unwrap().contains(&"boat".to_owned()), "{shown:?}");
    let network = docker.inspect_network(&sea, None::<InspectNetworkOptions>).await.unwrap();
    assert_eq!(network.containers.unwrap().into_keys().collect::<Vec<_>>(), [id.clone()]);
    assert_eq!(status(docker.remove_network(&sea).await), 403);
    let leave = NetworkDisconnectRequest { container: id.clone(), force: Some(true) };
    docker.disconnect_network(&sea, leave).await.unwrap();
    docker.remove_network(&sea).await.unwrap();
    remove(&docker, &id).await;
}

#[tokio::test]
async fn volumes_are_made_used_and_removed() {
    let docker = connect().await;
    let hold = name("hold");
    let made = docker
        .create_volume(VolumeCreateRequest { name: Some(hold.clone()), ..Default::default() })
        .await
        .unwrap();
    assert_eq!((made.name.as_str(), made.driver.as_str()), (hold.as_str(), "local"));
    let id =
        started(&docker, &name("using"), with_binds(body(&["sleep", "1000"]), &[&format!("{hold}:/hold")]))
            .await;
    assert_eq!(status(docker.remove_volume(&hold, None::<RemoveVolumeOptions>).await), 409);
    let filters = HashMap::from([("name".to_owned(), vec![hold.clone()])]);
    let listed = docker
        .list_volumes(Some(ListVolumesOptionsBuilder::default().filters(&filters).build()))
        .await
        .unwrap();
    assert_eq!(listed.volumes.unwrap().len(), 1);
    remove(&docker, &id).await;
    docker.remove_volume(&hold, None::<RemoveVolumeOptions>).await.unwrap();
    assert_eq!(status(docker.inspect_volume(&hold).await), 404);
}

#[tokio::test]
async fn events_tell_of_a_life_from_its_beginning_to_its_end() {
    let docker = connect().await;
    let part = format!("part={}", name("events"));
    let filters = HashMap::from([("label".to_owned(), vec![part])]);
    // From now on: the request for them and the first one for the container come over two connections.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().to_string();
    let options = EventsOptionsBuilder::default().filters(&filters).since(&now).build();
    let mut events = pin!(docker.events(Some(options)));
    let life = async {
        let labels = HashMap::from([("part".to_owned(), name("events"))]);
        let id = started(
            &docker,
            &name("events"),
            bollard::models::ContainerCreateBody { labels: Some(labels), ..body(&["true"]) },
        )
        .await;
        docker.wait_container(&id, None).next().await.unwrap().unwrap();
        remove(&docker, &id).await;
    };
    let told = async {
        let mut told = Vec::new();
        while told.last().is_none_or(|last| last != "destroy") {
            told.push(events.next().await.unwrap().unwrap().action.unwrap());
        }
        told
    };
    let (told, ()) = futures_util::join!(told, life);
    assert_eq!(told, ["create", "start", "die", "destroy"]);
}

#[tokio::test]
async fn the_engine_tells_of_itself() {
    let docker = connect().await;
    assert_eq!(docker.ping().await.unwrap(), "OK");
    let version = docker.version().await.unwrap();
    assert_eq!(version.os.as_deref(), Some("linux"));
    let info = docker.info().await.unwrap();
    assert!(info.id.is_some() && info.ncpu > Some(0) && info.containers.is_some());
    docker.df(None).await.unwrap();
}
