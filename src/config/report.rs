//! What is wrong with a configuration: every problem, each with its key, its origin and what to do.
//!
//! Checks never stop at the first problem; they hand it to the [`Report`] and go on. Nothing here prints a secret: those
//! who report choose the words, and for keys that hold secrets the words never repeat the value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// Nowhere: the default holds.
    Default,
    /// A file, and the line of the key in it.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// `--set` on the command line.
    Override,
}

impl Origin {
    /// For a person who wants to change the value: with the line, where there is one.
    fn place(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::File(path, line) => format!("{}:{line}", path.display()),
            Self::Environment(name) => name.clone(),
            Self::Override => "--set".to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, _) => path.display().fmt(f),
            Self::Environment(name) => f.write_str(name),
            Self::Override => f.write_str("--set"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Key path such as `feeds.departments.pattern`, or the place in a file.
    pub key: String,
    /// What is wrong, and where the value came from.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The problems, in the order of their keys.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("the configuration has 1 problem:")?,
            count => write!(f, "the configuration has {count} problems:")?,
        }
        for problem in &self.problems {
            write!(f, "\n  {}: {}\n    {}", problem.key, problem.message, problem.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Problems and warnings as they are found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    problems: Vec<Problem>,
    warnings: Vec<String>,
    origins: BTreeMap<String, Origin>,
    file_failed: bool,
}

impl Report {
    /// Notes one problem; the origin of the key's value is added where it is known.
    pub(crate) fn problem(&mut self, key: &str, message: impl fmt::Display, advice: impl Into<String>) {
        let message = match self.origins.get(key) {
            Some(origin) => format!("{message} ({})", origin.place()),
            None => message.to_string(),
        };
        self.push(Problem { key: key.to_owned(), message, advice: advice.into() });
    }

    /// Notes a problem found in one layer, before the layers were merged.
    pub(crate) fn problem_at(&mut self, key: &str, message: &str, origin: &Origin, advice: impl Into<String>) {
        let message = format!("{message} ({})", origin.place());
        self.push(Problem { key: key.to_owned(), message, advice: advice.into() });
    }

    /// Notes a problem with a whole file: what it says is unknown, so nothing can be called missing.
    pub(crate) fn file_problem(&mut self, problem: Problem) {
        self.file_failed = true;
        self.push(problem);
    }

    /// Whether a file could not be read or parsed.
    pub(crate) fn a_file_failed(&self) -> bool {
        self.file_failed
    }

    fn push(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Notes something that deserves a log line but does not stop the program.
    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Notes where each value came from, once the layers are merged.
    pub(crate) fn learn_origins(&mut self, origins: BTreeMap<String, Origin>) {
        self.origins = origins;
    }

    /// Where each value that was set came from.
    pub(crate) fn origins(&self) -> &BTreeMap<String, Origin> {
        &self.origins
    }

    /// Whether something beyond the defaults set the key.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// Whether a problem with this key is known already.
    pub(crate) fn has_problem(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// A required key that is absent, unless its value was refused before.
    pub(crate) fn missing(&mut self, key: &str, advice: impl Into<String>) {
        if !self.has_problem(key) {
            self.problem(key, "is required and not set", advice);
        }
    }

    /// A value outside its bounds.
    pub(crate) fn within<T>(&mut self, key: &str, value: T, bounds: std::ops::RangeInclusive<T>)
    where
        T: PartialOrd + fmt::Display,
    {
        if !bounds.contains(&value) {
            let advice = format!("write a value from {} to {}", bounds.start(), bounds.end());
            self.problem(key, format!("{value} is out of range"), advice);
        }
    }

    /// A text that must say something.
    pub(crate) fn not_blank(&mut self, key: &str, value: Option<&str>) {
        if value.is_some_and(|text| text.trim().is_empty()) {
            self.problem(key, "is empty", "give it a value, or leave the key (or variable) out");
        }
    }

    /// Warns where a secret stands in a file that everybody on the machine may read, and refuses one on the command line.
    pub(crate) fn judge_exposure(&mut self, key: &str) {
        match self.origins.get(key) {
            Some(Origin::File(path, _)) if readable_by_all(path) => {
                let warning = format!(
                    "{key} holds a secret and {} can be read by every user: chmod 640 it, or keep the secret in a file of its own",
                    path.display()
                );
                self.warn(warning);
            }
            Some(Origin::Override) => {
                let message =
                    "holds a secret and stands on the command line, where every user of the machine can read it";
                self.problem(key, message, "put it into a file, a credential or the environment");
            }
            _ => {}
        }
    }

    /// The warnings, where nothing is wrong.
    pub(crate) fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    /// Every problem, sorted by key.
    pub(crate) fn into_errors(mut self) -> ConfigErrors {
        self.problems.sort_by(|a, b| a.key.cmp(&b.key));
        ConfigErrors { problems: self.problems }
    }
}

#[cfg(unix)]
fn readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn readable_by_all(_: &Path) -> bool {
    false
}

/// The known word that is most like `word`, where one is like enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    // A third of the letters may be wrong: `bukcet` is `bucket`, `foo` is nothing we know.
    let tolerance = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase().replace('-', "_")), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_strange_one_is_not() {
        let known = ["bucket", "pattern", "max_workers", "verify-full"];
        for (word, expected) in [
            ("bukcet", Some("bucket")),
            ("Bucket", Some("bucket")),
            ("max-workers", Some("max_workers")),
            ("verify_full", Some("verify-full")),
            ("foo", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
