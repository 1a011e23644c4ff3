//! The `--health-…` flags.

use coracle_api::container::HealthConfig;

use super::{Invalid, duration, invalid};
use crate::args::create::HealthArgs;

/// The check they describe; `None` leaves the image's alone.
pub(crate) fn check(args: &HealthArgs) -> Result<Option<HealthConfig>, Invalid> {
    let span = |text: &Option<String>| text.as_deref().map_or(Ok(0), duration::parse);
    let test = args.health_cmd.as_ref().map(|command| vec!["CMD-SHELL".to_owned(), command.clone()]);
    let config = HealthConfig {
        test,
        interval: span(&args.health_interval)?,
        timeout: span(&args.health_timeout)?,
        start_period: span(&args.health_start_period)?,
        start_interval: span(&args.health_start_interval)?,
        retries: args.health_retries.unwrap_or(0),
    };
    let given = config != HealthConfig::default();
    match (args.no_healthcheck, given) {
        (true, true) => invalid("--no-healthcheck conflicts with --health-* options"),
        (true, false) => Ok(Some(HealthConfig { test: Some(vec!["NONE".into()]), ..config })),
        (false, true) if config.retries < 0 => invalid("--health-retries cannot be negative"),
        (false, true) => Ok(Some(config)),
        (false, false) => Ok(None),
    }
}
