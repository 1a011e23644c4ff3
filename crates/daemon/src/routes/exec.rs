//! `/containers/{id}/exec` and `/exec/…`

use super::containers::size;
use crate::answer::{self, Answer};
use crate::convert::settings::console_size;
use crate::error::Failure;
use crate::input;
use crate::server::Call;
use coracle_api::container as api;
use coracle_engine::containers::exec::{Exec, ExecSettings};
use hyper::{Method, StatusCode};

pub(super) async fn route(call: Call, rest: &[&str]) -> Answer {
    let method = call.request.method().clone();
    match (&method, rest) {
        (&Method::GET, [id, "json"]) => answer::ok(&shown(&call.engine().inspect_exec(id)?)),
        (&Method::POST, [id, "start"]) => super::attach::start_exec(call, id).await,
        (&Method::POST, [id, "resize"]) => {
            call.engine().resize_exec(id, size(&call)?).await?;
            answer::empty(StatusCode::OK)
        }
        _ => Err(super::not_found()),
    }
}

pub(super) async fn create(call: Call, container: &str) -> Answer {
    let context = call.context;
    let request: api::ExecCreateRequest = input::required(call.request).await?;
    if crate::session::DetachKeys::parse(&request.detach_keys).is_none() {
        return Err(Failure::invalid(format!("Invalid escape keys ({}) provided", request.detach_keys)));
    }
    let settings = ExecSettings {
        cmd: request.cmd.unwrap_or_default(),
        env: request.env.unwrap_or_default(),
        user: request.user,
        working_dir: request.working_dir,
        tty: request.tty,
        attach: [request.attach_stdin, request.attach_stdout, request.attach_stderr],
        privileged: request.privileged,
        detach_keys: request.detach_keys,
        console_size: request.console_size.and_then(console_size),
    };
    let id = context.engine.create_exec(container, settings)?;
    answer::json(StatusCode::CREATED, &api::ExecCreateResponse { id: id.to_string() })
}

fn shown(exec: &Exec) -> api::ExecInspect {
    let mut words = exec.settings.cmd.iter().cloned();
    let [stdin, stdout, stderr] = exec.settings.attach;
    api::ExecInspect {
        id: exec.id.to_string(),
        running: exec.running,
        exit_code: exec.exit_code.map(i64::from),
        process_config: api::ExecProcess {
            tty: exec.settings.tty,
            entrypoint: words.next().unwrap_or_default(),
            arguments: words.collect(),
            privileged: Some(exec.settings.privileged),
            user: exec.settings.user.clone(),
        },
        open_stdin: stdin,
        open_stderr: stderr,
        open_stdout: stdout,
        can_remove: exec.exit_code.is_some(),
        container_id: exec.container.to_string(),
        detach_keys: exec.settings.detach_keys.clone(),
        pid: i64::from(exec.pid),
    }
}
