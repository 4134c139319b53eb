//! The figures, target beside measured.

use std::fmt::Write as _;

/// Which side of a target is good.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// A figure without a target.
    None,
}

/// One figure.
struct Line {
    what: String,
    target: Target,
    measured: String,
    missed: bool,
    beside: String,
}

/// All figures of a run.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Enters a figure; `unit` stands behind it, `beside` is what it has to be read with.
    pub(crate) fn enter(&mut self, what: &str, target: Target, (value, unit): (f64, &str), beside: String) {
        let missed = match target {
            Target::AtMost(limit) => value > limit,
            Target::AtLeast(limit) => value < limit,
            Target::None => false,
        };
        let measured = format!("{}{unit}", figure(value));
        println!("{what}: {measured}{}  {beside}", if missed { " MISSED" } else { "" });
        self.lines.push(Line { what: what.to_owned(), target, measured, missed, beside });
    }

    /// Enters what could not be measured, and why.
    pub(crate) fn not_run(&mut self, what: &str, why: &str) {
        println!("{what}: NOT RUN: {why}");
        let (what, measured, beside) = (what.to_owned(), "NOT RUN".to_owned(), why.replace('\n', " "));
        self.lines.push(Line { what, target: Target::None, measured, missed: false, beside });
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let width = self.lines.iter().map(|line| line.what.len()).max().unwrap_or_default();
        for line in &self.lines {
            let target = match line.target {
                Target::AtMost(limit) => format!("<= {}", figure(limit)),
                Target::AtLeast(limit) => format!(">= {}", figure(limit)),
                Target::None => String::new(),
            };
            let verdict = match (line.target, line.missed) {
                (Target::None, _) => "",
                (_, true) => "MISSED",
                (_, false) => "ok",
            };
            let Line { what, measured, beside, .. } = line;
            // Writing to a String cannot fail.
            writeln!(text, "{what:<width$}  {target:>8}  {measured:>10}  {verdict:<6}  {beside}").unwrap_or_default();
        }
        text
    }
}

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The middle one; of an even number, the lower of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Smallest and largest.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> String {
    let (low, high) = values.into_iter().fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    format!("{low:.2}..{high:.2}")
}
