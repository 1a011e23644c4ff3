//! The statement itself: in-toto, version 0.1, about an image, with a predicate of SLSA provenance, version 0.2, in the form
//! that BuildKit gives it. Pure.
//!
//! It holds no value of a secret. With [`ProvenanceMode::Min`] it holds no argument of the build and no label either.

use super::super::history::shown;
use super::ingredients::{Ingredients, Material, digits, package_url};
use coracle_spec::{Digest, Platform, Reference};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The type of the predicate (slsa.dev, provenance 0.2).
pub(crate) const PREDICATE: &str = "https://slsa.dev/provenance/v0.2";
const STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
/// What the options of the build mean: those of BuildKit's front end for Dockerfiles.
const BUILD_TYPE: &str = "https://mobyproject.org/buildkit@v1";
/// Where BuildKit puts what the predicate has no place for.
const METADATA: &str = "https://mobyproject.org/buildkit@v1#metadata";

/// Options that say where a build is done, and not what.
const OF_HOST: [&str; 7] = [
    "cgroup-parent",
    "image-resolve-mode",
    "platform",
    "cache-imports",
    "cache-from",
    "frontend.caps",
    "multi-platform",
];
/// Beginnings of those.
const OF_HOST_ALL: [&str; 3] = ["attest:", "vcs:", "local-sessionid:"];

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProvenanceMode {
    /// What it was made of, and when.
    #[default]
    Min,
    /// Arguments, the Dockerfile and its steps as well.
    Max,
}

/// What is to be said of a build.
#[derive(Clone, Debug)]
pub struct ProvenanceRequest {
    /// How much.
    pub mode: ProvenanceMode,
    /// Who builds, as an address; may be empty.
    pub builder: String,
    /// Whether the build claims to give the same each time.
    pub reproducible: bool,
    /// What the client calls the build.
    pub id: String,
    /// What reads the recipe.
    pub frontend: String,
    /// The options of the build.
    pub attributes: BTreeMap<String, String>,
    /// The path of the Dockerfile.
    pub entry_point: String,
    /// Directories of the client's that were used.
    pub locals: Vec<String>,
    /// When the build began.
    pub begun: OffsetDateTime,
}

/// The statement about an image whose manifest is this, called so.
pub(super) fn statement(
    request: &ProvenanceRequest,
    made_of: &Ingredients,
    platform: &Platform,
    (manifest, names): (&Digest, &[Reference]),
) -> Vec<u8> {
    let digest = json!(digest_set(&digits(manifest)));
    let mut subjects: Vec<Value> =
        names.iter().map(|name| json!({"name": package_url(name, platform), "digest": digest})).collect();
    if subjects.is_empty() {
        subjects.push(json!({"name": "_", "digest": digest}));
    }
    let statement = json!({
        "_type": STATEMENT,
        "predicateType": PREDICATE,
        "subject": subjects,
        "predicate": predicate(request, made_of, platform),
    });
    serde_json::to_vec_pretty(&statement).expect("plain data")
}

