//! How many bytes an object may come to, counted as its blocks are opened.
//!
//! For formats that compress block by block: what [`super::caps::Capped`] is to a stream.

use crate::config::feed::Limits;

use super::caps::{LimitError, RATIO_COUNTS_FROM};

/// The caps on all bytes of one object, and what was counted against them.
#[derive(Debug)]
pub struct Allowance {
    spent: u64,
    max_bytes: u64,
    max_ratio: u64,
    by_ratio: u64,
}

impl Allowance {
    /// For an object of `size` stored bytes.
    pub fn new(limits: &Limits, size: u64) -> Self {
        let by_ratio = size.saturating_mul(limits.max_ratio).max(RATIO_COUNTS_FROM);
        Self { spent: 0, max_bytes: limits.max_bytes, max_ratio: limits.max_ratio, by_ratio }
    }

    /// Counts a block before it is opened. Its records count as a byte each where it has fewer bytes than records: a
    /// record of nothing costs a row all the same.
    pub fn spend(&mut self, bytes: u64, records: u64) -> Result<(), LimitError> {
        self.spent = self.spent.saturating_add(bytes.max(records));
        if self.spent > self.max_bytes {
            return Err(LimitError::Bytes(self.max_bytes));
        }
        if self.spent > self.by_ratio {
            return Err(LimitError::Ratio(self.max_ratio));
        }
        Ok(())
    }

    /// What was counted so far.
    pub const fn spent(&self) -> u64 {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fixture;

    #[test]
    fn the_caps_hold_at_their_exact_limit_and_empty_records_count() {
        let limits = Limits { max_bytes: 3 << 20, max_ratio: 2, ..fixture::feed().limits };
        let mut small = Allowance::new(&limits, 100);
        assert_eq!(small.spend(1 << 19, 1 << 20), Ok(()));
        assert_eq!(small.spend(1, 0), Err(LimitError::Ratio(2)));
        let mut large = Allowance::new(&limits, 2 << 20);
        assert_eq!(large.spend(3 << 20, 1), Ok(()));
        assert_eq!(large.spend(0, 1), Err(LimitError::Bytes(3 << 20)));
        assert_eq!(Allowance::new(&limits, 0).spend(0, u64::MAX), Err(LimitError::Bytes(3 << 20)));
    }
}
