//! Security rules about what stands in the sources: each absence is proven here and its own rule is shown to bite.
//!
//! Comments, texts and test modules do not count unless a rule says so. What a program does is proven elsewhere; the
//! gates in `scripts/gates.sh` name the tests.

use std::collections::BTreeSet;
use std::fs;

use regex_lite::Regex;

use super::{Source, blank, files_under, relative, root, sources};

/// Words of SQL as we write them, and statements as anybody would.
const SQL: &str = r"\b(SELECT|INSERT|UPDATE|DELETE|COPY|CREATE|ALTER|DROP|TRUNCATE|LOCK|GRANT|REVOKE|BEGIN|COMMIT|LISTEN|NOTIFY|VALUES|WHERE|CALL|EXECUTE)\b|(?i:\b(select\s[^{}]*\sfrom|insert\s+into|delete\s+from|update\s+\S+\s+set|(drop|truncate|alter|create|lock)\s+(table|schema|function|role|view|index))\b)";

/// Where texts with SQL words are put together: file, function and what is put in. Everything in `src/store` is SQL of
/// which only numbers, UUIDs and quoted identifiers may be variable; everything else is advice for a person.
const PUT_TOGETHER: [(&str, &str, &str); 35] = [
    // Advice and findings.
    ("src/operate/check/database.rs", "about_ledger", "{right}"),
    ("src/operate/check/table.rs", "look_at", "{right}"),
    ("src/operate/check/table.rs", "text_columns", "{}"),
    // Quoted schema and table, for a person to look at and run.
    ("src/operate/propose/text.rs", "ddl", "{table}"),
    ("src/operate/propose/text.rs", "ddl", "{table}"),
    ("src/operate/propose/text.rs", "ddl", "{}"),
    // A constant of ours.
    ("src/store/catalog.rs", "read_shape", "{FINGERPRINT}"),
    // A message.
    ("src/store/catalog.rs", "refuse_unsafe", "{name}"),
    ("src/store/catalog/mode.rs", "refuse_followers", "{name} {tables}"),
    // Quoted table; constant; OID; numbers and UUIDs.
    ("src/store/copy.rs", "begin_sql", "{FINGERPRINT} {}"),
    // Quoted table; quoted columns; one of two words.
    ("src/store/copy.rs", "begin_sql", "{tables} {fingerprints} {held}"),
    ("src/store/copy.rs", "copy_sql", "{} {} {format}"),
    // Quoted table.
    ("src/store/copy/replace.rs", "empty_sql", "{}"),
    // Of stages: names with a route's number; quoted tables and columns; types and collations as the catalogue quotes
    // them; constants.
    ("src/store/copy/stage.rs", "copy_sql", "{} {} {}"),
    ("src/store/copy/stage.rs", "create_sql", "{} {}"),
    ("src/store/copy/stage.rs", "distinct_sql", "{} {}"),
    ("src/store/copy/stage.rs", "index_sql", "{} {RECORD}"),
    ("src/store/copy/stage.rs", "insert", "{table} {}"),
    ("src/store/copy/stage.rs", "on_conflict", "{conflict} {} {}"),
    ("src/store/copy/stage.rs", "on_conflict", "{name} {name} {name}"),
    ("src/store/copy/stage.rs", "rank_sql", "{ranked} {keys} {TURN} {keys} {} {PLACE} {} {ranked} {TURN} {PLACE}"),
    ("src/store/copy/stage.rs", "sieve", "{insert} {values} {window} {order} {}"),
    ("src/store/copy/stage.rs", "sieve", "{order} {order} {source}"),
    ("src/store/copy/stage.rs", "sieve", "{source} {order} {order} {place}"),
    ("src/store/copy/stage.rs", "sieve", "{window}"),
    ("src/store/copy/stage.rs", "sieve", "{window}"),
    ("src/store/copy/stage.rs", "sieve", "{} {window}"),
    ("src/store/copy/stage.rs", "sieve", "{} {window}"),
    ("src/store/copy/stage.rs", "take_without_key_sql", "{} {} {}"),
    ("src/store/copy/stage.rs", "upsert_sql", "{} {keys} {} {} {keys} {} {}"),
    ("src/store/copy/stage.rs", "without_key_sql", "{RECORD} {} {}"),
    // Quoted table; quoted column.
    ("src/store/copy/trial.rs", "count_sql", "{} {}"),
    ("src/store/copy/versions.rs", "delete_sql", "{} {}"),
    // A constant number.
    ("src/store/migrate.rs", "migrate", "{LOCK}"),
    ("src/store/widen.rs", "add_columns", "{} {}"),
];