fn predicate(request: &ProvenanceRequest, made_of: &Ingredients, platform: &Platform) -> Value {
    let is_max = request.mode == ProvenanceMode::Max;
    let materials: Vec<Value> = made_of.materials.iter().map(material).collect();
    let mut source = made_of.context.as_ref().map_or_else(|| json!({}), material);
    source["entryPoint"] = request.entry_point.clone().into();
    let (parameters, is_complete) = parameters(request, made_of);
    let mut predicate = json!({
        "builder": {"id": request.builder},
        "buildType": BUILD_TYPE,
        "materials": materials,
        "invocation": {
            "configSource": source,
            "parameters": parameters,
            "environment": {"platform": platform.to_string()},
        },
        "metadata": {
            "buildInvocationID": request.id,
            "buildStartedOn": moment(request.begun),
            "buildFinishedOn": moment(OffsetDateTime::now_utc()),
            "completeness": {
                "parameters": is_complete,
                "environment": true,
                "materials": request.locals.is_empty(),
            },
            "reproducible": request.reproducible,
        },
    });
    let mut metadata = Map::new();
    let vcs = request.attributes.iter().filter_map(|(key, value)| {
        Some((key.strip_prefix("vcs:")?.to_owned(), Value::from(shown(key, value))))
    });
    let vcs: Map<String, Value> = vcs.collect();
    if !vcs.is_empty() {
        metadata.insert("vcs".to_owned(), vcs.into());
    }
    if is_max {
        predicate["buildConfig"] = json!({"steps": steps(made_of)});
        let info = json!({
            "filename": request.entry_point, "language": "Dockerfile",
            "data": encoded(made_of.recipe.as_bytes()),
        });
        metadata.insert("source".to_owned(), json!({"infos": [info]}));
    }
    if !metadata.is_empty() {
        predicate["metadata"][METADATA] = metadata.into();
    }
    predicate
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn steps(made_of: &Ingredients) -> Vec<Value> {
    made_of.steps.iter().map(|(stage, text)| json!({"stage": stage, "instruction": text})).collect()
}

/// What the build was asked for, and whether that is all.
fn parameters(request: &ProvenanceRequest, made_of: &Ingredients) -> (Value, bool) {
    let is_max = request.mode == ProvenanceMode::Max;
    let (mut arguments, mut is_complete) = (Map::new(), true);
    for (key, value) in &request.attributes {
        if OF_HOST.contains(&key.as_str()) || OF_HOST_ALL.iter().any(|begin| key.starts_with(begin)) {
            continue;
        }
        if !is_max && (key.starts_with("build-arg:") || key.starts_with("label:")) {
            is_complete = false;
            continue;
        }
        let shown = shown(key, value);
        is_complete &= shown == *value;
        arguments.insert(key.clone(), shown.into());
    }
    let locals: Vec<Value> = request.locals.iter().map(|name| json!({"name": name})).collect();
    let mut parameters = json!({"frontend": request.frontend, "args": arguments, "locals": locals});
    let listed = |all: &BTreeMap<String, bool>| -> Vec<Value> {
        let one = |(id, optional): (&String, &bool)| match optional {
            true => json!({"id": id, "optional": true}),
            false => json!({"id": id}),
        };
        all.iter().map(one).collect()
    };
    for (name, all) in [("secrets", &made_of.secrets), ("ssh", &made_of.agents)] {
        if all.is_empty() {
            continue;
        }
        if is_max {
            parameters[name] = listed(all).into();
        } else {
            is_complete = false;
        }
    }
    (parameters, is_complete)
}

fn material(material: &Material) -> Value {
    json!({"uri": material.uri, "digest": digest_set(&material.digest)})
}

fn digest_set((algorithm, digits): &(String, String)) -> BTreeMap<&str, &str> {
    [(algorithm.as_str(), digits.as_str())].into()
}

fn moment(time: OffsetDateTime) -> Value {
    time.format(&Rfc3339).map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(mode: ProvenanceMode) -> ProvenanceRequest {
        let attributes = [
            ("build-arg:VERSION", "1"),
            ("build-arg:API_TOKEN", "canary"),
            ("label:a", "b"),
            ("target", "t"),
            ("attest:provenance", "mode=max"),
            ("vcs:source", "https://canary@host/x"),
            ("cgroup-parent", "/x"),
        ];
        ProvenanceRequest {
            mode,
            builder: "https://ci.example/1".into(),
            reproducible: false,
            id: "id".into(),
            frontend: "dockerfile.v0".into(),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            entry_point: "Dockerfile".into(),
            locals: vec!["context".into()],
            begun: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn made(mode: ProvenanceMode) -> Value {
        let made_of = Ingredients {
            materials: vec![Material {
                uri: "pkg:docker/a@1".into(),
                digest: ("sha256".into(), "ab".into()),
            }],
            secrets: [("token".into(), true)].into(),
            steps: vec![("base".into(), "RUN true".into())],
            recipe: "FROM a\n".into(),
            ..Ingredients::default()
        };
        let name = "app:1".parse().unwrap();
        let text = statement(&request(mode), &made_of, &Platform::host(), (&Digest::of(b"m"), &[name]));
        assert!(!String::from_utf8(text.clone()).unwrap().contains("canary"));
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn the_least_is_what_it_was_made_of_and_when() {
        let made = made(ProvenanceMode::Min);
        assert_eq!((&made["_type"], &made["predicateType"]), (&STATEMENT.into(), &PREDICATE.into()));
        assert!(made["subject"][0]["name"].as_str().unwrap().starts_with("pkg:docker/app@1?platform="));
        assert_eq!(made["subject"][0]["digest"]["sha256"], Digest::of(b"m").hex());
        let predicate = &made["predicate"];
        assert_eq!(predicate["builder"]["id"], "https://ci.example/1");
        assert_eq!(predicate["materials"][0], json!({"uri": "pkg:docker/a@1", "digest": {"sha256": "ab"}}));
        let parameters = &predicate["invocation"]["parameters"];
        assert_eq!(parameters["args"], json!({"target": "t"}));
        assert_eq!((&parameters["secrets"], &predicate["buildConfig"]), (&Value::Null, &Value::Null));
        let metadata = &predicate["metadata"];
        assert_eq!(metadata["buildStartedOn"], "1970-01-01T00:00:00Z");
        let expected = json!({"parameters": false, "environment": true, "materials": false});
        assert_eq!(metadata["completeness"], expected);
        assert_eq!(metadata[METADATA], json!({"vcs": {"source": "https://***@host/x"}}));
    }

    #[test]
    fn the_most_has_arguments_the_recipe_and_its_steps() {
        let made = made(ProvenanceMode::Max);
        let predicate = &made["predicate"];
        let parameters = &predicate["invocation"]["parameters"];
        assert_eq!(parameters["args"]["build-arg:VERSION"], "1");
        assert_eq!(parameters["args"]["build-arg:API_TOKEN"], "***");
        assert_eq!(parameters["secrets"], json!([{"id": "token", "optional": true}]));
        assert_eq!(predicate["buildConfig"]["steps"][0], json!({"stage": "base", "instruction": "RUN true"}));
        assert_eq!(predicate["metadata"][METADATA]["source"]["infos"][0]["data"], "RlJPTSBhCg==");
    }
}
