//! The shim as the engine sees it: real containers of a busybox root, over the protocol.

mod harness;

use coracle_runtime::protocol::{Attachment, Event, FailureKind, Message, Reply, Request, Stdin};
use harness::{Bench, plan};
use std::fs::File;
use std::io::Read;

#[test]
fn output_is_delivered_logged_and_the_exit_code_recorded() {
    let bench = Bench::new();
    let mut plan = plan(&bench, &["sh", "-c", "echo out; echo err >&2; exit 42"]);
    let client = bench
        .attach(&mut plan, Attachment { stdout: true, stderr: true, owner: true, ..Attachment::default() });
    let mut shim = bench.start(&plan).unwrap();
    let exit = shim.exited();
    assert_eq!((exit.code, exit.oom_killed), (42, false));
    assert_eq!(harness::demultiplex(&harness::read_all(client)), ("out\n".into(), "err\n".into()));
    let log = std::fs::read_to_string(bench.log()).unwrap();
    assert!(
        log.contains(r#""log":"out\n","stream":"stdout""#)
            && log.contains(r#""log":"err\n","stream":"stderr""#)
    );
    assert_eq!(coracle_runtime::shim::record::read_exit(&bench.state()).unwrap().code, 42);
    shim.forget();
    bench.assert_nothing_is_left();
}

#[test]
fn input_reaches_the_process_and_its_end_too() {
    let bench = Bench::new();
    let mut plan = plan(&bench, &["cat"]);
    plan.stdin = Stdin::Once;
    let attachment =
        Attachment { stdin: true, stdout: true, stderr: true, owner: true, ..Attachment::default() };
    let client = bench.attach(&mut plan, attachment);
    let mut shim = bench.start(&plan).unwrap();
    rustix::io::write(&client, b"hello").unwrap();
    rustix::net::shutdown(&client, rustix::net::Shutdown::Write).unwrap();
    assert_eq!(harness::demultiplex(&harness::read_all(client)).0, "hello");
    assert_eq!(shim.exited().code, 0);
    shim.forget();
    bench.assert_nothing_is_left();
}

#[test]
fn a_missing_program_is_told_apart_from_one_that_cannot_be_run() {
    for (program, kind, text) in [
        (
            "no-such-program",
            FailureKind::NotFound,
            "exec: \"no-such-program\": executable file not found in $PATH",
        ),
        ("/no/such", FailureKind::NotFound, "exec: \"/no/such\": no such file or directory"),
        ("/etc", FailureKind::NotExecutable, "exec: \"/etc\": is a directory"),
        ("/etc/passwd", FailureKind::NotExecutable, "exec: \"/etc/passwd\": permission denied"),
    ] {
        let bench = Bench::new();
        let failure = bench.start(&plan(&bench, &[program])).unwrap_err();
        assert_eq!((failure.kind, failure.text.as_str()), (kind, text));
        bench.assert_nothing_is_left();
    }
}

#[test]
fn nothing_runs_of_a_container_that_cannot_be_logged() {
    let bench = Bench::new();
    let mut plan = plan(&bench, &["sh", "-c", "echo ran >/tmp/ran; sleep 1000"]);
    plan.log.as_mut().unwrap().path = bench.path("missing/log");
    let failure = bench.start(&plan).unwrap_err();
    assert!(failure.text.contains("missing/log"), "{failure:?}");
    bench.assert_nothing_is_left();
    assert!(!bench.upper().join("tmp/ran").exists(), "the program was not started");
}

#[test]
fn a_shim_is_found_again_by_its_socket_after_its_engine_is_gone() {
    let bench = Bench::new();
    let shim = bench
        .start(&plan(&bench, &["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"]));
    let pid = shim.unwrap().abandon();
    bench.wait_for_log("ready");
    let mut found = bench.find();
    let Reply::State(state) = found.ask(&Request::State) else { panic!("no state") };
    assert_eq!(state.pid, Some(pid));
    found.ask(&Request::Signal { exec: None, number: 15 });
    assert_eq!(found.exited().code, 3);
    found.forget();
    bench.assert_nothing_is_left();
}

#[test]
fn without_an_engine_the_exit_is_on_record_and_the_shim_ends() {
    let bench = Bench::new();
    let shim = bench
        .start(&plan(&bench, &["sh", "-c", "while ! test -e /go; do sleep 0.01; done; exit 9"]))
        .unwrap();
    let pid = shim.abandon();
    // Nobody is connected any more when the container is told to end.
    std::fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
    assert_eq!(bench.wait_for_exit_record().code, 9);
    bench.assert_nothing_is_left();
}

#[test]
fn a_terminal_has_a_size_a_controlling_process_and_a_console() {
    let bench = Bench::new();
    let script = "tty; stty size; test -c /dev/console && echo console; echo x > /dev/tty";
    let mut plan = plan(&bench, &["sh", "-c", script]);
    let process = plan.spec.process.as_mut().unwrap();
    process.terminal = true;
    process.console_size = Some(coracle_spec::runtime::ConsoleSize { height: 33, width: 77 });
    let attachment =
        Attachment { stdin: true, stdout: true, stderr: true, owner: true, ..Attachment::default() };
    let client = bench.attach(&mut plan, attachment);
    let mut shim = bench.start(&plan).unwrap();
    let text = harness::read_all(client);
    assert_eq!(String::from_utf8(text).unwrap(), "/dev/pts/0\r\n33 77\r\nconsole\r\nx\r\n");
    assert_eq!(shim.exited().code, 0);
    shim.forget();
    bench.assert_nothing_is_left();
}

#[test]
fn an_exec_joins_the_container_and_its_exit_is_told() {
    let bench = Bench::new();
    let mut shim = bench.start(&plan(&bench, &["sleep", "100"])).unwrap();
    let (ours, theirs) = harness::stream_pair();
    let execution = harness::execution(
        "one",
        &["sh", "-c", "echo $$; readlink /proc/self/ns/pid; readlink /proc/1/ns/pid; exit 5"],
    );
    let reply = shim.ask_with(&Request::Exec(Box::new(execution)), &[theirs]);
    assert!(matches!(reply, Reply::Started { .. }), "{reply:?}");
    let output = harness::demultiplex(&harness::read_all(ours)).0;
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[1], lines[2], "the exec is in the container's pid namespace: {output}");
    assert_eq!(shim.event(), Event::ExecExited { exec: "one".into(), code: 5 });
    shim.ask(&Request::Signal { exec: None, number: 9 });
    assert_eq!(shim.exited().code, 137);
    shim.forget();
    bench.assert_nothing_is_left();
}

#[test]
fn an_exec_is_killed_with_what_it_has_started_when_somebody_says_so_or_its_time_is_over() {
    let bench = Bench::new();
    let mut plan = plan(&bench, &["sleep", "1000"]);
    plan.init = true;
    let mut shim = bench.start(&plan).unwrap();
    for lifetime in [None, Some(200)] {
        let (ours, theirs) = harness::stream_pair();
        // A child, one that has lost its parent, and one in a session of its own.
        let script = "sleep 1000 & (sleep 1000 &); setsid sleep 1000 & echo ready; wait";
        let mut execution = harness::execution("late", &["sh", "-c", script]);
        execution.lifetime = lifetime;
        shim.ask_with(&Request::Exec(Box::new(execution)), &[theirs]);
        if lifetime.is_none() {
            let mut begin = [0; 14];
            File::from(ours.try_clone().unwrap()).read_exact(&mut begin).unwrap();
            shim.ask(&Request::Signal { exec: Some("late".into()), number: 9 });
        }
        assert_eq!(shim.event(), Event::ExecExited { exec: "late".into(), code: 137 });
        // Ends when nobody holds the output any more.
        harness::read_all(ours);
    }
    shim.ask(&Request::Signal { exec: None, number: 9 });
    assert_eq!(shim.exited().code, 137);
    shim.forget();
    bench.assert_nothing_is_left();
}

#[test]
fn a_reaper_collects_orphans_and_ends_as_its_program_does() {
    let bench = Bench::new();
    let mut plan = plan(&bench, &["sh", "-c", "(sleep 0.01 &); sleep 0.1; ps -o stat | grep -c Z; exit 6"]);
    plan.init = true;
    let client = bench.attach(&mut plan, Attachment { stdout: true, owner: true, ..Attachment::default() });
    let mut shim = bench.start(&plan).unwrap();
    assert_eq!(harness::demultiplex(&harness::read_all(client)).0, "0\n");
    assert_eq!(shim.exited().code, 6);
    shim.forget();
    bench.assert_nothing_is_left();
}

#[test]
fn a_message_is_either_a_reply_or_an_event() {
    let message = Message::Event(Event::OutOfMemory);
    let text = serde_json::to_string(&message).unwrap();
    assert_eq!(text, r#"{"event":"out_of_memory"}"#);
}
