//! Which path segments before the time make a series, and how listing finds their values.
//!
//! Only whole segments count: the delimiter is always `/`. Folding at another character would be wrong, because a
//! capture may contain it (`{table}_{time}` with `sales_order_2024…` lies under both `sales_` and `sales_order_`),
//! and then a listing per value would miss keys.

use super::{Atom, SeriesLevel, Slashes};

/// Where a key's series ends, and how series are found.
pub(super) struct Layout {
    /// One per segment with captures or wildcards.
    pub(super) levels: Vec<SeriesLevel>,
    /// The series is the text before this atom.
    pub(super) end: usize,
    /// Whether the series ends at the time, so that the time is what orders its keys.
    pub(super) listable: bool,
}

impl Layout {
    /// Reads the atoms up to the time. Without a time, the literal prefix is the only series.
    pub(super) fn of(atoms: &[Atom]) -> Self {
        let mut layout = Self { levels: Vec::new(), end: 0, listable: false };
        let Some(time) = atoms.iter().position(Atom::is_field) else {
            layout.end = usize::from(matches!(atoms.first(), Some(Atom::Literal(_))));
            return layout;
        };
        // The first wild atom of a segment whose closing slash has not come yet.
        let mut open: Option<usize> = None;
        for (index, atom) in atoms.iter().enumerate().take(time) {
            match atom {
                Atom::Literal(literal) => {
                    if let (Some(_), Some((_, rest))) = (open, literal.split_once('/')) {
                        layout.levels.push(SeriesLevel { delimiter: '/', rest: rest.to_owned() });
                        open = None;
                    }
                }
                // A run across slashes ends no segment that a delimiter listing could find.
                Atom::Wildcard { slashes: Slashes::Across } => {
                    layout.end = open.unwrap_or(index);
                    return layout;
                }
                Atom::Capture(_) | Atom::Wildcard { .. } | Atom::Field { .. } => open = open.or(Some(index)),
            }
        }
        layout.end = open.unwrap_or(time);
        layout.listable = open.is_none();
        layout
    }
}
