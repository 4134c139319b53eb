//! Whether a key has a pattern's shape, and where its parts lie.
//!
//! Instead of backtracking, one table is filled from the end of the pattern to its beginning: row *i* says from which
//! positions of the key the atoms from *i* on match its rest. A cell needs its neighbours and the row behind it only,
//! so the whole costs `atoms × key length` cells (a part of a time looks at ten characters at most), and no key, however
//! hostile, costs more. The parts are then read off forwards: every choice that stays in the table succeeds.

use super::time::{Field, MONTHS, Parts, Width};
use super::{Atom, KeyParts, KeyPattern, KeyTime, Slashes};

/// Takes `key` apart.
pub(super) fn parts(pattern: &KeyPattern, key: &str) -> Option<KeyParts> {
    let rows = table(&pattern.atoms, key);
    if !at(rows.first()?, 0) {
        return None;
    }
    let mut found = Parts::default();
    let mut captures = Vec::new();
    let mut series = 0;
    let mut position = 0;
    for (index, atom) in pattern.atoms.iter().enumerate() {
        if index == pattern.series_end {
            series = position;
        }
        let end = position + taken(atom, key, position, rows.get(index + 1)?)?;
        match atom {
            Atom::Field { field, .. } => found.set(*field, key.get(position..end)?),
            Atom::Capture(name) => captures.push((name.clone(), key.get(position..end)?.to_owned())),
            Atom::Literal(_) | Atom::Wildcard { .. } => {}
        }
        position = end;
    }
    if pattern.series_end >= pattern.atoms.len() {
        series = position;
    }
    let time = if pattern.has_time { found.time(&pattern.zone) } else { KeyTime::Absent };
    Some(KeyParts { series: key.get(..series)?.to_owned(), time, captures })
}

/// Cell `position` of a row; outside it nothing matches.
fn at(row: &[bool], position: usize) -> bool {
    row.get(position).copied().unwrap_or(false)
}

/// All rows; the last one, behind the last atom, matches at the key's end only.
fn table(atoms: &[Atom], key: &str) -> Vec<Vec<bool>> {
    let mut row: Vec<bool> = (0..=key.len()).map(|position| position == key.len()).collect();
    let mut rows = Vec::with_capacity(atoms.len() + 1);
    for atom in atoms.iter().rev() {
        let before = row_of(atom, key, &row);
        rows.push(row);
        row = before;
    }
    rows.push(row);
    rows.reverse();
    rows
}

/// From where `atom` and what follows it match, given from where what follows it does.
fn row_of(atom: &Atom, key: &str, next: &[bool]) -> Vec<bool> {
    let positions = 0..=key.len();
    match atom {
        Atom::Literal(literal) => positions
            .map(|position| {
                at(next, position + literal.len())
                    && key.as_bytes().get(position..).is_some_and(|rest| rest.starts_with(literal.as_bytes()))
            })
            .collect(),
        Atom::Field { field, width } => positions
            .map(|position| lengths(*field, *width, key, position).any(|length| at(next, position + length)))
            .collect(),
        Atom::Wildcard { slashes } => run(key, next, *slashes),
        Atom::Capture(_) => {
            let mut row = run(key, next, Slashes::Within);
            // At least one character: what a run reaches from the next position on.
            let shifted: Vec<bool> = row.iter().skip(1).copied().chain([false]).collect();
            for ((cell, after), byte) in row.iter_mut().zip(shifted).zip(key.bytes().chain([b'/'])) {
                *cell = after && byte != b'/';
            }
            row
        }
    }
}

/// From where a run of characters, perhaps none, leads to a position of `next` that begins a character.
fn run(key: &str, next: &[bool], slashes: Slashes) -> Vec<bool> {
    let mut reached = at(next, key.len());
    let mut row = vec![reached];
    for (position, byte) in key.bytes().enumerate().rev() {
        let passes = slashes == Slashes::Across || byte != b'/';
        reached = (at(next, position) && key.is_char_boundary(position)) || (passes && reached);
        row.push(reached);
    }
    row.reverse();
    row
}

/// How many bytes `atom` takes at `position` so that the rest still matches.
fn taken(atom: &Atom, key: &str, position: usize, next: &[bool]) -> Option<usize> {
    let fits = |length: &usize| at(next, position + length);
    match atom {
        Atom::Literal(literal) => Some(literal.len()),
        Atom::Field { field, width } => lengths(*field, *width, key, position).find(fits),
        Atom::Wildcard { .. } | Atom::Capture(_) => {
            let least = usize::from(matches!(atom, Atom::Capture(_)));
            // The shortest length that fits lies before any slash the run may not cross: the table says that there
            // is one, and a run's positions are tried in order.
            (least..=key.len() - position).find(|length| fits(length) && key.is_char_boundary(position + length))
        }
    }
}

/// Lengths that a part of a time may have at `position`, longest first.
fn lengths(field: Field, width: Width, key: &str, position: usize) -> impl Iterator<Item = usize> {
    let rest = key.as_bytes().get(position..).unwrap_or_default();
    let (shortest, longest) = match field {
        Field::MonthName => {
            let name = key.get(position..position + 3).unwrap_or_default();
            let known = MONTHS.iter().any(|month| month.eq_ignore_ascii_case(name));
            if known { (3, 3) } else { (1, 0) }
        }
        Field::Offset => match offset_length(rest) {
            0 => (1, 0),
            length => (1, length),
        },
        _ => {
            let digits = rest.iter().take(usize::from(width.max)).take_while(|byte| byte.is_ascii_digit()).count();
            (usize::from(width.min), digits)
        }
    };
    let offset = field == Field::Offset;
    (shortest..=longest).rev().filter(move |length| !offset || matches!(length, 1 | 3 | 5 | 6))
}

/// Length of the longest offset from Greenwich that `rest` begins with: `Z`, `+hh`, `+hhmm` or `+hh:mm`.
fn offset_length(rest: &[u8]) -> usize {
    let digits = |from: usize| rest.get(from..from + 2).is_some_and(|pair| pair.iter().all(u8::is_ascii_digit));
    match rest.first() {
        Some(b'Z') => 1,
        Some(b'+' | b'-') if digits(1) && rest.get(3) == Some(&b':') && digits(4) => 6,
        Some(b'+' | b'-') if digits(1) && digits(3) => 5,
        Some(b'+' | b'-') if digits(1) => 3,
        _ => 0,
    }
}
