//! Checks of what becomes of records: routes, columns and their rules, rejects, feeds that go first.

use regex::bytes::Regex;

use super::check::{Checker, Known};
use super::columns::{Columns, RawColumn, RawRule};
use super::routes::{RawRejects, RawRoute};
use super::table_name::{self, check_identifier};
use super::{
    ColumnMap, Condition, EpochUnit, FieldPath, Format, Json, Mapping, Meta, Mode, ModeWord, RawFeed, Rejects, Route,
    Rules, Source, TableName, TimeFormat, Unknown,
};
use crate::config::bounds::to_usize;
use crate::config::report::nearest;
use crate::config::value::{Count, Scalar, Texts};
use crate::domain::feed::FeedName;
use crate::domain::pattern::KeyPattern;

/// Most bad records an object may have: each is kept in the ledger.
const MOST_REJECTS: u64 = 10_000_000;

/// As many where only a share is given.
const REJECTS_BY_RATIO: u64 = 10_000;

/// What stands of one target table, in the feed itself or in one of its routes.
struct Target<'a> {
    /// Its key path below the feed's, with a dot at its end.
    path: String,
    table: Option<&'a str>,
    mode: ModeWord,
    key: &'a Texts,
    newer_by: Option<&'a str>,
    columns: &'a Columns,
}

