//! `commit`.

use coracle_api::Query;
use coracle_api::container::Config;

use super::{App, print_line};
use crate::args::container::CommitArgs;
use crate::error::Result;
use crate::resolve::image_name::ImageName;

pub(super) async fn commit(app: &App, args: CommitArgs) -> Result<()> {
    let mut query = Query::new().with("author", &args.author).with("comment", &args.message);
    if let Some(image) = args.image.as_deref().map(ImageName::parse) {
        query = query.with("repo", &image.repository).with("tag", image.reference());
    }
    if !args.pause {
        query = query.with("pause", "0");
    }
    let query = args.change.iter().fold(query, |query, change| query.with("changes", change));
    let client = app.client().await?;
    // An empty configuration changes nothing of the container's.
    print_line(client.commit_container(&args.name, query, &Config::default()).await?.id)
}
