//! Stages on bases of every kind.

use super::*;
use crate::outline::outline;
use serde_json::json;

fn planned(text: &str, base: serde_json::Value, arguments: &[(&str, &str)]) -> Result<Plan> {
    let file = Dockerfile::parse(text)?;
    let wanted = Wanted {
        target: None,
        arguments: arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        platform: "linux/amd64".parse().unwrap(),
        build_platform: "linux/amd64".parse().unwrap(),
        ..Wanted::default()
    };
    let outline = outline(&file, &wanted)?;
    let base = serde_json::from_value(base).unwrap();
    plan(&file, &outline, &wanted, outline.target, &base, Arguments::new())
}

fn commands(plan: &Plan) -> Vec<&Command> {
    let commands = plan.steps.iter().filter_map(|step| match &step.operation {
        Some(Operation::Run(command)) => Some(command),
        _ => None,
    });
    commands.collect()
}

fn files(plan: &Plan) -> Vec<&Files> {
    let files = plan.steps.iter().filter_map(|step| match &step.operation {
        Some(Operation::Files(files)) => Some(files),
        _ => None,
    });
    files.collect()
}

#[test]
fn commands_see_the_environment_and_then_the_arguments() {
    let text = "ARG G=global\nFROM a\nARG G\nARG TARGETARCH\nARG UNSET\nARG D=${G}-x\nARG E=before\nENV E=$D\nENV L=env\nARG L=later\nUSER u\nWORKDIR w\nRUN env";
    let base = json!({"Env": ["PATH=/bin"], "WorkingDir": "/base", "Shell": ["/bin/bash", "-c"]});
    let plan = planned(text, base, &[("G", "given"), ("HTTP_PROXY", "http://p"), ("OTHER", "x")]).unwrap();
    let [command] = commands(&plan)[..] else { panic!("one command") };
    assert_eq!(command.program, Program::Words(["/bin/bash", "-c", "env"].map(str::to_owned).to_vec()));
    assert_eq!(
        command.env,
        ["PATH=/bin", "E=given-x", "L=later", "D=given-x", "G=given", "TARGETARCH=amd64"]
    );
    assert_eq!(command.uncached_env, ["HTTP_PROXY=http://p", "http_proxy=http://p"]);
    assert_eq!((command.user.as_str(), command.directory.as_str()), ("u", "/base/w"));
    assert_eq!(plan.config.env, ["PATH=/bin", "E=given-x", "L=env"], "no argument becomes part of the image");
    let last = plan.steps.last().unwrap();
    let arguments = "|6 G=given TARGETARCH=amd64 UNSET= D=given-x E=given-x L=later";
    assert_eq!(last.history, Some(format!("RUN {arguments} /bin/bash -c env # buildkit")));
    let declared = ["ARG G", "ARG D=given-x", "ARG E=before"];
    for text in declared {
        assert!(plan.steps.iter().any(|step| step.history.as_deref() == Some(text)), "{text}");
    }
    let directory = Directory { path: "/base/w".to_owned(), owner: "u".to_owned() };
    assert!(plan.steps.iter().any(|step| step.operation == Some(Operation::Directory(directory.clone()))));
}

#[test]
fn files_have_absolute_destinations() {
    let text = "FROM a\nARG D=dir\nWORKDIR /w\nCOPY a b\nCOPY a .\nCOPY a $D/\nCOPY --from=x --chown=$D a b /c/../d/\nCOPY <<\"Q\" <<E /e/\n$D\nQ\n\"$D\" \\$D \\\"\nE\nADD --checksum=sha256:$D http://x/y /";
    let plan = planned(text, json!({}), &[]).unwrap();
    let found = files(&plan);
    let destinations: Vec<&str> = found.iter().map(|files| files.transfer.destination.as_str()).collect();
    assert_eq!(destinations, ["/w/b", "/w/", "/w/dir/", "/d/", "/e/", "/"]);
    assert_eq!(found[3].from, Some(Origin::Image("x".to_owned())));
    assert_eq!(found[3].transfer.owner.as_deref(), Some("dir"));
    let inline: Vec<&str> = found[4].transfer.inline.iter().map(|inline| inline.content.as_str()).collect();
    assert_eq!(inline, ["$D\n", "\"dir\" $D \"\n"]);
    let checksum = Some("sha256:dir".to_owned());
    assert_eq!(found[5].rules, FileRules::Add { keep_git_dir: false, checksum, unpack: None });
}

