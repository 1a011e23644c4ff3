//! Random sequences of faults, each from a seed. Whoever is served well at last has exactly the right bytes.

use crate::fixture::{Setup, blob, content, manifest, serve_manifest, tag};
use crate::server::{Reply, Request, Server};
use coracle_registry::{Access, Credentials};
use coracle_spec::image::Descriptor;

const SIZE: usize = 20_000;
const SEEDS: u64 = 300;

/// A number that looks random (splitmix64).
fn random(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The seed that a request's repository is named after.
fn seed(request: &Request) -> u64 {
    let name = request.path().strip_prefix("/v2/a/s").unwrap();
    name.split('/').next().unwrap().parse().unwrap()
}

fn part(status: u16, headers: &str, body: &[u8], length: usize) -> Reply {
    let head = format!("HTTP/1.1 {status} OK\r\n{headers}Content-Length: {length}\r\n\r\n");
    Reply::raw([head.as_bytes(), body].concat())
}

/// Faults for the first requests of each document, as the seed has it; what comes after is as it should be.
fn serve(request: &Request) -> Reply {
    let chance = random(
        seed(request) * 1000 + request.before as u64 + u64::from(request.path().contains("blobs")) * 100,
    );
    let is_blob = request.path().contains("/blobs/");
    let start: usize = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
        .unwrap_or(0);
    let all = if is_blob { content(SIZE) } else { manifest().into_bytes() };
    let cut = start + usize::try_from(chance >> 8).unwrap_or(0) % (all.len() - start);
    if request.before < 3 {
        match chance % 11 {
            0 => return Reply::new(500, &[], "<html>"),
            1 => return Reply::new(429, &[("Retry-After", "1")], ""),
            2 => return Reply::new(503, &[], ""),
            3 => return Reply::raw("").then_reset(),
            4 => return Reply::raw("HTTP/1.1 200 OK\r\nContent-").then_close(),
            5 => return Reply::raw("garbage\r\n\r\n").then_close(),
            6 if start == 0 => return part(200, "", &all[..cut], all.len()).then_close(),
            7 if start == 0 => return part(200, "", &all[..cut], all.len()).then_reset(),
            8 if start > 0 => return Reply::new(200, &[], &all),
            9 if start > 0 => return Reply::new(416, &[], ""),
            10 if start > 0 => return Reply::new(206, &[("Content-Range", "bytes 19999-19999/20000")], "x"),
            _ => (),
        }
    }
    match (is_blob, start) {
        (false, _) => serve_manifest(request),
        (true, 0) => Reply::new(200, &[], all),
        (true, _) => {
            let range = format!("bytes {start}-{}/{SIZE}", SIZE - 1);
            Reply::new(206, &[("Content-Range", &range)], &all[start..])
        }
    }
}

#[tokio::test]
async fn every_pull_that_can_succeed_does_with_the_right_bytes() {
    let server = Server::start(serve).await;
    let setup = Setup::new();
    let client = setup.client();
    let layer: Descriptor = blob(&content(SIZE));
    for seed in 0..SEEDS {
        let name = format!("{}/a/s{seed}", server.host()).parse().unwrap();
        let repository = client.repository(&name, Credentials::Anonymous, Access::Pull);
        let found =
            repository.manifest(&tag("x")).await.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        assert_eq!(found.content, manifest(), "seed {seed}");
        let got = crate::fixture::fetch(&repository, &layer, 0).await;
        let got = got.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        assert!(got == content(SIZE), "seed {seed}");
    }
    assert!(setup.clock.pauses().len() > 300, "there were faults");
}
