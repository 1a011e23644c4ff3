//! `/containers/{id}/archive`: what `docker cp` speaks.

use super::streams;
use crate::answer::{self, Answer};
use crate::convert::path;
use crate::error::Failure;
use crate::input;
use crate::server::Call;
use coracle_api::version::PATH_STAT_HEADER;
use coracle_engine::containers::{Extraction, PathStat};
use coracle_engine::images::BodyWriter;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

/// `HEAD`: what is at a path.
pub(super) async fn stat(call: &Call, name: &str) -> Answer {
    let stat = call.engine().stat_path(name, path_of(call)?).await?;
    let mut response = answer::empty(StatusCode::OK)?;
    describe(&mut response, &stat)?;
    Ok(response)
}

/// `GET`: an archive of a path.
pub(super) async fn archive(call: &Call, name: &str) -> Answer {
    let archiving = call.engine().archive_path(name, path_of(call)?).await?;
    let stat = archiving.stat.clone();
    let (writer, receiver) = BodyWriter::channel();
    let mut response =
        streams::archive(receiver, tokio::task::spawn_blocking(move || archiving.write(writer)));
    describe(&mut response, &stat)?;
    Ok(response)
}

/// `PUT`: unpacks an archive at a path.
pub(super) async fn extract(call: Call, name: &str) -> Answer {
    let (context, query) = (call.context.clone(), call.query.clone());
    let extraction = Extraction {
        keep_kinds: query.is_on("noOverwriteDirNonDir"),
        as_container_user: query.is_on("copyUIDGID"),
    };
    let path = path_of(&call).map(str::to_owned);
    // Made first: it reads what is sent to no purpose too, so that the client hears why.
    let body = input::reader(call.request);
    context.engine.extract_into(name, &path?, extraction, body).await?;
    answer::empty(StatusCode::OK)
}

fn path_of(call: &Call) -> Result<&str, Failure> {
    // Docker's words.
    let missing = || Failure::invalid("bad parameter: pathcannot be empty");
    let path = call.query.get("path").filter(|path| !path.is_empty()).ok_or_else(missing)?;
    match path.contains('\0') {
        true => Err(Failure::invalid("bad parameter: path has a zero byte in it, which no path has")),
        false => Ok(path),
    }
}

fn describe<B>(response: &mut Response<B>, stat: &PathStat) -> Result<(), Failure> {
    let value = HeaderValue::from_str(&path::header(stat)).map_err(|error| {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the answer: {error}"))
    })?;
    response.headers_mut().insert(PATH_STAT_HEADER, value);
    Ok(())
}
