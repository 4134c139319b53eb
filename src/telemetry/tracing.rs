//! Logs: one line per event on standard error, as text or JSON.
//!
//! Guaranteed: one event is one line, whatever a key or a message of a foreign server contains: control characters,
//! line separators and direction marks are written as `\u....` escapes. Libraries that print credentials, signatures
//! or statement parameters below `info` are held at `info`, whatever the filter says. Deliberately absent: colours
//! (they are escape sequences), files and rotation, rate limits (see [`super::throttle`]), and records of the `log` crate,
//! whose origin a filter cannot tell.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterFn, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use super::outlet::Outlet;

/// Libraries whose debug output shows secrets or data: signatures and session tokens, request headers, parameters.
const DISCREET: &[&str] = &["aws_", "hyper", "rustls", "tokio_postgres", "tokio_rustls", "h2", "deadpool"];

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Text at a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Who puts the time on text lines; JSON lines always have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamps {
    /// We do.
    Ours,
    /// The journal does (`JOURNAL_STREAM` is set).
    Journal,
}

/// Who writes a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Whoever logs it, at once: for commands that somebody waits for.
    Direct,
    /// A thread of its own, so that nobody waits for a reader that stopped: for the service.
    Queued,
}

/// What to log, and how.
#[derive(Debug, Clone)]
pub struct Logging {
    /// Filter such as `info` or `keyfall=debug`.
    pub filter: String,
    /// Shape of lines.
    pub shape: Shape,
    /// Who puts the time on text lines.
    pub stamps: Stamps,
    /// Who writes them.
    pub delivery: Delivery,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not parse.
    #[error("log filter {filter:?}: {source}; write a level such as info, or target=level pairs with commas between")]
    Filter {
        /// As configured.
        filter: String,
        /// What the parser says.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else logs already.
    #[error("start logging: {0}")]
    Installed(#[from] tracing::dispatcher::SetGlobalDefaultError),
    /// The thread that writes could not be had.
    #[error("start logging: {0}")]
    Thread(#[from] io::Error),
}

/// Where queued lines go, for [`flush`].
static QUEUE: OnceLock<Outlet> = OnceLock::new();

/// Starts logging to standard error, for the life of the process.
pub fn install(logging: &Logging) -> Result<(), LoggingError> {
    let shape = match logging.shape {
        Shape::Auto if io::stderr().is_terminal() => Shape::Text,
        Shape::Auto => Shape::Json,
        chosen => chosen,
    };
    let logging = Logging { shape, ..logging.clone() };
    match logging.delivery {
        Delivery::Direct => Ok(tracing::subscriber::set_global_default(subscriber(&logging, io::stderr)?)?),
        Delivery::Queued => {
            let outlet = Outlet::new(io::stderr())?;
            tracing::subscriber::set_global_default(subscriber(&logging, outlet.clone())?)?;
            // Only the first can be installed, so none is lost here.
            drop(QUEUE.set(outlet));
            Ok(())
        }
    }
}

/// Waits for lines that are still queued; called once, before the process ends.
pub fn flush() {
    if let Some(outlet) = QUEUE.get() {
        outlet.flush();
    }
}

/// What [`install`] installs, for any writer. [`Shape::Auto`] is JSON here: a writer is no terminal.
pub fn subscriber<W>(logging: &Logging, writer: W) -> Result<impl Subscriber + Send + Sync + use<W>, LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(&logging.filter)
        .map_err(|source| LoggingError::Filter { filter: logging.filter.clone(), source })?;
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(OneLine(writer));
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match (logging.shape, logging.stamps) {
        (Shape::Text, Stamps::Journal) => lines.without_time().boxed(),
        (Shape::Text, Stamps::Ours) => lines.boxed(),
        (Shape::Auto | Shape::Json, _) => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let discretion: FilterFn = filter_fn(is_discreet);
    Ok(tracing_subscriber::registry().with(lines.with_filter(discretion).with_filter(filter)))
}

/// Whether an event may be shown: discreet libraries only speak at `info` and above.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || !DISCREET.iter().any(|library| metadata.target().starts_with(library))
}

/// Writes each event as one line without control characters.
///
/// The formatter hands over a whole event, its line feed included, in one `write_all`. Escaping here rather than in
/// each field also covers names of fields, spans and whatever the formatter itself lets through.
struct OneLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLineWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLineWriter(self.0.make_writer())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        OneLineWriter(self.0.make_writer_for(metadata))
    }
}

