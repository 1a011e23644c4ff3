//! Instructions, well-formed and not.

use super::*;
use crate::limits;
use proptest::prelude::*;

fn exec(words: &[&str]) -> Option<CommandLine> {
    Some(CommandLine::Exec(strings(words)))
}

fn line(text: &str) -> Option<CommandLine> {
    Some(CommandLine::Shell(text.to_owned()))
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn pairs_of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().copied().map(owned).collect()
}

#[test]
fn instructions_are_read_in_all_their_forms() {
    let cases = [
        (r#"CMD ["a", "b c"]"#, Change::Cmd(exec(&["a", "b c"]))),
        ("cmd echo $HOME 'x'", Change::Cmd(line("echo $HOME 'x'"))),
        ("CMD ['a']", Change::Cmd(line("['a']"))),
        ("CMD []", Change::Cmd(exec(&[]))),
        ("CMD", Change::Cmd(None)),
        ("ENTRYPOINT [\"/x\"]", Change::Entrypoint(exec(&["/x"]))),
        ("ENTRYPOINT []", Change::Entrypoint(None)),
        ("ENTRYPOINT", Change::Entrypoint(None)),
        (
            "ENV A=1 B=\"two words\" C=d\\ e",
            Change::Env(pairs_of(&[("A", "1"), ("B", "\"two words\""), ("C", "d\\ e")])),
        ),
        ("ENV A the rest = of it", Change::Env(pairs_of(&[("A", "the rest = of it")]))),
        ("ENV A=", Change::Env(pairs_of(&[("A", "")]))),
        ("LABEL a.b=c \"d e\"=f", Change::Label(pairs_of(&[("a.b", "c"), ("\"d e\"", "f")]))),
        ("EXPOSE 80 443/tcp 53/udp", Change::Expose(strings(&["80", "443/tcp", "53/udp"]))),
        ("ONBUILD  RUN make  all", Change::OnBuild("RUN make  all".to_owned())),
        (r#"SHELL ["/bin/bash", "-c"]"#, Change::Shell(strings(&["/bin/bash", "-c"]))),
        ("STOPSIGNAL SIGINT", Change::StopSignal("SIGINT".to_owned())),
        ("USER  me:us ", Change::User("me:us".to_owned())),
        ("VOLUME /a /b", Change::Volume(strings(&["/a", "/b"]))),
        (r#"VOLUME ["/a b"]"#, Change::Volume(strings(&["/a b"]))),
        ("WORKDIR /a b", Change::Workdir("/a b".to_owned())),
        ("# why\nUSER me", Change::User("me".to_owned())),
        ("ENV A=1 \\\n B=2", Change::Env(pairs_of(&[("A", "1"), ("B", "2")]))),
        (
            "HEALTHCHECK --interval=1m --timeout=3s --start-period=1.5s --start-interval=5ms --retries=4 CMD curl x",
            Change::Healthcheck(Healthcheck {
                test: strings(&["CMD-SHELL", "curl x"]),
                interval: 60_000_000_000,
                timeout: 3_000_000_000,
                start_period: 1_500_000_000,
                start_interval: 5_000_000,
                retries: 4,
                ..Healthcheck::default()
            }),
        ),
        (
            r#"HEALTHCHECK CMD ["a", "--b"]"#,
            Change::Healthcheck(Healthcheck {
                test: strings(&["CMD", "a", "--b"]),
                ..Healthcheck::default()
            }),
        ),
        (
            "healthcheck none",
            Change::Healthcheck(Healthcheck { test: strings(&["NONE"]), ..Healthcheck::default() }),
        ),
        (
            "HEALTHCHECK --interval=3s NONE",
            Change::Healthcheck(Healthcheck { test: strings(&["NONE"]), ..Healthcheck::default() }),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_change(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_in_dockers_words() {
    let long = format!("ENV A={}", "x".repeat(limits::TEXT));
    let cases = [
        ("FROM x", "FROM is not a valid change command"),
        ("Run x", "Run is not a valid change command"),
        ("", "file with no instructions"),
        ("USER a\nUSER b", "more than one instruction"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "Syntax error - can't find = in \"B\". Must be of the form: name=value"),
        ("ENV =1", "ENV names can not be blank"),
        ("LABEL", "LABEL requires at least one argument"),
        ("LABEL =x", "LABEL names can not be blank"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR ", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        (r#"VOLUME [" "]"#, "VOLUME specified can not be an empty string"),
        ("CMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("SHELL /bin/sh", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD onbuild RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("USER --x me", "unknown flag: --x"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK RUN x", "Unknown type \"RUN\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=1us CMD x", "Interval \"interval\" cannot be less than 1ms"),
        ("HEALTHCHECK --interval=x CMD x", "invalid duration: x"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --color=red CMD x", "unknown flag: --color"),
        ("HEALTHCHECK --retires=1 CMD x", "unknown flag: --retires (did you mean retries?)"),
        ("HEALTHCHECK --inteval=1s NONE", "unknown flag: --inteval (did you mean interval?)"),
        ("HEALTHCHECK --retries=1 --retries=2 CMD x", "duplicate flag specified: retries"),
        (&long, "text of the instructions, in bytes, is larger than the 1048576 allowed"),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_change(text).unwrap_err().to_string(), expected, "{text:.60}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        name in "(CMD|ENTRYPOINT|ENV|EXPOSE|LABEL|ONBUILD|USER|VOLUME|WORKDIR|STOPSIGNAL|HEALTHCHECK|SHELL|x)",
        rest in r#"([ \t\n\\"'$\{\}\[\]=:,/.#a-c0-9-]|--interval=|CMD|é|🦀){0,40}"#,
    ) {
        if let Ok(changes) = parse_changes(&[format!("{name} {rest}")]) {
            let mut config = coracle_spec::image::RunConfig::default();
            // Refusing is fine.
            let _ = crate::apply_all(&mut config, &changes);
        }
    }
}
