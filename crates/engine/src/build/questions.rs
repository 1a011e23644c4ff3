//! What clients ask of a Dockerfile before anything is built.

use super::{BuildRequest, context, invalid};
use crate::engine::Engine;
use crate::error::{Result, blocking};
use coracle_build::{Dockerfile, Parameters, Surroundings, Target, Wanted, Warning, check, outline};

/// An answer, and the text that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The Dockerfile.
    pub text: String,
    /// What is to be said of it.
    pub answer: T,
}

/// What is wrong with a Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What works and is a mistake.
    pub warnings: Vec<Warning>,
    /// Why it cannot be built, and on which line, from 1.
    pub failure: Option<(String, Option<usize>)>,
}

/// Of a request, only where the Dockerfile is and what is wanted counts here.
///
/// # Errors
/// Every method fails where there is no Dockerfile, or one that cannot be read.
impl Engine {
    /// Which stages there are.
    pub async fn dockerfile_targets(&self, request: BuildRequest) -> Result<Answer<Vec<Target>>> {
        self.read_dockerfile(request, |text, _| {
            let file = Dockerfile::parse(text)?;
            coracle_build::targets(text, &file)
        })
        .await
    }

    /// What a build of the wanted stage can be given.
    pub async fn dockerfile_parameters(&self, request: BuildRequest) -> Result<Answer<Parameters>> {
        self.read_dockerfile(request, |text, wanted| {
            let file = Dockerfile::parse(text)?;
            let outline = outline(&file, wanted)?;
            coracle_build::parameters(text, &file, &outline, wanted)
        })
        .await
    }

    /// What is wrong with it. What images bring with them is not known.
    pub async fn check_dockerfile(&self, request: BuildRequest) -> Result<Answer<Checked>> {
        self.read_dockerfile(request, |text, wanted| {
            Ok(checked(text, wanted).unwrap_or_else(|error| {
                let failure = match &error {
                    coracle_build::Error::At { line, .. } => (error.to_string(), Some(*line)),
                    error => (error.to_string(), None),
                };
                Checked { warnings: Vec::new(), failure: Some(failure) }
            }))
        })
        .await
    }

    async fn read_dockerfile<T: Send + 'static>(
        &self,
        request: BuildRequest,
        answer: impl FnOnce(&str, &Wanted) -> coracle_build::Result<T> + Send + 'static,
    ) -> Result<Answer<T>> {
        let BuildRequest { source, recipe, contexts, client, mut wanted, .. } = request;
        wanted.contexts = contexts.keys().cloned().collect();
        let (text, opened) = context::open(&self.shared, source, &recipe, contexts, &client).await?;
        // A hostile file may take a while.
        blocking(move || {
            drop(opened);
            let answer = answer(&text, &wanted).map_err(invalid)?;
            Ok(Answer { text, answer })
        })
        .await?
    }
}

fn checked(text: &str, wanted: &Wanted) -> coracle_build::Result<Checked> {
    let file = Dockerfile::parse(text)?;
    outline(&file, wanted)?;
    let around = Surroundings { wanted, ignored: None, environment: &|_| None };
    Ok(Checked { warnings: check(text, &file, &around)?, failure: None })
}