#[test]
fn the_history_has_what_was_meant() {
    for (text, expected) in [
        ("ENV a=$V  \"b c\"='d e'", Some("ENV a=v b c=d e")),
        ("LABEL old $V form", Some("LABEL old=v form")),
        ("WORKDIR sub", Some("WORKDIR /w/sub")),
        ("EXPOSE 81/udp 80 80/TCP", Some("EXPOSE map[80/tcp:{} 81/udp:{}]")),
        ("VOLUME [\"/a b\", \"$V\"]", Some("VOLUME [/a b v]")),
        ("SHELL [\"sh\", \"-c\"]", Some("SHELL [sh -c]")),
        ("CMD run   \"$V\"", Some("CMD [\"/bin/sh\" \"-c\" \"run   \\\"$V\\\"\"]")),
        ("ENTRYPOINT [ \"a\",\"b\" ]", Some("ENTRYPOINT [\"a\" \"b\"]")),
        (
            "HEALTHCHECK --retries=3 CMD x",
            Some("HEALTHCHECK &{[\"CMD-SHELL\" \"x\"] \"0s\" \"0s\" \"0s\" \"0s\" '\\x03'}"),
        ),
        ("ONBUILD RUN x", None),
        (
            "COPY --from=x --chmod=600 --chown=$V [\"a b\", \"c/\"]",
            Some("COPY --chown=v --chmod=600 a b c/ # buildkit"),
        ),
        ("COPY --chmod=1 <<\"E\" f $V/\nE", Some("COPY --chmod=1 f <<E v/ # buildkit")),
        ("ADD --link f  ./", Some("ADD f ./ # buildkit")),
        ("RUN <<X\n#!/bin/x\nX", Some("RUN /bin/sh -c /dev/pipes/X # buildkit")),
    ] {
        let plan = planned(&format!("FROM a\nENV V=v\nWORKDIR /w\n{text}"), json!({}), &[]).unwrap();
        assert_eq!(plan.steps[2].history.as_deref(), expected, "{text}");
    }
}

#[test]
fn triggers_keep_their_here_documents() {
    let plan = planned("FROM a\nONBUILD RUN <<-A cat\n\tone\n\tA\n", json!({}), &[]).unwrap();
    assert_eq!(plan.config.on_build, ["RUN <<-A cat\n\tone\nA"]);
    let base = json!({"OnBuild": plan.config.on_build});
    let plan = planned("FROM a", base, &[]).unwrap();
    let words = Program::Words(["/bin/sh", "-c", "<<-A cat\n\tone\nA"].map(str::to_owned).to_vec());
    assert_eq!(commands(&plan)[0].program, words);
}

#[test]
fn triggers_of_the_base_come_first_and_are_gone() {
    let base = json!({"OnBuild": ["ENV A=1", "COPY x /x"], "Cmd": ["old"], "Env": ["PATH=/bin", "A=0"]});
    let plan = planned("FROM a\nENV B=$A\nONBUILD RUN later\nENTRYPOINT [\"e\"]", base, &[]).unwrap();
    assert_eq!(plan.config.env, ["PATH=/bin", "A=1", "B=1"]);
    assert_eq!(plan.config.on_build, ["RUN later"]);
    assert_eq!((plan.config.cmd.clone(), plan.config.entrypoint.clone()), (None, Some(vec!["e".to_owned()])));
    assert_eq!(plan.steps[1].text, "COPY x /x");
}

#[test]
fn what_would_be_too_much_for_all_commands_together_is_refused() {
    let variables: String = (0..40_000).map(|number| format!(" v{number}=1")).collect();
    let lookups = format!("FROM a\nENV{variables}\nENV x={}\n", "$none".repeat(1000));
    let commands = format!("FROM a\nENV{variables}\n{}", "RUN x\n".repeat(5000));
    let arguments = format!("FROM a\nARG{variables}\n{}", "RUN x\n".repeat(5000));
    for (text, expected) in [
        (lookups, "work of finding variables"),
        (commands, "sum of all environments"),
        (arguments, "sum of all environments"),
    ] {
        let error = planned(&text, json!({}), &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_image_has_a_path_although_its_base_has_none() {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let plan = planned("FROM scratch\nENV P=$PATH:/x", json!({}), &[]).unwrap();
    assert_eq!(plan.config.env, [format!("PATH={path}"), format!("P={path}:/x")]);
}

#[test]
fn mounts_are_resolved_like_everything_else() {
    let text = "FROM a AS base\nFROM b\nARG N=go\nWORKDIR /w\nRUN --mount=type=cache,id=$N,target=c --mount=from=base,source=/$N,target=/m true";
    let plan = planned(text, json!({}), &[]).unwrap();
    let [command] = commands(&plan)[..] else { panic!("one command") };
    let [(cache, None), (bind, Some(from))] = &command.mounts[..] else {
        panic!("two mounts: {:?}", command.mounts)
    };
    assert_eq!((cache.id.as_deref(), cache.target.as_deref()), (Some("go"), Some("/w/c")));
    assert_eq!((bind.source.as_deref(), from), (Some("/go"), &Origin::Stage(0)));
}

#[test]
fn what_is_found_out_late_has_its_place_too() {
    let cases = [
        ("FROM a\nENV A=${B?gone}", 2, "B: gone"),
        ("FROM a\n\nCOPY a b c", 3, "the destination must be a directory and end with a /, not c"),
        ("FROM a\nCOPY a $NOTHING", 2, "the destination is empty"),
        ("FROM a\nEXPOSE x", 2, "invalid containerPort: x"),
    ];
    for (text, line, expected) in cases {
        match planned(text, json!({}), &[]).unwrap_err() {
            Error::At { line: found, source, .. } => {
                assert!(found == line && source.to_string().contains(expected), "{text:?}: {found} {source}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}
