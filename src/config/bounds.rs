//! Bounds that several sections share, and conversions that cannot fail within them.

use super::value::{Count, Span};

/// The longest any deadline or interval of the program itself may be.
pub(super) const DAY: Span = Span::seconds(24 * 60 * 60);

/// The longest span that is set off against a point in time: far enough for any archive, near enough that the
/// arithmetic of timestamps cannot overflow.
pub(super) const DECADE: Span = Span::seconds(10 * 366 * 24 * 60 * 60);

/// The shortest deadline: less would fail a healthy service.
pub(super) const SHORTEST: Span = Span::millis(10);

/// A count as `usize`; out-of-range counts have been reported before and never reach the program.
pub(super) fn to_usize(count: Count) -> usize {
    usize::try_from(count.0).unwrap_or(usize::MAX)
}

/// A count as `u32`; out-of-range counts have been reported before and never reach the program.
pub(super) fn to_u32(count: Count) -> u32 {
    u32::try_from(count.0).unwrap_or(u32::MAX)
}
