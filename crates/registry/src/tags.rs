//! The tags of a repository.

use crate::answer::Subject;
use crate::exchange::{Call, answer_time};
use crate::repository::first_of;
use crate::session::{Session, Target};
use crate::{Error, Repository, Result, limits};
use coracle_spec::Tag;
use reqwest::Method;
use serde::Deserialize;

#[derive(Deserialize)]
struct Page {
    /// Absent or null where there are none.
    tags: Option<Vec<String>>,
}

impl Repository {
    /// All tags, as the registry orders them; what is no tag is left out.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] if there is no such repository, [`Error::TooLarge`], and errors of the exchange.
    pub async fn tags(&self) -> Result<Vec<Tag>> {
        first_of!(self, session => self.tags_at(session))
    }

    async fn tags_at(&self, session: &Session) -> Result<Vec<Tag>> {
        let mut tags: Vec<Tag> = Vec::new();
        loop {
            let before = tags.len();
            let more = self.page(session, &mut tags).await?;
            // A page that brings nothing new would be followed by itself.
            if !more || tags.len() == before {
                return Ok(tags);
            }
            if tags.len() > limits::TAGS {
                let host = session.host().to_owned();
                return Err(Error::TooLarge { host, what: "list of tags", limit: limits::TAGS });
            }
        }
    }

    /// Reads the tags behind those that are known; whether there are more (distribution specification, "content
    /// discovery").
    async fn page(&self, session: &Session, tags: &mut Vec<Tag>) -> Result<bool> {
        let Target::Path(mut path) = session.path(&format!("{}/tags/list", self.path())) else {
            unreachable!("a session makes paths of paths");
        };
        if let Some(last) = tags.last() {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&format!("last={last}"));
        }
        let subject = Subject::Manifest { repository: self.path(), pick: "" };
        let answer = session.demand(&Target::Path(path), &Call::new(Method::GET), &[200], subject).await?;
        let more = answer.header("link").is_some_and(|link| link.contains("rel=\"next\""));
        let host = answer.host();
        let content = answer.read("list of tags", limits::TAG_PAGE, answer_time(&session.client)).await?;
        let page: Page = serde_json::from_slice(&content)
            .map_err(|_| Error::Protocol { host, reason: "a list of tags that is none".to_owned() })?;
        for tag in page.tags.unwrap_or_default().iter().filter_map(|text| text.parse().ok()) {
            if tags.last() != Some(&tag) {
                tags.push(tag);
            }
        }
        Ok(more)
    }
}
