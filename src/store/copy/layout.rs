//! The fields of an object, compared with those of the feed's objects before it, in the transaction that loads it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use crate::domain::drift::{self, Difference, Field};
use crate::domain::feed::FeedName;

use super::super::error::StoreError;
use super::Load;

/// Layouts of one feed that are known to be in the ledger: nobody has to ask for them again.
#[derive(Debug, Default)]
pub struct Layouts(Mutex<HashSet<u64>>);

impl Layouts {
    fn knows(&self, digest: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest)
    }

    fn add(&self, digest: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }
}

impl Load {
    /// Writes a layout down that the feed has not had before, and how it differs from the latest new one. Answers the
    /// differences; none where the layout is known or the feed's first.
    ///
    /// Only a layout that was found in the ledger is remembered here: one that this transaction writes may be rolled
    /// back, and must be written by the next load then.
    pub async fn note_layout(
        &self,
        feed: &FeedName,
        object_id: i64,
        fields: &[Field],
        known: &Layouts,
    ) -> Result<Vec<Difference>, StoreError> {
        let digest = digest(fields);
        if known.knows(digest) {
            return Ok(Vec::new());
        }
        let number = digest.cast_signed();
        let text = serde_json::to_value(fields).unwrap_or_default();
        let latest = self.ask("latest layout", LATEST_LAYOUT, &[&feed.as_str()]).await?;
        let written = self.ask("layout", WRITE_LAYOUT, &[&feed.as_str(), &number, &text, &object_id]).await?;
        if written.is_empty() {
            known.add(digest);
            return Ok(Vec::new());
        }
        let Some(row) = latest.first() else { return Ok(Vec::new()) };
        let before: Vec<Field> = serde_json::from_value(row.try_get(0)?).unwrap_or_default();
        let differences = drift::compare(&before, fields);
        for Difference { kind, field, was, became } in &differences {
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                [&feed.as_str(), &object_id, &kind.as_str(), field, was, became];
            self.ask("drift", WRITE_DRIFT, &parameters).await?;
        }
        Ok(differences)
    }
}

/// The same for the same fields in every process of one version; another version only asks once more.
fn digest(fields: &[Field]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for Field { name, kind } in fields {
        (name, kind).hash(&mut hasher);
    }
    hasher.finish()
}

const LATEST_LAYOUT: &str = "-- copy::latest_layout
    SELECT l.fields FROM keyfall.layouts l WHERE l.feed OPERATOR(pg_catalog.=) $1 ORDER BY l.id DESC LIMIT 1";

/// Two loads with the same new layout: the second waits for the first one's COMMIT, and then writes nothing.
const WRITE_LAYOUT: &str = "-- copy::write_layout
    INSERT INTO keyfall.layouts (feed, digest, fields, object_id) VALUES ($1, $2, $3, $4)
    ON CONFLICT (feed, digest) DO NOTHING
    RETURNING id";

const WRITE_DRIFT: &str = "-- copy::write_drift
    INSERT INTO keyfall.drift (feed, object_id, kind, field, was, became) VALUES ($1, $2, $3, $4, $5, $6)
    RETURNING id";
