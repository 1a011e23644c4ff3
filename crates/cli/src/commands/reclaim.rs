//! `system reclaim`, `image pin` and `image unpin`.

use coracle_api::system::{ReclaimReport, ReclaimVerdict};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{App, for_each, print, say};
use crate::args::image::PinArgs;
use crate::args::system::ReclaimArgs;
use crate::error::Result;
use crate::render::listing::{Layout, Row, short_id};
use crate::render::units;

const LAYOUT: Layout = Layout {
    table: "{{.Verdict}}\t{{.Image}}\t{{.ID}}\t{{.Size}}\t{{.Freed}}\t{{.LastUsed}}\t{{.Reason}}",
    headers: &[
        ("Verdict", "VERDICT"),
        ("Image", "IMAGE"),
        ("ID", "IMAGE ID"),
        ("Size", "SIZE"),
        ("Freed", "FREED"),
        ("LastUsed", "LAST USED"),
        ("Reason", "REASON"),
    ],
};

/// A line for each image is data, the sum is talk.
pub(super) async fn reclaim(app: &App, args: ReclaimArgs) -> Result<()> {
    let client = app.client().await?;
    let (budget, keep_recent) = (args.budget.as_deref(), args.keep_recent.as_deref());
    let report = match args.dry_run {
        true => client.plan_to_reclaim(budget, keep_recent).await?,
        false => client.reclaim(budget, keep_recent).await?,
    };
    let rows: Vec<Row> = report.images.iter().map(|verdict| row(verdict, report.dry_run)).collect();
    print(LAYOUT.render(args.format.as_deref(), rows)?)?;
    say(conclusion(&report));
    Ok(())
}

fn row(verdict: &ReclaimVerdict, dry_run: bool) -> Row {
    let word = match (verdict.remove, dry_run) {
        (true, true) => "remove",
        (true, false) => "removed",
        (false, true) => "keep",
        (false, false) => "kept",
    };
    let last_used = OffsetDateTime::parse(&verdict.last_used, &Rfc3339).ok();
    let names = if verdict.names.is_empty() { "<none>".to_owned() } else { verdict.names.join(", ") };
    Row::default()
        .with("Verdict", word)
        .with("Image", names)
        .with("ID", short_id(&verdict.id))
        .with("Size", units::size(signed(verdict.size)))
        .with("Freed", units::size(signed(verdict.freed)))
        .with(
            "LastUsed",
            last_used.map_or_else(|| "unknown".to_owned(), |at| units::ago(at.unix_timestamp())),
        )
        .with("Reason", verdict.reason.as_str())
}

fn conclusion(report: &ReclaimReport) -> String {
    let size = |bytes: u64| units::size(signed(bytes));
    let rest = report.used.saturating_sub(report.freed);
    let (freed, left) = match report.dry_run {
        true => ("would be freed", "would be left"),
        false => ("were freed", "are left"),
    };
    let fits = match rest <= report.budget {
        true => "which fits into",
        false => "which is still more than",
    };
    format!(
        "{} of {} {freed}, {} {left}, {fits} the budget of {}",
        size(report.freed),
        size(report.used),
        size(rest),
        size(report.budget)
    )
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) async fn pin(app: &App, args: PinArgs) -> Result<()> {
    let client = &app.client().await?;
    let pin = async |name: String| {
        client.pin_image(&name).await?;
        Ok(name)
    };
    for_each(&args.names, pin).await
}

pub(super) async fn unpin(app: &App, args: PinArgs) -> Result<()> {
    let client = &app.client().await?;
    let unpin = async |name: String| {
        client.unpin_image(&name).await?;
        Ok(name)
    };
    for_each(&args.names, unpin).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_says_whether_the_rest_fits() {
        let report =
            ReclaimReport { dry_run: true, budget: 70, used: 100, freed: 30, ..ReclaimReport::default() };
        assert_eq!(
            conclusion(&report),
            "30B of 100B would be freed, 70B would be left, which fits into the budget of 70B"
        );
        let done = ReclaimReport { dry_run: false, budget: 69, ..report };
        assert_eq!(
            conclusion(&done),
            "30B of 100B were freed, 70B are left, which is still more than the budget of 69B"
        );
    }
}