impl Checker<'_> {
    /// The tables a feed loads into. None where one is missing or unusable.
    pub(super) fn routes(&mut self, raw: &RawFeed, pattern: Option<&KeyPattern>) -> Option<Vec<Route>> {
        if raw.routes.0.is_empty() {
            let RawFeed { mode, key, newer_by, columns, .. } = raw;
            let (table, newer_by) = (raw.table.as_deref(), newer_by.as_deref());
            let target = Target { path: String::new(), table, mode: *mode, key, newer_by, columns };
            let route = self.route(raw, &target, pattern)?;
            return Some(vec![route]);
        }
        let own = [
            ("table", raw.table.is_some()),
            ("mode", raw.mode != ModeWord::Append),
            ("key", !raw.key.0.is_empty()),
            ("newer_by", raw.newer_by.is_some()),
            ("columns", !raw.columns.0.is_empty()),
        ];
        for (name, _) in own.into_iter().filter(|(_, given)| *given) {
            self.problem(name, "has no effect beside routes", "write it into each route");
        }
        if raw.unknown_fields == Unknown::Add {
            let message = "cannot tell which of several tables a new field belongs to";
            self.problem("unknown_fields", message, "write \"rescue\", \"reject\" or \"ignore\" beside routes");
        }
        let mut routes = Vec::new();
        let mut all = true;
        for (name, route) in &raw.routes.0 {
            match self.named_route(raw, name, route, pattern) {
                Some(route) => routes.push(route),
                None => all = false,
            }
        }
        self.refuse_unreachable(raw);
        all.then_some(routes)
    }

    fn named_route(
        &mut self,
        raw: &RawFeed,
        name: &str,
        route: &RawRoute,
        pattern: Option<&KeyPattern>,
    ) -> Option<Route> {
        let RawRoute { mode, key, newer_by, columns, .. } = route;
        let (table, newer_by) = (route.table.as_deref(), newer_by.as_deref());
        let target = Target { path: format!("routes.{name}."), table, mode: *mode, key, newer_by, columns };
        let settled = self.route(raw, &target, pattern)?;
        if raw.format == Format::Csv && !raw.csv.header && !route.when.0.is_empty() {
            let advice = "conditions name fields: set csv.header = true";
            self.problem(&format!("routes.{name}.when"), "needs the names of fields, and csv.header is false", advice);
        }
        let condition = |(field, wanted): &(String, super::columns::Wanted)| Condition {
            field: FieldPath::new(field),
            values: wanted.0.clone(),
        };
        let when = route.when.0.iter().map(condition).collect();
        Some(Route { name: Some(name.to_owned()), when, ..settled })
    }

    /// A route that takes everything must be the last one.
    fn refuse_unreachable(&mut self, raw: &RawFeed) {
        let greedy = raw.routes.0.iter().position(|(_, route)| route.when.0.is_empty());
        let behind = greedy.and_then(|greedy| raw.routes.0.get(greedy + 1));
        if let (Some((greedy, _)), Some((behind, _))) = (greedy.and_then(|greedy| raw.routes.0.get(greedy)), behind) {
            let message = format!("never sees a record: route {greedy:?} before it takes every one");
            self.problem(&format!("routes.{behind}"), message, "put the route without `when` last");
        }
    }

    fn route(&mut self, raw: &RawFeed, target: &Target<'_>, pattern: Option<&KeyPattern>) -> Option<Route> {
        let table = self.table(target);
        let mode = self.mode(target);
        let mapping = self.mapping(raw, target, pattern);
        Some(Route { name: None, when: Vec::new(), table: table?, mode: mode?, mapping: mapping? })
    }

    fn table(&mut self, target: &Target<'_>) -> Option<TableName> {
        let key = format!("{}table", target.path);
        let Some(text) = target.table else {
            let full = self.key(&key);
            self.report.missing(&full, "name the table the rows go into, as schema.table");
            return None;
        };
        match table_name::parse(text) {
            Ok(table) => Some(table),
            Err(reason) => {
                let advice =
                    "write schema.table, with parts in double quotes where they are not plain lower-case names";
                self.problem(&key, format!("{text:?} {reason}"), advice);
                None
            }
        }
    }

    fn mode(&mut self, target: &Target<'_>) -> Option<Mode> {
        let path = &target.path;
        let key: Vec<String> =
            target.key.0.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        if target.mode != ModeWord::Upsert {
            for (name, given) in [("key", !key.is_empty()), ("newer_by", target.newer_by.is_some())] {
                if given {
                    let advice = "remove it, or set mode = \"upsert\"";
                    self.problem(&format!("{path}{name}"), "has no effect unless mode is \"upsert\"", advice);
                }
            }
        }
        match target.mode {
            ModeWord::Append => Some(Mode::Append),
            ModeWord::Replace => Some(Mode::Replace),
            ModeWord::Upsert if key.is_empty() => {
                let full = self.key(&format!("{path}key"));
                self.report.missing(&full, "name the columns of a unique key of the table, such as key = [\"id\"]");
                None
            }
            ModeWord::Upsert => Some(Mode::Upsert { key, newer_by: target.newer_by.map(str::to_owned) }),
        }
    }

    fn mapping(&mut self, raw: &RawFeed, target: &Target<'_>, pattern: Option<&KeyPattern>) -> Option<Mapping> {
        let rules = Rules {
            null: raw.null.0.clone(),
            trim: raw.trim,
            required: raw.required,
            integral_floats: raw.integral_floats,
            ..Rules::default()
        };
        let mut columns = Vec::with_capacity(target.columns.0.len());
        for (column, entry) in &target.columns.0 {
            let path = format!("{}columns.{column}", target.path);
            if let Err(reason) = check_identifier(column) {
                self.problem(&path, format!("the column {reason}"), "write the name of a column of the table");
            }
            let (source, rules) = match entry {
                RawColumn::Field(name) => (Some(Source::field(name)), rules.clone()),
                RawColumn::Position(position) => (Some(Source::Position(to_usize(Count(*position)))), rules.clone()),
                RawColumn::Table(table) => {
                    (self.source(&path, column, table, pattern), self.rules(&path, table, &rules))
                }
            };
            let Some(source) = source else { continue };
            self.fits_format(raw, &path, &source);
            columns.push(ColumnMap { column: column.clone(), source, rules });
        }
        if let Err(reason) = check_identifier(&raw.rescue_column) {
            self.problem("rescue_column", format!("the column {reason}"), "write the name of a column of type jsonb");
        }
        let timezone = self.zone("value_timezone", &raw.value_timezone)?;
        Some(Mapping {
            columns,
            rules,
            names: raw.header_match,
            unknown: raw.unknown_fields,
            rescue_column: raw.rescue_column.clone(),
            timezone,
        })
    }

    fn fits_format(&mut self, raw: &RawFeed, path: &str, source: &Source) {
        let is_headerless = raw.format == Format::Csv && !raw.csv.header;
        match source {
            Source::Field(fields) if is_headerless => {
                let header = fields.first().map_or("", |field| field.text.as_str());
                let advice = "write the position of the field, from 1, or set csv.header = true";
                self.problem(path, format!("names the header {header:?}, and csv.header is false"), advice);
            }
            Source::Position(_) if raw.format != Format::Csv => {
                let message = format!("fields of {} have names and no position", raw.format.as_str());
                self.problem(path, message, "write the name of the field");
            }
            Source::Position(position) if !(1..=to_usize(raw.limits.max_fields)).contains(position) => {
                let advice = "write a position from 1 to limits.max_fields";
                self.problem(path, format!("position {position} is out of range"), advice);
            }
            Source::Field(_) | Source::Position(_) | Source::Constant(_) | Source::Meta(_) => {}
        }
    }

    /// Where a column's value comes from: one of several keys, or the field of its own name.
    fn source(&mut self, path: &str, column: &str, rule: &RawRule, pattern: Option<&KeyPattern>) -> Option<Source> {
        let given = [
            ("field", rule.field.is_some()),
            ("path", rule.path.is_some()),
            ("position", rule.position.is_some()),
            ("constant", rule.constant.is_some()),
            ("from", rule.from.is_some()),
        ];
        let names: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
        if names.len() > 1 {
            self.problem(path, format!("says {} at once", names.join(" and ")), "keep one of them");
        }
        let is_field = names.first().is_none_or(|name| matches!(*name, "field" | "path"));
        if !is_field && !rule.aliases.0.is_empty() {
            self.problem(&format!("{path}.aliases"), "has no effect without a field", "remove it");
        }
        if let Some(Scalar(text)) = &rule.constant {
            return Some(Source::Constant(text.clone()));
        }
        if let Some(position) = rule.position {
            return Some(Source::Position(to_usize(Count(position))));
        }
        if let Some(from) = &rule.from {
            return self.meta(&format!("{path}.from"), from, pattern).map(Source::Meta);
        }
        let first = match &rule.path {
            Some(Texts(steps)) => FieldPath { text: steps.join("."), steps: steps.clone() },
            None => FieldPath::new(rule.field.as_deref().unwrap_or(column)),
        };
        let aliases = rule.aliases.0.iter().map(|alias| FieldPath::new(alias));
        Some(Source::Field(std::iter::once(first).chain(aliases).collect()))
    }

    fn meta(&mut self, path: &str, from: &str, pattern: Option<&KeyPattern>) -> Option<Meta> {
        const WORDS: [(&str, Meta); 8] = [
            ("object.bucket", Meta::Bucket),
            ("object.key", Meta::Key),
            ("object.time", Meta::Time),
            ("object.etag", Meta::Etag),
            ("object.size", Meta::Size),
            ("object.visible_at", Meta::VisibleAt),
            ("record.number", Meta::RecordNumber),
            ("record.line", Meta::RecordLine),
        ];
        if let Some(part) = from.strip_prefix("key.") {
            let known: Vec<&str> = pattern.map(KeyPattern::captures).unwrap_or_default();
            if known.contains(&part) {
                return Some(Meta::KeyPart(part.to_owned()));
            }
            let advice = match nearest(part, known.iter().copied()) {
                Some(near) => format!("did you mean key.{near}?"),
                None => format!("add {{{part}}} to the pattern"),
            };
            self.problem(path, format!("the pattern has no part {part:?}"), advice);
            return None;
        }
        if let Some((_, meta)) = WORDS.iter().find(|(word, _)| *word == from) {
            return Some(meta.clone());
        }
        let known = WORDS.map(|(word, _)| word);
        let advice = match nearest(from, known) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("write one of {}, or key.NAME", known.join(", ")),
        };
        self.problem(path, format!("{from:?} is not known"), advice);
        None
    }

    fn rules(&mut self, path: &str, rule: &RawRule, feed: &Rules) -> Rules {
        let text = |scalar: &Option<Scalar>| scalar.as_ref().map(|Scalar(text)| text.clone());
        if let (Some(min), Some(max)) = (rule.min_length, rule.max_length)
            && min > max
        {
            self.problem(&format!("{path}.min_length"), "is more than max_length", "make it smaller");
        }
        let matches = rule.matches.as_deref().and_then(|pattern| {
            // The whole text must match, so that a pattern never lets a prefix through by accident.
            Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|error| self.problem(&format!("{path}.matches"), error, "write a regular expression"))
                .ok()
        });
        let time_format = rule.time_format.as_deref().and_then(|format| self.time_format(path, format));
        Rules {
            null: rule.null.as_ref().map_or_else(|| feed.null.clone(), |texts| texts.0.clone()),
            trim: rule.trim.unwrap_or(feed.trim),
            required: rule.required.unwrap_or(feed.required),
            default: text(&rule.default),
            min: text(&rule.min),
            max: text(&rule.max),
            one_of: rule.one_of.as_ref().map(|texts| texts.0.clone()).unwrap_or_default(),
            matches,
            min_length: rule.min_length.map(|length| to_usize(Count(length))),
            max_length: rule.max_length.map(|length| to_usize(Count(length))),
            integral_floats: rule.integral_floats.unwrap_or(feed.integral_floats),
            time_format,
        }
    }

    fn time_format(&mut self, path: &str, format: &str) -> Option<TimeFormat> {
        let unit = match format {
            "epoch_s" => EpochUnit::Seconds,
            "epoch_ms" => EpochUnit::Millis,
            "epoch_us" => EpochUnit::Micros,
            "epoch_ns" => EpochUnit::Nanos,
            pattern if pattern.contains('%') => return Some(TimeFormat::Pattern(pattern.to_owned())),
            other => {
                let advice = "write epoch_s, epoch_ms, epoch_us, epoch_ns, or a pattern such as \"%d/%m/%Y\"";
                self.problem(&format!("{path}.time_format"), format!("{other:?} is no format"), advice);
                return None;
            }
        };
        Some(TimeFormat::Epoch(unit))
    }

    pub(super) fn json(&mut self, raw: &RawFeed) -> Json {
        if raw.json.records.is_some() && raw.format != Format::Json {
            self.problem("json.records", "has no effect unless format is \"json\"", "remove it, or set the format");
        }
        Json {
            records: raw.json.records.as_deref().map(FieldPath::new),
            duplicate_keys: raw.json.duplicate_keys,
            coerce: raw.json.coerce,
        }
    }

    pub(super) fn rejects(&mut self, raw: &RawRejects) -> Rejects {
        if let Some(rows) = raw.max_rows {
            self.within("rejects.max_rows", rows, Count(0)..=Count(MOST_REJECTS));
        }
        let by_ratio = if raw.max_ratio.is_some() { REJECTS_BY_RATIO } else { 0 };
        Rejects {
            max_rows: raw.max_rows.map_or(by_ratio, |rows| rows.0),
            max_ratio: raw.max_ratio.map(|ratio| ratio.0),
        }
    }

    /// The feeds that go first. That nobody waits for itself is checked when all feeds are known.
    pub(super) fn depends_on(&mut self, own: &FeedName, raw: &RawFeed, known: &Known<'_>) -> Vec<FeedName> {
        let mut parents = Vec::new();
        for name in raw.depends_on.0.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
            if name == own.as_str() {
                self.problem("depends_on", "names the feed itself", "remove it");
            } else if !known.feeds.contains(&name) {
                let advice = match nearest(name, known.feeds.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add [feeds.{name}]"),
                };
                self.problem("depends_on", format!("there is no feed {name:?}"), advice);
            } else if let Ok(parent) = name.parse::<FeedName>()
                && !parents.contains(&parent)
            {
                parents.push(parent);
            }
        }
        parents
    }
}
