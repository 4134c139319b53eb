//! House rules that a compiler does not know: who may import whom, what a file must look like, which words stay out.
//!
//! Guarantees that every import edge under `src/` is in the table below, which is the one of ARCHITECTURE.md. It needs
//! no service, no git and no network, and it deliberately does not look into `#[cfg(test)]` modules: a test may use
//! whatever proves its point.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "this crate is a test: a panic is its verdict"
)]

#[path = "tidy/security.rs"]
mod security;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Module and the modules it may import; itself is understood. A third level (`config::telemetry`) narrows the right.
///
/// `app` wires everything, `demo` starts everything, `fuzzing` checks everything; they may import what they like.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("domain", &[]),
    ("config", &["domain"]),
    // Steps at which tests strike; in a release they are empty functions.
    ("failpoint", &["domain", "config"]),
    // The log settings are the one section that telemetry itself carries out.
    ("telemetry", &["domain", "config::telemetry"]),
    ("lifecycle", &["telemetry"]),
    ("aws", &["domain", "config", "telemetry"]),
    ("store", &["domain", "config", "telemetry", "failpoint"]),
    ("pipeline", &["domain", "config", "telemetry", "store", "failpoint"]),
    // One running configuration: wires stages, knows no command line, no listener and no SDK.
    ("engine", &["domain", "config", "telemetry", "store", "pipeline"]),
    ("operate", &["domain", "config", "telemetry", "store", "pipeline"]),
    ("http", &["domain", "config", "telemetry", "store", "operate"]),
    ("cli", &["domain", "config", "telemetry", "store", "operate", "app", "demo", "failpoint"]),
    ("main", &["app", "cli", "config", "lifecycle", "telemetry"]),
];

/// Modules without a restriction of their own.
const MAY_IMPORT_ALL: [&str; 4] = ["lib", "app", "demo", "fuzzing"];

/// Modules that may import `demo`, which exists under its feature only.
const MAY_IMPORT_DEMO: [&str; 2] = ["cli", "app"];

/// Stages of the pipeline in the order of the flow: each sees the nearest one before it, for its output type.
const STAGES: [&str; 8] = ["discover", "lease", "fetch", "decode", "validate", "load", "commit", "dispose"];

/// Stages that see more than the one before them, each with its reason.
const MAY_ALSO_SEE: [(&str, &str); 2] = [
    // COPY pulls: fetch, decode and load are one stream, and load holds its end.
    ("load", "fetch"),
    // A key whose version changed under the disposal is discovered again.
    ("dispose", "discover"),
];

/// Crates (and `std::env`) that only some modules may name. `demo` plays the outside world and may as well.
const ONLY_IN: [(&str, &[&str]); 13] = [
    ("tokio_postgres", &["store", "demo"]),
    ("tokio_postgres_rustls", &["store", "demo"]),
    ("deadpool_postgres", &["store", "demo"]),
    ("postgres_types", &["store", "demo"]),
    ("postgres_protocol", &["store", "demo"]),
    ("refinery", &["store", "demo"]),
    ("aws_sdk_s3", &["aws", "demo"]),
    ("aws_sdk_sqs", &["aws", "demo"]),
    ("aws_config", &["aws", "demo"]),
    ("aws_smithy_runtime_api", &["aws", "demo"]),
    ("aws_smithy_types", &["aws", "demo"]),
    ("s3s", &["demo"]),
    ("std::env", &["config", "main"]),
];

/// Longest source file.
const MAX_LINES: usize = 600;

/// A source file with the module path it is.
struct Source {
    file: PathBuf,
    module: Vec<String>,
    text: String,
}

impl Source {
    fn top(&self) -> &str {
        &self.module[0]
    }

