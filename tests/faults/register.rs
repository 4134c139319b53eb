//! The register of cases in docs/FAULTS.md: written from the cases themselves, and compared with them at every run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::case::Case;

const BEGIN: &str = "<!-- cases -->\n";
const END: &str = "<!-- end of cases -->";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> PathBuf {
    root().join("docs/FAULTS.md")
}

/// Writes the cases into the document.
pub(crate) fn write(cases: &[Case]) {
    let text = fs::read_to_string(document()).expect("docs/FAULTS.md");
    let (head, tail) = parts(&text);
    fs::write(document(), format!("{head}{BEGIN}{}{END}{tail}", table(cases))).expect("docs/FAULTS.md is written");
}

/// What is wrong with the document, if anything.
pub(crate) fn check(cases: &[Case]) -> Option<String> {
    let text = fs::read_to_string(document()).expect("docs/FAULTS.md");
    let (head, tail) = parts(&text);
    let written = text.get(head.len() + BEGIN.len()..text.len() - tail.len() - END.len());
    (written != Some(table(cases).as_str()))
        .then(|| "docs/FAULTS.md lags behind the cases: run with --register".to_owned())
}

fn parts(text: &str) -> (&str, &str) {
    let head = text.split_once(BEGIN).expect("the mark where the cases begin").0;
    let tail = text.split_once(END).expect("the mark where the cases end").1;
    (head, tail)
}

/// The crash matrix has hundreds of lines that say the same: it gets one.
fn table(cases: &[Case]) -> String {
    let mut table =
        "| id | what happens | first wave | guard that `make mutants` takes away |\n|---|---|---|---|\n".to_owned();
    for case in cases.iter().filter(|case| !case.is_of_matrix()) {
        let wave = if case.is_first_wave { "yes" } else { "" };
        table += &format!("| {} | {} | {wave} | {} |\n", case.id, case.title, guards(&case.id, cases));
    }
    table += "| X-… | the crash matrix: each step, what strikes it, and the disposal | | |\n";
    table
}

/// First lines of the patches that take the guard of this case away. A patch belongs to the longest id that its name
/// begins with.
fn guards(id: &str, cases: &[Case]) -> String {
    let is_of = |stem: &str, id: &str| stem == id || stem.strip_prefix(id).is_some_and(|rest| rest.starts_with('-'));
    let mut found: Vec<String> = fs::read_dir(root().join("tests/faults/mutants"))
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let ids = cases.iter().map(|case| case.id.as_str()).filter(|id| is_of(&stem, id));
            ids.max_by_key(|id| id.len()) == Some(id)
        })
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a patch");
            let guard = text.lines().next().and_then(|line| line.strip_prefix("# guard: "));
            guard.unwrap_or_else(|| panic!("{} does not begin with `# guard: `", path.display())).to_owned()
        })
        .collect();
    found.sort();
    found.join("; ")
}
