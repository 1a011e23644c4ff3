//! Platforms as clients send them.

use crate::error::Failure;
use crate::server::Call;
use coracle_api::ApiVersion;
use coracle_spec::Platform;

/// Most platforms that one request may name.
const MOST: usize = 64;

/// The platform that the parameter `platform` names as a JSON document of OCI, for endpoints that have it since `since`.
pub(crate) fn one(call: &Call, since: ApiVersion) -> Result<Option<Platform>, Failure> {
    let mut all = all(call, "platform", since)?;
    if all.len() > 1 {
        return Err(Failure::invalid("only one platform can be given here"));
    }
    Ok(all.pop())
}

/// The platforms that a parameter names, each as a JSON document of OCI.
pub(crate) fn all(call: &Call, parameter: &str, since: ApiVersion) -> Result<Vec<Platform>, Failure> {
    if call.version < since {
        return Ok(Vec::new());
    }
    let given: Vec<&str> = call.query.all(parameter).filter(|text| !text.is_empty()).collect();
    if given.len() > MOST {
        return Err(Failure::invalid(format!("more than {MOST} platforms were given")));
    }
    given.into_iter().map(parse).collect()
}

/// What a build is for: names with commas between them, none twice; this machine where there are none.
pub(crate) fn list(text: &str) -> Result<Vec<Platform>, Failure> {
    let mut platforms: Vec<Platform> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let platform: Platform =
            part.parse().map_err(|error: coracle_spec::Error| Failure::invalid(error.to_string()))?;
        if !platforms.iter().any(|other| other.normalized() == platform.normalized()) {
            platforms.push(platform);
        }
    }
    match platforms.len() {
        0 => Ok(vec![Platform::host()]),
        1..=MOST => Ok(platforms),
        _ => Err(Failure::invalid(format!("more than {MOST} platforms were given"))),
    }
}

fn parse(text: &str) -> Result<Platform, Failure> {
    let platform: Platform = serde_json::from_str(text)
        .map_err(|error| Failure::invalid(format!("cannot parse platform {text:.100?}: {error}")))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Failure::invalid(format!("platform {text:.100?} has no os or no architecture")));
    }
    Ok(platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_a_document_with_system_and_architecture() {
        for (text, expected) in [
            (r#"{"os":"linux","architecture":"arm","variant":"v5"}"#, Some("linux/arm/v5")),
            (r#"{"architecture":"amd64","os":"linux"}"#, Some("linux/amd64")),
            (r#"{"os":"linux"}"#, None),
            ("linux/amd64", None),
            ("[]", None),
        ] {
            let parsed = parse(text).map(|platform| platform.to_string());
            assert_eq!(parsed.ok().as_deref(), expected, "{text}");
        }
    }
}
