//! `exec`.

use coracle_api::container::{ExecCreateRequest, ExecStartRequest};

use super::{App, with_surroundings};
use crate::args::container::ExecArgs;
use crate::error::{Result, start_failure};
use crate::resolve::Invalid;
use crate::resolve::container::environment_of;
use crate::terminal::detach::DetachKeys;
use crate::terminal::raw;
use crate::terminal::session::{End, Session, Target};
use crate::terminal::signals::Signals;

pub(super) async fn exec(app: &App, args: ExecArgs) -> Result<u8> {
    let args = ExecArgs { detach_keys: app.detach_keys(&args.detach_keys).to_owned(), ..args };
    let keys = DetachKeys::parse(&args.detach_keys)?;
    let (container, command) = args.container_and_command.split_first().expect("clap asks for two");
    let stdin = args.interactive && !args.detach;
    if args.tty && stdin && !raw::stdin_is_terminal() {
        return Err(Invalid("the input device is not a TTY".into()).into());
    }
    let request = create_request(&args, command)?;
    let client = app.client().await?;
    let exec = client.create_exec(container, &request).await?.id;
    let start = ExecStartRequest { detach: args.detach, tty: args.tty, console_size: request.console_size };
    if args.detach {
        client.start_exec_detached(&exec, &start).await.map_err(start_failure)?;
        return Ok(0);
    }
    let mut signals = Signals::catch()?;
    let hijacked = client.start_exec(&exec, &start).await.map_err(start_failure)?;
    // Signals cannot be sent to an exec through the API: they end the session.
    let session = Session { target: Target::Exec(exec.clone()), tty: args.tty, stdin, keys, proxy: false };
    session.resize(&client).await;
    match session.run(&client, hijacked, &mut signals).await? {
        End::Detached => Ok(0),
        End::Signal(number) => Ok(128 + number),
        End::Output => {
            let code = client.inspect_exec(&exec).await?.exit_code.unwrap_or(0);
            Ok(u8::try_from(code).unwrap_or(125))
        }
    }
}

fn create_request(args: &ExecArgs, command: &[String]) -> Result<ExecCreateRequest> {
    let env = with_surroundings(|surroundings| environment_of(&args.env, &args.env_file, surroundings))?;
    let size = raw::size().filter(|_| args.tty);
    Ok(ExecCreateRequest {
        user: args.user.clone(),
        privileged: args.privileged,
        tty: args.tty,
        console_size: size.map(|(rows, columns)| [rows.into(), columns.into()]),
        attach_stdin: args.interactive && !args.detach,
        attach_stdout: !args.detach,
        attach_stderr: !args.detach,
        detach: args.detach,
        detach_keys: args.detach_keys.clone(),
        env: (!env.is_empty()).then_some(env),
        working_dir: args.workdir.clone(),
        cmd: Some(command.to_vec()),
    })
}
