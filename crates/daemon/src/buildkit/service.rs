//! Which service a request is for, by the beginning of its path.

use super::bridge::Bridge;
use super::control::Controller;
use super::health::Healthy;
use crate::server::Context;
use coracle_buildkit::limits;
use coracle_buildkit::proto::health::health_server::{self, HealthServer};
use coracle_buildkit::proto::moby::buildkit::v1::control_server::{self, ControlServer};
use coracle_buildkit::proto::moby::buildkit::v1::frontend::llb_bridge_server::{self, LlbBridgeServer};
use hyper::{Request, Response};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use tonic::body::Body;
use tonic::codegen::Service;

/// Everything that is served on one connection.
#[derive(Clone)]
pub(super) struct Services {
    control: ControlServer<Controller>,
    bridge: LlbBridgeServer<Bridge>,
    health: HealthServer<Healthy>,
}

impl Services {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        let control = ControlServer::new(Controller::new(Arc::clone(context)));
        let bridge = LlbBridgeServer::new(Bridge::new(Arc::clone(context)));
        Self {
            control: control.max_decoding_message_size(limits::MESSAGE),
            bridge: bridge.max_decoding_message_size(limits::MESSAGE),
            health: HealthServer::new(Healthy),
        }
    }
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        match service {
            control_server::SERVICE_NAME => self.control.call(request),
            llb_bridge_server::SERVICE_NAME => self.bridge.call(request),
            health_server::SERVICE_NAME => self.health.call(request),
            other => {
                let status = tonic::Status::unimplemented(format!("unknown service {other}"));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}