struct OneLineWriter<W>(W);

impl<W: Write> Write for OneLineWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(escaped(event).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The event as one line: only its last line feed stays one. The escapes are JSON's, so JSON stays JSON.
fn escaped(event: &[u8]) -> String {
    let text = String::from_utf8_lossy(event);
    let (body, end) = match text.strip_suffix('\n') {
        Some(body) => (body, "\n"),
        None => (text.as_ref(), ""),
    };
    let mut line = String::with_capacity(text.len());
    for c in body.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if !is_unprintable(c) => line.push(c),
            // All of these lie in the basic plane: four digits are enough.
            c => {
                line.push_str("\\u");
                line.extend([12, 8, 4, 0].iter().filter_map(|bits| char::from_digit((u32::from(c) >> bits) & 0xf, 16)));
            }
        }
    }
    line.push_str(end);
    line
}

/// Control characters, line and paragraph separators, and marks that reverse the direction of what follows.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, shape: Shape, stamps: Stamps, emit: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let logging = Logging { filter: filter.to_owned(), shape, stamps, delivery: Delivery::Direct };
        let subscriber = subscriber(&logging, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, emit);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const FORGED: &str = "a.csv\n2024-01-01T00:00:00Z ERROR forged\r\u{1b}[2Jx\u{9b}y\u{2028}z\u{202e}";

    #[test]
    fn keys_cannot_forge_text_lines() {
        for emit in [|| info!(object.key = FORGED, "loaded"), || info!("loaded {FORGED}"), || info!(key = %FORGED)] {
            let text = logged("info", Shape::Text, Stamps::Ours, emit);
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(text.ends_with('\n') && !text.trim_end().contains(is_unprintable), "{text:?}");
            assert!(text.contains("forged"));
        }
    }

    #[test]
    fn keys_cannot_forge_json_lines_and_are_read_back_whole() {
        let text = logged("info", Shape::Json, Stamps::Ours, || info!(object.key = FORGED, "loaded"));
        assert_eq!(text.lines().count(), 1, "{text:?}");
        assert!(!text.trim_end().contains(is_unprintable), "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["object.key"], FORGED);
        assert_eq!(line["message"], "loaded");
        assert_eq!(line["level"], "INFO");
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn the_journal_s_lines_bear_no_time_of_ours() {
        let text = logged("info", Shape::Text, Stamps::Journal, || warn!(feed = "orders", "slow"));
        assert!(text.trim_start().starts_with("WARN"), "{text:?}");
        let text = logged("info", Shape::Text, Stamps::Ours, || warn!(feed = "orders", "slow"));
        assert!(text.starts_with("20"), "{text:?}");
    }

    #[test]
    fn spans_are_named_in_json_lines() {
        let text = logged("info", Shape::Json, Stamps::Ours, || {
            tracing::info_span!("object", feed = "orders").in_scope(|| info!("loaded"));
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["span"]["feed"], "orders");
    }

    #[test]
    fn libraries_that_print_secrets_stay_at_info() {
        let text = logged("trace", Shape::Text, Stamps::Ours, || {
            debug!(target: "aws_sigv4::http_request", "string to sign SECRET");
            debug!(target: "tokio_postgres::query", "parameters SECRET");
            info!(target: "aws_config", "region found");
            debug!("ours");
        });
        assert!(!text.contains("SECRET"), "{text}");
        assert!(text.contains("region found") && text.contains("ours"), "{text}");
    }

    #[test]
    fn the_filter_decides_by_target_and_level() {
        let text = logged("warn,keyfall=debug", Shape::Text, Stamps::Ours, || {
            info!(target: "other", "quiet");
            debug!(target: "keyfall::store", "heard");
        });
        assert!(text.contains("heard") && !text.contains("quiet"), "{text}");
    }

    #[test]
    fn a_wrong_filter_is_refused_with_its_text() {
        let logging = Logging {
            filter: "keyfall=loud".to_owned(),
            shape: Shape::Text,
            stamps: Stamps::Ours,
            delivery: Delivery::Direct,
        };
        let error = subscriber(&logging, io::sink).err().unwrap().to_string();
        assert!(error.contains("keyfall=loud"), "{error}");
    }
}
