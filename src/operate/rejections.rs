//! Rejected records: written so that they are a file again, and loaded after all.

use std::io;
use std::sync::Arc;

use serde::Serialize;

use crate::config::Config;
use crate::config::feed::Feed;
use crate::domain::ports::ObjectStore;
use crate::pipeline::load::{AgainError, Context, Outcome, Purpose, again};
use crate::store::catalog::Catalog;
use crate::store::error::StoreError;
use crate::store::ledger::{Kept, Ledger, RejectedObject, RejectionFilter};
use crate::store::pool::Pools;

pub use crate::pipeline::load::Keep;

/// Records read at once: at 64 KiB each a few MiB at most.
const PAGE: u32 = 50;
/// Rejections looked through at once, without their records.
const LOOKED: u32 = 1000;
/// How long S3 may stay silent; nothing here asks it.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a replay works with.
pub struct Bench<'a> {
    /// Configuration.
    pub config: &'a Config,
    /// Connections.
    pub pools: &'a Pools,
    /// Ledger.
    pub ledger: &'a Ledger,
    /// Object store.
    pub store: Arc<dyn ObjectStore>,
}

/// What became of the rejected records of one object, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// The object's ledger id.
    pub id: i64,
    /// Feed.
    pub feed: String,
    /// `s3://bucket/key`.
    pub uri: String,
    /// Rejected records that were asked for.
    pub rejections: u64,
    /// Loaded now.
    pub loaded: u64,
    /// Left out now.
    pub filtered: u64,
    /// Still bad.
    pub rejected: u64,
    /// Of which only the beginning is kept.
    pub cut: u64,
    /// Why none was looked at, where that is so.
    pub refused: Option<String>,
    /// What to do about that.
    pub advice: Option<String>,
}

impl Replayed {
    fn new(rejected: &RejectedObject, outcome: Result<Outcome, (String, String)>) -> Self {
        let Outcome { loaded, filtered, rejected: still, cut } = outcome.as_ref().copied().unwrap_or_default();
        let (refused, advice) = outcome.err().unzip();
        Self {
            id: rejected.object.id,
            feed: rejected.feed.clone(),
            uri: format!("s3://{}/{}", rejected.object.bucket, rejected.object.key),
            rejections: rejected.rejections,
            loaded,
            filtered,
            rejected: still,
            cut,
            refused,
            advice,
        }
    }
}

impl Bench<'_> {
    /// Loads what is good now of one object's rejected records.
    pub async fn replay(&self, rejected: &RejectedObject, filter: &RejectionFilter, keep: Keep) -> Replayed {
        let Some(feed) = feed(self.config, &rejected.feed) else {
            let refused = format!("feed {:?} is not in the configuration", rejected.feed);
            return Replayed::new(rejected, Err((refused, "configure it again".to_owned())));
        };
        let context = Context {
            store: Arc::clone(&self.store),
            pools: self.pools.clone(),
            catalog: Arc::new(Catalog::default()),
            feed: Arc::clone(feed),
            patience: PATIENCE,
            layouts: Arc::default(),
            purpose: Purpose::Load,
        };
        let outcome = Box::pin(again(&context, rejected, filter, keep)).await;
        Replayed::new(rejected, outcome.map_err(|error: AgainError| (error.to_string(), error.advice())))
    }
}

fn feed<'a>(config: &'a Config, name: &str) -> Option<&'a Arc<Feed>> {
    config.feeds.iter().find(|(known, _)| known.as_str() == name).map(|(_, feed)| feed)
}

/// How rejected records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// So that they could be loaded.
    Plain,
    /// With place, code and reason, one JSON object on a line.
    Reasons,
}

/// What becomes of records of which only the beginning is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing is written at all.
    Refuse,
    /// They are left out.
    Skip,
}

/// Why rejected records cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Some are not whole.
    #[error("{} of them are kept in part only: {}", .0.len(), named(.0))]
    Cut(Vec<i64>),
    /// They would not be one file.
    #[error("they are of several feeds ({}), which makes no file", .0.join(", "))]
    Feeds(Vec<String>),
    /// The ledger could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// They could not be written.
    #[error("write the records: {0}")]
    Io(#[from] io::Error),
}

impl ExportError {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Cut(_) => "--skip-cut leaves them out; whole they are in their objects alone",
            Self::Feeds(_) => "name one with --feed, or take --with-reasons",
            Self::Store(error) => error.advice(),
            Self::Io(_) => "is there room, and the right to write?",
        }
    }
}

