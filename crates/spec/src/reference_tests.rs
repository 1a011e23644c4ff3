//! Tables of references: what each means, and what is none.

use proptest::prelude::*;

use super::*;

const HEX: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

#[test]
fn what_people_type_is_normalised_and_shown_as_they_would_type_it() {
    let at = format!("@sha256:{HEX}");
    // (typed, canonical, familiar)
    let cases = [
        ("ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("ubuntu:24.04", "docker.io/library/ubuntu:24.04", "ubuntu:24.04"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("library/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("docker.io/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("docker.io/library/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
        ("index.docker.io/user/app", "docker.io/user/app", "user/app"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost", "docker.io/library/localhost", "localhost"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("docker.io", "docker.io/library/docker.io", "docker.io"),
        ("reg.example.com/a/b/c:T_1.x-y", "reg.example.com/a/b/c:T_1.x-y", "reg.example.com/a/b/c:T_1.x-y"),
        ("Reg/app", "Reg/app", "Reg/app"),
        ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app"),
        ("[::1]/app", "[::1]/app", "[::1]/app"),
        ("127.0.0.1/app", "127.0.0.1/app", "127.0.0.1/app"),
        ("a__b/c-----d.e_f", "docker.io/a__b/c-----d.e_f", "a__b/c-----d.e_f"),
        ("foo:5000", "docker.io/library/foo:5000", "foo:5000"),
    ];
    for (typed, canonical, familiar) in cases {
        for suffix in ["", at.as_str()] {
            let reference: Reference = format!("{typed}{suffix}").parse().unwrap();
            assert_eq!(reference.canonical(), format!("{canonical}{suffix}"));
            assert_eq!(reference.familiar(), format!("{familiar}{suffix}"));
        }
    }
}

#[test]
fn what_is_no_reference_is_refused() {
    let long_tag = format!("a:{}", "t".repeat(129));
    let long_name = "a".repeat(256);
    let short_digest = format!("a@sha256:{}", &HEX[1..]);
    let cases = [
        "",
        ":",
        "@",
        "/",
        "a/",
        "/a",
        "a//b",
        "Ubuntu",
        "a/B",
        "a:",
        "a:-x",
        "a:.x",
        "a:b:c",
        "a@",
        "a@b",
        "-a",
        "a-",
        "a..b",
        "a._b",
        "a___b",
        "_a",
        "a_",
        "a.",
        ".a",
        "a b",
        "a\n",
        "a\0",
        "aä",
        "../a",
        "a/../b",
        "https://reg.example.com/a",
        "reg.example.com:/a",
        "reg.example.com:port/a",
        "-reg.example.com/a",
        "reg-.example.com/a",
        "reg..com/a",
        "[::1/a",
        "[]/a",
        "[::g]/a",
        "[::1]x/a",
        "[::1]:/a",
        "a:tag@sha256:",
        HEX,
        &long_tag,
        &long_name,
        &short_digest,
    ];
    for text in cases {
        assert!(text.parse::<Reference>().is_err(), "{text:?}");
    }
    let error = "Ubuntu".parse::<Reference>().unwrap_err().to_string();
    assert!(error.contains("must be lowercase"), "{error}");
}

#[test]
fn tags_and_digests_are_put_on_and_default_to_latest() {
    let reference: Reference = "a".parse().unwrap();
    assert_eq!(reference.clone().or_latest().familiar(), "a:latest");
    let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
    let pinned = reference.clone().with_digest(digest);
    assert_eq!(pinned.clone().or_latest(), pinned);
    assert_eq!(pinned.with_tag("x".parse().unwrap()).familiar(), "a:x");
    assert_eq!(serde_json::to_string(&reference).unwrap(), "\"docker.io/library/a\"");
    assert!(serde_json::from_str::<Reference>("\"A\"").is_err());
}

proptest! {
    #[test]
    fn both_forms_of_any_reference_parse_to_itself(text in "\\PC{0,80}|[a-z]{1,5}([./:@_-]{1,2}[a-z0-9]{1,5}){0,6}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(&reference.canonical().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
        }
    }
}
