//! The one place that prints. Results go to standard output, everything else to standard error.
//!
//! A closed pipe ends the output and is no error: `keyfall objects | head` is an ordinary thing to type. Text of
//! foreign origin (keys, messages of servers) is shown with its control characters escaped, so that no key can move
//! the cursor or forge a line.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use comfy_table::presets::{NOTHING, UTF8_FULL_CONDENSED};
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

/// Columns of a window below which tables are not fitted into it.
const NARROWEST: u16 = 60;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// At a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Who reads the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// A person: tables with borders, fitted to the window.
    Person,
    /// `grep` and `awk`: aligned columns, one line each.
    Pipe,
    /// A program.
    Json,
}

/// Colour of a short word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Look at it.
    Doubtful,
    /// It must be mended.
    Bad,
    /// Beside the point.
    Faint,
}

/// Where results go, and in which shape.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    reader: Reader,
    color: bool,
}

impl Output {
    /// Looks at standard output once. `no_color` says whether `NO_COLOR` is set to anything.
    pub fn new(json: Json, color: ColorChoice, no_color: NoColor) -> Self {
        let terminal = io::stdout().is_terminal();
        let reader = match (json, terminal) {
            (Json::Yes, _) => Reader::Json,
            (Json::No, true) => Reader::Person,
            (Json::No, false) => Reader::Pipe,
        };
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && no_color == NoColor::Unset,
        };
        Self { reader, color }
    }

    /// Whether results are JSON.
    pub fn is_json(self) -> bool {
        self.reader == Reader::Json
    }

    /// Whether a person looks at the results.
    pub fn is_watched(self) -> bool {
        self.reader == Reader::Person
    }

    /// Prints a text as it stands, with one line feed at its end.
    pub fn text(self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let line_feed = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
        let written = write!(stdout, "{text}{line_feed}").and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Prints a value as JSON.
    pub fn json(self, value: &impl Serialize) -> io::Result<()> {
        self.text(&serde_json::to_string_pretty(value).map_err(io::Error::from)?)
    }

    /// Renders a table: with borders at a terminal, as plain columns in a pipe.
    pub fn table(self, grid: &Grid) -> String {
        let mut table = Table::new();
        table.set_header(&grid.header);
        for row in &grid.rows {
            table.add_row(row);
        }
        if self.reader == Reader::Person {
            // A terminal that does not know its width says 0: better long lines than one letter a line.
            let fitted = table.width().is_some_and(|width| width >= NARROWEST);
            let arrangement = if fitted { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
            table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(arrangement);
        } else {
            table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
        }
        let numeric: Vec<bool> = (0..grid.header.len()).map(|column| grid.is_numeric(column)).collect();
        for (column, numeric) in table.column_iter_mut().zip(numeric) {
            if numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
            if self.reader != Reader::Person {
                column.set_padding((0, 2));
            }
        }
        table.trim_fmt()
    }

    /// The same; but in a window that is too narrow for it, one paragraph for each row, without what is zero. Numbers and
    /// times that are broken over several lines cannot be read.
    pub fn table_or_list(self, grid: &Grid) -> String {
        let window = Table::new().width().filter(|width| *width >= NARROWEST);
        match window {
            Some(width) if self.is_watched() && grid.width() > usize::from(width) => grid.paragraphs(),
            _ => self.table(grid),
        }
    }

    /// A word in its colour, where colours are wanted.
    pub fn toned(self, tone: Tone, word: &str) -> String {
        if !self.color {
            return word.to_owned();
        }
        let code = match tone {
            Tone::Good => 32,
            Tone::Doubtful => 33,
            Tone::Bad => 31,
            Tone::Faint => 2,
        };
        format!("\u{1b}[{code}m{word}\u{1b}[0m")
    }
}

/// Whether results are wanted as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Json {
    /// Yes.
    Yes,
    /// No.
    No,
}

/// Whether `NO_COLOR` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoColor {
    /// To a text that is not empty.
    Set,
    /// Not at all.
    Unset,
}

/// Rows of texts under a header.
#[derive(Debug, Clone, Default)]
pub struct Grid {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// An empty grid.
    pub fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// Leaves out those of the columns named that hold nothing but zeros.
    #[must_use]
    pub fn without_zeros(mut self, columns: &[&str]) -> Self {
        let is_empty = |index: usize| self.rows.iter().all(|row| row.get(index).is_some_and(|cell| cell == "0"));
        let kept: Vec<bool> = self
            .header
            .iter()
            .enumerate()
            .map(|(index, name)| !(columns.contains(&name.as_str()) && is_empty(index)))
            .collect();
        for row in self.rows.iter_mut().chain([&mut self.header]) {
            let mut kept = kept.iter();
            row.retain(|_| kept.next().is_none_or(|kept| *kept));
        }
        self
    }

