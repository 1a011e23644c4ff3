//! Dockerfiles, well-formed and not.

use super::*;
use crate::instruction::{CommandLine, RunCommand, RunNetwork};
use proptest::prelude::*;

const EXAMPLE: &str = r#"# syntax=docker/dockerfile:1
ARG VERSION=12 \
    VARIANT="slim one"
FROM --platform=$BUILDPLATFORM debian:${VERSION} AS Build
WORKDIR /src
COPY --link --chown=me:us ["a b", "c", "./"]
RUN --mount=type=cache,target=/root/.cache --network=none make \
    # not a comment of make
    all
FROM scratch
COPY --from=build /src/out /
COPY <<config.txt /etc/
x=$VERSION
config.txt
RUN <<EOF
#!/usr/bin/python3
print(1)
EOF
CMD ["/out"]
"#;

#[test]
fn a_file_is_taken_apart_into_stages() {
    let file = Dockerfile::parse(EXAMPLE).unwrap();
    let declared = |name: &str, default: &str| ArgDeclaration {
        name: name.to_owned(),
        default: Some(default.to_owned()),
    };
    assert_eq!(file.arguments, [declared("VERSION", "12"), declared("VARIANT", "\"slim one\"")]);
    assert_eq!((file.stage("BUILD"), file.stage("0"), file.stages.len()), (Some(0), None, 2));
    let [build, last] = &file.stages[..] else { panic!("two stages") };
    assert_eq!(build.from.image, "debian:${VERSION}");
    assert_eq!(build.from.platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!(build.lines, Lines { first: 4, last: 4 });

    let Instruction::Copy(copy) = &build.steps[1].instruction else { panic!("a copy") };
    assert_eq!(
        (copy.files.sources.as_slice(), copy.files.destination.as_str()),
        (&["a b".to_owned(), "c".to_owned()][..], "./")
    );
    assert!(copy.files.link && copy.files.owner.as_deref() == Some("me:us") && copy.from.is_none());
    let Instruction::Run(run) = &build.steps[2].instruction else { panic!("a command") };
    let line = "make     all".to_owned();
    assert_eq!(run.command, RunCommand::Line(CommandLine::Shell(line)));
    assert_eq!((run.mounts.len(), run.network), (1, RunNetwork::None));
    assert_eq!(build.steps[2].lines, Lines { first: 7, last: 9 });

    let Instruction::Copy(copy) = &last.steps[0].instruction else { panic!("a copy") };
    assert_eq!(copy.from.as_deref(), Some("build"));
    let Instruction::Copy(copy) = &last.steps[1].instruction else { panic!("a copy") };
    assert_eq!((copy.files.sources.len(), copy.files.inline[0].content.as_str()), (0, "x=$VERSION\n"));
    let Instruction::Run(run) = &last.steps[2].instruction else { panic!("a command") };
    assert_eq!(
        run.command,
        RunCommand::Script { name: "EOF".to_owned(), text: "#!/usr/bin/python3\nprint(1)\n".to_owned() }
    );
    assert!(matches!(last.steps[3].instruction, Instruction::Change(_)));
    assert_eq!(Dockerfile::parse(EXAMPLE).unwrap(), file, "the same text is the same file");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let cases = [
        ("", 1, 1, "the Dockerfile is empty"),
        ("ARG A=1", 1, 1, "no build stage in it"),
        ("\n\n  RUN x", 3, 3, "no build stage in current context"),
        ("FROM a\nRUM x", 2, 1, "unknown instruction: RUM (did you mean RUN?)"),
        ("FROM a\nXYZZYX x", 2, 1, "unknown instruction: XYZZYX"),
        ("FROM", 1, 1, "FROM requires either one or three arguments"),
        ("FROM a b c", 1, 1, "FROM requires either one or three arguments"),
        ("FROM a AS 1x", 1, 11, "invalid name for build stage: 1x"),
        (
            "FROM a\nCOPY x",
            2,
            1,
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("FROM a\nCOPY --form=b x y", 2, 6, "unknown flag: --form (did you mean from?)"),
        (
            "FROM a\nCOPY --chown=b \\\n  --exlude=c \\\n x y",
            3,
            3,
            "unknown flag: --exlude (did you mean exclude?)",
        ),
        ("FROM a\n  RUN --monut=x y", 2, 7, "unknown flag: --monut (did you mean mount?)"),
        ("FROM a\nÄ x", 2, 1, "unknown instruction: Ä"),
        ("FROM a\nCOPY --link=perhaps x y", 2, 1, "expecting boolean value for flag: link, not perhaps"),
        ("FROM a\nCOPY --from=b --from=c x y", 2, 8, "duplicate flag specified: from"),
        ("FROM a\n\n RUN", 3, 2, "RUN requires at least one argument"),
        ("FROM a\nRUN --network=lan x", 2, 15, "invalid network mode: lan"),
        ("FROM a\nRUN --security=none x", 2, 16, "security is not supported: none"),
        ("FROM a\nADD --checksum=sha256:x a b c", 2, 1, "checksum can't be specified for multiple sources"),
        ("FROM a\nARG", 2, 1, "ARG requires at least one argument"),
        (
            "# syntax=evil/frontend:1\nFROM a",
            1,
            1,
            "evil/frontend:1 is no language that is built in here; only docker/dockerfile is",
        ),
    ];
    for (text, line, column, expected) in cases {
        match Dockerfile::parse(text) {
            Err(Error::At { line: found, column: at, source }) => {
                assert_eq!((found, at, source.to_string().as_str()), (line, column, expected), "{text:?}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in r#"(FROM |RUN |COPY |ADD |ARG |ENV |ONBUILD |--mount=type=cache,|--from=|<<A|<<-"A"|\nA\n|[ \t\n\\`"'$\{\}\[\]=:,/.#a-c0-9-]|é){0,60}"#) {
        // Refusing is fine; the same answer twice is not optional.
        prop_assert_eq!(Dockerfile::parse(&text), Dockerfile::parse(&text));
    }

    #[test]
    fn an_ignore_file_never_panics(text in r#"([*?\[\]!\\/.a-c\n^-]){0,40}"#, path in "[a-c/.]{0,20}") {
        if let Ok(ignored) = crate::Ignored::parse(&text) {
            let _ = ignored.leaves_out(&path);
        }
    }
}
