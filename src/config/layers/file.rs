//! Finding and reading the configuration files.
//!
//! Syntax errors show file, line and column, but never the line itself: it may hold a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{FileFormat, Source};
use toml::de::{DeTable, DeValue};

use super::{FILE_VARIABLE, Table};
use crate::config::Sources;
use crate::config::report::{Problem, Report};
use crate::config::secret::read_small_file;
use crate::config::shape::join;

/// Where a file is looked for when none is named.
pub(in crate::config) const SEARCHED: [&str; 2] = ["./keyfall.toml", "/etc/keyfall/keyfall.toml"];

/// A larger file is the wrong file; a thousand feeds take less.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A file's values, and the line of each key.
#[derive(Debug)]
pub(super) struct ConfigFile {
    pub(super) table: Table,
    lines: BTreeMap<String, usize>,
}

impl ConfigFile {
    /// The line a key stands on.
    pub(super) fn line(&self, key: &str) -> usize {
        self.lines.get(key).copied().unwrap_or(1)
    }
}

/// The file and the `conf.d/*.toml` beside it, in the order they apply. Nothing where there is no file, which is no
/// problem by itself: the environment may say everything.
pub(super) fn find(sources: &Sources, searched: &[&str], report: &mut Report) -> Vec<PathBuf> {
    let named = sources.environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let found = || searched.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(main) = sources.file.clone().or(named).or_else(found) else { return Vec::new() };
    let mut files = vec![main];
    files.extend(files.first().map(|main| beside(main, report)).unwrap_or_default());
    files
}

/// `conf.d/*.toml` in the order of their names.
fn beside(main: &Path, report: &mut Report) -> Vec<PathBuf> {
    let directory = main.parent().unwrap_or(Path::new("")).join("conf.d");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Vec::new();
        }
        Err(error) => {
            fail(report, &directory, format!("cannot be read: {error}"), "let keyfall read the directory");
            return Vec::new();
        }
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

/// Reads one file; what is wrong with it is in the report.
pub(super) fn read(path: &Path, report: &mut Report) -> Option<ConfigFile> {
    let text = match read_small_file(path, MAX_FILE_BYTES) {
        Ok(text) => text,
        Err(error) => {
            fail(report, path, format!("cannot be read: {error}"), "check the path, and who may read the file");
            return None;
        }
    };
    parse(path, &text, report)
}

/// The same from its text; the path is for messages.
pub(super) fn parse(path: &Path, text: &str, report: &mut Report) -> Option<ConfigFile> {
    // Parsed twice: by us for the places of keys and errors, by the `config` crate for the values.
    match DeTable::parse(text) {
        Ok(table) => {
            let mut lines = BTreeMap::new();
            note_lines(&line_starts(text), "", table.get_ref(), &mut lines);
            if let Ok(table) = config::File::from_str(text, FileFormat::Toml).collect() {
                return Some(ConfigFile { table, lines });
            }
            // Well-formed TOML fails here only for numbers that do not fit.
            fail(report, path, "holds a number that is too large".to_owned(), "write a smaller number");
            None
        }
        Err(error) => {
            let (line, column) = error.span().map_or((1, 1), |span| place(text, span.start));
            let place = PathBuf::from(format!("{}:{line}:{column}", path.display()));
            fail(report, &place, format!("is no TOML: {}", error.message()), "correct the line");
            None
        }
    }
}

fn fail(report: &mut Report, place: &Path, message: String, advice: &str) {
    report.file_problem(Problem { key: place.display().to_string(), message, advice: advice.to_owned() });
}

/// Line and column from 1; columns count characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Where each line begins: a file may have many keys, and each asks for its line.
fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1)).collect()
}

fn note_lines(starts: &[usize], path: &str, table: &DeTable<'_>, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let full = join(path, key.get_ref());
        lines.insert(full.clone(), starts.partition_point(|start| *start <= key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            note_lines(starts, &full, inner, lines);
        }
    }
}