/// Statements that are neither a constant nor a literal where they are sent: file, function, argument.
const SENT: [(&str, &str, &str); 44] = [
    ("src/store/catalog.rs", "read_shape", "&sql"),
    // `&'static str`: no text made at run time fits.
    ("src/store/copy.rs", "ask", "&statement"),
    ("src/store/copy.rs", "ask", "sql"),
    ("src/store/copy.rs", "begin", "&sql"),
    ("src/store/copy.rs", "copy", "&sql"),
    ("src/store/copy.rs", "copy", "&statement"),
    ("src/store/copy/repair.rs", "delete_rows", "&sql"),
    ("src/store/copy/repair.rs", "delete_rows", "&statement"),
    ("src/store/copy/replace.rs", "empty", "&sql"),
    ("src/store/copy/replace.rs", "empty", "&statement"),
    // Made by src/store/copy/stage.rs, or one of a few constants.
    ("src/store/copy/sieve.rs", "attempt", "&sieve.attempt"),
    ("src/store/copy/sieve.rs", "attempt", "&sieve.attempt"),
    ("src/store/copy/sieve.rs", "attempt", "count"),
    ("src/store/copy/sieve.rs", "attempt", "renew"),
    ("src/store/copy/sieve.rs", "end_attempts", "sql"),
    ("src/store/copy/sieve.rs", "index_stage", "&sql"),
    ("src/store/copy/sieve.rs", "rank_stage", "&sql"),
    ("src/store/copy/sieve.rs", "remove", "&sieve.remove"),
    ("src/store/copy/sieve.rs", "sieve", "&sql.bounds"),
    ("src/store/copy/sieve.rs", "sieve", "text"),
    ("src/store/copy/sieve.rs", "take_without_key", "&sql"),
    ("src/store/copy/sieve.rs", "take_without_key", "&statement"),
    ("src/store/copy/sieve.rs", "traced", "&sieve.trace"),
    ("src/store/copy/staged.rs", "copy_staged", "&sql"),
    ("src/store/copy/staged.rs", "copy_staged", "&statement"),
    ("src/store/copy/staged.rs", "create_stage", "&sql"),
    ("src/store/copy/staged.rs", "upsert", "&sql"),
    ("src/store/copy/staged.rs", "upsert", "&sql"),
    ("src/store/copy/staged.rs", "upsert", "&statement"),
    ("src/store/copy/staged.rs", "upsert", "&statement"),
    ("src/store/copy/staged.rs", "without_key", "&sql"),
    ("src/store/copy/staged.rs", "without_key", "&statement"),
    ("src/store/copy/trial.rs", "rows_in", "&sql"),
    ("src/store/copy/trial.rs", "rows_in", "&statement"),
    ("src/store/copy/versions.rs", "delete_others", "&sql"),
    ("src/store/copy/versions.rs", "delete_others", "&statement"),
    // `&'static str`: no text made at run time fits.
    ("src/store/ledger.rs", "query", "sql"),
    // One of two constants.
    ("src/store/ledger/leases.rs", "lease_by", "sql"),
    ("src/store/migrate.rs", "migrate", "&lock"),
    // Whoever calls these two is looked at himself.
    ("src/store/pool.rs", "query", "&statement"),
    ("src/store/pool.rs", "query", "sql"),
    ("src/store/pool.rs", "query_one", "sql"),
    ("src/store/pool.rs", "refuse_pooler", "&format!"),
    // Quoted identifiers and types of ours.
    ("src/store/widen.rs", "add_columns", "&sql"),
];

/// A call found in the code of a file: the function it stands in and the call's own text, literals included.
struct Found {
    function: String,
    text: String,
}

