//! The configuration as its users meet it: layers, messages, secrets, cross-checks and the shipped files.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyfall::config::feed::{Cadence, Disposal, EpochUnit, Feed, Meta, Mode, Slots, Source, TimeFormat};
use keyfall::config::{self, ConfigErrors, Loaded, Sources};
use tempfile::TempDir;

const DATABASE: &str = "[database]\nurl = \"postgresql://u@localhost/d\"\n";
const FEED: &str = "[feeds.departments]\nbucket = \"drop\"\ntable = \"departments\"\n\
                    pattern = \"departments/{time:%Y-%m-%d-%H-%M-%S}.csv\"\n";

/// A folder with files, an environment and overrides.
struct Case {
    folder: TempDir,
    sources: Sources,
}

impl Case {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keyfall.toml");
        std::fs::write(&file, text).unwrap();
        Self { folder, sources: Sources { file: Some(file), ..Sources::default() } }
    }

    /// A configuration that is right as it stands, and `text` after it.
    fn sound(text: &str) -> Self {
        Self::new(&format!("{DATABASE}{FEED}{text}"))
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn set(mut self, text: &str) -> Self {
        self.sources.overrides.push(text.to_owned());
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn load(&self) -> Loaded {
        config::load(&self.sources).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn feed(&self, name: &str) -> Feed {
        Feed::clone(&self.load().config.feeds[&name.parse().unwrap()])
    }

    fn errors(&self) -> ConfigErrors {
        match config::load(&self.sources) {
            Ok(_) => panic!("it was accepted"),
            Err(errors) => errors,
        }
    }

    /// Refused with exactly one problem, at this key, whose text has all fragments.
    fn refused(&self, key: &str, fragments: &[&str]) {
        let errors = self.errors();
        assert_eq!(errors.problems.len(), 1, "{errors}");
        assert_eq!(errors.problems[0].key, key, "{errors}");
        for fragment in fragments {
            assert!(errors.to_string().contains(fragment), "no {fragment:?} in: {errors}");
        }
    }

    /// Refused, and among the problems is one at this key whose advice has the fragment.
    fn refused_among(&self, key: &str, fragment: &str) {
        let errors = self.errors();
        let found = errors.problems.iter().any(|problem| problem.key == key && problem.advice.contains(fragment));
        assert!(found, "{errors}");
    }

    fn shown(&self, key: &str) -> (String, String) {
        let all = config::show(&self.load());
        let found = all.into_iter().find(|effective| effective.key == key).unwrap_or_else(|| panic!("no {key}"));
        (found.value, found.origin)
    }
}

#[test]
fn defaults_fill_what_the_file_leaves_open() {
    let case = Case::sound("");
    let loaded = case.load();
    assert_eq!(loaded.config.workers.max, 4);
    assert_eq!(loaded.config.http.listen, Some("127.0.0.1:9187".parse().unwrap()));
    assert!(loaded.config.instance.ends_with(&format!("-{}", std::process::id())));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let feed = case.feed("departments");
    assert_eq!(feed.prefix, "departments/");
    assert_eq!(feed.max_workers, 4);
    assert_eq!(feed.routes[0].mapping.rules.null, [""]);
    assert_eq!(feed.disposal, Disposal::Keep);
    assert_eq!(feed.fingerprint.len(), 16);
}

#[test]
fn environment_goes_over_file_and_command_line_over_environment() {
    let case = Case::sound("[workers]\nmax = 2\n[s3]\nregion = \"file\"\n");
    assert_eq!(case.load().config.workers.max, 2);
    let case = case.env("KEYFALL__WORKERS__MAX", "3").env("KEYFALL__S3__FORCE_PATH_STYLE", "true");
    let config = case.load().config;
    assert_eq!((config.workers.max, config.s3.force_path_style), (3, true));
    assert_eq!(config.s3.region.as_deref(), Some("file"));
    let case = case.set("workers.max=5").set("workers.max=6");
    assert_eq!(case.load().config.workers.max, 6);
}

#[test]
fn conf_d_applies_in_the_order_of_names_and_only_toml() {
    let case = Case::sound("[workers]\nmax = 1\nretry_max = \"9m\"\n")
        .file("conf.d/20-b.toml", "[workers]\nmax = 20\n")
        .file("conf.d/10-a.toml", "[workers]\nmax = 10\nlease = \"30s\"\n")
        .file("conf.d/99-c.toml.bak", "[workers]\nmax = 99\n");
    let loaded = case.load();
    let workers = &loaded.config.workers;
    assert_eq!((workers.max, workers.lease), (20, Duration::from_secs(30)));
    assert_eq!(workers.retry_max, Duration::from_mins(9));
    assert_eq!(loaded.files.len(), 3);
    assert!(case.shown("workers.max").1.ends_with("conf.d/20-b.toml"));
}

#[test]
fn the_file_is_named_by_variable_where_no_option_names_it() {
    let mut case = Case::sound("[workers]\nmax = 7\n");
    let file = case.sources.file.take().unwrap();
    let case = case.env("KEYFALL_CONFIG", file.to_str().unwrap());
    assert_eq!(case.load().config.workers.max, 7);
    let missing = case.env("KEYFALL_CONFIG", "/nonexistent/keyfall.toml");
    missing.refused("/nonexistent/keyfall.toml", &["cannot be read"]);
}

#[test]
fn the_environment_alone_may_say_everything() {
    let case = Case::new("")
        .env("PGHOST", "localhost")
        .env("PGUSER", "u")
        .env("KEYFALL__FEEDS__JOBS__BUCKET", "drop")
        .env("KEYFALL__FEEDS__JOBS__TABLE", "jobs")
        .env("KEYFALL__FEEDS__JOBS__INCLUDE", "a/*.csv, b/*.csv")
        .env("KEYFALL__FEEDS__JOBS__NULL", ",NULL")
        .env("KEYFALL__FEEDS__JOBS__CSV__HEADER", "false")
        .env("KEYFALL__FEEDS__JOBS__CSV__DELIMITER", "\\t")
        .env("KEYFALL__FEEDS__JOBS__COLUMNS__ID", "1");
    let feed = case.feed("jobs");
    let include = feed.include.clone().unwrap();
    assert!(include.is_match("a/x.csv") && include.is_match("b/x.csv") && !include.is_match("a/b/x.csv"));
    assert_eq!(feed.routes[0].mapping.rules.null, ["", "NULL"]);
    assert_eq!((feed.csv.delimiter, feed.csv.header), (b'\t', false));
    assert_eq!(sources(&feed), [("id".to_owned(), Source::Position(1))]);
}

#[test]
fn a_bucket_of_digits_stays_a_text() {
    let case = Case::sound("").env("KEYFALL__FEEDS__DEPARTMENTS__BUCKET", "007");
    assert_eq!(case.feed("departments").bucket, "007");
    let case = Case::sound("").set("feeds.departments.bucket=true");
    assert_eq!(case.feed("departments").bucket, "true");
}

/// Target columns of a feed with a single table, each with its source.
fn sources(feed: &Feed) -> Vec<(String, Source)> {
    feed.routes[0].mapping.columns.iter().map(|map| (map.column.clone(), map.source.clone())).collect()
}

#[test]
fn columns_keep_the_order_and_the_spelling_of_the_file() {
    let columns = "[feeds.departments.columns]\nz = 3\n\"A b.c\" = \"Header\"\nm = \"1\"\n";
    let expected = [
        ("z".to_owned(), Source::Position(3)),
        ("A b.c".to_owned(), Source::field("Header")),
        ("m".to_owned(), Source::field("1")),
    ];
    assert_eq!(sources(&Case::sound(columns).feed("departments")), expected);
}

#[test]
fn a_stray_variable_or_override_is_refused_with_a_suggestion() {
    let case = Case::sound("").env("KEYFALL__S3__REGOIN", "x");
    case.refused("s3.regoin", &["KEYFALL__S3__REGOIN", "did you mean `region`?"]);
    let case = Case::sound("").env("KEYFALL__FEEDS__DEPARTMENTS__TABEL__X", "x");
    case.refused("feeds.departments.tabel", &["KEYFALL__FEEDS__DEPARTMENTS__TABEL__X", "did you mean `table`?"]);
    Case::sound("").env("KEYFALL__WORKERS__", "x").refused("workers.", &["KEYFALL__WORKERS__"]);
    Case::sound("").set("worker.max=1").refused("worker", &["--set", "did you mean `workers`?"]);
    Case::sound("").set("workers.max").refused("--set", &["number 1"]);
    Case::sound("").env("KEYFALL__S3", "x").refused("s3", &["must be a table"]);
    let both = Case::sound("").env("KEYFALL__S3", "x").env("KEYFALL__S3__REGION", "y");
    both.refused("s3", &["must be a table", "(KEYFALL__S3)"]);
    Case::sound("").set("workers=1").set("workers.max=2").refused("workers", &["must be a table"]);
    Case::new("[[feeds]]\n").refused_among("feeds", "[feeds.NAME]");
}

#[test]
fn variables_that_are_not_ours_are_left_alone_and_near_misses_warned_of() {
    let case = Case::sound("").env("KEYFALL_SERVICE_HOST", "10.0.0.1").env("KEYFALL_PORT", "tcp://10.0.0.1:80");
    assert!(case.load().warnings.is_empty());
    let case = case.env("KEYFALL_S3__REGION", "x");
    assert!(case.load().warnings[0].contains("KEYFALL__S3__REGION"));
}

#[test]
fn a_misspelt_feed_in_a_variable_is_recognised() {
    let case = Case::sound("").env("KEYFALL__FEEDS__DEPARTMETS__TABLE", "x");
    let text = case.errors().to_string();
    assert!(text.contains("did you mean feed `departments`?"), "{text}");
}

#[test]
fn wrong_types_are_reported_together_and_with_their_place() {
    let text = "min_age = 5\nmode = \"apend\"\nnull = [[]]\n[feeds.departments.csv]\nheader = \"perhaps\"\n\
                [workers]\nmax = \"lots\"\nlease = \"60\"\nmax_attempts = 3.7\ngroup_objects = -1\n[http]\nlisten = [1]\n";
    let errors = Case::sound(text).errors();
    let keys: Vec<_> = errors.problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "feeds.departments.csv.header",
        "feeds.departments.min_age",
        "feeds.departments.mode",
        "feeds.departments.null",
        "http.listen",
        "workers.group_objects",
        "workers.lease",
        "workers.max",
        "workers.max_attempts",
    ];
    assert_eq!(keys, expected, "{errors}");
    let max = errors.problems.iter().find(|problem| problem.key == "workers.max").unwrap();
    assert!(max.message.contains("\"lots\"") && max.message.contains("keyfall.toml:13"), "{errors}");
}

#[test]
fn every_kind_of_problem_is_reported_at_once() {
    let text = "[databse]\n[s3]\naccess_key_id = \"x\"\n[workers]\nlease = \"1s\"\nretry_min = \"10m\"\n\
                [feeds.Bad]\nbucket = \"b\"\ntable = \"t\"\n[feeds.empty]\n[feeds.odd]\nbucket = \"s3://x\"\n\
                table = \"a.b.c\"\ntimezone = \"Mars/Olympus\"\n";
    let errors = Case::new(text).errors();
    for key in [
        "database.url",
        "databse",
        "s3.secret_access_key",
        "workers.lease",
        "workers.retry_min",
        "feeds.Bad",
        "feeds.empty.bucket",
        "feeds.empty.table",
        "feeds.odd.bucket",
        "feeds.odd.table",
        "feeds.odd.timezone",
    ] {
        assert!(errors.problems.iter().any(|problem| problem.key == key), "no {key} in: {errors}");
    }
    assert_eq!(errors.problems.len(), 11, "{errors}");
    assert!(errors.problems.iter().all(|problem| !problem.advice.is_empty()));
}

#[test]
fn a_refused_value_is_not_called_missing_as_well() {
    Case::sound("").set("feeds.departments.columns=x").refused("feeds.departments.columns", &["must be a table"]);
    let case = Case::new(&format!("{DATABASE}[feeds.x]\nbucket = [1]\ntable = \"t\"\n"));
    case.refused("feeds.x.bucket", &["expected"]);
}

#[test]
fn syntax_errors_of_all_files_are_reported_together() {
    let both = Case::new("x = \n").file("conf.d/1.toml", "[[\n").errors();
    assert_eq!(both.problems.len(), 2, "{both}");
}

#[test]
fn secrets_come_from_file_credential_or_value_and_only_from_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pg"), "from-file\n").unwrap();
    let directory = folder.path().to_str().unwrap();
    let password = |case: Case| case.load().config.database.password.unwrap().expose().to_owned();
    let by_file = format!("database.password_file={directory}/pg");
    assert_eq!(password(Case::sound("").set(&by_file)), "from-file");
    let credential = Case::sound("").set("database.password_credential=pg").env("CREDENTIALS_DIRECTORY", directory);
    assert_eq!(password(credential), "from-file");
    assert_eq!(password(Case::sound("").env("KEYFALL__DATABASE__PASSWORD", "plain")), "plain");
    assert_eq!(password(Case::sound("").env("PGPASSWORD", "pg").env("KEYFALL__DATABASE__PASSWORD", "ours")), "ours");
    let two = Case::sound("").set(&by_file).env("KEYFALL__DATABASE__PASSWORD", "hunter2");
    two.refused("database.password", &["database.password and database.password_file are given together"]);
    Case::sound("")
        .set("database.url_file=/x")
        .refused("database.url", &["database.url and database.url_file are given together"]);
    Case::sound("").set("database.password_credential=pg").refused("database.password_credential", &["LoadCredential"]);
    Case::sound("").set("database.password_file=/nonexistent").refused("database.password_file", &["/nonexistent"]);
    let twice = Case::sound("").env("KEYFALL__DATABASE__URL", "postgres://u:hunter2@h/d").set(&by_file);
    twice.refused("database.url", &["both give a password"]);
}

