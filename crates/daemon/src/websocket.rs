//! A connection that became a websocket (RFC 6455), as a stream of bytes: what a client's frames hold is input, and output goes out
//! in binary frames, without Docker's own framing.

use crate::error::Failure;
use crate::hijack::Client;
use futures_util::{SinkExt, StreamExt};
use hyper::header::{
    HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{StatusCode, Uri};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Size of the buffers between the socket and the session, and of the largest frame that is sent, in bytes.
const BUFFER: usize = 32 * 1024;
/// Largest frame and message that a client may send, in bytes.
const MESSAGE: usize = 1 << 20;
/// Largest frame of a process's output, in bytes: what a shim reads at once is less.
const OUTPUT: usize = 1 << 20;

/// The headers that complete an answer to a request for a websocket.
///
/// # Errors
/// 400 for a request that asks for none, 403 for one that a page of elsewhere makes: browsers let every page open a websocket to
/// everywhere, and read it.
pub(crate) fn accept(headers: &HeaderMap) -> Result<HeaderMap, Failure> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let asked = text(UPGRADE).is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"));
    let known = text(SEC_WEBSOCKET_VERSION).is_some_and(|version| version.trim() == "13");
    let key = text(SEC_WEBSOCKET_KEY).filter(|_| asked && known);
    let key = key.ok_or_else(|| Failure::invalid("not websocket protocol"))?;
    if let Some(origin) = text(ORIGIN) {
        let from = origin.parse::<Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
        if from.is_none() || from.as_deref() != text(HOST) {
            let refusal = format!("pages of {origin} may not attach to containers of this engine");
            return Err(Failure::new(StatusCode::FORBIDDEN, refusal));
        }
    }
    let accepted = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    let mut answer = HeaderMap::new();
    answer.insert(SEC_WEBSOCKET_ACCEPT, accepted.map_err(|error| Failure::invalid(error.to_string()))?);
    let protocol = text(SEC_WEBSOCKET_PROTOCOL).and_then(|list| list.split(',').next()).map(str::trim);
    if let Some(Ok(protocol)) = protocol.map(HeaderValue::from_str) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(answer)
}

/// Runs `session` over a websocket until it is over, or until the client closes. What `session` writes is framed as Docker frames
/// output, unless it is `raw`.
pub(crate) async fn run<F: Future<Output = ()>>(
    client: Box<dyn Client>,
    raw: bool,
    session: impl FnOnce(Box<dyn Client>) -> F,
) {
    let limits = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
    let socket = WebSocketStream::from_raw_socket(client, Role::Server, Some(limits)).await;
    let (mut sink, stream) = socket.split();
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (from_session, to_session) = tokio::io::split(ours);
    let mut from_session = Box::pin(from_session);
    let output = async {
        while let Some(bytes) = piece(&mut from_session, raw).await? {
            sink.send(Message::Binary(bytes)).await.map_err(io::Error::other)?;
        }
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        sink.send(Message::Close(Some(normal))).await.map_err(io::Error::other)
    };
    let spoken = async { tokio::join!(session(Box::new(theirs)), output).1 };
    tokio::select! {
        told = spoken => drop(told.inspect_err(|error| tracing::debug!(%error, "a websocket ended early"))),
        () = input(stream, to_session) => {}
    }
}

/// Hands on what a client sends, until it closes.
async fn input(
    mut stream: impl futures_util::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
    mut session: tokio::io::WriteHalf<DuplexStream>,
) {
    let mut taken = true;
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            // A ping is answered by the library.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        // A session that takes no more input may still have output to deliver.
        taken = taken && session.write_all(&bytes).await.is_ok();
    }
}

/// The next piece of output; none at the end.
async fn piece(from: &mut (impl AsyncRead + Unpin), raw: bool) -> io::Result<Option<Bytes>> {
    if raw {
        let mut buffer = vec![0; BUFFER];
        let length = from.read(&mut buffer).await?;
        buffer.truncate(length);
        return Ok((length > 0).then(|| buffer.into()));
    }
    let mut head = [0; 8];
    match from.read_exact(&mut head).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if length > OUTPUT {
        return Err(io::Error::other(format!("a piece of output has {length} bytes")));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(Some(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(more: &[(&'static str, &str)]) -> HeaderMap {
        let usual = [
            ("host", "localhost:2375"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in usual.iter().chain(more) {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_handshake_is_answered_as_rfc_6455_has_it() {
        let answer = accept(&headers(&[("sec-websocket-protocol", "chat, superchat")])).unwrap();
        assert_eq!(answer[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer[SEC_WEBSOCKET_PROTOCOL], "chat");
        for wrong in [("upgrade", "tcp"), ("sec-websocket-version", "8")] {
            assert_eq!(accept(&headers(&[wrong])).unwrap_err().status, StatusCode::BAD_REQUEST, "{wrong:?}");
        }
        assert!(accept(&HeaderMap::new()).is_err());
    }

    #[test]
    fn pages_of_elsewhere_are_refused() {
        for (origin, is_fine) in [
            ("http://localhost:2375", true),
            ("http://evil.test", false),
            ("http://localhost:80", false),
            ("null", false),
        ] {
            assert_eq!(accept(&headers(&[("origin", origin)])).is_ok(), is_fine, "{origin}");
        }
    }

    #[tokio::test]
    async fn output_loses_its_frames_and_a_torn_one_is_an_error() {
        let mut framed: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 2, b'a', b'b', 2, 0, 0, 0, 0, 0, 0, 1, b'c'];
        assert_eq!(piece(&mut framed, false).await.unwrap().unwrap(), "ab");
        assert_eq!(piece(&mut framed, false).await.unwrap().unwrap(), "c");
        assert_eq!(piece(&mut framed, false).await.unwrap(), None);
        assert!(piece(&mut &[1, 0, 0, 0, 0, 0, 0, 2, b'a'][..], false).await.is_err());
        assert!(piece(&mut &[1, 0, 0, 0, 0xff, 0, 0, 0][..], false).await.is_err());
        assert_eq!(piece(&mut &b"as it is"[..], true).await.unwrap().unwrap(), "as it is");
    }
}
