//! What most of the samples are: one feed has one format, and one dialect.

use std::collections::BTreeMap;

use crate::config::feed::{Csv, Encoding, Format};

use super::error::ProposeError;
use super::header::Header;
use super::sample::{Listing, Sample, ending};
use super::sniff::{Dialect, Guess, sniff};

/// The samples that the proposal is made of, and what they are.
pub(super) struct Chosen {
    pub(super) samples: Vec<Sample>,
    /// Keys of all objects that are like them.
    pub(super) keys: Vec<String>,
    /// Globs that keep the others out, where there are any.
    pub(super) endings: Vec<String>,
    pub(super) format: Format,
    pub(super) records: Option<String>,
    pub(super) csv: Csv,
}

impl Chosen {
    /// The samples, for messages.
    pub(super) fn place(&self) -> String {
        self.samples.last().map_or_else(String::new, |sample| sample.object.uri())
    }
}

/// Looks at what each sample is and takes the majority.
pub(super) async fn guess(samples: &[Sample]) -> Result<Vec<Guess>, ProposeError> {
    let base = super::read_back("[feeds.sample]\nbucket = \"sample\"\ntable = \"sample\"\n")?;
    let mut guesses = Vec::with_capacity(samples.len());
    for sample in samples {
        guesses.push(sniff(&base, &sample.head).await);
    }
    Ok(guesses)
}

/// Takes the format of most objects, and of CSV the dialect of most samples.
pub(super) fn choose(
    listing: &Listing,
    samples: Vec<(Sample, Guess)>,
    remarks: &mut Vec<String>,
) -> Result<Chosen, ProposeError> {
    let format = majority(listing, &samples)?;
    let (like, unlike): (Vec<_>, Vec<_>) = samples.into_iter().partition(|(_, guess)| guess.format() == Some(format));
    let endings: Vec<String> = distinct(like.iter().map(|(sample, _)| sample.ending.clone()));
    for (sample, guess) in &unlike {
        let found = word(guess);
        remarks.push(format!("{} looks like {found}, and most objects are {}", sample.object.uri(), format.as_str()));
    }
    let is_like = |key: &str| endings.iter().any(|own| own == ending(key));
    let keys: Vec<String> =
        listing.objects.iter().map(|listed| listed.key.clone()).filter(|key| is_like(key)).collect();
    let others = listing.objects.len() - keys.len();
    if others > 0 {
        remarks.push(format!("objects with other endings than {}, left out: {others}", shown(&endings)));
    }
    // An ending that is empty cannot be told from others by a glob.
    let globs = endings.iter().filter(|own| others > 0 && !own.is_empty()).map(|own| format!("**/*{own}")).collect();
    let records = like.iter().find_map(|(_, guess)| match guess {
        Guess::Documents(records) => Some(records.clone()),
        _ => None,
    });
    let dialects: Vec<(&Sample, &Dialect)> = like
        .iter()
        .filter_map(|(sample, guess)| match guess {
            Guess::Delimited(dialect) => Some((sample, dialect.as_ref())),
            _ => None,
        })
        .collect();
    let csv = dialect(&dialects, remarks)?;
    let samples = like.into_iter().map(|(sample, _)| sample).collect();
    Ok(Chosen { samples, keys, endings: globs, format, records: records.flatten(), csv })
}

