//! Results of builds as clients see them: one, or one for each platform that was asked for.

use super::builds::Build;
use coracle_buildkit::definition_of;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::{
    Ref, RefMap, RefMapDeprecated, Result as Solved, result::Result as Which,
};
use coracle_engine::build::Product;
use coracle_spec::Platform;
use coracle_spec::image::ImageConfig;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::Status;

/// What the configuration of an image is called beside a result.
const CONFIG: &str = "containerimage.config";
/// What the list of platforms is called there.
const PLATFORMS: &str = "refs.platforms";

/// What a build has made.
#[derive(Clone, Debug)]
pub(super) enum Results {
    One(Arc<Product>),
    /// In the order asked for, each with its platform.
    Platforms(Vec<(String, Arc<Product>)>),
}

/// The list of platforms, as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Platforms<'a> {
    platforms: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Platform")]
    platform: Platform,
}

/// How a client names results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// By a name alone, as old ones do.
    Name,
    /// By a name with a definition that stands for it.
    Reference,
}

impl Results {
    /// What was built for these platforms, each with its own result if that is wanted.
    pub(super) fn of(platforms: &[Platform], products: Vec<Product>, is_for_several: bool) -> Self {
        let mut products: Vec<Arc<Product>> = products.into_iter().map(Arc::new).collect();
        if !is_for_several && products.len() == 1 {
            return Self::One(products.remove(0));
        }
        let names = platforms.iter().map(|platform| platform.normalized().to_string());
        Self::Platforms(names.zip(products).collect())
    }

    /// All of them.
    pub(super) fn products(&self) -> Vec<Arc<Product>> {
        match self {
            Self::One(product) => vec![Arc::clone(product)],
            Self::Platforms(products) => products.iter().map(|(_, product)| Arc::clone(product)).collect(),
        }
    }

    /// Keeps them for the client that steers the build, and tells it what they are called.
    pub(super) fn tell(self, build: &Build, naming: Naming) -> Solved {
        match self {
            Self::One(product) => {
                let config = product.config().to_json();
                let id = build.keep(product);
                let which = match naming {
                    Naming::Reference => Which::Ref(reference(id)),
                    Naming::Name => Which::RefDeprecated(id),
                };
                Solved {
                    metadata: [(CONFIG.to_owned(), config)].into(),
                    result: Some(which),
                    ..Solved::default()
                }
            }
            Self::Platforms(products) => of_platforms(products, build, naming),
        }
    }

    /// What a client returns: what it was told of, by the same names.
    ///
    /// # Errors
    /// For attestations, which nobody here has given it.
    pub(super) fn returned(
        result: Solved,
        find: impl Fn(&str) -> Option<Arc<Product>>,
    ) -> Result<Returned, Status> {
        if !result.attestations.is_empty() {
            return Err(Status::unknown("attestations are not supported yet by this engine"));
        }
        let metadata = &result.metadata;
        let named: HashMap<String, String> = match result.result {
            None => return Ok(Returned::Nothing),
            Some(Which::RefDeprecated(name)) => return one(name, find, metadata),
            Some(Which::Ref(found)) => return one(found.id, find, metadata),
            Some(Which::RefsDeprecated(all)) => all.refs,
            Some(Which::Refs(all)) => {
                all.refs.into_iter().map(|(platform, found)| (platform, found.id)).collect()
            }
        };
        let mut found = Vec::new();
        for (platform, name) in named {
            match find(&name) {
                Some(product) => {
                    let product = described(product, metadata.get(&format!("{CONFIG}/{platform}")))?;
                    found.push((number(&name), platform, product));
                }
                None => return Ok(Returned::Unknown(name)),
            }
        }
        // As they were built.
        found.sort_by_key(|(number, ..)| *number);
        let products = found.into_iter().map(|(_, platform, product)| (platform, product)).collect();
        Ok(Returned::Results(Self::Platforms(products)))
    }
}

/// What a client has returned.
#[derive(Debug)]
pub(super) enum Returned {
    Nothing,
    Results(Results),
    /// A name that nothing has.
    Unknown(String),
}

fn one(
    name: String,
    find: impl Fn(&str) -> Option<Arc<Product>>,
    metadata: &HashMap<String, Vec<u8>>,
) -> Result<Returned, Status> {
    match find(&name) {
        _ if name.is_empty() => Ok(Returned::Nothing),
        Some(product) => Ok(Returned::Results(Results::One(described(product, metadata.get(CONFIG))?))),
        None => Ok(Returned::Unknown(name)),
    }
}

/// A result as the client describes it: it may say something else of the image than it was told.
fn described(product: Arc<Product>, config: Option<&Vec<u8>>) -> Result<Arc<Product>, Status> {
    let Some(config) = config.filter(|config| **config != product.config().to_json()) else {
        return Ok(product);
    };
    let config = ImageConfig::parse(config);
    let config = config.map_err(|error| Status::unknown(format!("invalid image configuration: {error}")))?;
    Ok(Arc::new(product.with_config(config)))
}

/// Which result of its build a name stands for.
fn number(name: &str) -> usize {
    name.rsplit_once('/').and_then(|(_, number)| number.parse().ok()).unwrap_or(usize::MAX)
}

fn reference(id: String) -> Ref {
    let def = Some(definition_of(&id));
    Ref { id, def }
}

fn of_platforms(products: Vec<(String, Arc<Product>)>, build: &Build, naming: Naming) -> Solved {
    let mut metadata = HashMap::new();
    let listed =
        products.iter().map(|(id, product)| Listed { id, platform: product.config().platform.clone() });
    let list = serde_json::to_vec(&Platforms { platforms: listed.collect() });
    metadata.insert(PLATFORMS.to_owned(), list.expect("texts are a document"));
    let mut names = HashMap::new();
    for (platform, product) in products {
        metadata.insert(format!("{CONFIG}/{platform}"), product.config().to_json());
        names.insert(platform, build.keep(product));
    }
    let which = match naming {
        Naming::Name => Which::RefsDeprecated(RefMapDeprecated { refs: names }),
        Naming::Reference => {
            let refs = names.into_iter().map(|(platform, id)| (platform, reference(id)));
            Which::Refs(RefMap { refs: refs.collect() })
        }
    };
    Solved { metadata, result: Some(which), ..Solved::default() }
}
