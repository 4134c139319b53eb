//! A feed for objects that nobody has described: what their keys and records have in common, as a section of the
//! configuration and a table.
//!
//! A proposal is made of what a few objects show, by the readers that will load them; it is put through the loader of
//! the configuration, and the samples through the encoders, before anybody sees it. Nothing is written anywhere, and
//! no value of a record leaves here.

mod address;
mod dialect;
mod error;
mod header;
mod keys;
mod names;
mod remarks;
mod sample;
mod sniff;
mod survey;
mod text;
mod times;
mod trial;
mod types;
mod values;

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::config::feed::{Csv, Feed, Format};
use crate::config::proposal as config;
use crate::config::{ConfigErrors, Problem};
use crate::domain::feed::FeedName;

pub use address::{Address, AddressError};
pub use error::ProposeError;
use keys::Shape;
use sample::Sample;
pub use sample::Shop;
use survey::Survey;
pub use types::Rules;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where the objects lie.
    pub address: Address,
    /// Name of the feed; found out otherwise.
    pub feed: Option<FeedName>,
    /// Table as `schema.table`; called like the feed otherwise.
    pub table: Option<String>,
    /// Objects that are looked at.
    pub samples: usize,
    /// Names of feeds there are already.
    pub taken: Vec<String>,
}

/// A feed that fits the samples.
#[derive(Debug, Clone, Serialize)]
pub struct Proposal {
    /// Its name.
    pub feed: String,
    /// Its table as `schema.table`.
    pub table: String,
    /// The bucket.
    pub bucket: String,
    /// What was listed: keys that begin so.
    pub prefix: String,
    /// Shape of the keys, where they carry a time.
    pub pattern: Option<String>,
    /// How bytes become records.
    pub format: &'static str,
    /// Objects that were listed.
    pub listed: usize,
    /// Whether there are more.
    pub more: bool,
    /// Objects that were looked at.
    pub samples: Vec<Looked>,
    /// Records in them that could be read.
    pub records: u64,
    /// Columns of the table.
    pub columns: Vec<Column>,
    /// Statements that make the table.
    pub ddl: String,
    /// Section of the configuration.
    pub section: String,
    /// What is uncertain, or to be known.
    pub remarks: Vec<String>,
}

/// An object that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Looked {
    /// Key.
    pub key: String,
    /// Size in bytes, as stored.
    pub size: u64,
    /// What it seems to be.
    pub format: &'static str,
    /// What it is compressed with.
    pub compression: &'static str,
}

/// A column of the proposed table.
#[derive(Debug, Clone, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The way to its field.
    pub path: Vec<String>,
    /// The position of its field, where fields have no names.
    pub position: Option<usize>,
    /// Its type.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// Whether every sample record had a value.
    pub not_null: bool,
    /// Rules of its own.
    pub rules: Rules,
    /// Why so, and what is uncertain.
    pub reasons: Vec<String>,
    #[serde(skip)]
    sql: types::Sql,
    #[serde(skip)]
    is_unique: bool,
}

/// Everything a section of the configuration is written from.
struct Draft {
    feed: String,
    bucket: String,
    pattern: Option<String>,
    prefix: Option<String>,
    include: Vec<String>,
    table: String,
    format: Format,
    records: Option<String>,
    csv: Csv,
    filters_blanks: bool,
    columns: Vec<Column>,
}

impl Column {
    /// Whether its field is not found by the column's name alone.
    fn needs_mapping(&self) -> bool {
        self.position.is_some() || self.path != [self.name.clone()] || self.rules != Rules::default()
    }
}

/// Proposes a feed.
pub async fn propose(shop: &Shop, wish: &Wish) -> Result<Proposal, ProposeError> {
    let listing = sample::list(shop, &wish.address).await?;
    let samples = sample::take(shop, &listing, wish).await?;
    let mut remarks = listing.remarks.clone();
    let guesses = dialect::guess(&samples).await?;
    let chosen = dialect::choose(&listing, samples.into_iter().zip(guesses).collect(), &mut remarks)?;
    let keys: Vec<&str> = chosen.keys.iter().map(String::as_str).collect();
    let shape = keys::infer(&keys, Timestamp::now());
    let mut draft = outline(wish, &listing, &chosen, shape.as_ref())?;
    let survey = survey(shop, &draft, &chosen, &mut remarks).await?;
    draft.filters_blanks = survey.blank > 0;
    draft.columns = columns(&survey, &draft);
    if draft.columns.is_empty() {
        return Err(ProposeError::NoRecords { place: listing.place() });
    }
    remarks::about_keys(&chosen, shape.as_ref(), &listing, &mut remarks);
    remarks::about_records(&survey, &draft, &mut remarks);
    let section = text::section(&draft);
    let feed = read_back(&section)?;
    let table = feed.routes.first().map(|route| route.table.clone()).ok_or_else(unreadable)?;
    remarks.extend(trial::run(shop, &feed, &draft.columns, &chosen.samples).await);
    let ddl = text::ddl(&table.schema, &table.table, &draft.columns);
    let looked = |sample: &Sample| Looked {
        key: sample.listed.key.clone(),
        size: sample.listed.size,
        format: draft.format.as_str(),
        compression: sample.head.compression,
    };
    Ok(Proposal {
        feed: draft.feed,
        table: table.to_string(),
        bucket: listing.bucket.clone(),
        prefix: listing.prefix.clone(),
        pattern: draft.pattern,
        format: draft.format.as_str(),
        listed: listing.objects.len(),
        more: listing.more,
        samples: chosen.samples.iter().map(looked).collect(),
        records: survey.records,
        columns: draft.columns,
        ddl,
        section,
        remarks,
    })
}

