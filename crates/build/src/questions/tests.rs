//! What is said of a Dockerfile, as docker 26 says it of the same one.

use super::*;
use crate::outline::outline;

const FILE: &str = "# UNIVERSE the base tag\nARG UNIVERSE=latest\nARG UNUSED=1\n# first the first stage\nFROM scratch AS first\nARG UNIVERSE\n\
    # WHO who is greeted\n# OTHER the other\nARG WHO=you OTHER\nARG NOTUSED\nENV X=$WHO\n\
    RUN --mount=type=secret,id=s1,required=true --mount=type=secret,target=/a/s2 --mount=type=ssh --mount=type=cache,target=/c echo $WHO\n\
    FROM busybox:$UNIVERSE as second\nFROM second AS side\nARG SIDE=1\nRUN echo hi $SIDE\n# final what you want\n\
    FROM --platform=$BUILDPLATFORM first AS final\nCOPY --from=side /x /x\nARG LAST=$SIDE\nARG WHO=again\n\
    RUN --mount=type=ssh,id=k,required echo $LAST\nFROM scratch\n";

fn asked(target: Option<&str>, given: &[(&str, &str)]) -> Parameters {
    let file = Dockerfile::parse(FILE).unwrap();
    let wanted = Wanted {
        target: target.map(str::to_owned),
        arguments: given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        platform: "linux/amd64".parse().unwrap(),
        build_platform: "linux/amd64".parse().unwrap(),
        ..Wanted::default()
    };
    let outline = outline(&file, &wanted).unwrap();
    parameters(FILE, &file, &outline, &wanted).unwrap()
}

#[test]
fn stages_are_told_as_they_are_written() {
    let file = Dockerfile::parse(FILE).unwrap();
    let told: Vec<_> = targets(FILE, &file)
        .unwrap()
        .into_iter()
        .map(|t| (t.name, t.description, t.base, t.platform, t.is_default, t.lines.first))
        .collect();
    let row = |name: &str, about: &str, base: &str, platform: &str, default, line| {
        (name.to_owned(), about.to_owned(), base.to_owned(), platform.to_owned(), default, line)
    };
    assert_eq!(
        told,
        [
            row("first", "the first stage", "scratch", "", false, 5),
            row("second", "", "busybox:$UNIVERSE", "", false, 13),
            row("side", "", "second", "", false, 14),
            row("final", "what you want", "first", "$BUILDPLATFORM", false, 18),
            row("", "", "scratch", "", true, 23),
        ]
    );
}

#[test]
fn arguments_are_those_that_count_for_the_target() {
    let all = asked(Some("final"), &[("NOTUSED", "given")]);
    assert_eq!((all.name.as_str(), all.description.as_str()), ("final", "what you want"));
    let told: Vec<_> = all
        .arguments
        .iter()
        .map(|one| (one.name.as_str(), one.value.as_str(), one.description.as_str(), one.lines.first))
        .collect();
    assert_eq!(
        told,
        [
            ("UNIVERSE", "latest", "the base tag", 2),
            ("OTHER", "", "the other", 9),
            ("NOTUSED", "given", "", 10),
            ("SIDE", "1", "", 15),
            ("LAST", "", "", 20),
            ("WHO", "again", "", 21),
        ]
    );
    let side = asked(Some("side"), &[]);
    let names: Vec<&str> = side.arguments.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["UNIVERSE", "SIDE"], "what a FROM line below uses counts");
    assert_eq!(asked(None, &[]), Parameters::default());
}

#[test]
fn what_a_client_lends_is_told_with_its_place() {
    let all = asked(Some("final"), &[]);
    let loans = |loans: &[Loan]| -> Vec<(String, bool, usize)> {
        loans.iter().map(|loan| (loan.name.clone(), loan.required, loan.lines.first)).collect()
    };
    assert_eq!(loans(&all.secrets), [("s1".to_owned(), true, 12), ("s2".to_owned(), false, 12)]);
    assert_eq!(loans(&all.agents), [("default".to_owned(), false, 12), ("k".to_owned(), true, 22)]);
}