/// Calls whose name (with the opening parenthesis) matches. Positions in the blanked code are positions in the text,
/// counted in characters: blanking keeps one for one.
fn calls(source: &Source, name: &Regex) -> Vec<Found> {
    let code = source.code();
    assert!(code.is_ascii(), "{}: code beyond ASCII outside of texts", relative(&source.file));
    let raw: Vec<char> = source.text.chars().collect();
    let mut found = Vec::new();
    for hit in name.find_iter(&code) {
        let mut depth = 1_usize;
        let mut end = hit.end();
        while depth > 0 && end < code.len() {
            match code.as_bytes()[end] {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth -= 1,
                _ => {}
            }
            end += 1;
        }
        let before = &code[..hit.start()];
        let function = before.rfind("fn ").map_or("", |at| &before[at + 3..]);
        let function = function.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        found.push(Found { function, text: raw[hit.start()..end].iter().collect() });
    }
    found
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

/// Formatting and joining macros and methods.
fn putting_together() -> Regex {
    regex(
        r"\b(format|format_args|write|writeln|concat)!\s*[(\[{]|\.(push_str|concat|join|replace|replacen)\s*\(|\+=\s*\(?",
    )
}

/// What a text leaves open.
fn holes(text: &str) -> String {
    let plain = text.replace("{{", "").replace("}}", "");
    let names = regex(r"\{[A-Za-z_]*[^{}]*\}");
    names.find_iter(&plain).map(|hole| hole.as_str()).collect::<Vec<_>>().join(" ")
}

fn code_of(path: &str, text: &str) -> Source {
    let module = path.split('/').map(str::to_owned).collect();
    Source { file: root().join("src").join(path).with_extension("rs"), module, text: text.to_owned() }
}

/// Outside `demo`, which plays the outside world and never ships.
fn shipped() -> Vec<Source> {
    sources().into_iter().filter(|source| source.top() != "demo").collect()
}

fn sql_put_together(sources: &[Source]) -> Vec<(String, String, String)> {
    let (places, sql) = (putting_together(), regex(SQL));
    let mut found = Vec::new();
    for source in sources {
        for call in calls(source, &places).into_iter().filter(|call| sql.is_match(&call.text)) {
            found.push((relative(&source.file), call.function, holes(&call.text)));
        }
    }
    found.sort();
    found
}

fn owned(list: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    list.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
}

#[test]
fn sql_is_put_together_only_in_the_reviewed_places() {
    assert_eq!(sql_put_together(&shipped()), owned(&PUT_TOGETHER), "review it, then list it");
    for text in [
        r#"fn f() { let s = format!("SELECT 1 FROM {t}"); }"#,
        r#"fn f() { let s = format!("drop table {t}"); }"#,
        r#"fn f() { write!(s, "COPY {t} FROM STDIN").unwrap(); }"#,
        r#"fn f() { s.push_str("DELETE FROM x"); }"#,
        r#"fn f() { let s = ["UPDATE ", t].concat(); let u = concat!("INSERT ", "x"); }"#,
        r#"fn f() { let s = "GRANT X".replace('X', t); let s = T.replace("X", "ALTER"); }"#,
    ] {
        assert_eq!(sql_put_together(&[code_of("pipeline/x", text)]).len(), 1, "{text}");
    }
    for text in [r#"// format!("SELECT {x}")"#, r#"fn f() { let s = format!("nothing to do, {x}"); }"#] {
        assert_eq!(sql_put_together(&[code_of("pipeline/x", text)]), [], "{text}");
    }
}

fn statements_sent(sources: &[Source]) -> Vec<(String, String, String)> {
    let methods = regex(
        r"\.(query|query_one|query_opt|query_raw|query_typed|execute|execute_raw|batch_execute|simple_query|simple_query_raw|prepare|prepare_cached|prepare_typed|copy_in|copy_out)(::<[^(]*>)?\s*\(",
    );
    let constant = regex(r"^(Self::)?[A-Z][A-Z0-9_]*$");
    let mut found = Vec::new();
    for source in sources {
        for call in calls(source, &methods) {
            let arguments = call.text.split_once('(').map_or("", |(_, rest)| rest).trim_start();
            if arguments.starts_with('"') && source.top() == "store" {
                continue;
            }
            let end = arguments.find(|c: char| ",()\n".contains(c)).unwrap_or(arguments.len());
            let argument = arguments[..end].trim();
            if !constant.is_match(argument) || source.top() != "store" {
                found.push((relative(&source.file), call.function, argument.to_owned()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn statements_are_constants_sent_by_the_store_alone_but_for_the_reviewed_ones() {
    // `RawQuery(query)` of the router and its like are no calls of a method.
    assert_eq!(statements_sent(&shipped()), owned(&SENT), "review it, then list it");
    for (path, text) in [
        ("store/x", "fn f() { c.query(&text, &[]).await; }"),
        ("store/x", "fn f() { c.batch_execute(format!(\"x\")).await; }"),
        ("pipeline/x", "fn f() { c.query_one(LOOK, &[]).await; }"),
        ("operate/x", "fn f() { c.batch_execute(\"COMMIT\").await; }"),
    ] {
        assert_eq!(statements_sent(&[code_of(path, text)]).len(), 1, "{path}: {text}");
    }
    assert_eq!(
        statements_sent(&[code_of("store/x", "fn f() { c.query(LOOK, &[]).await; c.execute(\"X\", &[]); }")]),
        []
    );
}

/// Functions that make identifiers of names, and who else may touch the escaping.
#[test]
fn names_become_identifiers_in_one_module() {
    for source in sources() {
        let escapes = regex(r"\bescape_(identifier|literal)\b").is_match(&source.code());
        assert_eq!(escapes, relative(&source.file) == "src/store/identifier.rs", "{}", relative(&source.file));
    }
}

fn without_files(sources: &[Source]) -> Vec<String> {
    let files = regex(
        r"\b(std|tokio)::(fs|process|path)\b|\b(fs|process|path)::|\b(File|Path|PathBuf|OpenOptions|Command|OsStr|OsString)\b",
    );
    let of_keys = ["domain", "aws", "pipeline", "store", "operate", "http", "engine"];
    let hits = sources.iter().filter(|source| of_keys.contains(&source.top()) && files.is_match(&source.code()));
    hits.map(|source| relative(&source.file)).collect()
}

#[test]
fn modules_that_handle_keys_know_neither_files_nor_programs() {
    // Certificates and keys, whose paths stand in the configuration; and what `retry` calls its own result.
    assert_eq!(without_files(&shipped()), ["src/store/tls.rs"]);
    for text in
        ["use std::fs;", "fn f() { tokio::fs::write(key, x) }", "fn f(p: &Path) {}", "fn f() { Command::new(key) }"]
    {
        assert_eq!(without_files(&[code_of("pipeline/x", text)]).len(), 1, "{text}");
    }
}

/// Words that may stand in no code of ours, with the files that may hold them.
const NOWHERE: [(&str, &[&str]); 4] = [
    (r"\bunsafe\b", &[]),
    // Verification of TLS as `sslmode` asks; tests/it/tls.rs proves each mode.
    (r"\bdangerous\s*\(|\bServerCertVerifier\b|accept_invalid|danger_accept", &["src/store/tls.rs"]),
    (r"\bno_mangle\b|\btransmute\b|\bfrom_utf8_unchecked\b", &[]),
    (r"#!?\[allow\(", &[]),
];

fn nowhere(sources: &[Source]) -> Vec<String> {
    let words = NOWHERE.map(|(pattern, except)| (pattern, regex(pattern), except));
    let mut wrong = Vec::new();
    for source in sources {
        let (file, code) = (relative(&source.file), blank(&source.text));
        for (pattern, word, except) in &words {
            if !except.contains(&file.as_str()) && word.is_match(&code) {
                wrong.push(format!("{file}: {pattern}"));
            }
        }
    }
    wrong
}

#[test]
fn nothing_unsafe_and_no_verifier_of_our_own_elsewhere() {
    assert_eq!(nowhere(&sources()), Vec::<String>::new());
    for text in ["fn f() { unsafe { x() } }", "fn f() { b.dangerous() }", "#[allow(dead_code)]\nfn f() {}"] {
        assert_eq!(nowhere(&[code_of("store/x", text)]).len(), 1, "{text}");
    }
    assert_eq!(nowhere(&[code_of("store/x", "// unsafe\nconst A: &str = \"unsafe\";")]), Vec::<String>::new());
    let manifest: toml::Table = manifest();
    assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
}

fn manifest() -> toml::Table {
    read("Cargo.toml").parse().expect("the manifest")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_panic_unwinds_in_every_profile() {
    let manifest = manifest();
    let profiles = manifest["profile"].as_table().expect("profiles");
    assert!(profiles.contains_key("release"));
    for (name, profile) in profiles {
        assert!(profile.get("panic").is_none_or(|panic| panic.as_str() == Some("unwind")), "{name}");
    }
    for file in [".cargo/config.toml", ".cargo/config"] {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(!text.contains("panic"), "{file}");
    }
}

fn copies_elsewhere(text: &str) -> bool {
    // Over the whole text: SQL stands in literals.
    regex(r"(?is)\bcopy\b[^;]{0,400}?\b(from|to)\s+(program\b|')").is_match(text)
}

#[test]
fn copy_never_names_a_program_or_a_file() {
    let mut files = Vec::new();
    files_under(&root().join("src"), &mut files);
    let mut seen = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        seen += usize::from(text.contains("FROM STDIN"));
        assert!(!copies_elsewhere(&text), "{}", relative(&file));
    }
    assert!(seen > 0, "no COPY was found at all: the reader is broken");
    assert!(copies_elsewhere("COPY t FROM PROGRAM 'id'") && copies_elsewhere("copy t to '/x'"));
    assert!(!copies_elsewhere("COPY t FROM STDIN WITH (FORMAT text)"));
}

/// Shapes of real secrets: access keys of AWS, private keys, tokens of the usual hosts.
fn secrets(text: &str) -> bool {
    regex(
        r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----|\bgh[pousr]_[A-Za-z0-9]{36}|\bxox[abp]-[0-9A-Za-z-]{10}|\beyJ[A-Za-z0-9_-]{20,}\.eyJ",
    )
    .is_match(text)
}

#[test]
fn no_file_of_the_repository_holds_a_secret() {
    let mut files = Vec::new();
    files_under(root(), &mut files);
    assert!(files.len() > 200, "only {} files were found: the reader is broken", files.len());
    for file in files {
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(!secrets(&String::from_utf8_lossy(&bytes)), "{}", relative(&file));
    }
    assert!(secrets(concat!("AKI", "AABCDEFGHIJKLMNOP")) && secrets(concat!("-----BEGIN EC PRIV", "ATE KEY-----")));
    // The compose file's own are there to be replaced, and say so.
    for name in ["keyfall_password", "postgres_password", "s3_secret_key"] {
        let text = read(&format!("deploy/compose/secrets/{name}"));
        assert_eq!(text.trim(), format!("compose-only-{name}"));
    }
}

/// Workflows of a hosting service, where there are any: pinned by digest, read-only, not on behalf of strangers.
fn workflow_problems(text: &str) -> Vec<&'static str> {
    let mut problems = Vec::new();
    let uses = regex(r"(?m)^\s*-?\s*uses:\s*(\S+)");
    let pinned = regex(r"^(\./.*|.*@[0-9a-f]{40}|docker://.*@sha256:[0-9a-f]{64})$");
    if uses.captures_iter(text).any(|found| !pinned.is_match(&found[1])) {
        problems.push("an action that is not pinned to a commit");
    }
    if !regex(r"(?m)^permissions:\s*(\{\s*\}|read-all|\n\s+contents: read)").is_match(text) {
        problems.push("no read-only permissions at the top");
    }
    if text.contains("pull_request_target") {
        problems.push("pull_request_target");
    }
    problems
}

#[test]
fn workflows_are_pinned_and_read_only() {
    let folder = root().join(".github/workflows");
    let mut files = Vec::new();
    if folder.is_dir() {
        files_under(&folder, &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(workflow_problems(&text), Vec::<&str>::new(), "{}", relative(&file));
    }
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let good =
        format!("on: push\npermissions:\n  contents: read\njobs:\n  x:\n    steps:\n      - uses: a/b@{commit} # v1\n");
    assert_eq!(workflow_problems(&good), Vec::<&str>::new());
    let bad =
        good.replace(commit, "v4").replace("contents: read", "contents: write").replace("push", "pull_request_target");
    assert_eq!(workflow_problems(&bad).len(), 3);
}

#[test]
fn the_threat_model_names_assets_actors_and_gates() {
    let text = read("SECURITY.md");
    let headings: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    for heading in ["Reporting", "Assets", "Actors", "Gates", "Updates"] {
        assert!(headings.contains(heading), "SECURITY.md has no section {heading}");
    }
    for actor in
        ["writes objects", "answers as S3", "network", "HTTP port", "another process", "operator", "credentials"]
    {
        assert!(text.contains(actor), "SECURITY.md does not speak of: {actor}");
    }
}
