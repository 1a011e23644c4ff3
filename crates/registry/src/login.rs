//! `docker login` and `docker search`.

use crate::answer::{Subject, clean};
use crate::auth;
use crate::exchange::{Call, answer_time};
use crate::hosts::DEFAULT_HOST;
use crate::retry::{Tries, persist};
use crate::session::{Session, Target};
use crate::{Client, Credentials, Error, Result, Secret, limits};
use reqwest::{Method, Url};
use serde::Deserialize;

/// The host that searches Docker Hub.
const DEFAULT_INDEX: &str = "index.docker.io";

/// What came of checking credentials.
#[derive(Clone, Debug)]
pub struct Login {
    /// A refresh token to be kept instead of the password, where the server issued one.
    pub identity_token: Option<Secret>,
    /// What to tell the user.
    pub status: String,
}

/// A repository that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchResult {
    /// The repository.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many people like it.
    pub star_count: u64,
    /// Whether the registry itself stands behind it.
    pub is_official: bool,
    /// Whether the registry builds it.
    pub is_automated: bool,
}

/// A page of results.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Page {
    results: Vec<Found>,
}

/// A result as registries send it, in which anything may be missing or `null`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    name: Option<String>,
    description: Option<String>,
    star_count: Option<i64>,
    is_official: Option<bool>,
    is_automated: Option<bool>,
}

impl From<Found> for SearchResult {
    fn from(found: Found) -> Self {
        Self {
            name: clean(&found.name.unwrap_or_default()),
            description: clean(&found.description.unwrap_or_default()),
            star_count: u64::try_from(found.star_count.unwrap_or_default()).unwrap_or_default(),
            is_official: found.is_official.unwrap_or_default(),
            is_automated: found.is_automated.unwrap_or_default(),
        }
    }
}

impl Client {
    /// Checks credentials against a registry, whose address is as `docker login` has it.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] for credentials that the registry or its token server does not take,
    /// [`Error::Address`], and errors of the exchange.
    pub async fn login(&self, registry: &str, credentials: Credentials) -> Result<Login> {
        let session = self.registry(registry, credentials.clone(), Vec::new())?;
        let (target, call) = (Target::Path("/v2/".to_owned()), Call::new(Method::GET));
        let own = match &credentials {
            Credentials::RegistryToken(token) => Some(auth::bearer(token.expose())?),
            _ => None,
        };
        let tries = || Tries::new(self.timing());
        let mut answer = persist(tries(), || session.reach(&target, &call, own.as_ref())).await?;
        let mut identity_token = None;
        if answer.status() == 401 && answer.own {
            let granted = auth::authorise(self, &answer, session.who(), true).await?;
            if let Some(granted) = granted {
                answer = persist(tries(), || session.reach(&target, &call, Some(&granted.header))).await?;
                identity_token = granted.refresh;
            }
        }
        match answer.status() {
            200 => Ok(Login { identity_token, status: "Login Succeeded".to_owned() }),
            _ => Err(answer.failure(Subject::Other).await),
        }
    }

    /// Searches a registry for repositories. Only Docker Hub and registries of the first generation can.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::TooLarge`], and errors of the exchange.
    pub async fn search(
        &self,
        registry: &str,
        term: &str,
        limit: u32,
        credentials: Credentials,
    ) -> Result<Vec<SearchResult>> {
        let session = self.registry(registry, credentials, vec!["registry:catalog:search".to_owned()])?;
        let session = if session.host() == DEFAULT_HOST { session.at(DEFAULT_INDEX) } else { session };
        let answer =
            session.demand(&query(term, limit), &Call::new(Method::GET), &[200], Subject::Other).await?;
        self.results(&session, answer, limit).await
    }

    async fn results(
        &self,
        session: &Session,
        answer: crate::answer::Answer,
        limit: u32,
    ) -> Result<Vec<SearchResult>> {
        let body = answer.read("result of a search", limits::SEARCH, answer_time(self)).await?;
        let page: Page = serde_json::from_slice(&body).map_err(|error| Error::Protocol {
            host: session.host().to_owned(),
            reason: format!("a result of a search that is no JSON: {error}"),
        })?;
        let most = if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
        Ok(page.results.into_iter().take(most).map(SearchResult::from).collect())
    }
}

fn query(term: &str, limit: u32) -> Target {
    let mut url = Url::parse("http://index/v1/search").expect("it is a URL");
    url.query_pairs_mut().append_pair("q", term);
    if limit > 0 {
        url.query_pairs_mut().append_pair("n", &limit.to_string());
    }
    Target::Path(format!("{}?{}", url.path(), url.query().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_cannot_add_to_the_query() {
        let Target::Path(path) = query("a&n=1#b c", 25) else { panic!("it is a path") };
        assert_eq!(path, "/v1/search?q=a%26n%3D1%23b+c&n=25");
    }
}
