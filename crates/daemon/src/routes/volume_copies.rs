//! `/coracle/volumes/…`: volumes as archives and as copies of others. Endpoints of our own, outside the paths that Docker has or
//! may get.

use super::streams;
use super::volumes::{creation, shown};
use crate::answer::{self, Answer};
use crate::error::Failure;
use crate::input;
use crate::server::Call;
use coracle_api::volume::VolumeCreateRequest;
use coracle_engine::containers::Writers;
use coracle_engine::images::BodyWriter;
use coracle_engine::volumes::Creation;
use hyper::StatusCode;

/// `GET …/NAME/archive`: the files of a volume.
pub(super) async fn save(call: Call, name: &str) -> Answer {
    let writers = writers(&call)?;
    let context = call.context;
    let saving = context.engine.save_volume(name, writers).await?;
    let (writer, receiver) = BodyWriter::channel();
    let writing = tokio::spawn(async move { saving.write(&context.engine, writer).await });
    Ok(streams::archive(receiver, writing))
}

/// `POST …/load`: a volume of an archive. What it is called, and its labels and options, are in the query, as the archive is
/// the body: `name`, and `label` and `opt` as often as there are some, each `KEY=VALUE`.
pub(super) async fn load(call: Call) -> Answer {
    let pairs = |key: &str| {
        let pairs = call.query.all(key).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let wanted = Creation {
        name: call.query.get("name").map(str::to_owned),
        driver: String::new(),
        labels: pairs("label"),
        options: pairs("opt"),
    };
    let context = call.context;
    // Made first: it reads what is sent to no purpose too, so that the client hears why.
    let archive = input::reader(call.request);
    let volume = context.engine.volumes().load(wanted, archive).await?;
    answer::json(StatusCode::CREATED, &shown(&volume))
}

/// `POST …/NAME/copy`: another volume with the same files.
pub(super) async fn copy(call: Call, name: &str) -> Answer {
    let writers = writers(&call)?;
    let context = call.context;
    let request: VolumeCreateRequest = input::document(call.request).await?;
    let volume = context.engine.copy_volume(name, creation(request), writers).await?;
    context.engine.tidy_soon();
    answer::json(StatusCode::CREATED, &shown(&volume))
}

/// What becomes of containers that write meanwhile.
fn writers(call: &Call) -> Result<Writers, Failure> {
    match call.query.get("writers").unwrap_or_default() {
        "" => Ok(Writers::Refused),
        "pause" => Ok(Writers::Paused),
        "live" => Ok(Writers::Ignored),
        other => Err(Failure::invalid(format!("writers={other}: there are \"pause\" and \"live\""))),
    }
}