    /// Code outside comments, texts and test modules.
    fn code(&self) -> String {
        let code = blank(&self.text);
        let end = ["#[cfg(test)]\nmod ", "#[cfg(all(test"].iter().filter_map(|mark| code.find(mark)).min();
        code[..end.unwrap_or(code.len())].to_owned()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder entry").path();
        let built = ["target", "tmp", ".git", "fuzz/target", "fuzz/artifacts", "fuzz/coverage"]
            .iter()
            .any(|name| path == root().join(name));
        if path.is_dir() && !built {
            files_under(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Every Rust file under `src/`, test files (`tests.rs`, `tests/`) left out.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    files_under(&root().join("src"), &mut files);
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    let sources = files.into_iter().map(|file| {
        let inside = file.strip_prefix(root().join("src")).expect("a file under src").with_extension("");
        let module = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Source { file, module, text }
    });
    sources.filter(|source| !source.module.iter().any(|name| name == "tests")).collect()
}

/// The text with comments and the insides of literals turned into spaces; line breaks stay.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = token_length(rest, out.chars().next_back());
        let (token, after) = rest.split_at(length);
        if length > first.len_utf8() {
            out.extend(token.chars().map(|c| if c == '\n' { c } else { ' ' }));
        } else {
            out.push(first);
        }
        rest = after;
    }
    out
}

/// Length of the comment or literal that `text` begins with, else of its first character.
fn token_length(text: &str, before: Option<char>) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |at| at + 2);
    }
    // `br"…"` is raw as well; no other word ends right before a raw text.
    let in_word = before.is_some_and(|c| c != 'b' && (c.is_alphanumeric() || c == '_'));
    let hashes = text.strip_prefix('r').map_or(0, |rest| rest.len() - rest.trim_start_matches('#').len());
    if !in_word && text.starts_with('r') && text[1 + hashes..].starts_with('"') {
        let closing = format!("\"{}", "#".repeat(hashes));
        let begin = hashes + 2;
        return text[begin..].find(&closing).map_or(text.len(), |at| begin + at + closing.len());
    }
    if text.starts_with('"') {
        return quoted_length(text);
    }
    // 'x' and '\n' are characters, 'a in `&'a str` is a lifetime.
    let is_char = text.starts_with('\'') && (text.starts_with("'\\") || text.chars().nth(2) == Some('\''));
    if is_char { char_length(text) } else { first }
}

fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == '"' && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

fn char_length(text: &str) -> usize {
    let mut closing = text.char_indices().skip(if text.starts_with("'\\") { 3 } else { 2 });
    closing.find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| at + 1)
}

/// Paths into our own crate that a file names, as segments from the crate's root.
fn imports(source: &Source) -> BTreeSet<Vec<String>> {
    let code = source.code();
    let mut found = BTreeSet::new();
    for (start, prefix) in [("crate::", Vec::new()), ("keyfall::", Vec::new()), ("super::", parent(&source.module, 1))]
    {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            // `super::super::` is found at its first word; `$crate::` and `x::crate_y::` are something else.
            if before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c)) {
                continue;
            }
            let mut rest = &code[at + start.len()..];
            let mut ups = 1;
            while let Some(after) = rest.strip_prefix("super::") {
                rest = after;
                ups += 1;
            }
            let prefix = if start == "super::" { parent(&source.module, ups) } else { prefix.clone() };
            expand(rest, &prefix, &mut found);
        }
    }
    found
}

fn parent(module: &[String], ups: usize) -> Vec<String> {
    module[..module.len().saturating_sub(ups)].to_vec()
}

/// Adds the path or the tree of paths that `text` begins with.
fn expand(text: &str, prefix: &[String], found: &mut BTreeSet<Vec<String>>) {
    let text = text.trim_start();
    if let Some(inside) = text.strip_prefix('{') {
        for branch in branches(inside) {
            expand(branch, prefix, found);
        }
        return;
    }
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if word.is_empty() || word == "self" {
        found.insert(prefix.to_vec());
        return;
    }
    let mut path = prefix.to_vec();
    path.push(word.clone());
    match text[word.len()..].strip_prefix("::") {
        Some(rest) => expand(rest, &path, found),
        None => {
            found.insert(path);
        }
    }
}

