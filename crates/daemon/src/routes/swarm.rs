//! The routes of swarms, as a node outside one answers them: this engine joins none.

use crate::error::Failure;
use hyper::StatusCode;

/// Why a call cannot be answered.
pub(super) fn refuse(method: &str, area: &str, rest: &[&str]) -> Failure {
    match (method, area, rest) {
        ("POST", "swarm", ["init" | "join"]) => Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "this engine does not take part in swarms; run services with docker compose, on one machine",
        ),
        ("POST", "swarm", ["leave"]) => {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "This node is not part of a swarm")
        }
        // Docker's words, by which clients know; only init and join say more.
        _ => Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
             node to swarm and try again.",
        ),
    }
}
