//! `system check`.

use coracle_api::system::{CheckFinding, CheckSummary};

use super::{App, print_line, say};
use crate::args::system::CheckArgs;
use crate::error::{Error, Result};

/// What is damaged is data, how much was looked at is talk. The exit code is 1 when there is anything to tell.
pub(super) async fn check(app: &App, args: CheckArgs) -> Result<Option<u8>> {
    let mut lines = app.client().await?.check(args.quarantine).await?;
    let mut summary = None;
    while let Some(line) = lines.next().await? {
        if let Some(text) = line.error {
            return Err(Error::Progress(text));
        }
        if let Some(finding) = &line.finding {
            print_line(sentence(finding))?;
        }
        summary = line.summary.or(summary);
    }
    let Some(summary) = summary else {
        return Err(Error::Progress("the engine ended the check early".to_owned()));
    };
    say(conclusion(&summary));
    Ok((summary.findings > 0).then_some(1))
}

/// `layer sha256:…: PROBLEM (needed by a:latest, b:latest)`
fn sentence(finding: &CheckFinding) -> String {
    let CheckFinding { kind, digest, problem, images, quarantined } = finding;
    let dealt_with = match (*quarantined, kind.as_str()) {
        (false, _) => "",
        (true, "record") => "; written anew",
        (true, _) => "; moved into the quarantine",
    };
    let names = images.join(", ");
    let needed = match kind.as_str() {
        _ if images.is_empty() => String::new(),
        "image" | "record" => format!(" ({names})"),
        _ => format!(" (needed by {names})"),
    };
    format!("{kind} {digest}: {problem}{needed}{dealt_with}")
}

fn conclusion(summary: &CheckSummary) -> String {
    let CheckSummary { blobs, layers, images, findings } = summary;
    let found = match findings {
        0 => "nothing is damaged".to_owned(),
        1 => "1 thing is wrong: pull or load the images that need it again".to_owned(),
        count => format!("{count} things are wrong: pull or load the images that need them again"),
    };
    format!("Checked {images} images, {layers} layers and {blobs} blobs: {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_who_needs_it_and_what_became_of_it() {
        let finding = |kind: &str, images: &[&str], quarantined| CheckFinding {
            kind: kind.to_owned(),
            digest: "sha256:ab".to_owned(),
            problem: "it is short".to_owned(),
            images: images.iter().map(ToString::to_string).collect(),
            quarantined,
        };
        for (finding, expected) in [
            (finding("blob", &[], false), "blob sha256:ab: it is short"),
            (
                finding("layer", &["a:1", "b:2"], true),
                "layer sha256:ab: it is short (needed by a:1, b:2); moved into the quarantine",
            ),
            (finding("image", &["a:1"], false), "image sha256:ab: it is short (a:1)"),
            (finding("record", &["a:1"], true), "record sha256:ab: it is short (a:1); written anew"),
            (finding("record", &[], false), "record sha256:ab: it is short"),
        ] {
            assert_eq!(sentence(&finding), expected);
        }
    }
}