#[test]
fn a_connection_string_may_lie_in_a_file() {
    let case = Case::new(FEED).file("url", "postgres://filed:pw@h/d\n");
    let case = case.set("workers.max=1");
    let path = case.folder.path().join("url");
    let config = case.set(&format!("database.url_file={}", path.display())).load().config;
    assert_eq!((config.database.user.as_str(), config.database.password.unwrap().expose()), ("filed", "pw"));
}

#[test]
fn secrets_are_in_no_output() {
    let text = format!(
        "[database]\nurl = \"postgres://u:hunter2@h/d\"\n[s3]\naccess_key_id = \"id\"\nsecret_access_key = \"hunter2\"\n{FEED}"
    );
    let case = Case::new(&text).env("PGPASSWORD", "hunter2");
    let loaded = case.load();
    assert_eq!(loaded.config.database.password.as_ref().unwrap().expose(), "hunter2");
    assert!(!format!("{loaded:?} {:?}", config::show(&loaded)).contains("hunter2"));
    assert_eq!(case.shown("database.url").0, "***");
    assert_eq!(case.shown("s3.secret_access_key").0, "***");
    assert_eq!(case.shown("database.connection.password").0, "***");
}

#[test]
fn secrets_are_in_no_error() {
    for text in [
        "database = \"postgres://u:hunter2@h/d\"\n",
        "[database]\nurl = \"postgres://u:hunter2@h:x/d\"\n",
        "[database]\nurl = [\"hunter2\"]\n",
        "[database]\nurl = \"hunter2\"\n",
        "[database]\nurl = { value = \"hunter2\" }\n",
        "[database]\nurl = \"postgres://u@h/d\"\npassword = [\"hunter2\"]\n",
        "[database]\npasswrd = \"hunter2\"\n",
        "[database]\npassword = hunter2\n",
        "[s3]\nendpoint_url = \"http://id:hunter2@h\"\n",
        "[s3]\nsecret_access_key = \"hunter2\"\n",
    ] {
        let errors = Case::new(text).errors();
        assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{text}: {errors}");
    }
    let errors = Case::sound("").set("hunter2").errors().to_string();
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn a_secret_on_the_command_line_is_refused() {
    for secret in ["database.password=hunter2", "s3.secret_access_key=hunter2", "database.url=postgres://u:hunter2@h/d"]
    {
        let errors = Case::sound("[s3]\naccess_key_id = \"id\"\n").set(secret).errors().to_string();
        assert!(errors.contains("command line") && !errors.contains("hunter2"), "{secret}: {errors}");
    }
    Case::sound("").set("database.url=postgres://u@localhost/d").load();
}

#[cfg(unix)]
#[test]
fn a_secret_in_a_file_that_everybody_reads_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new(&format!("[database]\nurl = \"postgres://u:pw@localhost/d\"\n{FEED}"));
    let file = case.sources.file.clone().unwrap();
    for (mode, warned) in [(0o644, true), (0o640, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(case.load().warnings.iter().any(|warning| warning.contains("chmod 640")), warned, "{mode:o}");
    }
}

#[test]
fn only_verify_full_is_quiet_about_a_remote_server() {
    let warned = |url: &str| {
        !Case::sound("")
            .set(&format!("database.url={url}"))
            .load()
            .warnings
            .iter()
            .all(|warning| !warning.contains("sslmode"))
    };
    assert!(warned("postgres://u@db.example/d"));
    assert!(warned("postgres://u@db.example/d?sslmode=require"));
    assert!(!warned("postgres://u@db.example/d?sslmode=verify-full"));
    assert!(!warned("postgres://u@127.0.0.1/d"));
    assert!(!warned("host=/tmp user=u"));
}

#[test]
fn a_key_of_ours_goes_over_a_parameter_of_the_connection_string() {
    let timeout = |case: Case| case.load().config.database.connect_timeout.as_secs();
    let url = "database.url=postgres://u@localhost/d?connect_timeout=3";
    assert_eq!(timeout(Case::sound("")), 10);
    assert_eq!(timeout(Case::sound("").set(url)), 3);
    assert_eq!(timeout(Case::sound("").set(url).set("database.connect_timeout=4s")), 4);
}

#[test]
fn show_names_value_and_origin_of_every_key() {
    let case = Case::sound("[workers]\nmax = 2\n").env("KEYFALL__S3__REGION", "eu-west-1").set("http.listen=");
    let shown = |key: &str| case.shown(key);
    let file = case.sources.file.as_ref().unwrap().display().to_string();
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(shown("workers.max"), pair("2", &file));
    assert_eq!(shown("workers.lease"), pair("\"1m\"", "default"));
    assert_eq!(shown("s3.region"), pair("\"eu-west-1\"", "KEYFALL__S3__REGION"));
    assert_eq!(shown("http.listen"), pair("\"\"", "--set"));
    assert_eq!(shown("feeds.departments.prefix"), pair("\"departments/\"", "default"));
    assert_eq!(shown("feeds.departments.max_workers"), pair("2", "default"));
    assert_eq!(shown("feeds.departments.null"), pair("[\"\"]", "default"));
    assert_eq!(shown("database.connection.host"), pair("localhost", &format!("database.url in {file}")));
    assert_eq!(shown("s3.endpoint_url"), pair("(not set)", "default"));
}

#[test]
fn an_archive_where_a_feed_looks_is_refused() {
    let archive = |to: &str| format!("[feeds.departments.disposal]\naction = \"archive\"\n{to}");
    let key = "feeds.departments.disposal.prefix";
    Case::sound(&archive("")).refused(key, &["required"]);
    Case::sound(&archive("bucket = \"drop\"")).refused(key, &["required"]);
    Case::sound(&archive("prefix = \"departments/done/\"")).refused(key, &["loaded again"]);
    let whole = "[feeds.all]\nbucket = \"other\"\ntable = \"t\"\n";
    Case::sound(&format!("{}{whole}", archive("bucket = \"other\"\nprefix = \"x/\"\n"))).refused(key, &["feed all"]);
    let inner = "[feeds.all]\nbucket = \"drop\"\ntable = \"t\"\nprefix = \"archive/departments/2024/\"\n";
    Case::sound(&format!("{}{inner}", archive("prefix = \"archive/\"\n"))).refused(key, &["feed all"]);
    let feed = Case::sound(&archive("prefix = \"archive/\"")).feed("departments");
    assert_eq!(feed.disposal, Disposal::Archive { bucket: "drop".to_owned(), prefix: "archive/".to_owned() });
    Case::sound(&archive("bucket = \"other\"")).load();
}

#[test]
fn feeds_that_could_load_the_same_keys_are_refused() {
    let second = |text: &str| Case::sound(&format!("[feeds.second]\ntable = \"t\"\n{text}"));
    let key = "feeds.departments.prefix";
    second("bucket = \"drop\"\n").refused(key, &["feed second", "same keys"]);
    second("bucket = \"drop\"\nprefix = \"departments/2024\"\n").refused(key, &["same keys"]);
    second("bucket = \"drop\"\npattern = \"departments/{time:%Y}.csv\"\n").refused(key, &["same keys"]);
    second("bucket = \"drop\"\ninclude = [\"**/*.tsv\"]\n").refused(key, &["same keys"]);
    second("bucket = \"other\"\n").load();
    second("bucket = \"drop\"\nprefix = \"jobs/\"\n").load();
    second("bucket = \"drop\"\npattern = \"jobs/{time:%Y}.csv\"\n").load();
    let globs = |one: &str, two: &str| {
        Case::new(&format!(
            "{DATABASE}[feeds.a]\nbucket=\"b\"\ntable=\"t\"\ninclude=[\"{one}\"]\n[feeds.b]\nbucket=\"b\"\ntable=\"t\"\ninclude=[\"{two}\"]\n"
        ))
    };
    globs("*.csv", "*.tsv").load();
    globs("*.csv", "*.csv").refused("feeds.a.prefix", &["same keys"]);
    let prefix = |one: &str, two: &str| {
        Case::new(&format!(
            "{DATABASE}[feeds.a]\nbucket=\"b\"\ntable=\"t\"\nprefix=\"in/\"\npattern=\"{one}\"\n[feeds.b]\nbucket=\"b\"\ntable=\"t\"\nprefix=\"in/\"\npattern=\"{two}\"\n"
        ))
    };
    prefix("in/dep-{time:%Y}.csv", "in/job-{time:%Y}.csv").load();
    prefix("in/dep-{time:%Y}.csv", "in/dep-x-{time:%Y}.csv").refused("feeds.a.prefix", &["same keys"]);
}

#[test]
fn header_names_need_a_header_and_positions_do_not_mind_one() {
    let columns = "[feeds.departments.columns]\nid = \"Id\"\nname = 2\n";
    Case::sound(columns).load();
    let case = Case::sound(columns).set("feeds.departments.csv.header=false");
    case.refused("feeds.departments.columns.id", &["names the header"]);
}

#[test]
fn start_from_is_a_time_or_a_local_date_and_never_moves() {
    let start = |text: &str, zone: &str| {
        let case = Case::sound("")
            .set(&format!("feeds.departments.start_from={text}"))
            .set(&format!("feeds.departments.timezone={zone}"));
        let loaded = config::load(&case.sources).unwrap();
        loaded.config.feeds.values().next().unwrap().start_from.unwrap().to_string()
    };
    assert_eq!(start("2024-01-01T00:00:00+01:00", "UTC"), "2023-12-31T23:00:00Z");
    assert_eq!(start("2024-01-01", "-03:00"), "2024-01-01T03:00:00Z");
    assert_eq!(start("2024-07-01", "Europe/Madrid"), "2024-06-30T22:00:00Z");
    let file = Case::sound("start_from = 2024-01-01T00:00:00Z\n").feed("departments");
    assert_eq!(file.start_from.unwrap().to_string(), "2024-01-01T00:00:00Z");
    Case::sound("")
        .set("feeds.departments.start_from=now")
        .refused("feeds.departments.start_from", &["would move with every start"]);
    let case = Case::sound("").set("feeds.departments.start_from=2024-01-01");
    let case = case.set("feeds.departments.pattern=departments/x");
    case.refused("feeds.departments.start_from", &["the pattern has none"]);
}

#[test]
fn a_feed_s_queue_must_exist_and_a_queue_needs_a_feed_and_a_url() {
    let queue = "[queues.uploads]\nurl = \"https://sqs.eu-central-1.amazonaws.com/123456789012/keyfall\"\n";
    let case = Case::sound(&format!("queue = \"uploads\"\n{queue}"));
    let loaded = case.load();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.queues["uploads"].wait, Duration::from_secs(20));
    assert_eq!(case.feed("departments").queue.as_deref(), Some("uploads"));
    let unused = Case::sound(queue).load();
    assert!(
        unused.warnings.iter().any(|warning| warning.contains("no feed names this queue")),
        "{:?}",
        unused.warnings
    );
    Case::sound(&format!("queue = \"upload\"\n{queue}"))
        .refused("feeds.departments.queue", &["no queue \"upload\"", "did you mean `uploads`?"]);
    Case::sound("[queues.q]\n").refused("queues.q.url", &["required"]);
    for url in ["keyfall", "https://sqs.eu-central-1.amazonaws.com", "https://user:pw@host/q", "arn:aws:sqs:eu:1:q"] {
        Case::sound(&format!("[queues.q]\nurl = \"{url}\"\n")).refused("queues.q.url", &["no queue URL"]);
    }
    Case::sound("[queues.q]\nurl = \"http://h/q\"\nwait = \"1500ms\"\n")
        .refused("queues.q.wait", &["no whole number of seconds"]);
}

