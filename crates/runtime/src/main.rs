//! The program `coracle-runtime`: the parent of a container (`shim`), and the reaper in one that another runtime makes
//! (`init -- PROGRAM ARGUMENTS`).
#![forbid(unsafe_code)]
#![no_main]

use coracle_runtime::Error;

coracle_sys::entry_point!(run);

fn run() -> i32 {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|word| word.to_str()) {
        Some("shim") => match coracle_runtime::shim::run() {
            Ok(()) => 0,
            Err(error) => fail(&error.chain()),
        },
        Some("init") => {
            let Err(error) = coracle_runtime::sandbox::reap_for(arguments.skip(1));
            fail(&error.chain());
            match error {
                Error::NotFound { .. } => 127,
                Error::NotExecutable { .. } => 126,
                _ => 1,
            }
        }
        _ => fail("usage: coracle-runtime shim (started by the engine, with its socket as descriptor 3)"),
    }
}

#[expect(clippy::print_stderr, reason = "the shim's log, and the answer to a wrong command line")]
fn fail(text: &str) -> i32 {
    eprintln!("coracle-runtime: {text}");
    1
}
