//! The double that must lose: a reader that lists what comes after the largest key it has seen, and never looks back.
//!
//! It reads the same bucket at the same time as the program. Where it loses nothing, the storm proves nothing.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use keyfall::demo::s3::{ACCESS_KEY_ID, EmbeddedS3, REGION, SECRET_ACCESS_KEY};

use crate::lab::BUCKET;

/// Pause between two looks, as the program's own.
const PAUSE: Duration = Duration::from_millis(200);

/// A reader by the largest key.
pub(super) struct Cursor {
    client: Client,
    /// It keeps to keys that begin with this.
    prefix: &'static str,
    largest: String,
    seen: HashSet<String>,
}

impl Cursor {
    pub(super) fn new(s3: &EmbeddedS3, prefix: &'static str) -> Self {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .credentials_provider(Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, None, None, "test"))
            .region(Region::new(REGION))
            .endpoint_url(s3.endpoint())
            .force_path_style(true)
            .build();
        Self { client: Client::from_conf(config), prefix, largest: prefix.to_owned(), seen: HashSet::new() }
    }

    /// Reads until it is dropped or `done` says that nothing more comes; then once more. Answers what it saw.
    pub(super) async fn follow(mut self, done: tokio_util::sync::CancellationToken) -> HashSet<String> {
        while !done.is_cancelled() {
            self.look().await;
            done.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
        self.look().await;
        self.seen
    }

    async fn look(&mut self) {
        loop {
            let list = self.client.list_objects_v2().bucket(BUCKET).prefix(self.prefix).start_after(&self.largest);
            let page = list.send().await.expect("a listing");
            for key in page.contents().iter().filter_map(|object| object.key()) {
                // Listings are in the order of bytes, so the last one is the largest.
                key.clone_into(&mut self.largest);
                self.seen.insert(key.to_owned());
            }
            if page.is_truncated() != Some(true) {
                return;
            }
        }
    }
}
