//! `numeric`: exact, of any precision, never through a float.
//!
//! The wire form is groups of four decimal digits (base 10000) with the weight of the first one, a sign and the
//! number of decimals as written. Exponents are accepted like by the server; `NaN` and `Infinity` are not.

use bytes::{BufMut, BytesMut};

use super::CellError;
use super::frame::{low16, low32, put_measured};
use super::integer::split_sign;

/// Digits that a 64-bit number takes with up to three zeros appended.
const SHORT_DIGITS: usize = 16;

/// Sign word of a negative number.
const NEGATIVE: u16 = 0x4000;

/// Decimals that the server can keep (14 bits).
const MOST_DECIMALS: i64 = 0x3fff;

/// No number that the server can keep needs an exponent of this size, and it refuses larger ones even behind zeros.
const LARGEST_EXPONENT: i64 = 1_000_000;

pub(super) fn encode(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let (negative, body) = split_sign(cell);
    let sign = if negative { NEGATIVE } else { 0 };
    if let Some(short) = Short::parse(body) {
        short.put(sign, out);
        return Ok(());
    }
    let long = Long::parse(body)?;
    long.check()?;
    put_measured(out, |out| {
        long.put(sign, out);
        Ok(())
    })
}

/// Whether the server could keep this number (used for numbers inside `jsonb`, which it stores as `numeric`).
pub(super) fn check(cell: &[u8]) -> Result<(), CellError> {
    Long::parse(split_sign(cell).1)?.check()
}

/// Up to [`SHORT_DIGITS`] digits and a point: nearly every number there is, in one pass.
struct Short {
    /// All digits as one number.
    value: u64,
    /// How many of them stand behind the point.
    scale: u64,
}

impl Short {
    #[inline]
    fn parse(body: &[u8]) -> Option<Self> {
        if body.len() > SHORT_DIGITS + 1 {
            return None;
        }
        let mut value: u64 = 0;
        let mut digits = 0;
        let mut point = None;
        for &byte in body {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
                digits += 1;
            } else if byte == b'.' && point.is_none() {
                point = Some(digits);
            } else {
                return None;
            }
        }
        let known = (1..=SHORT_DIGITS as u64).contains(&digits);
        known.then(|| Self { value, scale: point.map_or(0, |before| digits - before) })
    }

    #[inline]
    fn put(&self, sign: u16, out: &mut BytesMut) {
        let (fill, fraction_groups) = match self.scale % 4 {
            0 => (1, self.scale / 4),
            1 => (1000, self.scale / 4 + 1),
            2 => (100, self.scale / 4 + 1),
            _ => (10, self.scale / 4 + 1),
        };
        let mut rest = self.value * fill;
        if rest == 0 {
            // Zero has no groups and no sign, but keeps its decimals.
            let [a, b] = low16(self.scale).to_be_bytes();
            out.put_slice(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, a, b]);
            return;
        }
        // Groups of zeros at the end are not stored.
        let mut last = rest % 10_000;
        rest /= 10_000;
        let mut weight = 0_u64.wrapping_sub(fraction_groups);
        while last == 0 {
            last = rest % 10_000;
            rest /= 10_000;
            weight = weight.wrapping_add(1);
        }
        // At most 19 digits make five groups of 16 bits; each new one is pushed in at the top, so that in the end the
        // first group stands at the top.
        let mut groups = u128::from(last) << 112;
        let mut count: u64 = 1;
        while rest != 0 {
            groups = groups >> 16 | u128::from(rest % 10_000) << 112;
            rest /= 10_000;
            count += 1;
        }
        let weight = weight.wrapping_add(count - 1);
        let length = 2 * count;
        out.put_u32(8 + low32(length));
        let words = count << 16 | u64::from(low16(weight));
        out.put_u64(words << 32 | u64::from(sign) << 16 | self.scale);
        let bytes = groups.to_be_bytes();
        out.put_slice(bytes.get(..usize::from(low16(length))).unwrap_or_default());
    }
}

