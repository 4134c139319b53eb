//! What an operator installs is checked by the tools that will read it: the systemd unit, the image, the compose file.
//!
//! Guarantees that each shipped file parses, keeps the hardening it claims and agrees with the others about ports,
//! deadlines and versions. It deliberately starts no container: neither a Docker daemon nor a network is needed.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this crate is a test: a panic is its verdict"
)]

#[path = "deploy/schema.rs"]
mod schema;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use schema::Schema;

/// The gate: `systemd-analyze security` counts in tenths, so this is an exposure of 1.5.
const EXPOSURE_LIMIT: &str = "15";

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

fn yaml(relative: &str) -> Value {
    serde_saphyr::from_str(&read(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

fn toml(relative: &str) -> toml::Table {
    read(relative).parse().unwrap_or_else(|error| panic!("{relative}: {error}"))
}

fn compose() -> Value {
    yaml("docker-compose.yml")
}

fn services(compose: &Value) -> impl Iterator<Item = (&String, &Value)> {
    compose["services"].as_object().expect("services").iter()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Seconds of `40s` or `1m`.
fn seconds(text: &str) -> u64 {
    let parsed: humantime::Duration = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
    parsed.as_secs()
}

/// The grace period of the compose deployment's daemon.
fn grace() -> u64 {
    seconds(toml("deploy/compose/keyfall.toml")["lifecycle"]["grace"].as_str().expect("lifecycle.grace"))
}

// systemd

/// The unit as it would be installed, with the program that was just built.
fn installed_unit(folder: &Path) -> PathBuf {
    let unit = folder.join("keyfall.service");
    let text = read("systemd/keyfall.service").replace("/usr/bin/keyfall", env!("CARGO_BIN_EXE_keyfall"));
    fs::write(&unit, text).expect("write the unit");
    unit
}

fn systemd_analyze(arguments: &[&str], unit: &Path) -> Output {
    Command::new("systemd-analyze")
        .args(arguments)
        .arg(unit)
        .output()
        .unwrap_or_else(|error| panic!("systemd-analyze: {error}; install it with `make setup`"))
}

fn directives(key: &str) -> Vec<String> {
    let unit = read("systemd/keyfall.service");
    unit.lines().filter_map(|line| line.strip_prefix(&format!("{key}="))).map(str::to_owned).collect()
}

#[test]
fn systemd_accepts_the_unit_without_a_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = systemd_analyze(&["verify", "--man=no"], &installed_unit(folder.path()));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // An unknown directive is only a warning to systemd; other units of this machine are not our matter.
    let about_us: Vec<_> = said.lines().filter(|line| line.contains("keyfall")).collect();
    assert!(output.status.success() && about_us.is_empty(), "{said}");
}

#[test]
fn the_unit_stays_under_its_exposure_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let threshold = format!("--threshold={EXPOSURE_LIMIT}");
    let arguments = ["security", "--offline=true", "--no-pager", &threshold];
    let output = systemd_analyze(&arguments, &installed_unit(folder.path()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_unit_keeps_the_daemons_contract() {
    for (key, value) in [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("DynamicUser", "yes"),
        ("KillMode", "mixed"),
        ("Restart", "on-failure"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("LimitCORE", "0"),
        ("MemoryDenyWriteExecute", "yes"),
    ] {
        assert_eq!(directives(key), [value], "{key}");
    }
    assert!(!directives("WatchdogSec").is_empty());
    assert!(directives("LoadCredential").iter().any(|credential| credential.starts_with("pg_password:")));
    let never_again = directives("RestartPreventExitStatus").concat();
    assert!(never_again.split(' ').any(|code| code == "78"), "a broken configuration must not be retried for ever");
    assert!(seconds(&directives("TimeoutStopSec").concat()) > grace(), "systemd kills before the grace period ends");
}

#[test]
fn the_environment_example_holds_settings_and_no_secret() {
    let example = read("systemd/keyfall.env");
    let settings = example.lines().map(|line| line.trim_start_matches('#')).filter(|line| line.contains('='));
    let names: Vec<_> = settings.filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let names: Vec<_> =
        names.into_iter().filter(|name| name.starts_with("KEYFALL__") || name.starts_with("AWS_")).collect();
    assert!(names.len() >= 3, "{names:?}");
    assert!(names.iter().all(|name| !name.contains("SECRET") && !name.contains("PASSWORD")), "{names:?}");
}

// Image

/// Instructions with continuation lines joined and comments left out.
fn dockerfile() -> Vec<(String, String)> {
    let text = read("deploy/Dockerfile");
    let lines: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
        .collect()
}

fn is_pinned(image: &str) -> bool {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    !tag.is_empty() && !tag.contains('/') && !tag.starts_with("latest")
}

#[test]
fn every_base_image_has_a_tag_that_is_not_latest() {
    let bases: Vec<_> = dockerfile().into_iter().filter(|(name, _)| name == "FROM").map(|(_, rest)| rest).collect();
    assert_eq!(bases.len(), 2, "a build stage and a final stage: {bases:?}");
    for base in bases {
        let image = base.split(' ').next().unwrap_or_default();
        assert!(is_pinned(image), "{image}");
    }
}

#[test]
fn the_image_builds_with_the_rust_version_of_the_manifest() {
    let stated = format!("rust:{}", env!("CARGO_PKG_RUST_VERSION"));
    let (_, first) = dockerfile().into_iter().find(|(name, _)| name == "FROM").expect("a stage");
    assert!(first.starts_with(&stated), "{first} is not {stated}");
}

#[test]
fn the_final_stage_runs_as_a_number_and_watches_its_own_health() {
    let instructions = dockerfile();
    let last = instructions.iter().rposition(|(name, _)| name == "FROM").expect("a stage");
    let stage = &instructions[last..];
    let value =
        |wanted: &str| stage.iter().filter(|(name, _)| name == wanted).map(|(_, rest)| rest.as_str()).next_back();
    // Kubernetes' runAsNonRoot cannot judge a name.
    let user = value("USER").expect("USER");
    let numbers: Vec<u32> = user.split(':').map(|part| part.parse().expect("a number")).collect();
    assert!(numbers.len() == 2 && numbers.iter().all(|number| *number != 0), "{user}");
    assert!(value("HEALTHCHECK").expect("HEALTHCHECK").contains(r#""health""#));
    assert_eq!(value("ENTRYPOINT"), Some(r#"["/usr/bin/keyfall"]"#));
    assert_eq!(value("ARG"), Some(concat!("VERSION=", env!("CARGO_PKG_VERSION"))));
    let labels = value("LABEL").expect("LABEL");
    for label in ["title", "description", "version", "licenses"] {
        assert!(labels.contains(&format!("org.opencontainers.image.{label}=")), "{label}");
    }
}

// Compose

#[test]
fn the_compose_file_fits_the_compose_specification() {
    let schema = Schema::new(serde_json::from_str(&read("tests/data/compose-spec.json")).expect("the schema"));
    assert_eq!(schema.problems(&compose()), Vec::<String>::new());
}

#[test]
fn the_compose_schema_refuses_what_compose_would_refuse() {
    let schema = Schema::new(serde_json::from_str(&read("tests/data/compose-spec.json")).expect("the schema"));
    let broken: [(&str, Value, &str); 5] = [
        ("/services/keyfall", serde_json::json!({"image": "x", "mem_limits": "1g"}), "mem_limits"),
        ("/services/keyfall/read_only", serde_json::json!([]), "read_only"),
        ("/services/keyfall/depends_on/s3/condition", serde_json::json!("service_happy"), "depends_on"),
        ("/services/keyfall/healthcheck/retry", serde_json::json!(3), "retry"),
        ("/service", serde_json::json!({}), "/service"),
    ];
    for (at, value, named) in broken {
        let mut document = compose();
        let (parent, member) = at.rsplit_once('/').expect("a pointer");
        document.pointer_mut(parent).expect("the parent")[member] = value;
        let problems = schema.problems(&document).concat();
        assert!(problems.contains(named), "{at}: {problems:?}");
    }
}

#[test]
fn every_service_is_hardened_bounded_and_watched() {
    let compose = compose();
    for (name, service) in services(&compose) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(service["cap_add"], Value::Null, "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert_eq!(service["privileged"], Value::Null, "{name}");
        let user = service["user"].as_str().unwrap_or_else(|| panic!("{name}: user"));
        assert!(user.split(':').all(|part| part.parse::<u32>().is_ok_and(|number| number != 0)), "{name}: {user}");
        let tmpfs = texts(&service["tmpfs"]);
        assert!(!tmpfs.is_empty() && tmpfs.iter().all(|mount| mount.contains("size=")), "{name}: {tmpfs:?}");
        assert!(service["mem_limit"].is_string(), "{name}: mem_limit");
        assert!(service["pids_limit"].is_u64(), "{name}: pids_limit");
        assert!(texts(&service["healthcheck"]["test"]).len() > 1, "{name}: healthcheck");
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name}: image"));
        assert!(is_pinned(image) && image.contains(|c: char| c.is_ascii_digit()), "{name}: {image}");
    }
}

#[test]
fn services_wait_for_what_they_need() {
    let compose = compose();
    let mut waits = 0;
    for (name, service) in services(&compose) {
        for (needed, dependency) in service["depends_on"].as_object().into_iter().flatten() {
            assert_eq!(dependency["condition"], "service_healthy", "{name} waits for {needed}");
            assert!(compose["services"][needed].is_object(), "{name} waits for {needed}, which does not exist");
            waits += 1;
        }
    }
    assert_eq!(waits, 3, "keyfall waits for two, prometheus for keyfall");
}

#[test]
fn nothing_is_published_beyond_loopback_and_the_database_not_at_all() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().unwrap_or_else(|| panic!("{name}: write ports as text"));
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        assert_eq!(service["network_mode"], Value::Null, "{name}: host networking would publish everything");
    }
    assert_eq!(compose["services"]["postgres"]["ports"], Value::Null);
}

#[test]
fn secrets_come_from_files_that_exist() {
    let compose = compose();
    let secrets = compose["secrets"].as_object().expect("secrets");
    assert!(!secrets.is_empty());
    for (name, secret) in secrets {
        let text = read(secret["file"].as_str().unwrap_or_else(|| panic!("{name}: file")));
        assert!(!text.trim().is_empty(), "{name}");
    }
    for (name, service) in services(&compose) {
        for secret in texts(&service["secrets"]) {
            assert!(secrets.contains_key(secret), "{name}: {secret}");
        }
        for (variable, _) in service["environment"].as_object().into_iter().flatten() {
            let sensitive = ["PASSWORD", "SECRET", "TOKEN"].iter().any(|word| variable.contains(word));
            assert!(!sensitive || variable.ends_with("_FILE"), "{name}: {variable}");
        }
    }
}

#[test]
fn mounted_files_exist_and_are_read_only() {
    let compose = compose();
    let mut mounted = 0;
    for (name, service) in services(&compose) {
        for volume in texts(&service["volumes"]) {
            let parts: Vec<_> = volume.split(':').collect();
            if parts[0].starts_with("./") {
                assert!(path(parts[0]).is_file(), "{name}: {volume}");
                assert_eq!(parts.get(2), Some(&"ro"), "{name}: {volume}");
                mounted += 1;
            } else {
                assert!(
                    compose["volumes"].as_object().is_some_and(|all| all.contains_key(parts[0])),
                    "{name}: {volume}"
                );
            }
        }
    }
    assert_eq!(mounted, 5);
}

#[test]
fn the_compose_file_agrees_with_the_daemons_configuration() {
    let compose = compose();
    let keyfall = &compose["services"]["keyfall"];
    let config = toml("deploy/compose/keyfall.toml");
    assert_eq!(keyfall["image"], concat!("keyfall:", env!("CARGO_PKG_VERSION")));
    assert!(seconds(keyfall["stop_grace_period"].as_str().expect("stop_grace_period")) > grace());
    assert_eq!(keyfall["user"], "65532:65532");

    let port = config["http"]["listen"].as_str().and_then(|listen| listen.rsplit(':').next()).expect("http.listen");
    assert_eq!(texts(&keyfall["ports"]), [format!("127.0.0.1:{port}:{port}")]);
    let scraped = yaml("deploy/prometheus/prometheus.yml");
    assert_eq!(texts(&scraped["scrape_configs"][0]["static_configs"][0]["targets"]), [format!("keyfall:{port}")]);

    let url = config["database"]["url"].as_str().expect("database.url");
    assert!(url.starts_with("postgresql://keyfall@postgres/warehouse"), "{url}");
    assert_eq!(compose["services"]["postgres"]["environment"]["POSTGRES_DB"], "warehouse");
    for (section, key) in [("database", "password_file"), ("s3", "secret_access_key_file")] {
        let file = config[section][key].as_str().expect("a file");
        let secret = file.strip_prefix("/run/secrets/").expect("a mounted secret");
        assert!(texts(&keyfall["secrets"]).contains(&secret), "{section}.{key}: {file}");
    }
}

#[test]
fn every_table_a_compose_feed_loads_is_made_and_granted() {
    let sql = read("deploy/compose/warehouse.sql");
    let granted = sql.lines().find(|line| line.starts_with("GRANT INSERT ON")).expect("GRANT INSERT");
    let config = toml("deploy/compose/keyfall.toml");
    let feeds = config["feeds"].as_table().expect("feeds");
    assert_eq!(feeds.len(), 3);
    for (name, feed) in feeds {
        let table = feed["table"].as_str().and_then(|table| table.strip_prefix("public.")).expect("table");
        assert!(sql.contains(&format!("CREATE TABLE {table} (")), "{name}: {table}");
        assert!(granted.contains(table), "{name}: {table}");
        assert!(read("deploy/compose/s3.py").contains(&format!("\"{name}\"")), "{name} has no sample objects");
    }
}

// Prometheus

#[test]
fn prometheus_scrapes_faster_than_it_gives_up() {
    let config = yaml("deploy/prometheus/prometheus.yml");
    let text = |key: &str| config["global"][key].as_str().map_or_else(|| panic!("global.{key}"), seconds);
    assert!(text("scrape_timeout") < text("scrape_interval"));
    let jobs = config["scrape_configs"].as_array().expect("scrape_configs");
    assert_eq!(jobs.iter().map(|job| &job["job_name"]).collect::<Vec<_>>(), ["keyfall"]);
}

/// Every rule, with its group's file being the one that Prometheus is told to read.
fn alerts() -> Vec<Value> {
    let config = yaml("deploy/prometheus/prometheus.yml");
    assert_eq!(texts(&config["rule_files"]), ["/etc/prometheus/alerts.yml"]);
    let mounts = compose();
    let mounts = texts(&mounts["services"]["prometheus"]["volumes"]).join(" ");
    assert!(mounts.contains("./deploy/prometheus/alerts.yml:/etc/prometheus/alerts.yml:ro"), "{mounts}");
    let groups = yaml("deploy/prometheus/alerts.yml")["groups"].as_array().expect("groups").clone();
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

#[test]
fn alerts_ask_for_metrics_and_labels_that_exist() {
    let words = regex_lite::Regex::new(r"\bkeyfall_[a-z_]+").expect("a pattern");
    let labels = regex_lite::Regex::new(r"\$labels\.([a-z_]+)").expect("a pattern");
    for rule in alerts() {
        let (name, expr) = (rule["alert"].as_str().expect("alert"), rule["expr"].as_str().expect("expr"));
        let metrics: Vec<_> = words.find_iter(expr).map(|found| found.as_str()).collect();
        assert!(!metrics.is_empty(), "{name}: {expr}");
        for metric in metrics {
            let base = metric.trim_end_matches("_bucket");
            let known = keyfall::telemetry::metrics::named(base).unwrap_or_else(|| panic!("{name}: {metric}"));
            let text = rule["annotations"].to_string();
            for label in labels.captures_iter(&text) {
                assert!(known.labels.contains(&&label[1]), "{name}: {metric} has no label {}", &label[1]);
            }
        }
    }
}

#[test]
fn every_alert_names_its_feed_says_what_to_type_and_has_its_entry_and_its_test() {
    let (guide, proof) = (read("docs/OPERATING.md"), read("deploy/prometheus/alerts.test.yml"));
    let rules = alerts();
    assert!(rules.len() >= 2);
    for rule in rules {
        let name = rule["alert"].as_str().expect("alert");
        let annotation =
            |key: &str| rule["annotations"][key].as_str().unwrap_or_else(|| panic!("{name}: {key}")).to_owned();
        assert!(annotation("summary").contains("{{ $labels.feed }}"), "{name}");
        assert!(annotation("description").contains("`keyfall "), "{name}");
        assert_eq!(annotation("runbook"), format!("docs/OPERATING.md#{}", name.to_lowercase()));
        assert!(guide.lines().any(|line| line == format!("### {name}")), "{name} has no entry in docs/OPERATING.md");
        assert!(proof.contains(&format!("alertname: {name}\n")), "{name} has no test in alerts.test.yml");
        assert!(rule["labels"]["severity"].is_string(), "{name}");
    }
}

/// The compose configuration passes the real loader; only the secrets' files, which compose mounts, stand elsewhere.
#[test]
fn the_compose_configuration_passes_every_check() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    fs::write(secret.path(), "marker\n").expect("a secret");
    let at = |key: &str| format!("{key}={}", secret.path().display());
    let sources = keyfall::config::Sources {
        file: Some(path("deploy/compose/keyfall.toml")),
        overrides: vec![at("database.password_file"), at("s3.secret_access_key_file")],
        ..Default::default()
    };
    let loaded = keyfall::config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.config.feeds.len(), 3);
    assert_eq!(loaded.config.http.listen.expect("a listener").port(), 9187);
}
