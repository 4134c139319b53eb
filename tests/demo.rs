//! `keyfall demo` shows what it promises, and leaves nothing behind.
//!
//! The built binary, with a directory for temporary files of its own: what is in there afterwards was left behind.
#![expect(clippy::expect_used, clippy::panic, reason = "a panic is a test's verdict")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A directory that the server's own account may pass through.
fn open_directory() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().expect("a directory")
}

fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyfall"));
    command.arg("demo").env("TMPDIR", temporary).env_remove("RUST_LOG").stdin(Stdio::null());
    // Were any of these obeyed, the demo would load into somebody's database.
    command.env("KEYFALL__DATABASE__URL", "postgres://127.0.0.1:1/real").env("PGHOST", "127.0.0.2");
    command
}

/// Ends with the test, also when that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.0.kill().and_then(|()| self.0.wait()).expect("the demo ends");
        }
    }
}

fn left_behind(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// Numbers of the first line whose first word this is.
fn numbers(text: &str, word: &str) -> Vec<u64> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(word));
    let line = line.unwrap_or_else(|| panic!("no line begins with {word}:\n{text}"));
    line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_demo_loads_what_it_made_names_the_broken_object_and_leaves_nothing_behind() {
    let temporary = open_directory();
    let output = demo(temporary.path()).output().expect("the demo runs");
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    // open, loaded, quarantined, rows
    assert_eq!(numbers(&stdout, "departments"), [0, 4, 0, 12], "{stdout}");
    assert_eq!(numbers(&stdout, "jobs"), [0, 6, 0, 60], "{stdout}");
    assert_eq!(numbers(&stdout, "hired_employees"), [0, 300, 1, 30_000], "{stdout}");
    for part in [
        "310 objects, 30,072 rows loaded and archived",
        "line 42 (record 42,",
        "column \"datetime\"",
        "-> correct the record",
        "keyfall_objects_total{feed=\"hired_employees\",outcome=\"quarantined\"} 1",
        "s3://drop-archive/ holds 310 objects",
        "each row of the 310 good objects is there once",
    ] {
        assert!(stdout.contains(part), "{part:?} is missing:\n{stdout}");
    }
    assert!(!stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'), "escape sequences in a pipe:\n{stdout}{stderr}");
    assert!(left_behind(temporary.path()).is_empty(), "{:?}", left_behind(temporary.path()));
}

#[test]
fn the_demo_loads_a_folder_and_names_what_it_leaves_out() {
    let (temporary, folder) = (open_directory(), open_directory());
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("the file is written");
    fs::create_dir(folder.path().join("more")).expect("a folder");
    write("departments.csv", "1,Sales\n2,\n");
    write("order.csv", "id;placed;amount;code\n1;2024-01-31;2.50;007\n2;;;\n");
    write("more/order.csv", "id;placed;amount;code\n3;2024-02-01;7;008\n");
    write("more/Ünüsual näme %20.csv", "1\n2\n3\n");
    write("short.csv", "1,2\n3\n");
    write("notes.txt", "no table");
    write("empty.csv", "");
    let output = demo(temporary.path()).arg("--data").arg(folder.path()).output().expect("the demo runs");
    let (stdout, stderr) = texts(&output);
    // 3: finished, with an object in quarantine.
    assert_eq!(output.status.code(), Some(3), "{stdout}\n{stderr}");
    assert_eq!(numbers(&stdout, "departments"), [0, 1, 0, 2], "{stdout}");
    assert_eq!(numbers(&stdout, "order"), [0, 2, 0, 3], "{stdout}");
    assert_eq!(numbers(&stdout, "n_sual_n_me_20"), [0, 1, 0, 3], "{stdout}");
    assert_eq!(numbers(&stdout, "short"), [0, 0, 1, 0], "{stdout}");
    for part in [
        "id bigint, placed date, amount numeric, code text",
        "id int PRIMARY KEY, department text",
        "notes.txt: not named *.csv",
        "empty.csv: empty",
        "line 2 (record 2,",
    ] {
        assert!(stdout.contains(part), "{part:?} is missing:\n{stdout}");
    }
    assert!(left_behind(temporary.path()).is_empty(), "{:?}", left_behind(temporary.path()));
}

#[test]
fn a_folder_that_is_missing_or_empty_is_refused_before_anything_starts() {
    let (temporary, folder) = (open_directory(), open_directory());
    for (path, part) in [(folder.path().join("missing"), "cannot be read"), (folder.path().to_owned(), "no CSV file")] {
        let output = demo(temporary.path()).arg("--data").arg(path).output().expect("the demo runs");
        let (stdout, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{stdout}\n{stderr}");
        assert!(stderr.contains(part) && !stdout.contains("PostgreSQL "), "{stdout}\n{stderr}");
    }
}

#[test]
fn a_kept_demo_shows_new_objects_landing_until_it_is_interrupted_and_then_cleans_up() {
    let temporary = open_directory();
    let child =
        demo(temporary.path()).arg("--keep").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stdout.take().expect("a pipe")).lines().map(|line| line.expect("UTF-8"));
    let landed = lines.find(|line| line.contains("s3://drop/hired_employees/") && line.ends_with(" ms"));
    assert!(landed.is_some_and(|line| line.contains("100 rows")), "no new object landed");
    assert!(!left_behind(temporary.path()).is_empty(), "the demo does not use the directory we look at");
    let interrupt = Command::new("kill").args(["-INT", &running.0.id().to_string()]).status().expect("kill runs");
    assert!(interrupt.success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(running.0.wait().expect("it ends").code(), Some(0), "{rest:?}");
    assert!(rest.iter().any(|line| line.starts_with("All of it is removed again")), "{rest:?}");
    assert!(left_behind(temporary.path()).is_empty(), "{:?}", left_behind(temporary.path()));
}

#[test]
fn a_reader_that_goes_away_ends_the_demo_quietly() {
    let temporary = open_directory();
    let child = demo(temporary.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let Running(child) = &mut Running(child);
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{stderr}");
    assert_eq!(stderr, "");
    assert!(left_behind(temporary.path()).is_empty(), "{:?}", left_behind(temporary.path()));
}
