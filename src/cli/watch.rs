//! A counter for commands that take long, where somebody watches.

use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::config::feed::Feed;
use crate::operate::sweep::Progress;

/// How often the counter is drawn.
const TICK: Duration = Duration::from_millis(100);

/// Shows how many objects were seen so far while the work goes on, where there is a terminal.
pub(super) async fn watched<T>(feed: &Feed, progress: &Progress, work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let bar = ProgressBar::new_spinner().with_message(feed.name.to_string());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {human_pos} objects, {per_sec}, {elapsed}") {
        bar.set_style(style);
    }
    let mut tick = tokio::time::interval(TICK);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            _ = tick.tick() => bar.set_position(progress.seen()),
        }
    }
}
