//! From what stands in the file about one feed to a [`Feed`]: every problem is reported, none stops the check.

use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Action, Cadence, Csv, Disposal, Feed, Limits, RawCsv, RawDisposal, RawFeed, RawLimits, Slots};
use crate::config::bounds::{self, to_usize};
use crate::config::report::{Report, nearest};
use crate::config::value::{Count, GIB, Size, Span, Texts};
use crate::domain::feed::FeedName;
use crate::domain::moment;
use crate::domain::pattern::KeyPattern;

/// The shortest poll: a LIST call each, ten a second are money and throttling enough.
const MIN_POLL: Span = Span::millis(100);

/// The shortest and the longest cadence: below, every object is one of many; above, nobody waits.
const CADENCES: std::ops::RangeInclusive<Span> = Span::seconds(1)..=Span::seconds(366 * 24 * 60 * 60);

/// The longest archive prefix, in bytes: leaves room for a key that says something after it.
const LONGEST_ARCHIVE_PREFIX: usize = 512;

/// A feed, and what the comparison with other feeds needs beyond it.
#[derive(Debug)]
pub(in crate::config) struct Checked {
    /// The feed.
    pub(in crate::config) feed: Arc<Feed>,
    /// Its globs as written: `+` include, `-` exclude.
    pub(super) globs: Vec<String>,
}

/// What a feed's checks need to know of the other sections.
pub(in crate::config) struct Known<'a> {
    /// `workers.max`.
    pub(in crate::config) max_workers: usize,
    /// Names under `[queues]`, the refused ones too.
    pub(in crate::config) queues: &'a [&'a str],
    /// Names under `[feeds]`, the refused ones too.
    pub(in crate::config) feeds: &'a [&'a str],
}

/// What checks of one feed share: its key path and where problems go.
pub(super) struct Checker<'a> {
    base: String,
    pub(super) report: &'a mut Report,
}

/// Checks one feed. None where something required is missing or unusable; the report then says what.
pub(in crate::config) fn validate(
    name: &FeedName,
    raw: &RawFeed,
    known: &Known<'_>,
    report: &mut Report,
) -> Option<Checked> {
    let mut checker = Checker { base: format!("feeds.{name}"), report };
    checker.intervals(raw);
    let zone = checker.zone("timezone", &raw.timezone);
    let bucket = checker.required_bucket(raw);
    let pattern = checker.pattern(raw, zone.clone());
    let prefix = checker.prefix(raw, pattern.as_ref());
    let include = checker.globs("include", &raw.include);
    let exclude = checker.globs("exclude", &raw.exclude);
    let start_from = checker.start_from(raw, pattern.as_ref(), zone.as_ref());
    let slots = checker.slots(raw, pattern.as_ref());
    checker.queue(raw, known);
    let csv = checker.csv(&raw.csv);
    let routes = checker.routes(raw, pattern.as_ref());
    let (json, rejects) = (checker.json(raw), checker.rejects(&raw.rejects));
    let depends_on = checker.depends_on(name, raw, known);
    let limits = checker.limits(&raw.limits);
    let disposal = bucket.as_ref().and_then(|bucket| checker.disposal(&raw.disposal, bucket));
    let feed = Feed {
        name: name.clone(),
        bucket: bucket?,
        prefix,
        pattern,
        include,
        exclude,
        start_from,
        min_age: raw.min_age.0,
        queue: raw.queue.clone(),
        poll_interval: raw.poll_interval.0,
        // A long poll interval alone is no mistake: it is the longest one then.
        poll_interval_max: raw.poll_interval_max.0.max(raw.poll_interval.0),
        lookback_interval: raw.lookback_interval.0,
        lookback: raw.lookback.0,
        lookback_max: raw.lookback_max.0.max(raw.lookback.0),
        sweep_interval: raw.sweep_interval.0,
        on_change: raw.on_change,
        duplicate_content: raw.duplicate_content,
        slots,
        max_workers: raw.max_workers.map_or(known.max_workers, to_usize),
        format: raw.format,
        csv: csv?,
        json,
        routes: routes?,
        unmatched: raw.unmatched,
        rejects,
        depends_on,
        parent_wait: raw.parent_wait.0,
        limits,
        disposal: disposal?,
        fingerprint: String::new(),
    };
    let fingerprint = super::fingerprint::of(raw, &feed);
    Some(Checked { feed: Arc::new(Feed { fingerprint, ..feed }), globs: globs_as_written(raw) })
}

fn globs_as_written(raw: &RawFeed) -> Vec<String> {
    let include = globs(&raw.include).map(|glob| format!("+{glob}"));
    let exclude = globs(&raw.exclude).map(|glob| format!("-{glob}"));
    let mut all: Vec<_> = include.chain(exclude).collect();
    all.sort();
    all
}

