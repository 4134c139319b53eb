//! The recorder behind the metrics, and the text `/metrics` answers with.
//!
//! Guaranteed: every histogram has explicit buckets (a summary could not be added up over instances), and every metric
//! has its HELP line. Deliberately absent: a listener; see `http`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::Unit as RecorderUnit;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio_util::sync::CancellationToken;

use super::metrics as table;
use super::metrics::{Kind, Metric, Unit};

/// Observations wait in memory until they are folded into buckets; this is how often that happens.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Durations of work: from a small object's stage (1 ms) to an hour for a very large one.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// Waits seen from outside: from a notified object (50 ms) to a feed that stood for days.
const WAITS: &[f64] = &[
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    14_400.0,
    86_400.0,
    604_800.0,
    2_592_000.0,
];

/// Sizes: 1 KiB to 64 GiB.
const BYTES: &[f64] =
    &[1024.0, 16_384.0, 262_144.0, 4_194_304.0, 67_108_864.0, 1_073_741_824.0, 17_179_869_184.0, 68_719_476_736.0];

/// Row counts, and whatever has no unit.
const COUNTS: &[f64] = &[1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];

/// The one recorder of this process; made at the first call of [`Recorder::install`].
static INSTALLED: OnceLock<Result<Recorder, String>> = OnceLock::new();

/// A recorder and what is needed to read it. Clones share it.
#[derive(Clone)]
pub struct Recorder {
    sink: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
}

/// Why there is no recorder.
#[derive(Debug, Clone, thiserror::Error)]
#[error("install the metrics recorder: {0}")]
pub struct RecorderError(String);

impl From<BuildError> for RecorderError {
    fn from(error: BuildError) -> Self {
        Self(error.to_string())
    }
}

impl Recorder {
    /// Makes the process's recorder at the first call, and hands out the same one afterwards.
    pub fn install() -> Result<Self, RecorderError> {
        let installed = INSTALLED.get_or_init(|| {
            let recorder = Self::detached().map_err(|error| error.0)?;
            metrics::set_global_recorder(Arc::clone(&recorder.sink)).map_err(|error| error.to_string())?;
            Ok(recorder)
        });
        installed.clone().map_err(RecorderError)
    }

    /// A recorder of its own, which only [`Self::within`] writes to.
    pub fn detached() -> Result<Self, RecorderError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(COUNTS)?
            .set_buckets_for_metric(Matcher::Suffix("_rows".to_owned()), COUNTS)?
            .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), BYTES)?
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
            .set_buckets_for_metric(Matcher::Full(table::LATENCY.name.to_owned()), WAITS)?
            .set_buckets_for_metric(Matcher::Full(table::LATENESS.name.to_owned()), WAITS)?
            .build_recorder();
        let handle = recorder.handle();
        let made = Self { sink: Arc::new(recorder), handle, process: metrics_process::Collector::default() };
        made.within(|| {
            table::ALL.iter().for_each(describe);
            made.process.describe();
        });
        Ok(made)
    }

    /// Runs `emit` with its metrics going here rather than to the process's recorder; on this thread only.
    pub fn within<T>(&self, emit: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.sink, emit)
    }

    /// All metrics in Prometheus' text format, those of the process read anew.
    pub fn render(&self) -> String {
        self.within(|| self.process.collect());
        self.handle.render()
    }

    /// Folds observations into their buckets.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Keeps doing that until it is told to stop. Without it, memory grows from scrape to scrape.
    pub async fn upkeep_until(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(UPKEEP_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.upkeep();
        }
    }
}

