//! Real applications, built by unmodified buildx from packages that their registries give, run, and asked over a published port.
//!
//! `cargo test -p coracle-tests --test applications -- --ignored --test-threads=1` takes some minutes and some gigabytes. With
//! `PEER=unix:///…`, the address of the original, each is built there too, and what differs in tree and configuration is a
//! failure.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_tests::Engine;
use coracle_tests::engine::wait_until;
use coracle_tests::image::import_debian;
use coracle_tests::layers::Saved;
use coracle_tests::net::request;
use coracle_tests::recipe::differences;
use std::path::Path;

/// An application that was built and runs.
struct Application {
    engine: Engine,
    image: String,
    container: String,
}

impl Application {
    /// Builds it, there too where that is asked for, and starts it. Contents of the files `varying` are not compared:
    /// they differ from one build to the next by either engine.
    fn start(name: &str, ports: &[&str], varying: &[&str]) -> Self {
        let engine = Engine::start();
        let (image, container) = (engine.name(name), engine.name("runs"));
        build(&engine, name, &image);
        if let Some(peer) = std::env::var_os("PEER") {
            let peer = Engine::at(peer.to_str().unwrap());
            build(&peer, name, &image);
            let (theirs, ours) = (Saved::from_engine(&peer, &image), Saved::from_engine(&engine, &image));
            peer.docker(&["rmi", &image]).ok();
            let found = differences(&theirs, &ours, varying);
            assert!(found.is_empty(), "{name} differs from the original's:\n{}", found.join("\n"));
        }
        let published: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:0:{port}")).collect();
        let mut arguments = vec!["run", "-d", "--name", &container];
        published.iter().for_each(|port| arguments.extend(["-p", port]));
        arguments.push(&image);
        engine.docker(&arguments).ok();
        Self { engine, image, container }
    }

    /// Where the host reaches a port.
    fn address(&self, port: &str) -> String {
        self.engine.docker(&["port", &self.container, port]).ok()
    }

    /// What it answers to a request, once it does.
    fn answer(&self, port: &str, method: &str, path: &str, head: &str, body: &str) -> String {
        let (address, mut answer) = (self.address(port), None);
        wait_until("the application answers", || {
            answer = request(&address, method, path, head, body);
            answer.is_some()
        });
        answer.unwrap()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.engine.docker(&["logs", "--tail", "50", &self.container]);
            #[expect(clippy::print_stderr, reason = "what a failed application said")]
            {
                eprintln!("--- {} ---\n{}{}", self.image, said.stdout, said.stderr);
            }
        }
        self.engine.docker(&["rm", "-fv", &self.container]);
        self.engine.docker(&["rmi", &self.image]);
    }
}

/// Builds an application of `tests/applications`. Whom this machine trusts is lent to the steps that need it.
fn build(engine: &Engine, name: &str, image: &str) {
    import_debian(engine);
    let context = Path::new(env!("CARGO_MANIFEST_DIR")).join("applications").join(name);
    let trusted = "id=ca,src=/etc/ssl/certs/ca-certificates.crt";
    engine.buildx(&context, &["-t", image, "--secret", trusted]).ok();
}

/// What package managers write with the time in it. Besides, keys and databases are made by chance, and compiled Python has
/// the times of its sources.
const OF_PACKAGES: [&str; 7] = [
    "/var/log/",
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/cache/",
    "/etc/shadow",
    "/etc/passwd-",
    "/etc/ld.so.cache",
];

/// Contents that differ besides.
fn varying(more: &[&'static str]) -> Vec<&'static str> {
    [&OF_PACKAGES, more].concat()
}

#[test]
#[ignore = "takes minutes: installs Node and npm"]
fn a_node_api_answers() {
    let application = Application::start("node", &["8080"], &varying(&[]));
    assert_eq!(application.answer("8080", "GET", "/hello/boat", "", ""), "{\"hello\":\"boat\"}");
}

#[test]
#[ignore = "takes a minute: installs Python"]
fn a_python_service_answers() {
    let application = Application::start("python", &["8080"], &varying(&["*.pyc"]));
    assert_eq!(application.answer("8080", "GET", "/hello/boat", "", ""), "{\"hello\":\"boat\"}");
}

#[test]
#[ignore = "takes minutes: compiles gems"]
fn a_rails_application_answers() {
    let application = Application::start(
        "rails",
        &["3000"],
        &varying(&["/app/config/master.key", "/app/config/credentials.yml.enc"]),
    );
    assert_eq!(application.answer("3000", "GET", "/hello/boat", "", ""), "{\"hello\":\"boat\"}");
}

#[test]
#[ignore = "takes a minute: installs a Rust compiler"]
fn a_static_program_answers_from_nothing_else() {
    let application = Application::start("static", &["8080"], &varying(&[]));
    assert_eq!(application.answer("8080", "GET", "/hello/boat", "", ""), "{\"hello\":\"boat\"}");
}

#[test]
#[ignore = "takes a minute: installs MariaDB"]
fn mariadb_answers_a_query() {
    let application = Application::start("mariadb", &["3306"], &varying(&["/var/lib/mysql/"]));
    let address = application.address("3306");
    let (_, port) = address.rsplit_once(':').unwrap();
    let port = format!("--port={port}");
    let mut rows = String::new();
    wait_until("the database answers", || {
        let client =
            ["run", "--rm", "--network=host", &application.image, "mariadb", "--host=127.0.0.1", &port];
        let query = [
            "--user=clerk",
            "--password=secret",
            "--skip-column-names",
            "-e",
            "SELECT what FROM shop.orders ORDER BY id",
        ];
        let output = application.engine.docker(&[&client[..], &query].concat());
        rows = output.stdout;
        output.code == 0
    });
    assert_eq!(rows, "boat\npaddle\n");
}

#[test]
#[ignore = "takes a minute: installs RabbitMQ"]
fn a_message_goes_round_in_rabbitmq() {
    let application =
        Application::start("rabbitmq", &["15672", "5672"], &varying(&["/var/lib/rabbitmq/.erlang.cookie"]));
    // guest:guest
    let head = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Type: application/json\r\n";
    let ask = |method: &str, path: &str, body: &str| application.answer("15672", method, path, head, body);
    ask("PUT", "/api/queues/%2F/boats", "{\"durable\":false}");
    let message =
        "{\"properties\":{},\"routing_key\":\"boats\",\"payload\":\"ahoy\",\"payload_encoding\":\"string\"}";
    assert_eq!(ask("POST", "/api/exchanges/%2F/amq.default/publish", message), "{\"routed\":true}");
    let wanted = "{\"count\":1,\"ackmode\":\"ack_requeue_false\",\"encoding\":\"auto\"}";
    let got = ask("POST", "/api/queues/%2F/boats/get", wanted);
    assert!(got.contains("\"payload\":\"ahoy\""), "{got}");
}