/// The comma-separated branches up to the closing brace.
fn branches(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let mut begin = 0;
    let mut found = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                found.push(&text[begin..at]);
                begin = at + 1;
            }
            '}' => {
                found.push(&text[begin..at]);
                break;
            }
            _ => {}
        }
    }
    found.retain(|branch| !branch.trim().is_empty());
    found
}

/// Whether a module may name a path of our crate, where `stages` are the stages that exist.
fn allowed(module: &[String], path: &[String], stages: &[&str]) -> bool {
    let (from, to) = (module[0].as_str(), path[0].as_str());
    if to == "demo" && from != "demo" {
        return MAY_IMPORT_DEMO.contains(&from);
    }
    if from == to {
        return from != "pipeline" || stage_may_see(module, path, stages);
    }
    if MAY_IMPORT_ALL.contains(&from) {
        return true;
    }
    let (_, rights) = MAY_IMPORT
        .iter()
        .find(|(name, _)| *name == from)
        .unwrap_or_else(|| panic!("module {from:?} is new: add it to MAY_IMPORT and to ARCHITECTURE.md"));
    let full = path.join("::");
    rights.iter().any(|right| *right == to || full == *right || full.starts_with(&format!("{right}::")))
}

/// Inside the pipeline: a stage sees the one before it, the worker all stages, the dispatcher everything.
fn stage_may_see(module: &[String], path: &[String], stages: &[&str]) -> bool {
    let (Some(from), Some(to)) = (module.get(1), path.get(1)) else { return true };
    if from == to || from == "dispatcher" || MAY_ALSO_SEE.contains(&(from.as_str(), to.as_str())) {
        return true;
    }
    let rank = |name: &String| stages.iter().position(|stage| stage == name);
    match (rank(from), rank(to)) {
        (Some(from), Some(to)) => to + 1 == from,
        (Some(_), None) => to != "worker" && to != "dispatcher",
        (None, _) => to != "dispatcher",
    }
}

fn existing_stages() -> Vec<&'static str> {
    let folder = root().join("src/pipeline");
    STAGES.into_iter().filter(|stage| folder.join(format!("{stage}.rs")).is_file()).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split("::").map(str::to_owned).collect()
}

