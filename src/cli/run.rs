//! `keyfall run`: the daemon, or one pass.

use crate::app::{self, Mode};
use crate::config::Config;
use crate::operate::status;
use crate::store::ledger::Ledger;

use super::arguments::RunArgs;
use super::exit::{Exit, Failure};
use super::session::{Kind, Session, block_on};

pub(super) fn run(session: &Session, args: &RunArgs) -> Result<Exit, Failure> {
    #[cfg(feature = "failpoints")]
    crate::failpoint::check()
        .map_err(|problem| Failure::new(Exit::Usage, problem, "`keyfall failpoints list` names the steps"))?;
    let loaded = session.load(Kind::Service)?;
    let mode = if args.once { Mode::Once } else { Mode::Daemon };
    let config = loaded.config.clone();
    let sources = session.sources.clone();
    block_on(async {
        let code = Box::pin(app::run(loaded, sources, mode)).await?;
        let unreachable = code == Exit::Postgres.code() || code == Exit::Migration.code();
        if mode == Mode::Once && !unreachable {
            summarise(session, &config).await?;
        }
        Ok(Exit::Engine(code))
    })
}

/// Where the feeds stand after the pass.
async fn summarise(session: &Session, config: &Config) -> Result<(), Failure> {
    let ledger = Ledger::new(app::pools(config)?);
    match status::status(config, &ledger, jiff::Timestamp::now()).await {
        Ok(feeds) => super::status::print(session.output, &feeds, None),
        Err(error) => {
            tracing::debug!(error = %error, "no summary: the ledger cannot be read");
            Ok(())
        }
    }
}
