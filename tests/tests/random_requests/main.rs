//! Requests that nobody in particular sends: made of the schema of the API, plausible, at the bounds, and hostile. None
//! of them makes the engine fail, hang or forget what it has.
//!
//! The same seed gives the same requests. One that failed is looked at alone with its number:
//!
//! ```text
//! SEED=1 REQUEST=1234 cargo test -p coracle-tests --test random_requests -- --nocapture
//! ```
//!
//! `SHOW=1` shows all of them with what comes of them. `REQUESTS` is how many there are, 3,000 unless told. Nothing here leaves the machine: names of images lead to a port
//! where nobody listens, binds are of the test's own directory, nobody gets a privilege. The original is left alone: it
//! answers some of these with a failure of its own, and what it makes of them is no promise of ours.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says where it is"
)]

mod body;
mod field;
mod request;
mod send;
mod words;

use coracle_tests::Engine;
use coracle_tests::schema::{Answer, Exchange};
use field::Field;
use request::Request;
use send::{Outcome, send};
use std::collections::BTreeSet;
use std::time::Instant;

/// How many requests there are.
const REQUESTS: usize = 3000;
/// Fewest operations of which one of so many requests must have had success.
const GRANTED: usize = 53;
/// Requests after which the objects are looked after.
const ROUND: usize = 250;

/// Failures of the engine that are right: the operation, the status, and why.
const FAILURES: [(&str, u16, &str); 7] = [
    ("/swarm", 501, "this engine takes part in no swarm"),
    ("/plugins", 501, "this engine takes no plugins"),
    ("/images/create", 500, "nobody listens at the registry"),
    ("/images/search", 500, "nobody listens at the registry"),
    ("/distribution/", 500, "nobody listens at the registry"),
    ("/auth", 500, "nobody listens at the registry"),
    ("", 501, "what this engine does not do it says so of"),
];

fn number(name: &str) -> Option<usize> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn random_requests_fail_at_most_themselves() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    // Whatever is to leave the machine goes to where nobody listens.
    let nowhere = ["--http-proxy", "--https-proxy"].map(|option| format!("{option}=http://127.0.0.1:9"));
    let engine = Engine::start_with(&[&nowhere[0], &nowhere[1]]);
    let field = Field::plant(&engine);
    let seed = number("SEED").unwrap_or(1);
    let numbers = match number("REQUEST") {
        Some(number) => number..number + 1,
        None => 0..number("REQUESTS").unwrap_or(REQUESTS),
    };
    let enough = numbers.len() >= REQUESTS;
    let shown = ["REQUEST", "SHOW"].iter().any(|name| std::env::var_os(name).is_some());
    eprintln!("seed {seed}, requests {numbers:?}");
    let (mut complaints, mut granted) = (Vec::new(), BTreeSet::new());
    for number in numbers {
        if number % ROUND == 0 {
            field.tend();
        }
        let request = Request::random(seed, number, &field);
        let begun = Instant::now();
        let outcome = send(&engine.own_socket(), &request);
        if shown {
            eprintln!("{request}\n-> {outcome:?} after {:?}", begun.elapsed());
        }
        if matches!(&outcome, Outcome::Answered { answer, .. } if answer.status < 400) {
            granted.insert(request.operation());
        }
        if let Some(complaint) = judge(&request, &outcome) {
            complaints.push(format!("SEED={seed} REQUEST={number}: {complaint}\n    {request}"));
        }
        if number % ROUND == ROUND - 1 {
            assert_eq!(
                engine.request("GET", "/_ping", None),
                (200, "OK".to_owned()),
                "after request {number}"
            );
            assert!(!engine.log().contains("panicked"), "after request {number}");
            field.is_whole();
        }
    }
    field.is_whole();
    field.clear();
    eprintln!("{} operations were granted: {granted:?}", granted.len());
    assert!(!enough || granted.len() >= GRANTED, "requests that are all refused prove little");
    assert!(!engine.log().contains("panicked"));
    assert!(complaints.is_empty(), "{} requests:\n{}", complaints.len(), complaints.join("\n"));
}

/// What is wrong with what came of a request.
fn judge(request: &Request, outcome: &Outcome) -> Option<String> {
    let (answer, content, whole) = match outcome {
        // A request that was never finished need not be answered.
        Outcome::Closed if request.is_broken() => return None,
        Outcome::Closed => return Some("the connection was closed without an answer".to_owned()),
        Outcome::Late => return Some("no answer in time".to_owned()),
        Outcome::Answered { answer, body, whole } => (answer, body, *whole),
    };
    // What is no HTTP is answered below the API.
    if request.is_broken() && content.is_empty() && matches!(answer.status, 400 | 414 | 431) {
        return None;
    }
    let path = request.path();
    if answer.status >= 500 && !is_right(request.method(), path, answer.status) {
        return Some(format!("{} {}", answer.status, String::from_utf8_lossy(content)));
    }
    let answer = Answer { status: answer.status, content_type: answer.content_type.clone() };
    let mut exchange = Exchange::begin(request.method(), request.target(), &answer, false);
    exchange.feed(content);
    let found: Vec<String> = exchange.end(whole).iter().map(ToString::to_string).collect();
    (!found.is_empty()).then(|| found.join("; "))
}

fn is_right(method: &str, path: &str, status: u16) -> bool {
    const SWARM: [&str; 6] = ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"];
    // A node outside a swarm says that it is none (503 in the schema); volumes can be changed in one alone.
    let of_swarm =
        SWARM.iter().any(|area| path.starts_with(area)) || (method == "PUT" && path.starts_with("/volumes/"));
    (status == 503 && of_swarm)
        || FAILURES.iter().any(|(prefix, known, _)| path.starts_with(prefix) && *known == status)
}
