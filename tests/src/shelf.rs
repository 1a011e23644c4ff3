//! A registry that gives exactly what a test has put on it, right or wrong.

use coracle_corpus::{config, digest};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What stands at a path: its type and its bytes.
type Things = Arc<Mutex<BTreeMap<String, (String, Vec<u8>)>>>;

/// The type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The type of a configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The type of a layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The registry. It serves as long as the test's process.
pub struct Shelf {
    host: String,
    things: Things,
    stalls: Arc<Stalls>,
}

/// What is given only in part, and how many wait for the rest.
#[derive(Default)]
struct Stalls {
    paths: Mutex<BTreeMap<String, usize>>,
    waiting: AtomicUsize,
}

impl Shelf {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it opens a port")]
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (things, stalls) = (Things::default(), Arc::<Stalls>::default());
        let shared = (Arc::clone(&things), Arc::clone(&stalls));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (things, stalls) = (Arc::clone(&shared.0), Arc::clone(&shared.1));
                std::thread::spawn(move || serve(&client, &things, &stalls));
            }
        });
        Self { host, things, stalls }
    }

    /// Its address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Puts a blob under the digest that it is to have.
    pub fn put_blob(&self, repository: &str, digest: &str, content: &[u8]) {
        self.put(format!("/v2/{repository}/blobs/{digest}"), "application/octet-stream", content);
    }

    /// Gives only so many bytes of a blob, and then nothing for as long as whoever asked waits.
    pub fn stall_blob(&self, repository: &str, digest: &str, after: usize) {
        self.stalls.paths.lock().unwrap().insert(format!("/v2/{repository}/blobs/{digest}"), after);
    }

    /// How many wait for the rest of a blob.
    pub fn waiting(&self) -> usize {
        self.stalls.waiting.load(Ordering::SeqCst)
    }

    /// Puts a manifest under a tag and under its digest.
    pub fn put_manifest(&self, repository: &str, tag: &str, kind: &str, content: &[u8]) {
        for name in [tag, &digest(content)] {
            self.put(format!("/v2/{repository}/manifests/{name}"), kind, content);
        }
    }

    /// Puts an image of one layer, whose configuration says what the layer is.
    pub fn put_image(&self, repository: &str, layer: &[u8]) {
        let config = config(layer);
        for blob in [layer, config.as_bytes()] {
            self.put_blob(repository, &digest(blob), blob);
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(config.as_bytes()), "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": digest(layer), "size": layer.len()}],
        });
        self.put_manifest(repository, "latest", MANIFEST, manifest.to_string().as_bytes());
    }

    fn put(&self, path: String, kind: &str, content: &[u8]) {
        self.things.lock().unwrap().insert(path, (kind.to_owned(), content.to_vec()));
    }
}

/// Answers the requests of one connection. A client that goes ends it.
fn serve(client: &TcpStream, things: &Things, stalls: &Stalls) {
    let mut reader = BufReader::new(client);
    let mut writer = client;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut offset = 0;
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            let range = line.to_ascii_lowercase();
            if let Some(from) = range.strip_prefix("range: bytes=").and_then(|rest| rest.split('-').next()) {
                offset = from.parse().unwrap_or(0);
            }
            line.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default();
        let found = things.lock().unwrap().get(path).cloned();
        let answer = match found {
            None if path == "/v2/" => head("200 OK", "application/json", 0, ""),
            None => head("404 Not Found", "application/json", 0, ""),
            Some((kind, content)) => {
                let status = if offset > 0 { "206 Partial Content" } else { "200 OK" };
                let rest = content.get(offset..).unwrap_or_default();
                let more = if path.contains("/manifests/") {
                    format!("Docker-Content-Digest: {}\r\n", digest(&content))
                } else {
                    format!(
                        "Content-Range: bytes {offset}-{}/{}\r\n",
                        content.len().max(1) - 1,
                        content.len()
                    )
                };
                let mut answer = head(status, &kind, rest.len(), &more);
                let stall = stalls.paths.lock().unwrap().get(path).copied();
                if method != "HEAD" {
                    answer
                        .extend_from_slice(&rest[..stall.map_or(rest.len(), |after| after.min(rest.len()))]);
                }
                if method != "HEAD" && stall.is_some() {
                    stalls.waiting.fetch_add(1, Ordering::SeqCst);
                    // Both fail or end when the client goes, which is what is waited for.
                    let _ = writer.write_all(&answer).and_then(|()| reader.read_line(&mut String::new()));
                    stalls.waiting.fetch_sub(1, Ordering::SeqCst);
                    return;
                }
                answer
            }
        };
        if writer.write_all(&answer).is_err() {
            return;
        }
    }
}

fn head(status: &str, kind: &str, length: usize, more: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n")
        .into_bytes()
}
