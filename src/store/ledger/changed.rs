//! The words of `on_change`: the same at discovery and in a load.

use crate::config::feed::OnChange;

/// Code of an object that was set aside because other content was loaded from its key before.
pub const CODE: &str = "E-CHANGED";

/// What an operator can do about it.
pub const fn advice(policy: OnChange) -> &'static str {
    match policy {
        OnChange::Ignore => {
            "nothing to do: the feed ignores changed content; `keyfall retry --id` loads it all the same"
        }
        OnChange::Load | OnChange::Replace | OnChange::Quarantine => {
            "compare both versions; `keyfall retry` loads this one beside the other, `keyfall skip` leaves it for good"
        }
    }
}
