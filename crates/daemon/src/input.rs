//! Bodies of requests: bounded documents, and archives that are read as they arrive.

use crate::error::Failure;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;

/// Largest document in a request, in bytes.
const DOCUMENT: usize = 4 << 20;

/// Reads a document; an absent body is an empty one, as Docker takes it.
///
/// # Errors
/// 400 for what is no document, 413 for one that is too large.
pub(crate) async fn document<T: DeserializeOwned + Default>(
    request: Request<Incoming>,
) -> Result<T, Failure> {
    let collected = Limited::new(request.into_body(), DOCUMENT).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("request body is larger than {DOCUMENT} bytes"),
            )
        } else {
            Failure::invalid(format!("cannot read the request body: {error}"))
        }
    })?;
    let bytes = collected.to_bytes();
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    coracle_api::from_slice(&bytes).map_err(|error| Failure::invalid(format!("invalid JSON: {error}")))
}

/// The same, where a body must be there.
pub(crate) async fn required<T: DeserializeOwned + Default>(
    request: Request<Incoming>,
) -> Result<T, Failure> {
    if hyper::body::Body::size_hint(request.body()).exact() == Some(0) {
        return Err(Failure::invalid("invalid JSON: got EOF while reading request body"));
    }
    document(request).await
}
