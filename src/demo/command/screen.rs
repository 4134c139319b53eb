//! What the demo shows: results on standard output, a progress bar where that is a terminal, logs beside it.
//!
//! No escape sequence ever reaches a pipe. A closed pipe is an error here, so that the demo ends with its reader.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::{ColorChoice, Grid, Json, NoColor, Output};
use crate::telemetry::tracing::{Delivery, Logging, Shape, Stamps, subscriber};

/// Redraws a second: smooth for the eye, nothing for the processor.
const REDRAWS: u8 = 10;

/// Standard output and what moves on it.
pub(super) struct Screen {
    bar: ProgressBar,
    terminal: bool,
    output: Output,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            // Hidden until there is progress to show: a bar is redrawn after each line printed beside it.
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            terminal: io::stdout().is_terminal(),
            output: Output::new(Json::No, ColorChoice::Never, NoColor::Set),
        }
    }

    /// Sends logs to standard error, around the bar.
    pub(super) fn install_logs(&self, filter: &str) -> anyhow::Result<()> {
        let bar = self.bar.clone();
        let logging =
            Logging { filter: filter.to_owned(), shape: Shape::Text, stamps: Stamps::Ours, delivery: Delivery::Direct };
        let subscriber = subscriber(&logging, move || BesideBar(bar.clone())).context("RUST_LOG")?;
        tracing::subscriber::set_global_default(subscriber).context("start logging")
    }

    /// Prints a text and ends its line.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        self.bar.suspend(|| {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{text}")?;
            stdout.flush()
        })
    }

    /// One thing that was done, under its name.
    pub(super) fn step(&self, name: &str, what: &str) -> io::Result<()> {
        self.say(&format!("  {name:<11} {what}"))
    }

    /// A table; at a terminal it may need the whole width, elsewhere it is indented.
    pub(super) fn table(&self, grid: &Grid) -> io::Result<()> {
        let table = self.output.table(grid);
        self.say(&if self.terminal { table } else { indented(&table) })
    }

    /// Moves the bar; answers whether there is one, or a line should be printed now and then.
    pub(super) fn progress(&self, done: u64, of: u64, rows: u64) -> bool {
        if !self.terminal {
            return false;
        }
        if self.bar.length().is_none() {
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {bar:32} {pos}/{len} objects, {msg}") {
                self.bar.set_style(style);
            }
            self.bar.set_draw_target(ProgressDrawTarget::stdout_with_hz(REDRAWS));
            self.bar.set_length(of);
            self.bar.enable_steady_tick(Duration::from_millis(100));
        }
        self.bar.set_message(format!("{} rows", grouped(rows)));
        self.bar.set_position(done);
        true
    }

    /// Takes the bar away.
    pub(super) fn end_progress(&self) {
        self.bar.finish_and_clear();
    }
}

/// Writes log lines to standard error while the bar is away, or they would end up on its line.
struct BesideBar(ProgressBar);

impl Write for BesideBar {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().lock().write_all(event))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// Each line two blanks to the right.
pub(super) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// A number with a comma between groups of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups_of_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (30_072, "30,072"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn every_line_is_indented() {
        assert_eq!(indented("a\nb\n"), "  a\n  b");
    }
}
