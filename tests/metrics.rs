//! The metrics, their document and the naming rules agree. Needs no services.

use std::collections::{BTreeMap, BTreeSet};

use keyfall::domain::state::{Channel, SkipReason, State};
use keyfall::telemetry::metrics::{
    ALL, DisposalAction, DisposalOutcome, Kind, Metric, NotificationOutcome, ObjectOutcome, Outcome, PoolState,
    QueueAction, QueueOutcome, RowOutcome, Stage, Unit,
};

const DOCUMENT: &str = include_str!("../docs/METRICS.md");

/// Cells of all table rows whose first cell begins with this text.
fn rows(beginning: &str) -> Vec<Vec<String>> {
    DOCUMENT
        .lines()
        .filter(|line| line.starts_with(&format!("| {beginning}")))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A metric as the document has it.
fn documented(metric: &Metric) -> Vec<String> {
    let labels = if metric.labels.is_empty() { "none".to_owned() } else { quoted(metric.labels.iter().copied()) };
    [&quoted([metric.name]), metric.kind.as_str(), &labels, metric.unit.as_str(), metric.help]
        .map(str::to_owned)
        .to_vec()
}

#[test]
fn the_document_names_every_metric_and_no_other() {
    let expected: BTreeSet<_> = ALL.iter().map(documented).collect();
    let found: BTreeSet<_> = rows("`keyfall_").into_iter().collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    let unknown: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not in the document: {missing:#?}\nonly there: {unknown:#?}");
    assert_eq!(rows("`keyfall_").len(), ALL.len(), "a metric stands there twice");
}

#[test]
fn every_metric_the_document_speaks_of_exists() {
    for word in DOCUMENT.split(|c: char| !c.is_ascii_lowercase() && c != '_').filter(|w| w.starts_with("keyfall_")) {
        let name = word.trim_end_matches("_bucket");
        assert!(ALL.iter().any(|metric| metric.name == name) || name == "keyfall_", "{word}");
    }
}

#[test]
fn the_document_lists_the_label_values_that_exist() {
    let found: BTreeMap<String, String> = rows("`")
        .into_iter()
        .filter_map(|row| <[String; 2]>::try_from(row).ok())
        .map(|[key, value]| (key, value))
        .collect();
    let check = |label: &str, values: Vec<&str>| assert_eq!(found.get(label), Some(&quoted(values)), "{label}");
    check("`channel`, `found_by`", Channel::ALL.map(Channel::as_str).to_vec());
    check("`outcome` of `keyfall_objects_total`", ObjectOutcome::ALL.iter().map(|v| v.as_str()).collect());
    check("`outcome` of `keyfall_rows_total`", RowOutcome::ALL.iter().map(|v| v.as_str()).collect());
    check("`outcome` of `keyfall_stage_duration_seconds`", Outcome::ALL.iter().map(|v| v.as_str()).collect());
    check("`outcome` of `keyfall_disposals_total`", DisposalOutcome::ALL.iter().map(|v| v.as_str()).collect());
    check("`outcome` of `keyfall_notifications_total`", NotificationOutcome::ALL.iter().map(|v| v.as_str()).collect());
    check("`outcome` of `keyfall_queue_requests_total`", QueueOutcome::ALL.iter().map(|v| v.as_str()).collect());
    check("`action` of `keyfall_queue_requests_total`", QueueAction::ALL.iter().map(|v| v.as_str()).collect());
    check("`action` of `keyfall_disposals_total`", DisposalAction::ALL.iter().map(|v| v.as_str()).collect());
    check("`reason`", SkipReason::ALL.map(SkipReason::as_str).to_vec());
    check("`stage`", Stage::ALL.iter().map(|v| v.as_str()).collect());
    check("`state` of `keyfall_ledger_objects`", State::ALL.map(State::as_str).to_vec());
    check("`state` of `keyfall_pool_connections`", PoolState::ALL.iter().map(|v| v.as_str()).collect());
}

#[test]
fn names_follow_the_rules() {
    let mut seen = BTreeSet::new();
    for Metric { name, kind, unit, labels, help } in ALL {
        assert!(seen.insert(name), "{name} twice");
        assert!(name.starts_with("keyfall_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}: _total is for counters");
        let base = name.trim_end_matches("_total");
        let named_unit = match () {
            () if base.ends_with("_seconds") => Unit::Seconds,
            () if base.ends_with("_bytes") => Unit::Bytes,
            () => Unit::Count,
        };
        assert_eq!(named_unit, *unit, "{name} bears its unit");
        assert!(*kind != Kind::Histogram || *unit != Unit::Count, "{name} has no buckets of its own");
        assert!(help.ends_with('.') && !help.contains('|'), "{name}: a sentence that fits a table");
        let distinct: BTreeSet<_> = labels.iter().collect();
        assert_eq!(distinct.len(), labels.len(), "{name}");
    }
}

#[test]
fn labels_are_few_and_known() {
    let known = [
        "feed", "queue", "channel", "found_by", "kind", "outcome", "reason", "stage", "action", "state", "route",
        "code", "version",
    ];
    let used: BTreeSet<_> = ALL.iter().flat_map(|metric| metric.labels).copied().collect();
    assert_eq!(used, known.into_iter().collect());
    assert!(ALL.iter().all(|metric| metric.labels.len() <= 3));
}
