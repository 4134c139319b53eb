//! What needs no service: help, manual, configuration, healthcheck.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;

use tempfile::TempDir;

use crate::console::{keyfall, ran, run};

const COMMANDS: [&str; 17] = [
    "run",
    "check",
    "plan",
    "reconcile",
    "status",
    "objects",
    "retry",
    "skip",
    "pause",
    "resume",
    "sweep",
    "feed",
    "migrate",
    "config",
    "health",
    "completions",
    "man",
];

const VALID: &str = r#"
    [database]
    url = "postgresql://keyfall:hunter2@db.example/warehouse?sslmode=disable"

    [s3]
    region = "eu-central-1"
    access_key_id = "AKIA"
    secret_access_key = "correct horse"

    [feeds.departments]
    bucket = "drop"
    pattern = "departments/{time:%Y-%m-%d}.csv"
    table = "public.departments"
"#;

const BROKEN: &str = r#"
    [database]
    url = "postgresql://keyfall@db.example/warehouse?sslmode=disable"

    [workers]
    max = 0

    [feeds.departments]
    bukcet = "drop"
    pattern = "departments/{time:%Q}.csv"
    table = "public.departments"
"#;

fn folder_with(config: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("keyfall.toml"), config).unwrap();
    folder
}

fn empty() -> TempDir {
    TempDir::new().unwrap()
}

#[test]
fn help_lists_every_command_and_the_exit_codes() {
    let help = run(empty().path(), &["--help"]).exits(0).says(&["78 configuration", "--config", "--set", "--json"]);
    for command in COMMANDS {
        assert!(help.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}");
        run(empty().path(), &[command, "--help"]).exits(0).says(&["Usage: keyfall", command]);
    }
}

#[test]
fn an_unknown_command_or_flag_is_answered_with_the_one_that_was_meant() {
    run(empty().path(), &["objekts"]).exits(2).complains(&["objects"]);
    run(empty().path(), &["run", "--onec"]).exits(2).complains(&["--once"]);
    run(empty().path(), &["objects", "--state", "done"]).exits(2).complains(&["quarantined"]);
}

#[test]
fn the_version_tells_builds_apart() {
    run(empty().path(), &["--version"]).exits(0).says(&[env!("CARGO_PKG_VERSION"), "commit:", "features:"]);
    assert_eq!(run(empty().path(), &["-V"]).exits(0).stdout.lines().count(), 1);
}

#[test]
fn objects_are_never_revised_without_a_selection() {
    for command in ["retry", "skip"] {
        run(empty().path(), &[command]).exits(2).complains(&["--feed", "--all"]);
        run(empty().path(), &[command, "--dry-run"]).exits(2).complains(&["--feed", "--all"]);
    }
}

#[test]
fn every_problem_of_a_configuration_is_listed_at_once() {
    let folder = folder_with(BROKEN);
    let all = ["feeds.departments.bukcet", "bucket", "feeds.departments.pattern", "workers.max"];
    for command in [&["status"][..], &["run"], &["migrate"], &["config", "show"]] {
        run(folder.path(), command).exits(78).complains(&all);
    }
    for command in [&["check"][..], &["check", "--offline"], &["config", "check"]] {
        run(folder.path(), command).exits(78).says(&all).says(&["FAIL"]);
    }
}

#[test]
fn an_invalid_configuration_is_described_in_json() {
    let answer = run(folder_with(BROKEN).path(), &["config", "check", "--json"]).exits(78).json();
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["exit"], 78);
    let findings = answer["groups"][0]["findings"].as_array().unwrap();
    assert!(findings.len() >= 3, "{answer:#}");
    assert!(findings.iter().all(|finding| finding["level"] == "fail" && finding["advice"].is_string()), "{answer:#}");
}

#[test]
fn a_missing_configuration_is_named() {
    run(empty().path(), &["status"]).exits(78).complains(&["--config"]);
    run(empty().path(), &["status", "--config", "no-such.toml"]).exits(78).complains(&["no-such.toml"]);
}

#[test]
fn the_file_is_taken_from_the_flag_then_from_the_environment() {
    let folder = empty();
    for name in ["a.toml", "b.toml"] {
        std::fs::write(folder.path().join(name), format!("instance = \"{name}\"\n{VALID}")).unwrap();
    }
    let shown = |command: &mut assert_cmd::Command| ran(command.args(["config", "show"])).exits(0);
    shown(keyfall(folder.path()).env("KEYFALL_CONFIG", "a.toml")).says(&["\"a.toml\""]);
    shown(keyfall(folder.path()).env("KEYFALL_CONFIG", "a.toml").args(["--config", "b.toml"])).says(&["\"b.toml\""]);
}