fn named(ids: &[i64]) -> String {
    let mut names: Vec<String> = ids.iter().take(10).map(ToString::to_string).collect();
    if ids.len() > names.len() {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// Records.
    pub records: u64,
    /// Records left out, because only their beginning is kept.
    pub cut: u64,
    /// Headers; more than one where objects do not have the same.
    pub headers: u64,
}

/// Writes rejected records, object by object, those with the same header together.
pub async fn export(
    ledger: &Ledger,
    filter: &RejectionFilter,
    (style, cut): (Style, Cut),
    sink: &mut dyn io::Write,
) -> Result<Exported, ExportError> {
    let mut objects = ledger.rejected_objects(filter).await?;
    if cut == Cut::Refuse {
        refuse_cut(ledger, filter).await?;
    }
    if style == Style::Plain {
        let mut feeds: Vec<String> = objects.iter().map(|object| object.feed.clone()).collect();
        feeds.sort_unstable();
        feeds.dedup();
        if feeds.len() > 1 {
            return Err(ExportError::Feeds(feeds));
        }
        objects.sort_by(|one, other| one.header.cmp(&other.header).then(one.object.id.cmp(&other.object.id)));
    }
    let mut writer = Writer { style, header: None, exported: Exported::default() };
    for object in &objects {
        let mut after = 0;
        loop {
            let page = ledger.kept(object.object.id, filter, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.position.record;
            for kept in &page {
                writer.write(object, kept, sink)?;
            }
        }
    }
    sink.flush()?;
    Ok(writer.exported)
}

async fn refuse_cut(ledger: &Ledger, filter: &RejectionFilter) -> Result<(), ExportError> {
    let (mut after, mut cut) = (0, Vec::new());
    loop {
        let page = ledger.rejections(filter, after, LOOKED).await?;
        let Some(last) = page.rows.last() else { break };
        after = last.id;
        cut.extend(page.rows.iter().filter(|row| row.kept_bytes < row.raw_bytes).map(|row| row.id));
    }
    if cut.is_empty() { Ok(()) } else { Err(ExportError::Cut(cut)) }
}

struct Writer {
    style: Style,
    /// The header written last.
    header: Option<Vec<u8>>,
    exported: Exported,
}

impl Writer {
    fn write(&mut self, object: &RejectedObject, kept: &Kept, sink: &mut dyn io::Write) -> io::Result<()> {
        match self.style {
            Style::Reasons => {
                serde_json::to_writer(&mut *sink, &Reasoned::new(object, kept))?;
                sink.write_all(b"\n")?;
            }
            Style::Plain if kept.is_cut() => {
                self.exported.cut += 1;
                return Ok(());
            }
            Style::Plain => {
                if let Some(header) = object.header.as_ref().filter(|header| self.header.as_ref() != Some(header)) {
                    sink.write_all(header)?;
                    self.header = Some(header.clone());
                    self.exported.headers += 1;
                }
                sink.write_all(&kept.raw)?;
                if !kept.raw.ends_with(b"\n") {
                    sink.write_all(b"\n")?;
                }
            }
        }
        self.exported.records += 1;
        Ok(())
    }
}

/// A record's bytes as JSON can hold them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Raw {
    /// The record, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// Its bytes in hexadecimal, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_hex: Option<String>,
    /// Its whole length.
    pub raw_bytes: u64,
}

impl Raw {
    /// Of a kept record.
    pub fn of(kept: &Kept) -> Self {
        let (raw, raw_hex) = match String::from_utf8(kept.raw.clone()) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(hexadecimal(error.as_bytes()))),
        };
        Self { raw, raw_hex, raw_bytes: kept.raw_bytes }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[derive(Serialize)]
struct Reasoned<'a> {
    id: i64,
    feed: &'a str,
    object_id: i64,
    uri: String,
    record_no: u64,
    line: Option<u64>,
    column: Option<&'a str>,
    code: &'a str,
    reason: &'a str,
    #[serde(flatten)]
    raw: Raw,
}

impl<'a> Reasoned<'a> {
    fn new(object: &'a RejectedObject, kept: &'a Kept) -> Self {
        Self {
            id: kept.id,
            feed: &object.feed,
            object_id: object.object.id,
            uri: format!("s3://{}/{}", object.object.bucket, object.object.key),
            record_no: kept.position.record,
            line: (kept.position.line > 0).then_some(kept.position.line),
            column: kept.column.as_deref(),
            code: &kept.code,
            reason: &kept.reason,
            raw: Raw::of(kept),
        }
    }
}
