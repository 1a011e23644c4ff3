//! Every Dockerfile of the end-to-end suite means the same twice, and where one is wrong, the place is told.

mod dockerfiles;

use coracle_build::Error;
use dockerfiles::{all, has_a_place, meant};

#[test]
fn each_means_the_same_twice() {
    let all = all();
    assert!(all.len() >= 60, "only {} Dockerfiles", all.len());
    for (name, text) in all {
        assert_eq!(meant(&text), meant(&text), "{name}");
    }
}

#[test]
fn only_those_that_shall_be_wrong_are_and_they_say_where() {
    for (name, text) in all() {
        match meant(&text) {
            Ok(_) => {}
            Err(error) => {
                assert!(name.starts_with("error_"), "{name}: {error}");
                assert!(has_a_place(&error, &text), "{name}: {error:?}");
            }
        }
    }
}

#[test]
fn a_slip_of_the_pen_is_told_with_what_was_meant() {
    for (text, line, column, hint) in [
        ("FROM a\nCOPPY a b", 2, 1, "did you mean COPY?"),
        ("FROM a\nCOPY --chwon=1 a b", 2, 6, "did you mean"),
        ("FROM a\n\n  RUN --mont=x y", 3, 7, "did you mean mount?"),
        ("FROM a\nENV A=1 B", 2, 9, "Must be of the form: name=value"),
        ("FROM a\nHEALTHCHECK wget", 2, 1, "try CMD"),
    ] {
        let error = meant(text).expect_err(text);
        let Error::At { line: at, column: there, .. } = &error else { panic!("{text:?}: {error:?}") };
        assert_eq!((*at, *there), (line, column), "{text:?}: {error}");
        assert!(error.to_string().contains(hint), "{text:?}: {error}");
    }
}
