//! How long to wait after a failure.

use std::time::Duration;

/// Delay before the next try: doubles from `first` with each failure up to `longest`, and is then shortened by a
/// random part (`chance` in 0..1) of up to half, so that many objects that failed together do not come back together.
pub fn delay(failures: u32, first: Duration, longest: Duration, chance: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(30);
    let full = first.saturating_mul(1 << doublings).min(longest);
    full.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_never_fall_below_half() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_mins(1));
        assert_eq!(delay(1, first, longest, 0.0), Duration::from_secs(1));
        assert_eq!(delay(3, first, longest, 0.0), Duration::from_secs(4));
        assert_eq!(delay(40, first, longest, 0.0), longest);
        assert_eq!(delay(40, first, longest, 1.0), longest / 2);
    }
}