#[test]
fn a_cadence_is_a_span_or_learnt_and_needs_a_time_in_keys() {
    let slots = |text: &str| Case::sound(text).feed("departments").slots;
    assert_eq!(slots(""), None);
    assert_eq!(slots("cadence = \"learn\"\n"), Some(Slots { cadence: Cadence::Learn, grace: None }));
    let every = Cadence::Every(Duration::from_mins(5));
    let grace = Some(Duration::from_mins(1));
    assert_eq!(slots("cadence = \"5m\"\ncadence_grace = \"1m\"\n"), Some(Slots { cadence: every, grace }));
    Case::sound("cadence = \"often\"\n").refused("feeds.departments.cadence", &["no span of time", "learn"]);
    Case::sound("cadence = \"1ms\"\n").refused("feeds.departments.cadence", &["1s"]);
    Case::sound("cadence_grace = \"1m\"\n").refused("feeds.departments.cadence_grace", &["without a cadence"]);
    let timeless = format!("{DATABASE}[feeds.a]\nbucket = \"b\"\ntable = \"t\"\ncadence = \"5m\"\n");
    Case::new(&timeless).refused("feeds.a.cadence", &["the pattern has none"]);
}

#[test]
fn the_fingerprint_follows_what_is_loaded_and_nothing_else() {
    let print = |text: &str| Case::sound(text).feed("departments").fingerprint;
    let plain = print("");
    for same in [
        "poll_interval = \"1m\"\nmax_workers = 1\n",
        "null = [\"\"]\n",
        "prefix = \"departments/\"\n",
        "[feeds.departments.csv]\ndelimiter = \",\"\n",
        "[feeds.departments.disposal]\naction = \"delete\"\n",
    ] {
        assert_eq!(print(same), plain, "{same}");
    }
    for other in [
        "null = []\n",
        "value_timezone = \"Europe/Madrid\"\n",
        "timezone = \"-03:00\"\n",
        "unknown_fields = \"ignore\"\n",
        "exclude = [\"x\"]\n",
        "[feeds.departments.csv]\nheader = false\n",
        "[feeds.departments.columns]\nid = 1\n",
        "[feeds.departments.limits]\nmax_fields = 7\n",
        "on_change = \"replace\"\n",
        "duplicate_content = \"skip\"\n",
    ] {
        assert_ne!(print(other), plain, "{other}");
    }
    let one = print("[feeds.departments.columns]\nid = 1\nname = 2\n");
    assert_eq!(print("[feeds.departments.columns]\nname = 2\nid = 1\n"), one);
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn leaves(path: &str, value: &toml::Value, found: &mut BTreeMap<String, toml::Value>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                leaves(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value, found);
            }
        }
        other => {
            found.insert(path.to_owned(), other.clone());
        }
    }
}

