//! No wait on the network without a deadline of ours: the server's own timeouts end nothing when the server is gone.

use std::time::Duration;

use super::error::StoreError;

/// Waits for one exchange. After the deadline its connection must not be used again: an answer may still come.
pub(super) async fn bounded<T, E: Into<StoreError>>(
    what: &'static str,
    deadline: Duration,
    exchange: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(deadline, exchange).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_elapsed) => Err(StoreError::Timeout { what, seconds: deadline.as_secs() }),
    }
}