#[test]
fn every_import_is_in_the_table() {
    let ours: BTreeSet<_> = sources().iter().map(|source| source.top().to_owned()).collect();
    let stages = existing_stages();
    let mut wrong = Vec::new();
    let mut edges = 0;
    for source in sources() {
        for path in imports(&source).iter().filter(|path| path.first().is_some_and(|top| ours.contains(top))) {
            edges += 1;
            if !allowed(&source.module, path, &stages) {
                wrong.push(format!("{} imports {}", relative(&source.file), path.join("::")));
            }
        }
    }
    assert!(edges > 0, "no import was found at all: the reader is broken");
    assert!(wrong.is_empty(), "not in the table of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_refuses_what_it_should() {
    for (from, to, expected) in [
        ("domain::object", "store::pool", false),
        ("config::feed", "domain::pattern", true),
        ("config::feed", "telemetry::metrics", false),
        ("telemetry::tracing", "config::telemetry::LogFormat", true),
        ("telemetry::tracing", "config::telemetry", true),
        ("telemetry::tracing", "config::feed", false),
        ("aws::s3", "store::pool", false),
        ("store::pool", "aws::s3", false),
        ("pipeline::fetch", "aws::s3", false),
        ("pipeline::fetch", "pipeline::lease", true),
        ("pipeline::fetch", "pipeline::load", false),
        ("pipeline::load", "pipeline::discover", false),
        ("pipeline::dispose", "pipeline::worker", false),
        ("pipeline::worker", "pipeline::load::append", true),
        ("pipeline::worker", "pipeline::dispatcher", false),
        ("pipeline::dispatcher", "pipeline::worker", true),
        ("operate::retry", "http::router", false),
        ("cli::status", "pipeline::worker", false),
        ("cli::demo", "demo::s3", true),
        ("store::pool", "demo::postgres", false),
        ("lifecycle", "config", false),
        ("app", "aws::client", true),
    ] {
        assert_eq!(allowed(&words(from), &words(to), &STAGES), expected, "{from} imports {to}");
    }
    // Where a stage does not exist, the one before it takes its place.
    assert!(allowed(&words("pipeline::load"), &words("pipeline::decode"), &["fetch", "decode", "load"]));
}

#[test]
fn imports_are_found_in_every_spelling() {
    let text = r##"
//! use crate::comment;
use crate::{config::{self, feed::Feed}, domain::object};
pub(crate) use crate::store::pool;
use super::lease::Lease;
fn f() { let text = "crate::text"; let raw = r#"crate::raw " "#; let c = '"'; crate::telemetry::metrics::add(c) }
fn g<'a>(x: &'a str) -> super::super::aws::Client { $crate::macros!() }
#[cfg(test)]
mod tests { use crate::demo; }
"##;
    let source = Source { file: PathBuf::new(), module: words("pipeline::fetch"), text: text.to_owned() };
    let found: Vec<_> = imports(&source).iter().map(|path| path.join("::")).collect();
    assert_eq!(
        found,
        [
            "aws::Client",
            "config",
            "config::feed::Feed",
            "domain::object",
            "pipeline::lease::Lease",
            "store::pool",
            "telemetry::metrics::add"
        ]
    );
}

#[test]
fn drivers_and_the_environment_have_one_door_each() {
    let mut wrong = Vec::new();
    for source in sources() {
        let code = source.code();
        for (name, modules) in ONLY_IN.iter().filter(|(_, modules)| !modules.contains(&source.top())) {
            let named = code.match_indices(name).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                let after = code[at + name.len()..].chars().next();
                let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                !in_word(before) && !in_word(after)
            });
            if named {
                wrong.push(format!("{} names {name}, which only {modules:?} may", relative(&source.file)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() {
    let mut wrong = Vec::new();
    for source in sources() {
        let name = relative(&source.file);
        if !source.text.starts_with("//!") {
            wrong.push(format!("{name} does not open with `//!`"));
        }
        if source.file.ends_with("mod.rs") {
            wrong.push(format!("{name}: write foo.rs beside foo/ instead"));
        }
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{name} has {lines} lines, more than {MAX_LINES}: it has two subjects"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Words that tell where somebody worked or which mirror a machine uses; split so that this file may hold them.
const MACHINE_WORDS: [&str; 8] = [
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("files.python", "hosted.org"),
    concat!("registry.npm", "js.org"),
    concat!("deb.debian", ".org"),
];

#[test]
fn no_file_names_a_machine_or_a_package_mirror() {
    let mut files = Vec::new();
    files_under(root(), &mut files);
    let mut wrong = Vec::new();
    for file in files {
        // What is not UTF-8 is not text.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (number, line) in text.lines().enumerate() {
            for word in MACHINE_WORDS.iter().filter(|word| line.contains(**word) && !line.contains("github.com")) {
                wrong.push(format!("{}:{}: {word}", relative(&file), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Targets of `[text](target)` with the line on which each stands; code blocks are left out.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut in_code = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        if !in_code {
            found.extend(targets.map(|target| (number + 1, target.to_owned())));
        }
    }
    found
}

/// The anchor a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

fn resolves(document: &Path, target: &str) -> bool {
    let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { document.to_owned() } else { document.with_file_name("").join(file) };
    let has_anchor = |text: String| text.lines().any(|line| line.starts_with('#') && anchor(line) == wanted);
    file.exists() && (wanted.is_empty() || fs::read_to_string(&file).is_ok_and(has_anchor))
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut files = Vec::new();
    files_under(root(), &mut files);
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    let mut checked = 0;
    let mut broken = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for (line, target) in links(&text) {
            let elsewhere = ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
            if !elsewhere {
                checked += 1;
                if !resolves(&file, &target) {
                    broken.push(format!("{}:{line}: {target}", relative(&file)));
                }
            }
        }
    }
    assert!(checked > 10, "only {checked} links were found: the reader is broken");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
