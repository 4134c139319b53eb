//! A folder of the user's as cargo: every CSV file becomes an object, every file name a feed with a table of its own.
//!
//! Files are read, never written. What is left out is named with its reason. Files of one name and one shape, such as
//! `2024/orders.csv` and `2025/orders.csv`, share a feed.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use jiff::Timestamp;

use crate::cli::output::printable;

use super::count;
use super::guess::{Candidates, Guess, guess};
use super::made::known_table;
use super::plan::{Cargo, Column, FeedPlan, Upload};
use super::screen::Screen;

/// The embedded S3 keeps objects in memory.
const LARGEST_FOLDER: u64 = 2 << 30;
/// PostgreSQL's limit for a table.
const MOST_COLUMNS: usize = 1600;
/// S3's limit for a key, in bytes.
const LONGEST_KEY: usize = 1024;
/// Longest name of a feed, with room for a number at its end.
const LONGEST_NAME: usize = 56;
/// More files than this are only counted.
const LEFT_OUT_SHOWN: usize = 10;
/// Names PostgreSQL keeps for itself in every table.
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// What was found in a folder.
#[derive(Default)]
struct Found {
    files: Vec<(PathBuf, Metadata)>,
    /// Path and reason.
    left_out: Vec<(PathBuf, String)>,
}

impl Found {
    fn leave_out(&mut self, path: &Path, reason: impl Into<String>) {
        self.left_out.push((path.to_owned(), reason.into()));
    }
}

/// One feed while files are added to it.
struct Draft {
    base: String,
    guess: Guess,
    name: String,
}

/// Reads a folder and everything below it.
pub(super) async fn read(directory: &Path, screen: &Screen) -> anyhow::Result<Cargo> {
    let shown = printable(&directory.display().to_string());
    let metadata = fs::metadata(directory)
        .with_context(|| format!("the folder {shown} cannot be read; name one with CSV files"))?;
    ensure!(metadata.is_dir(), "{shown} is a file; name the folder that holds it");
    let mut found = walk(directory)?;
    let size: u64 = found.files.iter().map(|(_, metadata)| metadata.len()).sum();
    let files = count(found.files.len() as u64, "CSV file");
    screen.step("folder", &format!("{shown}: reading {files}, {}", bytesize::ByteSize(size).display().iec()))?;
    ensure!(
        size <= LARGEST_FOLDER,
        "the CSV files in {shown} have {}; the demo keeps objects in memory and takes 2 GiB at most",
        bytesize::ByteSize(size)
    );
    let (mut drafts, mut uploads, mut keys) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (path, metadata) in std::mem::take(&mut found.files) {
        match add(directory, &path, &metadata, &mut drafts).await {
            Ok((feed, body)) => uploads.push(Upload { key: key(&feed, directory, &path, &metadata, &mut keys), body }),
            Err(reason) => found.leave_out(&path, format!("{reason:#}")),
        }
        tokio::task::yield_now().await;
    }
    say_left_out(directory, &mut found.left_out, screen)?;
    if uploads.is_empty() {
        bail!("there is no CSV file to load in {shown}: put files named *.csv there");
    }
    let feeds = drafts.iter().map(plan).collect();
    Ok(Cargo { feeds, uploads, expected: None, folder: Some(directory.to_owned()) })
}

fn walk(directory: &Path) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if folder == directory => return Err(error).context(format!("read {}", folder.display())),
            Err(error) => {
                found.leave_out(&folder, error.to_string());
                continue;
            }
        };
        for entry in entries {
            let path = entry.with_context(|| format!("read {}", folder.display()))?.path();
            // Of what a link points to: files are taken, folders could lead in a circle.
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() && path.is_symlink() => found.leave_out(&path, "a link to a folder"),
                Ok(metadata) if metadata.is_dir() => folders.push(path),
                Ok(metadata) if !metadata.is_file() => found.leave_out(&path, "no regular file"),
                Ok(metadata) if is_csv(&path) => found.files.push((path, metadata)),
                Ok(_) => found.leave_out(&path, "not named *.csv"),
                Err(error) => found.leave_out(&path, error.to_string()),
            }
        }
    }
    found.files.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

/// Finds or makes the feed of a file; answers its name and the file's content.
async fn add(
    directory: &Path,
    path: &Path,
    metadata: &Metadata,
    drafts: &mut Vec<Draft>,
) -> anyhow::Result<(String, Bytes)> {
    let relative = path.strip_prefix(directory).unwrap_or(path);
    ensure!(relative.as_os_str().len() < LONGEST_KEY - 100, "its path is too long for a key");
    ensure!(metadata.len() > 0, "empty");
    let body = Bytes::from(fs::read(path)?);
    let guess = guess(&body).await.context("holds no record")?;
    ensure!(guess.columns.len() <= MOST_COLUMNS, "{} columns; a table has {MOST_COLUMNS} at most", guess.columns.len());
    let base = feed_name(&path.file_stem().unwrap_or_default().to_string_lossy());
    let shape = |guess: &Guess| (guess.delimiter, guess.header.clone(), guess.columns.len());
    if let Some(draft) = drafts.iter_mut().find(|draft| draft.base == base && shape(&draft.guess) == shape(&guess)) {
        for (mine, theirs) in draft.guess.columns.iter_mut().zip(guess.columns) {
            mine.merge(theirs);
        }
        return Ok((draft.name.clone(), body));
    }
    let taken = |name: &str| drafts.iter().any(|draft: &Draft| draft.name == name);
    let name = unique(&base, taken);
    drafts.push(Draft { base, guess, name: name.clone() });
    Ok((name, body))
}

