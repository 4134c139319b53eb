//! Makers of configuration files, and the run that holds each against the manifest: the built program is asked what it
//! thinks of the file, and started with it where it must refuse.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::{Case, Named, Outcome};

/// Makes a file in a folder; answers what is given as `--config`, and variables.
pub(super) type Maker = fn(&Path) -> Given;

/// What the program is started with.
pub(super) struct Given {
    file: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// Stands for a secret: nothing the program says may repeat it.
const SECRET: &str = "hunter2";

/// However large the file claims to be.
const WITHIN: Duration = Duration::from_secs(5);

/// Exit code of a configuration that is refused.
const REFUSED: i32 = 78;

const DATABASE: &str = "[database]\nurl = \"postgresql://u@localhost/d\"\n";
const FEED: &str = "[feeds.departments]\nbucket = \"drop\"\ntable = \"departments\"\n\
                    pattern = \"departments/{time:%Y-%m-%d-%H-%M-%S}.csv\"\n";

fn given(file: PathBuf) -> Given {
    Given { file, environment: Vec::new() }
}

/// A file that only its owner may read.
fn bytes(folder: &Path, content: &[u8]) -> Given {
    let file = folder.join("keyfall.toml");
    fs::write(&file, content).expect("the file is written");
    with_mode(given(file), 0o600)
}

fn with_mode(given: Given, mode: u32) -> Given {
    fs::set_permissions(&given.file, Permissions::from_mode(mode)).expect("the file is ours");
    given
}

fn text(folder: &Path, content: &str) -> Given {
    bytes(folder, content.as_bytes())
}

/// A configuration that is right as it stands, and more after it.
fn sound(folder: &Path, more: &str) -> Given {
    text(folder, &format!("{DATABASE}{FEED}{more}"))
}

fn with_secret(folder: &Path) -> Given {
    text(folder, &format!("[database]\nurl = \"postgres://u:{SECRET}@localhost/d\"\n{FEED}"))
}

fn archiving(folder: &Path, to: &str) -> Given {
    sound(folder, &format!("[feeds.departments.disposal]\naction = \"archive\"\n{to}"))
}

fn sized(folder: &Path, size: u64) -> Given {
    let given = sound(folder, "");
    let file = fs::OpenOptions::new().write(true).open(&given.file).expect("the file is ours");
    file.set_len(size).expect("the file grows without taking space");
    given
}

fn fifo(folder: &Path) -> Given {
    let file = folder.join("keyfall.toml");
    assert!(Command::new("mkfifo").arg(&file).status().expect("mkfifo is installed").success());
    given(file)
}

fn symlink(folder: &Path) -> Given {
    let real = folder.join("real.toml");
    fs::rename(sound(folder, "").file, &real).expect("the file is renamed");
    let file = folder.join("keyfall.toml");
    std::os::unix::fs::symlink(real, &file).expect("a link");
    given(file)
}

fn secret_twice(folder: &Path) -> Given {
    let secret = folder.join("password");
    fs::write(&secret, SECRET).expect("the file is written");
    let more = format!("password_file = {:?}\n{FEED}", secret.display());
    let environment = vec![("KEYFALL__DATABASE__PASSWORD", SECRET.to_owned())];
    Given { environment, ..text(folder, &format!("{DATABASE}{more}")) }
}

fn secret_fifo(folder: &Path) -> Given {
    let secret = folder.join("password");
    assert!(Command::new("mkfifo").arg(&secret).status().expect("mkfifo is installed").success());
    text(folder, &format!("{DATABASE}password_file = {:?}\n{FEED}", secret.display()))
}

fn feeds(folder: &Path, number: usize) -> Given {
    let feed = |n| format!("[feeds.f{n}]\nbucket = \"drop\"\nprefix = \"f{n}/\"\ntable = \"t\"\n");
    text(folder, &format!("{DATABASE}{}", (0..number).map(feed).collect::<String>()))
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

const fn named(name: &'static str, maker: Maker) -> Named {
    (name, super::Maker::Config(maker))
}

pub(super) const MAKERS: &[Named] = &[
    named("sound", |folder| sound(folder, "")),
    named("absent", |folder| given(folder.join("absent.toml"))),
    named("empty", |folder| text(folder, "")),
    named("folder", |folder| given(folder.to_owned())),
    named("fifo", fifo),
    named("device", |_| given(PathBuf::from("/dev/zero"))),
    named("symlink", symlink),
    named("too_large", |folder| sized(folder, (4 << 20) + 1)),
    named("gigabyte", |folder| sized(folder, 1 << 30)),
    named("yaml", |folder| text(folder, "database:\n  url: postgres://u@localhost/d\n")),
    named("json", |folder| text(folder, "{\"database\": {}}\n")),
    named("latin1", |folder| bytes(folder, b"# caf\xe9\n[database]\n")),
    named("utf16", |folder| bytes(folder, &utf16(&format!("\u{feff}{DATABASE}{FEED}")))),
    named("nul_bytes", |folder| bytes(folder, b"[database]\n\0\0\0\n")),
    named("bom_and_crlf", |folder| text(folder, &format!("\u{feff}{DATABASE}{FEED}").replace('\n', "\r\n"))),
    named("without_value", |folder| text(folder, "[workers]\nmax =\n")),
    named("open_string", |folder| text(folder, "[database]\npassword = \"hunter2\n")),
    named("bare_secret", |folder| text(folder, "[database]\npassword = hunter2\n")),
    named("nested_arrays", |folder| text(folder, &format!("x = {}", "[".repeat(100_000)))),
    named("nested_keys", |folder| text(folder, &format!("{}x = 1\n", "a.".repeat(50_000)))),
    named("number_too_large", |folder| sound(folder, "[workers]\nmax = 99999999999999999999\n")),
    named("unsorted", |folder| text(folder, &format!("[workers]\nmax = 2\n{FEED}[s3]\nregion = \"r\"\n{DATABASE}"))),
    named("unknown_key", |folder| sound(folder, "bukcet = \"x\"\n")),
    named("unknown_table", |folder| sound(folder, "[wrokers]\nmax = 1\n")),
    named("key_of_another_table", |folder| sound(folder, "[s3]\npoll_interval = \"1s\"\n")),
    named("key_in_capitals", |folder| sound(folder, "[workers]\nMAX = 1\n")),
    named("secret_misspelt", |folder| sound(folder, "[database.x]\npasswrd = \"hunter2\"\n")),
    named("secret_for_everybody", |folder| with_mode(with_secret(folder), 0o644)),
    named("secret_for_the_group", |folder| with_mode(with_secret(folder), 0o640)),
    named("secret_for_the_owner", with_secret),
    named("no_secret_for_everybody", |folder| with_mode(sound(folder, ""), 0o644)),
    named("secret_twice", secret_twice),
    named("secret_fifo", secret_fifo),
    named("keys_of_s3", |folder| sound(folder, "[s3]\naccess_key_id = \"id\"\nsecret_access_key = \"hunter2\"\n")),
    named("feed_twice", |folder| sound(folder, FEED)),
    named("feed_with_slash", |folder| sound(folder, "[feeds.\"a/b\"]\nbucket = \"b\"\ntable = \"t\"\n")),
    named("feed_in_capitals", |folder| sound(folder, "[feeds.Bad]\nbucket = \"b\"\ntable = \"t\"\n")),
    named("thousand_feeds", |folder| feeds(folder, 1000)),
    named("archive_in_own_prefix", |folder| archiving(folder, "prefix = \"departments/done/\"\n")),
    named("archive_without_place", |folder| archiving(folder, "")),
    named("archive_with_long_prefix", |folder| archiving(folder, &format!("prefix = \"{}/\"\n", "a".repeat(512)))),
    named("archive_with_longest_prefix", |folder| archiving(folder, &format!("prefix = \"{}/\"\n", "a".repeat(511)))),
];

/// Holds every case against the manifest, all that is wrong at once.
pub(super) fn run(cases: &[Case]) {
    let wrong: Vec<String> = cases.iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn check(case: &Case) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let maker = MAKERS.iter().find(|(name, _)| *name == case.maker);
    let Some((_, super::Maker::Config(make))) = maker else { panic!("{} makes no configuration", case.maker) };
    let given = make(folder.path());
    let mut faults = Vec::new();
    let begun = Instant::now();
    let asked = keyfall(&given, &["config", "check"], &case.options);
    let (code, verdict) = match case.outcome {
        Outcome::Refuse => (REFUSED, "failures: 1"),
        Outcome::Warn => (0, "in order, warnings: 1"),
        _ => (0, "all is in order"),
    };
    judge(case, &asked, code, &mut faults);
    if !said(&asked).contains(verdict) {
        faults.push(format!("should end with {verdict:?}"));
    }
    if case.outcome == Outcome::Refuse {
        // The daemon must not begin with it either, and say the same.
        judge(case, &keyfall(&given, &["run", "--once"], &case.options), REFUSED, &mut faults);
    }
    if begun.elapsed() > WITHIN {
        faults.push(format!("took {:?}", begun.elapsed()));
    }
    faults
        .into_iter()
        .map(|fault| format!("{} {} {:?}: {fault}\n{}", case.id, case.maker, case.options, said(&asked)))
        .collect()
}

fn keyfall(given: &Given, command: &[&str], settings: &[String]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_keyfall"));
    program.env_clear().envs(given.environment.iter().map(|(name, value)| (*name, value)));
    program.args(command).arg("--config").arg(&given.file);
    program.args(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
    program.output().expect("the program starts")
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn judge(case: &Case, output: &Output, code: i32, faults: &mut Vec<String>) {
    let said = said(output);
    if output.status.code() != Some(code) {
        faults.push(format!("ended with {} and not {code}: {said}", output.status));
    }
    for part in case.reason.iter().filter(|part| !said.contains(*part)) {
        faults.push(format!("should say {part:?}: {said}"));
    }
    for forbidden in [SECRET, "panicked", "stack overflow"] {
        if said.contains(forbidden) {
            faults.push(format!("says {forbidden:?}"));
        }
    }
}
