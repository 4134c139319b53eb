//! The layers of the configuration: file, `conf.d`, environment, command line; each over the one before.
//!
//! Every layer is pruned of keys that do not exist before it is merged, so that the origin of a typing error is known
//! and the rest is still checked. The environment comes as a map; nothing here reads it from the process.

mod file;

pub(super) use file::SEARCHED;

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::builder::DefaultState;
use config::{Environment, Map, Source, Value, ValueKind};

use super::Sources;
use super::report::{Origin, Report};
use super::shape::{Shape, join};

/// Every variable that begins so is a key of ours.
const PREFIX: &str = "KEYFALL__";
/// Names the file where `--config` does not.
pub(super) const FILE_VARIABLE: &str = "KEYFALL_CONFIG";

/// A table of values as the `config` crate knows it.
type Table = Map<String, Value>;

/// All layers as one.
#[derive(Debug)]
pub(super) struct Merged {
    /// The values.
    pub(super) table: Table,
    /// The files that were read, in order.
    pub(super) files: Vec<PathBuf>,
}

/// One layer, its keys known to exist.
#[derive(Debug, Clone)]
struct Layer(Table);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Table, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// Reads and merges every layer. None where a file cannot be read: its keys would all seem to be missing.
pub(super) fn gather(sources: &Sources, searched: &[&str], shape: &Shape, report: &mut Report) -> Option<Merged> {
    let files = file::find(sources, searched, report);
    let read = files.iter().filter_map(|path| Some((path, file::read(path, report)?))).collect();
    let table = lay(read, sources, shape, report)?;
    Some(Merged { table, files })
}

/// The same with one more file, which is only a text.
pub(super) fn gather_beside(
    sources: &Sources,
    searched: &[&str],
    text: &str,
    (shape, report): (&Shape, &mut Report),
) -> Option<Merged> {
    let (files, own) = (file::find(sources, searched, report), PathBuf::from("text"));
    let mut read: Vec<_> = files.iter().filter_map(|path| Some((path, file::read(path, report)?))).collect();
    read.extend(file::parse(&own, text, report).map(|file| (&own, file)));
    let table = lay(read, sources, shape, report)?;
    Some(Merged { table, files: files.iter().cloned().chain([own.clone()]).collect() })
}

fn lay(
    files: Vec<(&PathBuf, file::ConfigFile)>,
    sources: &Sources,
    shape: &Shape,
    report: &mut Report,
) -> Option<Table> {
    let mut gathering = Gathering { shape, report, layers: Vec::new(), origins: BTreeMap::new() };
    for (path, file) in files {
        let origin = |key: &str| Origin::File(path.clone(), file.line(key));
        gathering.add(file.table.clone(), &origin);
    }
    gathering.environment(&sources.environment);
    gathering.overrides(&sources.overrides);
    let Gathering { layers, origins, .. } = gathering;
    if report.a_file_failed() {
        return None;
    }
    report.learn_origins(origins);
    merge(layers, report)
}

/// Lays the layers over each other: tables are merged, everything else is replaced.
fn merge(layers: Vec<Layer>, report: &mut Report) -> Option<Table> {
    let builder = layers.into_iter().fold(config::Config::builder(), config::ConfigBuilder::<DefaultState>::add_source);
    match builder.build().map(|merged| merged.cache.kind) {
        Ok(ValueKind::Table(table)) => Some(table),
        Ok(_) => Some(Table::new()),
        Err(error) => {
            report.problem("configuration", error, "report this as a defect of keyfall");
            None
        }
    }
}

struct Gathering<'a> {
    shape: &'a Shape,
    report: &'a mut Report,
    layers: Vec<Layer>,
    origins: BTreeMap<String, Origin>,
}