#[test]
fn a_valid_configuration_passes_and_is_shown_without_its_secrets() {
    let folder = folder_with(VALID);
    run(folder.path(), &["config", "check"]).exits(0).says(&["ok", "1 feed", "keyfall.toml"]);
    run(folder.path(), &["check", "--offline"]).exits(0).says(&["ok"]);
    for arguments in [&["config", "show"][..], &["config", "show", "--origin"], &["config", "show", "--json"]] {
        let shown = run(folder.path(), arguments).exits(0).says(&["feeds.departments.table", "***"]);
        for secret in ["hunter2", "correct horse"] {
            assert!(!shown.stdout.contains(secret) && !shown.stderr.contains(secret), "{shown:#?}");
        }
    }
}

#[test]
fn origins_name_the_layer_that_decided() {
    let folder = folder_with(VALID);
    let shown = ran(keyfall(folder.path()).env("KEYFALL__WORKERS__LEASE", "90s").args([
        "config",
        "show",
        "--origin",
        "--set",
        "workers.max=7",
    ]))
    .exits(0);
    let line = |key: &str| shown.stdout.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("workers.max ").contains('7') && line("workers.max ").contains("--set"), "{shown:#?}");
    assert!(line("workers.lease ").contains("KEYFALL__WORKERS__LEASE"), "{shown:#?}");
    assert!(line("feeds.departments.bucket ").contains("keyfall.toml"), "{shown:#?}");
    assert!(line("workers.group_objects ").contains("default"), "{shown:#?}");
}

#[test]
fn the_schema_is_json_and_knows_feeds() {
    let schema = run(empty().path(), &["config", "schema"]).exits(0).json();
    assert!(schema["properties"]["feeds"].is_object(), "{schema:#}");
}

#[test]
fn completions_and_manual_pages_exist_for_everything() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        run(empty().path(), &["completions", shell]).exits(0).says(&["resume"]);
    }
    run(empty().path(), &["man"]).exits(0).says(&[".TH keyfall", "migrate", "Exit codes"]);
    for command in COMMANDS {
        run(empty().path(), &["man", command]).exits(0).says(&[".TH", command]);
    }
    run(empty().path(), &["man", "mna"]).exits(2).complains(&["mna"]);
}

#[test]
fn a_closed_pipe_ends_the_output_quietly() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_keyfall"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Answers one request with this status; gives its URL and, at the end, the request.
fn answering(status: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 512];
        while !request.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the request ended early");
            request.extend_from_slice(&buffer[..read]);
        }
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\nledger: away").unwrap();
        String::from_utf8(request).unwrap()
    });
    (url, server)
}

#[test]
fn health_says_whether_the_daemon_is_ready() {
    let (url, server) = answering("200 OK");
    run(empty().path(), &["health", "--url", &url]).exits(0).says(&["ready"]);
    assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1"));

    let (url, server) = answering("503 Service Unavailable");
    run(empty().path(), &["health", "--url", &url]).exits(1).complains(&["503", "ledger: away"]);
    server.join().unwrap();

    let (url, server) = answering("503 Service Unavailable");
    let answer = run(empty().path(), &["health", "--json", "--url", &url]).exits(1).json();
    assert_eq!(answer["ready"], false);
    server.join().unwrap();
}

#[test]
fn health_fails_where_nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    run(empty().path(), &["health", "--url", &format!("http://{free}")]).exits(1).complains(&[&free.to_string()]);
    run(empty().path(), &["health", "--url", "ftp://x"]).exits(2).complains(&["--url"]);
}

#[test]
fn health_asks_the_configured_listener_and_reads_no_secret() {
    let (url, server) = answering("200 OK");
    let listen = url.strip_prefix("http://").unwrap();
    let config = format!(
        "[http]\nlisten = \"{listen}\"\n[database]\nurl = \"host=db dbname=d\"\npassword_file = \"/no/such/secret\"\n"
    );
    run(folder_with(&config).path(), &["health"]).exits(0).says(&["ready"]);
    server.join().unwrap();
    run(folder_with("[http]\nlisten = \"\"").path(), &["health"]).exits(78).complains(&["http.listen"]);
}