/// The globs that say something: an empty variable is an empty list.
fn globs(texts: &Texts) -> impl Iterator<Item = &str> {
    texts.0.iter().map(|glob| glob.trim()).filter(|glob| !glob.is_empty())
}

impl Checker<'_> {
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.base)
    }

    pub(super) fn problem(&mut self, name: &str, message: impl std::fmt::Display, advice: impl Into<String>) {
        self.report.problem(&self.key(name), message, advice);
    }

    pub(super) fn within<T: PartialOrd + std::fmt::Display>(
        &mut self,
        name: &str,
        value: T,
        bounds: std::ops::RangeInclusive<T>,
    ) {
        self.report.within(&self.key(name), value, bounds);
    }

    fn intervals(&mut self, raw: &RawFeed) {
        self.within("parent_wait", raw.parent_wait, Span::seconds(0)..=bounds::DECADE);
        self.within("min_age", raw.min_age, Span::seconds(0)..=bounds::DECADE);
        self.within("poll_interval", raw.poll_interval, MIN_POLL..=bounds::DECADE);
        self.within("poll_interval_max", raw.poll_interval_max, MIN_POLL..=bounds::DECADE);
        self.within("lookback_interval", raw.lookback_interval, MIN_POLL..=bounds::DECADE);
        self.within("lookback", raw.lookback, Span::seconds(0)..=bounds::DECADE);
        self.within("lookback_max", raw.lookback_max, Span::seconds(0)..=bounds::DECADE);
        self.within("sweep_interval", raw.sweep_interval, Span::seconds(1)..=bounds::DECADE);
        if let Some(workers) = raw.max_workers {
            self.within("max_workers", workers, Count(1)..=Count(1024));
        }
    }

    fn queue(&mut self, raw: &RawFeed, known: &Known<'_>) {
        let Some(name) = raw.queue.as_deref().filter(|name| !known.queues.contains(name)) else { return };
        let advice = match nearest(name, known.queues.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add [queues.{name}] with the queue's url"),
        };
        self.problem("queue", format!("there is no queue {name:?} under [queues]"), advice);
    }

    fn slots(&mut self, raw: &RawFeed, pattern: Option<&KeyPattern>) -> Option<Slots> {
        let grace = raw.cadence_grace;
        if let Some(grace) = grace {
            self.within("cadence_grace", grace, Span::seconds(0)..=bounds::DECADE);
        }
        let Some(text) = raw.cadence.as_deref().map(str::trim) else {
            if grace.is_some() {
                self.problem("cadence_grace", "has no effect without a cadence", "remove it, or set cadence");
            }
            return None;
        };
        let unusable_pattern = raw.pattern.is_some() && pattern.is_none();
        if !unusable_pattern && !pattern.is_some_and(KeyPattern::has_time) {
            let message = "counts the times in keys, and the pattern has none";
            self.problem("cadence", message, "add {time:...} to the pattern");
        }
        let cadence = if text == "learn" {
            Cadence::Learn
        } else {
            let advice = "write a span such as \"5m\" or \"1d\", or \"learn\"";
            match humantime::parse_duration(text) {
                Ok(span) => {
                    self.within("cadence", Span(span), CADENCES);
                    Cadence::Every(span)
                }
                Err(error) => {
                    self.problem("cadence", format!("{text:?} is no span of time: {error}"), advice);
                    return None;
                }
            }
        };
        Some(Slots { cadence, grace: grace.map(|grace| grace.0) })
    }

    fn required_bucket(&mut self, raw: &RawFeed) -> Option<String> {
        let Some(bucket) = raw.bucket.as_deref() else {
            self.report.missing(&self.key("bucket"), "name the bucket the objects lie in");
            return None;
        };
        self.bucket("bucket", bucket)?;
        if bucket.ends_with("--x-s3") {
            let message = "is an S3 directory bucket, which lists keys in no order and so cannot be polled";
            self.problem("bucket", message, "use a general purpose bucket");
            return None;
        }
        Some(bucket.to_owned())
    }

    fn bucket(&mut self, name: &str, bucket: &str) -> Option<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.starts_with("arn:") || (!bucket.is_empty() && bucket.chars().all(plain)) {
            return Some(());
        }
        let advice = "write the name alone: no s3://, no slash, no spaces";
        self.problem(name, format!("{bucket:?} is no bucket name"), advice);
        None
    }

    pub(super) fn zone(&mut self, name: &str, text: &str) -> Option<TimeZone> {
        let zone = parse_zone(text);
        if zone.is_none() {
            let advice = "write an IANA name such as Europe/Madrid, an offset such as -03:00, or UTC";
            self.problem(name, format!("{text:?} is no time zone"), advice);
        }
        zone
    }

    fn pattern(&mut self, raw: &RawFeed, zone: Option<TimeZone>) -> Option<KeyPattern> {
        let text = raw.pattern.as_deref()?;
        match KeyPattern::parse(text, zone.unwrap_or(TimeZone::UTC)) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.problem("pattern", error, "write a pattern such as \"events/{time:%Y-%m-%d-%H-%M-%S}.csv\"");
                None
            }
        }
    }

    fn prefix(&mut self, raw: &RawFeed, pattern: Option<&KeyPattern>) -> String {
        let literal = pattern.map(KeyPattern::literal_prefix).unwrap_or_default();
        let Some(prefix) = raw.prefix.as_deref() else { return literal.to_owned() };
        if !prefix.starts_with(literal) && !literal.starts_with(prefix) {
            let message = format!("no key can begin with {prefix:?} and with the pattern's {literal:?}");
            self.problem("prefix", message, "leave the prefix out, or make both begin alike");
        }
        if prefix.starts_with('/') {
            let base = &self.base;
            self.report.warn(format!("{base}.prefix begins with a slash, which keys in S3 rarely do"));
        }
        prefix.to_owned()
    }

    fn globs(&mut self, name: &str, texts: &Texts) -> Option<GlobSet> {
        let mut set = GlobSetBuilder::new();
        for glob in globs(texts) {
            // `*` stays within a folder, as in a shell and in .gitignore.
            match GlobBuilder::new(glob).literal_separator(true).build() {
                Ok(glob) => {
                    set.add(glob);
                }
                Err(error) => {
                    self.problem(
                        name,
                        format!("{glob:?} is no glob: {}", error.kind()),
                        "write globs such as \"**/*.csv\"",
                    );
                }
            }
        }
        match set.build() {
            Ok(set) => (!set.is_empty()).then_some(set),
            Err(error) => {
                self.problem(name, error.kind(), "write fewer or simpler globs");
                None
            }
        }
    }

    fn start_from(
        &mut self,
        raw: &RawFeed,
        pattern: Option<&KeyPattern>,
        zone: Option<&TimeZone>,
    ) -> Option<Timestamp> {
        let text = raw.start_from.as_deref()?.trim();
        let unusable_pattern = raw.pattern.is_some() && pattern.is_none();
        if !unusable_pattern && !pattern.is_some_and(KeyPattern::has_time) {
            self.problem(
                "start_from",
                "compares the time in keys, and the pattern has none",
                "add {time:...} to the pattern",
            );
        }
        if text == "now" {
            // It would move with every start, and objects that appear while keyfall is stopped would be left out.
            self.problem("start_from", "\"now\" would move with every start", "write today's date or time instead");
            return None;
        }
        let time = moment::parse(text, zone.unwrap_or(&TimeZone::UTC));
        if time.is_none() && zone.is_some() {
            let advice = "write a time with its offset such as 2024-01-01T00:00:00Z, or a date such as 2024-01-01";
            self.problem("start_from", format!("{text:?} is no time"), advice);
        }
        time
    }

    fn csv(&mut self, raw: &RawCsv) -> Option<Csv> {
        let delimiter = self.byte("csv.delimiter", &raw.delimiter);
        let quote = if raw.quote.is_empty() { Some(None) } else { self.byte("csv.quote", &raw.quote).map(Some) };
        let escape = match raw.escape.as_deref().filter(|escape| !escape.is_empty()) {
            Some(escape) => self.byte("csv.escape", escape).map(Some),
            None => Some(None),
        };
        let comment = match raw.comment.as_deref().filter(|comment| !comment.is_empty()) {
            Some(comment) => self.byte("csv.comment", comment).map(Some),
            None => Some(None),
        };
        let (delimiter, quote, escape) = (delimiter?, quote?, escape?);
        // The mark behind the last record (ADR-0007) is letters and digits; besides, nobody means it.
        let roles = [("delimiter", Some(delimiter)), ("quote", quote), ("escape", escape)];
        for (role, _) in roles.into_iter().filter(|(_, byte)| byte.is_some_and(|byte| byte.is_ascii_alphanumeric())) {
            let advice = "write a mark such as , ; | or \\t, or a quote such as \"";
            self.problem(&format!("csv.{role}"), format!("a letter or digit cannot be the {role}"), advice);
        }
        if Some(delimiter) == quote {
            self.problem("csv.quote", "is the same as the delimiter", "make them differ, or set quote = \"\" for none");
        }
        if escape.is_some() && quote.is_none() {
            self.problem("csv.escape", "has no effect without a quote", "remove it, or set a quote");
        }
        if let Some(Some(comment)) = comment
            && [Some(delimiter), quote, escape].contains(&Some(comment))
        {
            self.problem("csv.comment", "is the same as the delimiter, quote or escape", "make them differ");
        }
        if Some(delimiter) == escape {
            self.problem("csv.escape", "is the same as the delimiter", "make them differ");
        }
        // An escape that is the quote itself is the doubled quote, which needs no setting.
        Some(Csv {
            delimiter,
            quote,
            escape: escape.filter(|escape| Some(*escape) != quote),
            header: raw.header,
            encoding: raw.encoding,
            comment: comment?,
            ragged: raw.ragged,
            blank_records: raw.blank_records,
        })
    }

    /// One ASCII character that does not end a line.
    fn byte(&mut self, name: &str, text: &str) -> Option<u8> {
        // An environment variable cannot hold a tab comfortably.
        let text = if text == "\\t" { "\t" } else { text };
        match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Some(*byte),
            _ => {
                self.problem(
                    name,
                    format!("{text:?} is not usable"),
                    "write one ASCII character that is no line ending",
                );
                None
            }
        }
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        self.within("limits.max_bytes", raw.max_bytes, Size(1)..=Size(i64::MAX.unsigned_abs()));
        self.within("limits.max_ratio", raw.max_ratio, Count(1)..=Count(1_000_000));
        self.within("limits.max_record_bytes", raw.max_record_bytes, Size(1)..=Size(GIB));
        self.within("limits.max_depth", raw.max_depth, Count(1)..=Count(127));
        self.within("limits.max_block_bytes", raw.max_block_bytes, Size(1)..=Size(4 * GIB));
        self.within("limits.max_fields", raw.max_fields, Count(1)..=Count(super::DEFAULT_MAX_FIELDS));
        Limits {
            max_bytes: raw.max_bytes.0,
            max_ratio: raw.max_ratio.0,
            max_record_bytes: raw.max_record_bytes.0,
            max_fields: to_usize(raw.max_fields),
            max_depth: to_usize(raw.max_depth),
            max_block_bytes: raw.max_block_bytes.0,
        }
    }

    fn disposal(&mut self, raw: &RawDisposal, own_bucket: &str) -> Option<Disposal> {
        if raw.action != Action::Archive {
            for (name, given) in [("disposal.bucket", raw.bucket.is_some()), ("disposal.prefix", raw.prefix.is_some())]
            {
                if given {
                    self.problem(
                        name,
                        "has no effect unless disposal.action is \"archive\"",
                        "remove it, or set the action",
                    );
                }
            }
        }
        match raw.action {
            Action::Keep => Some(Disposal::Keep),
            Action::Delete => Some(Disposal::Delete),
            Action::Archive => {
                let bucket = raw.bucket.as_deref().unwrap_or(own_bucket);
                self.bucket("disposal.bucket", bucket)?;
                let prefix = raw.prefix.clone().unwrap_or_default();
                if prefix.is_empty() && bucket == own_bucket {
                    let message = "is required to archive within one bucket";
                    self.problem(
                        "disposal.prefix",
                        message,
                        "write a prefix such as \"archive/\", or name another bucket",
                    );
                    return None;
                }
                if prefix.len() > LONGEST_ARCHIVE_PREFIX {
                    let message = format!("has {} bytes", prefix.len());
                    let advice = format!("write at most {LONGEST_ARCHIVE_PREFIX}: a key of S3 has 1024 at most");
                    self.problem("disposal.prefix", message, advice);
                    return None;
                }
                if !prefix.is_empty() && !prefix.ends_with('/') {
                    let base = &self.base;
                    self.report.warn(format!(
                        "{base}.disposal.prefix does not end with a slash: archived keys begin with {prefix:?} and go on at once"
                    ));
                }
                Some(Disposal::Archive { bucket: bucket.to_owned(), prefix })
            }
        }
    }
}

/// An IANA name, an offset, or `UTC`.
fn parse_zone(text: &str) -> Option<TimeZone> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("utc") || text == "Z" {
        return Some(TimeZone::UTC);
    }
    if !text.starts_with(['+', '-']) {
        return TimeZone::get(text).ok();
    }
    // `%:z` also takes seconds; nobody's clock has them, and the length keeps typing errors out.
    let offset = jiff::fmt::strtime::parse("%:z", text).ok()?.offset()?;
    (text.len() == "+00:00".len()).then(|| offset.to_time_zone())
}
