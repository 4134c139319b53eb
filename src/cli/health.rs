//! `keyfall health`: is the daemon beside us ready?

use serde::Serialize;

use crate::config;
use crate::operate::health::{self as operate, HealthError, Target};

use super::arguments::HealthArgs;
use super::exit::{Exit, Failure};
use super::session::{Session, block_on};

#[derive(Serialize)]
struct Answer {
    ready: bool,
    detail: String,
}

pub(super) fn health(session: &Session, args: &HealthArgs) -> Result<Exit, Failure> {
    let target = match &args.url {
        Some(url) => Target::parse(url).map_err(|error| usage(&error))?,
        None => configured(session)?,
    };
    let outcome = block_on(async { Ok(operate::ask(&target).await) })?;
    if session.output.is_json() {
        let (ready, detail) = match &outcome {
            Ok(body) => (true, body.clone()),
            Err(error) => (false, error.to_string()),
        };
        session.output.json(&Answer { ready, detail })?;
        return Ok(if ready { Exit::Success } else { Exit::Failure });
    }
    match outcome {
        Ok(_) => {
            session.output.text("ready")?;
            Ok(Exit::Success)
        }
        Err(error) => {
            let advice = "is the daemon running, and is http.listen the one it was started with?";
            Err(Failure::new(Exit::Failure, error.to_string(), advice))
        }
    }
}

fn usage(error: &HealthError) -> Failure {
    Failure::new(Exit::Usage, error.to_string(), "give --url, or leave it out to ask http.listen")
}

/// The address alone: a healthcheck must not need the secrets that the daemon reads.
fn configured(session: &Session) -> Result<Target, Failure> {
    match config::listen_address(&session.sources)? {
        Some(listen) => Ok(Target::listening_on(listen)),
        None => Err(Failure::new(Exit::Config, "http.listen is turned off", "set it, or give --url")),
    }
}