/// The name itself, or the first of `name_2`, `name_3`, … that is free.
fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut candidate = name.to_owned();
    let mut number = 1_u32;
    while taken(&candidate) {
        number += 1;
        candidate = format!("{name}_{number}");
    }
    candidate
}

/// A plain name: lower-case letters, digits, single underscores.
fn plain(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        if name.len() >= LONGEST_NAME {
            break;
        }
    }
    name.trim_end_matches('_').to_owned()
}

fn feed_name(stem: &str) -> String {
    let name = plain(stem);
    match name.chars().next() {
        None => "file".to_owned(),
        Some(c) if c.is_ascii_digit() => format!("f_{name}"),
        Some(_) => name,
    }
}

fn plan(draft: &Draft) -> FeedPlan {
    let known = known_table(&draft.name).filter(|known| known.columns.len() == draft.guess.columns.len());
    let inferred = || columns(draft.guess.header.as_deref(), &draft.guess.columns);
    FeedPlan {
        name: draft.name.clone(),
        key_end: "/**",
        header: draft.guess.header.is_some(),
        delimiter: draft.guess.delimiter,
        columns: known.map_or_else(inferred, |known| known.columns),
    }
}

/// Columns named by the header, or c1 to cn.
fn columns(header: Option<&[String]>, candidates: &[Candidates]) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.iter().enumerate() {
        let written = header.and_then(|names| names.get(index)).map(|name| plain(name)).filter(|name| !name.is_empty());
        let mut name = written.unwrap_or_else(|| format!("c{}", index + 1));
        if SYSTEM_COLUMNS.contains(&name.as_str()) {
            name.push('_');
        }
        let name = unique(&name, |name| columns.iter().any(|column| column.name == name));
        columns.push(Column { name, sql: candidate.kind().as_sql().to_owned() });
    }
    columns
}

/// `feed/time/path`, the time being the file's own. Control characters have no place in a key.
fn key(feed: &str, directory: &Path, path: &Path, metadata: &Metadata, keys: &mut BTreeSet<String>) -> String {
    let time = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    let time = time.filter(|time| time.as_second() >= 0).unwrap_or(Timestamp::UNIX_EPOCH);
    let relative = path.strip_prefix(directory).unwrap_or(path).to_string_lossy();
    let relative: String = relative.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    let key = unique(&format!("{feed}/{}/{relative}", time.strftime("%Y-%m-%d-%H-%M-%S")), |key| keys.contains(key));
    keys.insert(key.clone());
    key
}

fn say_left_out(directory: &Path, left_out: &mut [(PathBuf, String)], screen: &Screen) -> anyhow::Result<()> {
    left_out.sort();
    for (path, reason) in left_out.iter().take(LEFT_OUT_SHOWN) {
        let relative = path.strip_prefix(directory).unwrap_or(path).display().to_string();
        screen.step("left out", &format!("{}: {reason}", printable(&relative)))?;
    }
    if left_out.len() > LEFT_OUT_SHOWN {
        screen.step("left out", &format!("and {} more", count((left_out.len() - LEFT_OUT_SHOWN) as u64, "file")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_name_becomes_a_feed_name() {
        for (stem, name) in [
            ("orders", "orders"),
            ("Hired Employees (1)", "hired_employees_1"),
            ("2024", "f_2024"),
            ("__a--b__", "a_b"),
            ("日本", "file"),
            ("", "file"),
        ] {
            assert_eq!(feed_name(stem), name);
            assert!(feed_name(stem).parse::<crate::domain::feed::FeedName>().is_ok(), "{stem:?}");
        }
        assert!(feed_name(&"9x".repeat(200)).parse::<crate::domain::feed::FeedName>().is_ok());
    }

    #[test]
    fn headers_become_distinct_columns() {
        let header = ["Id", "id", "", "xmin", "Größe"].map(str::to_owned);
        let names: Vec<String> =
            columns(Some(&header), &[Candidates::default(); 5]).into_iter().map(|column| column.name).collect();
        assert_eq!(names, ["id", "id_2", "c3", "xmin_", "gr_e"]);
    }

    #[test]
    fn without_header_columns_are_numbered() {
        let names: Vec<String> =
            columns(None, &[Candidates::default(); 2]).into_iter().map(|column| column.name).collect();
        assert_eq!(names, ["c1", "c2"]);
    }
}