fn shown(endings: &[String]) -> String {
    endings.iter().map(|ending| format!("{ending:?}")).collect::<Vec<_>>().join(", ")
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for item in items {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

fn word(guess: &Guess) -> String {
    match guess {
        Guess::Empty => "an empty file".to_owned(),
        Guess::Foreign(found) => (*found).to_owned(),
        other => other.format().map_or_else(String::new, |format| format.as_str().to_owned()),
    }
}

/// The format of most objects: a sample speaks for all that end like it.
fn majority(listing: &Listing, samples: &[(Sample, Guess)]) -> Result<Format, ProposeError> {
    let mut votes: BTreeMap<&'static str, (Format, usize)> = BTreeMap::new();
    for (sample, guess) in samples {
        let Some(format) = guess.format() else { continue };
        let alike = listing.objects.iter().filter(|listed| ending(&listed.key) == sample.ending).count();
        let asked = samples.iter().filter(|(other, _)| other.ending == sample.ending).count();
        votes.entry(format.as_str()).or_insert((format, 0)).1 += alike.saturating_mul(100) / asked.max(1);
    }
    let most = votes.into_values().max_by_key(|(_, votes)| *votes);
    most.map(|(format, _)| format).ok_or_else(|| {
        let found = distinct(samples.iter().map(|(_, guess)| word(guess))).join(", ");
        ProposeError::Foreign { place: listing.place(), found }
    })
}

/// The dialect of most samples.
fn dialect(dialects: &[(&Sample, &Dialect)], remarks: &mut Vec<String>) -> Result<Csv, ProposeError> {
    let base = super::read_back("[feeds.sample]\nbucket = \"sample\"\ntable = \"sample\"\n")?;
    let mut csv = base.csv.clone();
    let marks = |dialect: &Dialect| (dialect.delimiter, dialect.quote);
    let votes = |own: &Dialect| dialects.iter().filter(|(_, other)| marks(other) == marks(own)).count();
    let Some((_, most)) = dialects.iter().max_by_key(|(_, dialect)| votes(dialect)) else { return Ok(csv) };
    (csv.delimiter, csv.quote) = marks(most);
    for (sample, dialect) in dialects.iter().filter(|(_, dialect)| marks(dialect) != marks(most)) {
        let delimiter = char::from(dialect.delimiter);
        remarks.push(format!("{} is written in another way: delimiter {delimiter:?}", sample.object.uri()));
    }
    csv.encoding = encoding(dialects, remarks);
    csv.header = header(dialects, remarks);
    Ok(csv)
}

/// Pure ASCII is every encoding; the others must agree.
fn encoding(dialects: &[(&Sample, &Dialect)], remarks: &mut Vec<String>) -> Encoding {
    let is_ascii =
        |sample: &Sample, dialect: &Dialect| dialect.encoding == Encoding::Utf8 && sample.head.bytes.is_ascii();
    let telling = dialects.iter().filter(|(sample, dialect)| !is_ascii(sample, dialect));
    let found = distinct(telling.map(|(_, dialect)| dialect.encoding));
    let encoding = found.first().copied().unwrap_or(Encoding::Utf8);
    if found.len() > 1 {
        remarks.push("the samples are in several encodings, and a feed has one".to_owned());
    }
    if matches!(encoding, Encoding::Windows1252 | Encoding::Latin1) {
        remarks.push("the text is not UTF-8: taken for a western encoding; look at names with accents".to_owned());
    }
    encoding
}

fn header(dialects: &[(&Sample, &Dialect)], remarks: &mut Vec<String>) -> bool {
    let count = |wanted: &[Header]| dialects.iter().filter(|(_, dialect)| wanted.contains(&dialect.header)).count();
    let (sure, no, unsure) = (count(&[Header::Sure, Header::Likely]), count(&[Header::No]), count(&[Header::Unsure]));
    let firsts = distinct(dialects.iter().map(|(_, dialect)| &dialect.first));
    // The same first record again and again is no record.
    let is_repeated = dialects.len() > 1 && firsts.len() == 1 && no == 0;
    let is_header = sure > no.max(unsure) || is_repeated;
    if count(&[Header::Sure]) < dialects.len() && (is_header || unsure > 0) {
        let taken = if is_header { "names" } else { "a record" };
        remarks.push(format!("all fields are texts: the first record is taken for {taken}; set csv.header if not"));
    }
    let has_twice = |first: &Vec<Vec<u8>>| distinct(first.iter().map(|name| name.trim_ascii())).len() < first.len();
    if is_header && firsts.iter().any(|first| has_twice(first)) {
        remarks
            .push("the header names a field twice, so fields go by their position: the header is rejected".to_owned());
        return false;
    }
    is_header
}
