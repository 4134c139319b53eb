//! Keys listed into the ledger.

use anyhow::ensure;

use crate::Arguments;
use crate::lab::Lab;
use crate::process;
use crate::report::{Report, Target, median};
use crate::s3::Server;

const FEED: &str = r#"
    pattern = "in/{time:%Y-%m-%d-%H-%M-%S}.csv"
    table = "listed"
    [feeds.bench.csv]
    header = false"#;

/// Measures one full listing into an empty ledger.
pub(crate) fn run(lab: &Lab, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let keys = arguments.keys;
    lab.sql(&["DROP TABLE IF EXISTS listed", "CREATE TABLE listed (n bigint)"])?;
    let server = Server::with_generated(keys, 0)?;
    let config = lab.config(&server, 1, FEED)?;
    let mut costs = Vec::new();
    for _ in 0..arguments.rounds.min(3) {
        lab.reset("listed")?;
        lab.ready(&config)?;
        costs.push(process::cost_of(lab.loader(&config, &["sweep"]).stdout(std::process::Stdio::null()))?);
        let listed = lab.sql(&["SELECT count(*) FROM keyfall.objects"])?;
        ensure!(listed == keys.to_string(), "{listed} keys in the ledger");
    }
    let of = |figure: fn(&process::Cost) -> f64| median(costs.iter().map(figure));
    let beside = format!("CPU {:.2} s, RSS {:.0} MiB", of(|cost| cost.cpu), of(|cost| cost.rss));
    let target = if keys == 100_000 { Target::AtMost(3.0) } else { Target::None };
    report.enter(&format!("{keys} keys into the ledger"), target, (of(|cost| cost.wall), " s"), beside);
    Ok(())
}
