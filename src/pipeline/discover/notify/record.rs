//! Rows of a batch of messages into the ledger.

use crate::domain::state::Channel;
use crate::domain::verdict::Verdict;
use crate::store::ledger::Found;
use crate::telemetry::metrics::NotificationOutcome;

use super::super::{DiscoverError, Discoverer};
use super::Consumer;
use super::plan::Plan;

/// Rows of one statement, as many as a page of a listing has.
const LARGEST_PAGE: usize = 1000;

impl Consumer {
    /// Writes down the rows of all messages. Rows that are written are taken out of their plans, so that trying again
    /// after a failure writes and counts the others only.
    pub(super) async fn record(&self, plans: &mut [Plan]) -> Result<(), DiscoverError> {
        match self.write(plans).await {
            Err(error) if blames_the_rows(&error) => {}
            written => return written,
        }
        // PostgreSQL refuses something in these rows, and would for ever: message by message, so that one that is at fault
        // holds up no other.
        for plan in plans {
            match self.write(std::slice::from_mut(plan)).await {
                Err(error) if blames_the_rows(&error) => {
                    plan.keep = true;
                    plan.rows.clear();
                    self.not_done(&plan.message, &error);
                }
                written => written?,
            }
        }
        Ok(())
    }

    /// One statement for each feed.
    async fn write(&self, plans: &mut [Plan]) -> Result<(), DiscoverError> {
        for (at, feed) in self.feeds.iter().enumerate() {
            let rows = plans.iter().flat_map(|plan| &plan.rows);
            let found: Vec<Found> = rows.filter(|(of, _)| *of == at).map(|(_, found)| found.clone()).collect();
            for page in found.chunks(LARGEST_PAGE) {
                self.write_page(feed, page).await?;
            }
            for plan in &mut *plans {
                plan.rows.retain(|(of, _)| *of != at);
            }
        }
        Ok(())
    }

    async fn write_page(&self, feed: &Discoverer, page: &[Found]) -> Result<(), DiscoverError> {
        let recorded = feed.write_down(page, Channel::Notification).await?;
        let known = (page.len() as u64).saturating_sub(recorded.changed());
        // Killed before this, the messages come again and find it undone.
        if known > 0 {
            self.ledger.note_arrived(&feed.feed, page).await?;
        }
        self.count(NotificationOutcome::Recorded, recorded.changed());
        self.count(NotificationOutcome::Known, known);
        Ok(())
    }
}

/// Whether trying again cannot help, because the values themselves are refused.
fn blames_the_rows(error: &DiscoverError) -> bool {
    matches!(error, DiscoverError::Store(store) if store.verdict() == Verdict::Quarantine)
}