impl Proposal {
    /// What the file of the configuration gets: the table as a comment in front of the section.
    pub fn file(&self) -> String {
        let (objects, more) = (self.listed, if self.more { " or more" } else { "" });
        let looked = format!(
            "keyfall feed init: {} of {objects}{more} objects of s3://{}/{}, {} records.",
            self.samples.len(),
            self.bucket,
            self.prefix,
            self.records
        );
        format!("{}\n#\n{}\n\n{}", text::commented(&looked), text::commented(&self.ddl), self.section)
    }
}

/// The draft before anything is known of the records.
fn outline(
    wish: &Wish,
    listing: &sample::Listing,
    chosen: &dialect::Chosen,
    shape: Option<&Shape>,
) -> Result<Draft, ProposeError> {
    let pattern = shape.map(|shape| shape.pattern.clone());
    let name = match &wish.feed {
        Some(name) if wish.taken.iter().any(|taken| taken == name.as_str()) => {
            return Err(ProposeError::Taken { feed: name.to_string() });
        }
        Some(name) => name.to_string(),
        None => free(feed_name(pattern.as_deref(), listing), &wish.taken),
    };
    let literal = shape.and_then(|shape| shape.pattern.split(['{', '*']).next()).unwrap_or_default();
    // The pattern's own beginning is where listing starts, unless more was asked for.
    let prefix = (pattern.is_none() || literal.len() < listing.prefix.len()).then(|| listing.prefix.clone());
    Ok(Draft {
        table: wish.table.clone().unwrap_or_else(|| format!("public.{name}")),
        feed: name,
        bucket: listing.bucket.clone(),
        include: if pattern.is_none() { chosen.endings.clone() } else { Vec::new() },
        pattern,
        prefix: prefix.filter(|prefix| !prefix.is_empty()),
        format: chosen.format,
        records: chosen.records.clone(),
        csv: chosen.csv.clone(),
        filters_blanks: false,
        columns: Vec::new(),
    })
}

fn feed_name(pattern: Option<&str>, listing: &sample::Listing) -> String {
    let of_place = names::feed_of(pattern.unwrap_or(&listing.prefix));
    of_place.or_else(|| names::feed(&listing.bucket)).unwrap_or_else(|| "feed".to_owned())
}

fn free(name: String, taken: &[String]) -> String {
    let is_free = |name: &String| !taken.contains(name);
    if is_free(&name) {
        return name;
    }
    // One more than are taken cannot all be taken.
    (2..=taken.len() + 2).map(|number| format!("{name}_{number}")).find(is_free).unwrap_or(name)
}

/// Looks at all samples through the feed's own dialect.
async fn survey(
    shop: &Shop,
    draft: &Draft,
    chosen: &dialect::Chosen,
    remarks: &mut Vec<String>,
) -> Result<Survey, ProposeError> {
    let feed = read_back(&text::section(draft))?;
    let mut survey = Survey::new();
    let mut last = None;
    for sample in &chosen.samples {
        survey.begin();
        if let Err(error) = sample.show(shop, &feed, &mut survey).await {
            remarks.push(format!("{}: {error}; {}", sample.object.uri(), error.advice()));
            last = Some(error);
        }
    }
    match last {
        Some(error) if survey.records == 0 => {
            Err(ProposeError::Unreadable { place: chosen.place(), error: Box::new(error) })
        }
        _ => Ok(survey),
    }
}

fn columns(survey: &Survey, draft: &Draft) -> Vec<Column> {
    let fields = survey.settled();
    let has_positions = draft.format == Format::Csv && !draft.csv.header;
    let wanted: Vec<String> =
        fields.iter().map(|seen| if has_positions { String::new() } else { seen.path.join(".") }).collect();
    let names = names::columns(wanted.iter().map(String::as_str));
    let column = |(place, (seen, name)): (usize, (survey::Seen, String))| {
        let decided = types::decide(&seen, survey.typing, survey.records);
        Column {
            name,
            path: if has_positions { Vec::new() } else { seen.path.clone() },
            position: has_positions.then_some(place + 1),
            sql_type: decided.sql.declared(),
            not_null: decided.not_null,
            rules: decided.rules,
            reasons: decided.reasons,
            sql: decided.sql,
            is_unique: decided.not_null && seen.values.are_unique(),
        }
    };
    fields.into_iter().zip(names).enumerate().map(column).collect()
}

/// The feed of a section, as every program would read it.
fn read_back(section: &str) -> Result<Arc<Feed>, ProposeError> {
    let feeds = config::feeds_of(section).map_err(ProposeError::Refused)?;
    feeds.into_values().next().ok_or_else(unreadable)
}

fn unreadable() -> ProposeError {
    let problem = Problem {
        key: "feeds".to_owned(),
        message: "the proposal has no feed".to_owned(),
        advice: "report this as a defect of keyfall".to_owned(),
    };
    ProposeError::Refused(ConfigErrors { problems: vec![problem] })
}
