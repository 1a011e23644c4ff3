//! Each rule with a text that breaks it and one that does not.

use super::*;
use proptest::prelude::*;

fn warnings(text: &str, ignore: &str, environment: Option<&[&str]>) -> Vec<Warning> {
    let file = Dockerfile::parse(text).unwrap();
    let wanted = Wanted {
        platform: "linux/amd64".parse().unwrap(),
        build_platform: "linux/amd64".parse().unwrap(),
        ..Wanted::default()
    };
    let ignored = Ignored::parse(ignore).unwrap();
    let environment = |_: usize| environment.map(|env| env.iter().map(|entry| (*entry).to_owned()).collect());
    let around = Surroundings { wanted: &wanted, ignored: Some(&ignored), environment: &environment };
    check(text, &file, &around).unwrap()
}

/// What is said of one rule, with the first line it is about.
fn said(text: &str, rule: Rule) -> Vec<(usize, String)> {
    let all = warnings(&format!("# check=experimental=all\n{text}"), "hidden\n*.md\n", Some(&["HOME=/root"]));
    all.into_iter().filter(|one| one.rule == rule).map(|one| (one.lines.first - 1, one.text)).collect()
}

#[test]
fn rules_that_are_broken_are_told_with_their_place() {
    let cases = [
        (Rule::StageNameCasing, "FROM a AS Build", 1, "Stage name 'Build' should be lowercase"),
        (Rule::FromAsCasing, "FROM a as b", 1, "'as' and 'FROM' keywords' casing do not match"),
        (Rule::FromAsCasing, "from a AS b", 1, "'AS' and 'from' keywords' casing do not match"),
        (Rule::NoEmptyContinuation, "FROM a\nRUN x && \\\n\n  y", 3, "Empty continuation line"),
        (
            Rule::ConsistentInstructionCasing,
            "FROM a\nRUN x\nrun y",
            3,
            "Command 'run' should match the case of the command majority (uppercase)",
        ),
        (
            Rule::ConsistentInstructionCasing,
            "from a\nrun x\nRun y",
            3,
            "Command 'Run' should match the case of the command majority (lowercase)",
        ),
        (
            Rule::DuplicateStageName,
            "FROM a AS x\nFROM b AS x",
            2,
            "Duplicate stage name \"x\", stage names should be unique",
        ),
        (
            Rule::ReservedStageName,
            "FROM a AS scratch",
            1,
            "Stage name should not use the same name as reserved stage \"scratch\"",
        ),
        (
            Rule::JSONArgsRecommended,
            "FROM a\nCMD x",
            2,
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ),
        (
            Rule::MaintainerDeprecated,
            "FROM a\nMAINTAINER me",
            2,
            "Maintainer instruction is deprecated in favor of using label",
        ),
        (
            Rule::UndefinedArgInFrom,
            "ARG VERSION=1\nFROM a:$VERSIN",
            2,
            "FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
        ),
        (
            Rule::WorkdirRelativePath,
            "FROM a\nWORKDIR app",
            2,
            "Relative workdir \"app\" can have unexpected results if the base image changes",
        ),
        (
            Rule::UndefinedVar,
            "FROM a\nARG HOST=1\nCOPY $HOSTT /x",
            3,
            "Usage of undefined variable '$HOSTT' (did you mean HOST?)",
        ),
        (
            Rule::MultipleInstructionsDisallowed,
            "FROM a\nCMD [\"x\"]\nRUN y\nCMD [\"z\"]",
            2,
            "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            Rule::LegacyKeyValueFormat,
            "FROM a\nENV A b c",
            2,
            "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        ),
        (
            Rule::RedundantTargetPlatform,
            "FROM --platform=$TARGETPLATFORM a",
            1,
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        (
            Rule::SecretsUsedInArgOrEnv,
            "FROM a\nARG AWS_SECRET_ACCESS_KEY",
            2,
            "Do not use ARG or ENV instructions for sensitive data (ARG \"AWS_SECRET_ACCESS_KEY\")",
        ),
        (
            Rule::SecretsUsedInArgOrEnv,
            "ARG TOKEN\nFROM a",
            1,
            "Do not use ARG or ENV instructions for sensitive data (ARG \"TOKEN\")",
        ),
        (
            Rule::InvalidDefaultArgInFrom,
            "ARG TAG\nFROM a:${TAG}",
            2,
            "Default value for ARG a:${TAG} results in empty or invalid base image name",
        ),
        (
            Rule::FromPlatformFlagConstDisallowed,
            "FROM --platform=linux/arm64 a AS b",
            1,
            "FROM --platform flag should not use constant value \"linux/arm64\"",
        ),
        (
            Rule::CopyIgnoredFile,
            "FROM a\nCOPY hidden /x",
            2,
            "Attempting to Copy file \"hidden\" that is excluded by .dockerignore",
        ),
        (
            Rule::InvalidDefinitionDescription,
            "# the base\nFROM a AS base",
            2,
            "Comment for base should follow the format: `# base <description>`",
        ),
        (
            Rule::ExposeProtoCasing,
            "FROM a\nEXPOSE 80/TCP",
            2,
            "Defined protocol 'TCP' in EXPOSE instruction should be lowercase",
        ),
        (
            Rule::ExposeInvalidFormat,
            "FROM a\nEXPOSE 127.0.0.1:80:80",
            2,
            "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        ),
    ];
    for (rule, text, line, expected) in cases {
        assert_eq!(said(text, rule), [(line, expected.to_owned())], "{text:?}");
    }
}

#[test]
fn what_is_well_is_not_complained_of() {
    let fine = "# syntax=docker/dockerfile:1\n# VERSION which one\nARG VERSION=1\n\n# anything\n\nFROM --platform=$BUILDPLATFORM a:$VERSION AS build\n\
        ARG PUBLIC_KEY\nARG VERSION\nENV A=$VERSION B=${C:-x} D=$HOME E=$PATH\nWORKDIR /w\nWORKDIR x\nRUN echo $UNDEFINED && \\\n    # about\n    true\n\
        RUN <<EOF\n\nafter an empty line\nEOF\nCOPY $A *.md visible '$literal' \\$escaped /x/\nEXPOSE 80 53/udp $A\n\
        FROM --platform=linux/arm64 b AS build-arm64\nCMD [\"x\"]\nFROM build\nSHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT x\nENV X=$A\nWORKDIR y\n";
    let all =
        warnings(&fine.replacen('\n', "\n# check=experimental=all\n", 1), "hidden\n", Some(&["HOME=/root"]));
    assert_eq!(all, []);
    assert_eq!(warnings("FROM a\nENV A=$WHAT", "", None), [], "the base may have it");
    assert_eq!(warnings("FROM scratch\nENV A=$WHAT", "", None).len(), 1);
}

#[test]
fn a_file_says_which_checks_it_wants() {
    let broken = "FROM a\nCMD x\nMAINTAINER me\nCOPY hidden /\n";
    let rules = |directive: &str| -> Vec<Rule> {
        warnings(&format!("{directive}\n{broken}"), "hidden\n", None).iter().map(|one| one.rule).collect()
    };
    use Rule::{CopyIgnoredFile, JSONArgsRecommended, MaintainerDeprecated};
    assert_eq!(rules("#"), [JSONArgsRecommended, MaintainerDeprecated]);
    assert_eq!(rules("# check=skip=all"), []);
    assert_eq!(rules("# check=skip=JSONArgsRecommended,Unknown;error=true"), [MaintainerDeprecated]);
    assert_eq!(
        rules("# check=experimental=CopyIgnoredFile"),
        [JSONArgsRecommended, MaintainerDeprecated, CopyIgnoredFile]
    );
    assert!(CheckOptions::parse("skip=all;error=true").unwrap().is_error);
    for text in ["error=perhaps", "skipp=all", "all"] {
        assert!(CheckOptions::parse(text).is_err(), "{text}");
    }
}

#[test]
fn rules_have_names_and_pages() {
    for (rule, name, page) in [
        (Rule::JSONArgsRecommended, "JSONArgsRecommended", "json-args-recommended"),
        (
            Rule::FromPlatformFlagConstDisallowed,
            "FromPlatformFlagConstDisallowed",
            "from-platform-flag-const-disallowed",
        ),
        (Rule::SecretsUsedInArgOrEnv, "SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
    ] {
        assert_eq!(rule.name(), name);
        assert!(rule.url().ends_with(&format!("/{page}/")), "{}", rule.url());
    }
    assert!(Rule::ALL.into_iter().all(|rule| Rule::named(&rule.name()) == Some(rule)));
}

proptest! {
    #[test]
    fn nothing_makes_a_check_panic(text in r#"(FROM |AS |RUN |COPY |ARG |ENV |EXPOSE |# check=|# |\\\n|\n|<<A|[ \t`"'$\{\}=:,/.a-cA-C0-9-]|é){0,60}"#) {
        if let Ok(file) = Dockerfile::parse(&text) {
            let wanted = Wanted::default();
            let around = Surroundings { wanted: &wanted, ignored: None, environment: &|_| Some(Vec::new()) };
            // Refusing is fine; the same answer twice is not optional.
            prop_assert_eq!(check(&text, &file, &around), check(&text, &file, &around));
        }
    }
}
