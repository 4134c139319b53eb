//! Which feeds a command means, and which of their objects.

use std::sync::Arc;

use jiff::Timestamp;

use crate::config::Config;
use crate::config::feed::Feed;
use crate::operate::lookup;
use crate::operate::window::Window;

use super::arguments::WindowArgs;
use super::exit::Failure;

/// The feeds in the order of their names, each with its window. All of it is read before anything is done.
pub(super) fn chosen<'a>(config: &'a Config, args: &WindowArgs) -> Result<Vec<(&'a Arc<Feed>, Window)>, Failure> {
    let feeds: Vec<&Arc<Feed>> = match &args.feed {
        Some(name) => vec![lookup::feed(config, name)?],
        None => config.feeds.values().collect(),
    };
    let now = Timestamp::now();
    let window = |feed: &'a Arc<Feed>| Ok((feed, Window::read(feed, args.from.as_deref(), args.to.as_deref(), now)?));
    feeds.into_iter().map(window).collect()
}