fn describe(metric: &Metric) {
    let unit = match metric.unit {
        Unit::Count => RecorderUnit::Count,
        Unit::Seconds => RecorderUnit::Seconds,
        Unit::Bytes => RecorderUnit::Bytes,
    };
    match metric.kind {
        Kind::Counter => metrics::describe_counter!(metric.name, unit, metric.help),
        Kind::Gauge => metrics::describe_gauge!(metric.name, unit, metric.help),
        Kind::Histogram => metrics::describe_histogram!(metric.name, unit, metric.help),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::drift::DriftKind;
    use crate::domain::feed::FeedName;
    use crate::domain::state::{Channel, SkipReason, State};
    use crate::telemetry::metrics::{
        DisposalAction, DisposalOutcome, FeedGauges, NotificationOutcome, ObjectOutcome, Outcome, PoolState,
        QueueAction, QueueOutcome, Reload, RowOutcome, Stage,
    };

    fn feed() -> FeedName {
        "orders".parse().unwrap()
    }

    /// Calls every function that emits something.
    fn emit_everything() {
        let feed = feed();
        let second = Duration::from_secs(1);
        let gauges = FeedGauges { objects: vec![(State::Loaded, 3)], dispose_pending: 2, ..FeedGauges::default() };
        table::touch();
        table::touch_feed(&feed);
        table::objects_discovered(&feed, Channel::Poll, 7);
        table::object(&feed, ObjectOutcome::Loaded);
        table::objects_skipped(&feed, SkipReason::Pattern, 1);
        table::drift(&feed, DriftKind::Added);
        table::rows(&feed, RowOutcome::Loaded, 100);
        table::read_bytes(&feed, 10);
        table::decoded_bytes(&feed, 20);
        table::object_duration(&feed, second);
        table::latency(&feed, second);
        table::stage(Stage::Copy, Outcome::Ok, second);
        table::list_call(&feed, Channel::Sweep);
        table::late_object(&feed, Channel::Sweep, second);
        table::lookback(&feed, second);
        table::in_flight(1, 2);
        table::leases_expired(1);
        table::lease_lost();
        table::worker_panicked();
        table::log_line_dropped();
        table::pool_wait(second);
        table::pool_connections(PoolState::Idle, 3);
        table::disposal(&feed, DisposalAction::Delete, DisposalOutcome::Done);
        table::http_request("/livez", 200);
        table::config_reload(Reload::Accepted, Timestamp::UNIX_EPOCH);
        table::build_info("0.1.0");
        table::ledger(&feed, &gauges);
        table::notifications("drops", NotificationOutcome::Recorded, 1);
        table::notifications_missed(&feed, 1);
        table::queue_request("drops", QueueAction::Receive, QueueOutcome::Ok);
        table::lookback(&feed, second);
        table::missing_slots(&feed, 2);
        table::reconciled(&feed, Some(Timestamp::UNIX_EPOCH), 7);
    }

    fn rendered() -> String {
        let recorder = Recorder::detached().unwrap();
        recorder.within(emit_everything);
        recorder.upkeep();
        recorder.render()
    }

    #[test]
    fn every_metric_is_emitted_with_its_type_help_and_labels() {
        let text = rendered();
        for metric in table::ALL {
            let header = format!("# TYPE {} {}\n", metric.name, metric.kind.as_str());
            assert!(text.contains(&header), "{} is missing", metric.name);
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
            let sample = text.lines().find(|line| {
                line.strip_prefix(metric.name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
            });
            for label in metric.labels {
                assert!(sample.is_some_and(|line| line.contains(&format!("{label}=\""))), "{} {label}", metric.name);
            }
        }
    }

    #[test]
    fn nothing_is_emitted_that_the_table_does_not_name() {
        for line in rendered().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = line.split(' ').next().unwrap();
            assert!(table::named(name).is_some() || name.starts_with("process_"), "{name}");
        }
    }

    #[test]
    fn no_histogram_becomes_a_summary() {
        let text = rendered();
        assert!(text.contains("_bucket{"));
        assert!(!text.lines().any(|line| line.starts_with("# TYPE") && line.ends_with("summary")), "{text}");
    }

    #[test]
    fn counters_of_a_known_feed_begin_at_zero() {
        let recorder = Recorder::detached().unwrap();
        recorder.within(|| table::touch_feed(&feed()));
        let text = recorder.render();
        assert!(text.contains("keyfall_objects_total{feed=\"orders\",outcome=\"quarantined\"} 0\n"), "{text}");
        assert!(text.contains("keyfall_disposals_total{feed=\"orders\",action=\"archive\",outcome=\"gone\"} 0\n"));
    }

    #[test]
    fn ledger_gauges_are_zero_filled_and_drop_back() {
        let recorder = Recorder::detached().unwrap();
        let busy = FeedGauges {
            objects: vec![(State::Pending, 5)],
            oldest_pending: Some(Timestamp::from_second(1_700_000_000).unwrap()),
            paused: true,
            ..FeedGauges::default()
        };
        recorder.within(|| table::ledger(&feed(), &busy));
        let text = recorder.render();
        assert!(text.contains("keyfall_ledger_objects{feed=\"orders\",state=\"pending\"} 5\n"), "{text}");
        assert!(text.contains("keyfall_ledger_objects{feed=\"orders\",state=\"undone\"} 0\n"));
        assert!(text.contains("keyfall_ledger_oldest_pending_timestamp_seconds{feed=\"orders\"} 1700000000\n"));
        assert!(text.contains("keyfall_feed_paused{feed=\"orders\"} 1\n"));
        recorder.within(|| table::ledger(&feed(), &FeedGauges::default()));
        let text = recorder.render();
        assert!(text.contains("keyfall_ledger_objects{feed=\"orders\",state=\"pending\"} 0\n"));
        assert!(text.contains("keyfall_ledger_oldest_pending_timestamp_seconds{feed=\"orders\"} 0\n"));
    }

    #[test]
    fn process_metrics_are_read_at_each_rendering() {
        let text = Recorder::detached().unwrap().render();
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        assert!(text.contains("# HELP process_open_fds "));
    }

    #[test]
    fn installing_twice_gives_the_same_recorder() {
        let (first, second) = (Recorder::install().unwrap(), Recorder::install().unwrap());
        assert!(Arc::ptr_eq(&first.sink, &second.sink));
        table::build_info("installed");
        assert!(second.render().contains("keyfall_build_info{version=\"installed\"} 1\n"));
    }

    #[tokio::test]
    async fn upkeep_ends_when_it_is_told_to() {
        let stop = CancellationToken::new();
        let upkeep = Recorder::detached().unwrap().upkeep_until(stop.clone());
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), upkeep).await.unwrap();
    }
}