/// Path of each key in the schema with its default, where it has one.
fn schema_leaves(path: &str, schema: &serde_json::Value, found: &mut BTreeMap<String, serde_json::Value>) {
    let child = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    // A column is a value or a table of rules; its keys are looked for by name alone.
    let is_either = schema.get("type").is_some_and(serde_json::Value::is_array);
    if let Some(properties) = schema.get("properties").and_then(|properties| properties.as_object()) {
        if is_either {
            found.insert(path.to_owned(), serde_json::Value::Null);
            return;
        }
        for (key, value) in properties {
            schema_leaves(&child(key), value, found);
        }
    } else if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let name = match path.rsplit('.').next() {
            Some("feeds" | "queues" | "routes") => "example",
            Some("when") => "on",
            _ => "id",
        };
        schema_leaves(&child(name), values, found);
    } else {
        let default = schema.get("default").cloned().unwrap_or_default();
        found.insert(path.to_owned(), default);
    }
}

/// The file with its commented settings (`#key = ...`, `#[table]`, no space after the `#`) made real.
fn with_comments_made_real(text: &str) -> String {
    let is_setting =
        |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    text.lines().map(|line| if is_setting(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn default_toml_is_loadable_and_changes_nothing() {
    let connection = [("PGHOST", "localhost"), ("PGUSER", "u")];
    let environment: BTreeMap<_, _> = connection.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let with = Sources { file: Some(shipped("default.toml")), environment, ..Sources::default() };
    let loaded = config::load(&with).unwrap_or_else(|errors| panic!("{errors}"));
    let empty = Case::new("").env("PGHOST", "localhost").env("PGUSER", "u").load();
    let values =
        |loaded: &Loaded| config::show(loaded).into_iter().map(|line| (line.key, line.value)).collect::<Vec<_>>();
    assert_eq!(values(&loaded), values(&empty));
}

#[test]
fn default_toml_names_every_key_and_states_every_default() {
    let text = with_comments_made_real(&std::fs::read_to_string(shipped("default.toml")).unwrap());
    let mut stated = BTreeMap::new();
    leaves("", &toml::from_str(&text).unwrap(), &mut stated);
    let mut known = BTreeMap::new();
    schema_leaves("", &config::json_schema(), &mut known);
    let unknown: Vec<_> = stated
        .keys()
        .filter(|key| !known.contains_key(*key) && !key.contains(".columns.") && !key.contains(".when."))
        .collect();
    assert!(unknown.is_empty(), "keys that do not exist: {unknown:?}");
    let rules = &config::json_schema()["properties"]["feeds"]["additionalProperties"]["properties"]["columns"];
    for rule in rules["additionalProperties"]["properties"].as_object().expect("rules of a column").keys() {
        assert!(text.contains(rule.as_str()), "default.toml does not name the rule {rule}");
    }
    assert!(known.len() > 50, "the schema was not read: {known:?}");
    // Both sides go through the program, so that "60s" and "1m" are the same.
    let queue = "[queues.example]\nurl = \"http://localhost/q\"\n";
    let sound = Case::new(&format!("{DATABASE}{queue}[feeds.example]\nbucket = \"b\"\ntable = \"t\"\n"));
    for (key, default) in known {
        let value = stated.get(&key).unwrap_or_else(|| panic!("default.toml does not name {key}"));
        // A route has no default of its own: it must say its table.
        if default.is_null() || key.contains(".routes.") {
            continue;
        }
        let mut case = Case::new(&std::fs::read_to_string(sound.sources.file.as_ref().unwrap()).unwrap());
        let value = match value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        case = case.set(&format!("{key}={value}"));
        assert_eq!(case.shown(&key).0, sound.shown(&key).0, "{key} in default.toml against the code");
    }
}

#[test]
fn production_toml_passes_every_check_without_a_warning() {
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(credentials.path().join("pg_password"), "pw\n").unwrap();
    let directory = credentials.path().to_str().unwrap().to_owned();
    let environment = BTreeMap::from([("CREDENTIALS_DIRECTORY".to_owned(), directory)]);
    let sources = Sources { file: Some(shipped("production.toml")), environment, ..Sources::default() };
    let loaded = config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.feeds.len(), 2);
    assert_eq!(loaded.config.database.password.unwrap().expose(), "pw");
}

#[test]
fn the_schema_describes_every_key() {
    fn check(path: &str, schema: &serde_json::Value) {
        for (key, value) in schema.get("properties").and_then(|properties| properties.as_object()).into_iter().flatten()
        {
            assert!(value.get("description").is_some(), "{path}.{key} has no description");
            check(&format!("{path}.{key}"), value);
        }
        if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
            check(&format!("{path}.*"), values);
        }
    }
    let schema = config::json_schema();
    check("", &schema);
    assert_eq!(schema["properties"]["workers"]["properties"]["lease"]["default"], "1m");
}

#[test]
fn routes_columns_and_their_rules_are_read() {
    let text = "
        [feeds.events]
        bucket = \"drop\"
        format = \"jsonl\"
        pattern = \"data/{vendor}/{time:%Y-%m-%d}.json\"
        unmatched = \"filter\"
        trim = true
        rejects = { max_ratio = 0.5 }
        depends_on = [\"departments\"]
        [feeds.events.routes.vehicles]
        table = \"vehicles\"
        mode = \"upsert\"
        key = [\"id\"]
        newer_by = \"at\"
        when = { on = \"vehicle\", \"data.event\" = [\"register\", \"deregister\"], ok = true, location = [] }
        [feeds.events.routes.vehicles.columns]
        id = \"data.id\"
        vendor = { from = \"key.vendor\" }
        lat = { path = [\"data\", \"a.b\"], aliases = [\"lat\"], min = -90, max = 90.5, required = true }
        at = { time_format = \"epoch_ms\", null = [] }
        kind = { constant = \"x\" }
        [feeds.events.routes.others]
        table = \"others\"";
    let feed = Case::sound(text).feed("events");
    let [vehicles, others] = &feed.routes[..] else { panic!("two routes: {:?}", feed.routes) };
    assert_eq!((vehicles.name.as_deref(), others.name.as_deref()), (Some("vehicles"), Some("others")));
    assert_eq!(vehicles.mode, Mode::Upsert { key: vec!["id".to_owned()], newer_by: Some("at".to_owned()) });
    let when: Vec<_> = vehicles.when.iter().map(|when| (when.field.text.as_str(), when.values.join("|"))).collect();
    let expected = [("on", "vehicle"), ("data.event", "register|deregister"), ("ok", "true"), ("location", "")];
    assert_eq!(when, expected.map(|(field, values)| (field, values.to_owned())));
    let [id, vendor, lat, at, kind] = &vehicles.mapping.columns[..] else { panic!("five columns") };
    assert_eq!(id.source, Source::field("data.id"));
    assert_eq!(vendor.source, Source::Meta(Meta::KeyPart("vendor".to_owned())));
    let Source::Field(paths) = &lat.source else { panic!("a field") };
    assert_eq!((&paths[0].steps[..], &paths[1].text), (&["data".to_owned(), "a.b".to_owned()][..], &"lat".to_owned()));
    assert_eq!((lat.rules.min.as_deref(), lat.rules.max.as_deref()), (Some("-90"), Some("90.5")));
    assert!(lat.rules.required && lat.rules.trim && !id.rules.required && id.rules.trim);
    assert_eq!((&at.source, at.rules.null.len()), (&Source::field("at"), 0));
    assert_eq!(at.rules.time_format, Some(TimeFormat::Epoch(EpochUnit::Millis)));
    assert_eq!(kind.source, Source::Constant("x".to_owned()));
    assert_eq!((feed.rejects.max_rows, feed.rejects.max_ratio), (10_000, Some(0.5)));
    assert_eq!(feed.depends_on.iter().map(ToString::to_string).collect::<Vec<_>>(), ["departments"]);
}

#[test]
fn every_mistake_in_routes_and_rules_is_named() {
    let wrong = "
        [feeds.events]
        bucket = \"drop\"
        table = \"t\"
        depends_on = [\"departmens\", \"jobs\"]
        rejects = { max_ratio = 2 }
        [feeds.events.routes.all]
        table = \"t\"
        [feeds.events.routes.never]
        table = \"t\"
        mode = \"upsert\"
        when = { a = \"b\" }
        [feeds.events.routes.never.columns]
        a = { field = \"a\", constant = 1 }
        b = { from = \"object.tme\" }
        c = { feild = \"c\" }
        d = { matches = \"(\", time_format = \"epoch\" }
        [feeds.jobs]
        bucket = \"drop\"
        table = \"jobs\"
        prefix = \"jobs/\"
        depends_on = [\"events\"]";
    let told = Case::sound(wrong).errors().to_string();
    for part in [
        "feeds.events.table: has no effect beside routes",
        "there is no feed \"departmens\"",
        "did you mean `departments`?",
        "feeds.events.rejects.max_ratio",
        "feeds.events.routes.never.key",
        "feeds.events.routes.never: never sees a record",
        "feeds.events.routes.never.columns.a: says field and constant at once",
        "did you mean object.time?",
        "feeds.events.routes.never.columns.c.feild: unknown key",
        "feeds.events.routes.never.columns.d.matches",
        "feeds.events.routes.never.columns.d.time_format",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
}

#[test]
fn feeds_that_wait_for_each_other_are_refused() {
    let text = "depends_on = [\"jobs\"]\n[feeds.jobs]\nbucket = \"drop\"\ntable = \"jobs\"\nprefix = \"jobs/\"\ndepends_on = [\"departments\"]\n";
    let told = Case::sound(text).errors().to_string();
    assert!(told.contains("feeds.departments.depends_on: the feed waits for itself"), "{told}");
    assert!(told.contains("feeds.jobs.depends_on: the feed waits for itself"), "{told}");
}
