//! A loaded object loses its rows: one transaction, in which the ledger's entry changes with them.

use std::sync::Arc;

use crate::config::feed::{Feed, Mode, OnChange};
use crate::domain::state::State;
use crate::store::catalog::{Provenance, Shape, read_shape};
use crate::store::copy::{After, Ending, Load};
use crate::store::ledger::Repairable;
use crate::store::pool::Pools;

use super::{Aim, Bench, Force, RepairError};

/// What can be said of an object without a lock.
pub(super) async fn look(bench: &Bench<'_>, object: &Repairable) -> Result<(), RepairError> {
    shapes(bench.pools, bench.feed(object)?).await.map(drop)
}

/// Deletes the rows of a loaded object; answers how many there were.
///
/// Killed before COMMIT, the server rolls back: rows and entry are as they were. Killed after, both have changed, and
/// the same command finds the object in its new state. Of two repairs at once the second waits for the first one's
/// row lock and then finds that state.
pub(super) async fn repair(bench: &Bench<'_>, object: &Repairable) -> Result<u64, RepairError> {
    let feed = bench.feed(object)?;
    let shapes = shapes(bench.pools, feed).await?;
    let shapes: Vec<&Shape> = shapes.iter().collect();
    let mut load = Load::begin_repair(bench.pools, &shapes).await?;
    let locked = load.lock_object(object.id).await?.ok_or(RepairError::Busy)?;
    if locked.state != State::Loaded.as_str() {
        return Err(RepairError::State(locked.state));
    }
    // A disposer that goes on regardless would delete the only bytes there are of rows that we delete.
    if locked.is_in_hand {
        return Err(RepairError::InHand);
    }
    // Under the lock: no disposer takes it any more, so what is readable now stays so for all that keyfall does.
    bench.require_bytes(object).await?;
    let found = load.delete_rows(&shapes, object.id).await?;
    let expected = locked.rows_loaded;
    // Rows of an upsert may have been taken over by other objects, those of a replaced table are gone.
    let is_in_order =
        if feed.routes.iter().all(|route| route.mode == Mode::Append) { found == expected } else { found <= expected };
    if !is_in_order && bench.force == Force::No {
        return Err(RepairError::Rows { expected, found });
    }
    let after = match bench.aim {
        Aim::Undo => After::Undone,
        // Whether its rows fit those of other versions is asked again all the same.
        Aim::Replay => After::Pending { approved: feed.on_change != OnChange::Replace },
    };
    load.mark_undone(object.id, after).await?;
    match load.finish_repair(bench.ledger).await? {
        Ending::Committed => Ok(found),
        Ending::RolledBack => Err(RepairError::RolledBack),
    }
}

/// Each table once, as it is now; refused where its rows do not say which object they come from.
async fn shapes(pools: &Pools, feed: &Arc<Feed>) -> Result<Vec<Shape>, RepairError> {
    let mut shapes: Vec<Shape> = Vec::with_capacity(feed.routes.len());
    for route in &feed.routes {
        if shapes.iter().any(|shape| shape.table == route.table) {
            continue;
        }
        let shape = read_shape(pools, &route.table).await?;
        if !shape.fills(Provenance::ObjectId, &route.mapping) {
            return Err(RepairError::NoProvenance(route.table.to_string()));
        }
        shapes.push(shape);
    }
    Ok(shapes)
}
