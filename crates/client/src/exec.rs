//! Requests on execs: processes run in a container beside its own.

use coracle_api::Query;
use coracle_api::container::{ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecStartRequest};

use crate::Result;
use crate::stream::Hijacked;
use crate::transport::{Call, Client, segment};

/// # Errors
/// Every method fails when the daemon refuses, in its words, or cannot be reached.
impl Client {
    /// Prepares a process.
    pub async fn create_exec(
        &self,
        container: &str,
        request: &ExecCreateRequest,
    ) -> Result<ExecCreateResponse> {
        self.json(Call::post(format!("/containers/{}/exec", segment(container))).json(request)).await
    }

    /// Starts it and becomes its stdio.
    pub async fn start_exec(&self, exec: &str, request: &ExecStartRequest) -> Result<Hijacked> {
        let request = ExecStartRequest { detach: false, ..request.clone() };
        self.hijack(Call::post(format!("/exec/{}/start", segment(exec))).json(&request)).await
    }

    /// Starts it and lets it go.
    pub async fn start_exec_detached(&self, exec: &str, request: &ExecStartRequest) -> Result<()> {
        let request = ExecStartRequest { detach: true, ..request.clone() };
        self.done(Call::post(format!("/exec/{}/start", segment(exec))).json(&request)).await
    }

    /// How it is.
    pub async fn inspect_exec(&self, exec: &str) -> Result<ExecInspect> {
        self.json(Call::get(format!("/exec/{}/json", segment(exec)))).await
    }

    /// Tells its terminal its size.
    pub async fn resize_exec(&self, exec: &str, rows: u16, columns: u16) -> Result<()> {
        let query = Query::new().with("h", &rows).with("w", &columns);
        self.done(Call::post(format!("/exec/{}/resize", segment(exec))).query(query)).await
    }
}
