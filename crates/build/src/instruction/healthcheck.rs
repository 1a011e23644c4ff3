//! `HEALTHCHECK [OPTIONS] CMD command`, or `HEALTHCHECK NONE`.

use crate::duration;
use crate::error::{Error, Result};
use crate::lex::{self, Line};
use coracle_spec::image::Healthcheck;

/// The shortest duration that is no mistake, in nanoseconds.
const LEAST: i64 = 1_000_000;

const OPTIONS: [&str; 5] = ["interval", "timeout", "start-period", "start-interval", "retries"];

pub(super) fn parse(line: &Line<'_>) -> Result<Healthcheck> {
    let (kind, rest) = line.rest.split_once(char::is_whitespace).unwrap_or((line.rest, ""));
    let rest = rest.trim();
    match kind.to_ascii_uppercase().as_str() {
        "" => Err(super::at_least_one("HEALTHCHECK")),
        "NONE" if !rest.is_empty() => Err(Error::syntax("HEALTHCHECK NONE takes no arguments")),
        "NONE" => {
            // As Docker: options have no meaning without a check, but may stand there.
            options(&mut Healthcheck::default(), &line.flags)?;
            Ok(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() })
        }
        "CMD" => {
            let mut health = Healthcheck { test: test(rest)?, ..Healthcheck::default() };
            options(&mut health, &line.flags)?;
            Ok(health)
        }
        other => Err(Error::syntax(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)"))),
    }
}

fn test(rest: &str) -> Result<Vec<String>> {
    let missing = || Error::syntax("Missing command after HEALTHCHECK CMD");
    if rest.is_empty() {
        return Err(missing());
    }
    match lex::json_list(rest)? {
        Some(words) if words.is_empty() => Err(missing()),
        Some(words) => Ok([vec!["CMD".to_owned()], words].concat()),
        None => Ok(vec!["CMD-SHELL".to_owned(), rest.to_owned()]),
    }
}

fn options(health: &mut Healthcheck, flags: &[(String, Option<String>)]) -> Result<()> {
    for (at, (flag, value)) in flags.iter().enumerate() {
        if flags[..at].iter().any(|(earlier, _)| earlier == flag) {
            return Err(Error::value("duplicate flag specified", flag));
        }
        let value = value.as_deref();
        match flag.as_str() {
            "interval" => health.interval = interval(flag, value)?,
            "timeout" => health.timeout = interval(flag, value)?,
            "start-period" => health.start_period = interval(flag, value)?,
            "start-interval" => health.start_interval = interval(flag, value)?,
            "retries" => health.retries = retries(value)?,
            _ => return Err(Error::unknown_flag(flag, &OPTIONS)),
        }
    }
    Ok(())
}

fn interval(flag: &str, value: Option<&str>) -> Result<i64> {
    let value = value.ok_or_else(|| Error::value("missing a value on flag", flag))?;
    if value.is_empty() {
        return Ok(0);
    }
    match duration::parse(value)? {
        0 => Ok(0),
        short if short < LEAST => Err(Error::syntax(format!("Interval {flag:?} cannot be less than 1ms"))),
        interval => Ok(interval),
    }
}

fn retries(value: Option<&str>) -> Result<i64> {
    let value = value.ok_or_else(|| Error::value("missing a value on flag", "retries"))?;
    if value.is_empty() {
        return Ok(0);
    }
    match value.parse::<i32>() {
        Ok(retries) if retries < 0 => Err(Error::syntax(format!("--retries cannot be negative ({retries})"))),
        Ok(retries) => Ok(retries.into()),
        Err(_) => Err(Error::value("invalid number of retries", value)),
    }
}