/// Any number: digits before and behind the point, and an exponent.
struct Long<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Long<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, CellError> {
        let (whole, rest) = split_digits(body);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => split_digits(rest),
            _ => (rest.get(..0).unwrap_or_default(), rest),
        };
        let exponent = match rest {
            [] => Some(0),
            [b'e' | b'E', rest @ ..] => parse_exponent(rest),
            _ => None,
        };
        match exponent {
            Some(exponent) if !(whole.is_empty() && fraction.is_empty()) => Ok(Self { whole, fraction, exponent }),
            _ => Err(no_number(body)),
        }
    }

    /// The digits, each with the power of ten it stands for.
    fn digits(&self) -> impl Iterator<Item = (i64, u64)> {
        let mut power = signed(self.whole.len()) + self.exponent;
        self.whole.iter().chain(self.fraction).map(move |byte| {
            power -= 1;
            (power, u64::from(byte.wrapping_sub(b'0')))
        })
    }

    /// Powers of ten of the first and the last digit that is not zero; none for zero itself.
    fn significant(&self) -> Option<(i64, i64)> {
        let mut powers = self.digits().filter(|(_, digit)| *digit != 0).map(|(power, _)| power);
        let first = powers.next()?;
        Some((first, powers.last().unwrap_or(first)))
    }

    /// Decimals as written; an exponent moves the point.
    fn decimals(&self) -> i64 {
        (signed(self.fraction.len()) - self.exponent).max(0)
    }

    fn check(&self) -> Result<(), CellError> {
        let weight = self.significant().map_or(0, |(first, _)| first.div_euclid(4));
        let exponent_fits = self.exponent.abs() < LARGEST_EXPONENT;
        if !exponent_fits || self.decimals() > MOST_DECIMALS || weight > i64::from(i16::MAX) {
            return Err(CellError::new(
                "E-CELL-NUMERIC-RANGE",
                "more digits than numeric can hold: at most 131072 before the point and 16383 behind it",
            ));
        }
        Ok(())
    }

    /// Writes the payload of a number that passed [`Self::check`].
    fn put(&self, sign: u16, out: &mut BytesMut) {
        let decimals = word(self.decimals());
        let Some((first, last)) = self.significant() else {
            out.put_slice(&[0; 6]);
            out.put_u16(decimals);
            return;
        };
        let mut group = first.div_euclid(4);
        out.put_u16(word(group - last.div_euclid(4) + 1));
        out.put_u16(word(group));
        out.put_u16(sign);
        out.put_u16(decimals);
        let mut value = 0;
        for (power, digit) in self.digits().filter(|(power, _)| (last..=first).contains(power)) {
            if power.div_euclid(4) != group {
                out.put_u16(low16(value));
                value = 0;
                group -= 1;
            }
            value += digit
                * match power.rem_euclid(4) {
                    0 => 1,
                    1 => 10,
                    2 => 100,
                    _ => 1000,
                };
        }
        out.put_u16(low16(value));
    }
}

fn split_digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    bytes.split_at_checked(end).unwrap_or_default()
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits
        .iter()
        .fold(0, |value: i64, byte| (value * 10 + i64::from(byte.wrapping_sub(b'0'))).min(LARGEST_EXPONENT));
    Some(if negative { -magnitude } else { magnitude })
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// A 16-bit word in two's complement.
fn word(value: i64) -> u16 {
    low16(value.cast_unsigned())
}

#[cold]
fn no_number(body: &[u8]) -> CellError {
    let special = [&b"nan"[..], b"inf", b"infinity"].iter().any(|word| body.eq_ignore_ascii_case(word));
    let reason = if special {
        "NaN and Infinity are not accepted"
    } else {
        "not a number: expected digits with an optional sign, point and exponent"
    };
    CellError::new("E-CELL-NUMERIC", reason)
}