    /// Adds a row; control characters are escaped.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// Columns of a window that its table takes with borders.
    fn width(&self) -> usize {
        let cell = |row: &Vec<String>, index: usize| row.get(index).map_or(0, |cell| cell.chars().count());
        let widest = |index: usize| self.rows.iter().chain([&self.header]).map(|row| cell(row, index)).max();
        // Two blanks and a border for each column, and the last border.
        (0..self.header.len()).map(|index| widest(index).unwrap_or(0) + 3).sum::<usize>() + 1
    }

    /// Each row as its first cell, and below it the others with their names.
    fn paragraphs(&self) -> String {
        let mut lines = Vec::new();
        for row in &self.rows {
            lines.push(row.first().cloned().unwrap_or_default());
            let named = self.header.iter().zip(row).skip(1);
            let said = named.filter(|(_, cell)| !matches!(cell.as_str(), "0" | "-" | ""));
            lines.extend(said.map(|(name, cell)| format!("  {name:12} {cell}")));
        }
        lines.join("\n")
    }

    /// Whether a column holds nothing but numbers and blanks.
    fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|row| row.get(column));
        let is_number = |cell: &String| cell.chars().all(|c| c.is_ascii_digit()) && !cell.is_empty();
        self.rows.iter().any(|row| row.get(column).is_some_and(is_number))
            && cells.all(|cell| cell == "-" || is_number(cell))
    }
}

/// The text with control characters and direction marks escaped.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// `name: value` lines, aligned, for one thing with many properties.
pub fn properties(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in pairs {
        // Writing to a String cannot fail.
        if writeln!(text, "{name:width$}  {}", printable(value)).is_err() {
            break;
        }
    }
    text
}

/// A size with the unit that keeps it short, such as `4.1 MiB`.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// Says something to the person beside the results: an error, a hint. A closed standard error is nobody's business.
pub fn note(text: &str) {
    let mut stderr = io::stderr().lock();
    if writeln!(stderr, "{text}").is_err() {
        tracing::trace!("standard error is closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Output = Output { reader: Reader::Pipe, color: false };

    fn grid() -> Grid {
        let mut grid = Grid::new(&["feed", "loaded"]);
        grid.row(vec!["jobs".to_owned(), "7".to_owned()]);
        grid.row(vec!["departments".to_owned(), "1200".to_owned()]);
        grid
    }

    #[test]
    fn a_pipe_gets_aligned_columns_without_borders() {
        assert_eq!(PIPE.table(&grid()), "feed         loaded\njobs              7\ndepartments    1200");
    }

    #[test]
    fn columns_of_zeros_can_be_left_out() {
        let mut grid = Grid::new(&["feed", "missing", "undone"]);
        grid.row(vec!["jobs".to_owned(), "0".to_owned(), "0".to_owned()]);
        grid.row(vec!["departments".to_owned(), "3".to_owned(), "0".to_owned()]);
        let grid = grid.without_zeros(&["missing", "undone"]);
        assert_eq!(grid.header, ["feed", "missing"]);
        assert_eq!(grid.rows, [["jobs", "0"], ["departments", "3"]]);
    }

    #[test]
    fn a_row_that_is_too_wide_is_told_in_lines_without_zeros() {
        let mut grid = grid();
        grid.row(vec!["idle".to_owned(), "0".to_owned()]);
        assert_eq!(grid.width(), "│ departments ┆ loaded │".chars().count());
        assert_eq!(grid.paragraphs(), "jobs\n  loaded       7\ndepartments\n  loaded       1200\nidle");
        assert_eq!(PIPE.table_or_list(&grid), PIPE.table(&grid));
    }

    #[test]
    fn a_person_gets_borders() {
        let table = Output { reader: Reader::Person, color: false }.table(&grid());
        assert!(table.starts_with('┌') && table.contains("│ departments"), "{table}");
    }

    #[test]
    fn keys_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2J\nb\u{202e}é"), "a\\u{1b}[2J\\nb\\u{202e}é");
    }

    #[test]
    fn words_are_plain_unless_colours_are_wanted() {
        assert_eq!(PIPE.toned(Tone::Bad, "FAIL"), "FAIL");
        assert_eq!(Output { color: true, ..PIPE }.toned(Tone::Bad, "FAIL"), "\u{1b}[31mFAIL\u{1b}[0m");
    }

    #[test]
    fn properties_are_aligned() {
        assert_eq!(properties(&[("id", "7".to_owned()), ("state", "loaded".to_owned())]), "id     7\nstate  loaded\n");
    }
}