impl Gathering<'_> {
    fn add(&mut self, table: Table, origin: &dyn Fn(&str) -> Origin) {
        let table = self.prune(table, self.shape, "", origin);
        self.layers.push(Layer(table));
    }

    /// Keeps what exists, notes where it came from and reports the rest.
    fn prune(&mut self, table: Table, shape: &Shape, path: &str, origin: &dyn Fn(&str) -> Origin) -> Table {
        let mut kept = Table::new();
        for (key, mut value) in table {
            let full = join(path, &key);
            let Some(child) = shape.child(&key) else {
                self.report.problem_at(&full, "unknown key", &origin(&full), shape.advice(&key, self.shape));
                continue;
            };
            match (child.is_leaf(), value.kind) {
                (_, ValueKind::Table(inner)) if child.is_table() => {
                    value.kind = ValueKind::Table(self.prune(inner, child, &full, origin));
                }
                (true, ValueKind::Table(_)) => {
                    let advice = format!("write `{key} = ...` in its place");
                    self.report.problem_at(&full, "must be a value and is a table", &origin(&full), advice);
                    continue;
                }
                (false, _) => {
                    self.refuse_value(&full, &origin(&full));
                    continue;
                }
                (true, kind) => {
                    value.kind = kind;
                    let origin = origin(&full);
                    self.origins.insert(full, origin);
                }
            }
            kept.insert(key, value);
        }
        kept
    }

    /// Whether keys must follow this one.
    fn is_table(&self, key: &str) -> bool {
        self.shape.at(key.split('.')).is_some_and(|shape| !shape.is_leaf())
    }

    /// A value where a table must stand. It is not repeated: it may be a connection string that belongs one level deeper.
    fn refuse_value(&mut self, key: &str, origin: &Origin) {
        let table = if key == "feeds" { "feeds.NAME" } else { key };
        let advice = format!("write `[{table}]` and the keys of the table below it");
        self.report.problem_at(key, "must be a table and is a value", origin, advice);
    }

    /// `KEYFALL__SECTION__KEY`.
    fn environment(&mut self, environment: &BTreeMap<String, String>) {
        let mut variables = Map::new();
        let mut names = BTreeMap::new();
        for (name, value) in environment {
            let upper = name.to_ascii_uppercase();
            let Some(rest) = upper.strip_prefix(PREFIX) else {
                self.warn_if_nearly_ours(name, &upper);
                continue;
            };
            let key = rest.to_lowercase().replace("__", ".");
            if self.is_table(&key) {
                self.refuse_value(&key, &Origin::Environment(name.clone()));
            } else if is_path(&key) {
                names.insert(key, name.clone());
                variables.insert(name.clone(), value.clone());
            } else {
                let advice = "write KEYFALL__SECTION__KEY with two underscores between the parts";
                self.report.problem_at(&key, "unknown key", &Origin::Environment(name.clone()), advice);
            }
        }
        let origin = |key: &str| {
            let beneath = || names.iter().find(|(name, _)| name.starts_with(&format!("{key}.")));
            let name = names.get(key).or_else(|| beneath().map(|(_, name)| name));
            Origin::Environment(name.cloned().unwrap_or_else(|| PREFIX.to_owned()))
        };
        // Never `try_parsing`: it would turn a bucket called 007 into the number 7.
        let source = Environment::with_prefix("KEYFALL").prefix_separator("__").separator("__").source(Some(variables));
        let nested = config::Config::builder().add_source(source).build();
        self.add_texts(nested, &origin);
    }

    fn warn_if_nearly_ours(&mut self, name: &str, upper: &str) {
        // `KEYFALL_SERVICE_HOST` and its like are made by Kubernetes; only what looks like a key is worth a word.
        if let Some(rest) = upper.strip_prefix("KEYFALL_").filter(|rest| rest.contains("__")) {
            self.report.warn(format!("{name} has no effect: write {PREFIX}{rest}, with two underscores after KEYFALL"));
        }
    }

    /// `--set section.key=value`, later ones over earlier ones.
    fn overrides(&mut self, overrides: &[String]) {
        let mut builder = config::Config::builder();
        for (index, text) in overrides.iter().enumerate() {
            // The text itself is not repeated: without a key in it nobody can tell whether it is a secret.
            let split = text.split_once('=').map(|(key, value)| (key.trim(), value));
            let Some((key, value)) = split.filter(|(key, _)| is_path(key)) else {
                let message = format!("number {} does not read section.key=value", index + 1);
                self.report.problem("--set", message, "write for example --set workers.max=8");
                continue;
            };
            if self.is_table(key) {
                self.refuse_value(key, &Origin::Override);
                continue;
            }
            // A key that `is_path` took cannot fail; the values are texts and need no check.
            builder = match builder.set_override(key, value) {
                Ok(builder) => builder,
                Err(error) => return self.report.problem("--set", error, "write for example --set workers.max=8"),
            };
        }
        self.add_texts(builder.build(), &|_| Origin::Override);
    }

    /// Adds a layer that could only carry texts.
    fn add_texts(&mut self, nested: Result<config::Config, config::ConfigError>, origin: &dyn Fn(&str) -> Origin) {
        match nested.map(|nested| nested.cache.kind) {
            Ok(ValueKind::Table(mut table)) => {
                read_positions(&mut table);
                self.add(table, origin);
            }
            Ok(_) => {}
            Err(error) => self.report.problem(origin("").to_string().as_str(), error, "write plain names and values"),
        }
    }
}

/// Whether a text reads `part.part`, each part a name.
fn is_path(key: &str) -> bool {
    let is_name =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    key.split('.').all(is_name)
}

/// In a text `feeds.NAME.columns.COLUMN` a number is a position; in a file it would be written without quotes.
fn read_positions(table: &mut Table) {
    let Some(ValueKind::Table(feeds)) = table.get_mut("feeds").map(|feeds| &mut feeds.kind) else { return };
    for feed in feeds.values_mut() {
        let ValueKind::Table(feed) = &mut feed.kind else { continue };
        read_columns(feed);
        let Some(ValueKind::Table(routes)) = feed.get_mut("routes").map(|routes| &mut routes.kind) else { continue };
        for route in routes.values_mut() {
            if let ValueKind::Table(route) = &mut route.kind {
                read_columns(route);
            }
        }
    }
}

fn read_columns(holder: &mut Table) {
    let Some(ValueKind::Table(columns)) = holder.get_mut("columns").map(|columns| &mut columns.kind) else { return };
    for source in columns.values_mut() {
        if let ValueKind::String(text) = &source.kind
            && let Ok(position) = text.parse::<i64>()
        {
            source.kind = ValueKind::I64(position);
        }
    }
}
