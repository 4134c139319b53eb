//! `keyfall demo`: see [`crate::demo::command`].

use crate::demo::command::{Arguments, command};

use super::arguments::Verbosity;
use super::exit::{Exit, Failure};
use super::session::{Session, block_on};

pub(super) fn demo(session: &Session, mut arguments: Arguments) -> Result<Exit, Failure> {
    if session.sources.file.is_some() || !session.sources.overrides.is_empty() || session.output.is_json() {
        let advice =
            "run it without --config, --set and --json; `demo --keep` prints the file it made, for other commands";
        return Err(Failure::new(Exit::Usage, "the demo makes its own configuration and prints for people", advice));
    }
    arguments.log = match session.verbosity {
        Verbosity::Quiet => Some("error".to_owned()),
        Verbosity::Normal => None,
        Verbosity::Verbose => Some("info,keyfall=debug".to_owned()),
        Verbosity::Everything => Some("debug,keyfall=trace".to_owned()),
    };
    block_on(async { Ok(Exit::Engine(command(arguments).await?)) })
}
