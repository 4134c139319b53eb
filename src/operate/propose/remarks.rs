//! What a person should know of a proposal: what is uncertain, and what the samples cannot tell.

use crate::config::feed::Format;
use crate::pipeline::decode::reader::Typing;

use super::Draft;
use super::dialect::Chosen;
use super::keys::Shape;
use super::sample::Listing;
use super::survey::Survey;

/// Keys of another shape that are named.
const EXAMPLES: usize = 3;

/// Fields by which records are often told apart.
const KINDS: [&str; 9] = ["type", "event", "kind", "on", "event_type", "record_type", "eventtype", "action", "op"];

/// About the keys and their pattern.
pub(super) fn about_keys(chosen: &Chosen, shape: Option<&Shape>, listing: &Listing, remarks: &mut Vec<String>) {
    let Some(shape) = shape else {
        remarks.push("no time was found in the keys: without a pattern sweeps alone find new objects".to_owned());
        return;
    };
    if !shape.others.is_empty() {
        let named: Vec<String> = shape.others.iter().take(EXAMPLES).map(|key| key.escape_debug().to_string()).collect();
        let (count, all) = (shape.others.len(), chosen.keys.len());
        remarks.push(format!(
            "keys that do not fit the pattern and are skipped: {count} of {all}, such as {}",
            named.join(", ")
        ));
    }
    if !shape.is_ordered {
        let text = "the order of the keys is not that of their times: polls list the whole prefix";
        remarks.push(text.to_owned());
    }
    let parts: Vec<String> = shape.captures.iter().map(|name| format!("{{ from = \"key.{name}\" }}")).collect();
    if !parts.is_empty() {
        remarks.push(format!("a part of the key can be a column: {}", parts.join(", ")));
    }
    let shown = listing.objects.iter().map(|listed| listed.last_modified).max();
    if shape.newest > shown {
        remarks.push("times in keys are later than the objects: set `timezone` to the clock they follow".to_owned());
    }
}

/// About the records and their fields.
pub(super) fn about_records(survey: &Survey, draft: &Draft, remarks: &mut Vec<String>) {
    let mut say = |applies: bool, text: String| {
        if applies {
            remarks.push(text);
        }
    };
    say(survey.blank > 0, format!("blank records, left out by csv.blank_records: {}", survey.blank));
    let ragged = survey.bad("E-CSV-RAGGED");
    let hint = "csv.ragged = \"pad\" fills those that are too short, `rejects` tolerates the others";
    say(ragged > 0, format!("records with another number of fields: {ragged} of {}; {hint}", survey.all_records()));
    for (code, count) in survey.bad.iter().filter(|(code, _)| *code != "E-CSV-RAGGED") {
        say(true, format!("records that cannot be read ({code}): {count}; `rejects` says how many are tolerated"));
    }
    say(survey.is_overfull, "there are more fields than a table has columns: the last ones are left out".to_owned());
    let is_other = survey.headers.iter().any(|header| Some(header) != survey.headers.first());
    let differs = "the samples do not all have the same fields: perhaps they are several feeds, one for each prefix";
    say(is_other && !same_names(&survey.headers), differs.to_owned());
    if survey.typing == Typing::Json {
        say(is_of_kinds(survey), "records are of several kinds: [feeds.NAME.routes] gives each its table".to_owned());
        say(true, "fields that no sample had quarantine their object; see unknown_fields".to_owned());
    }
    let positions = draft.format == Format::Csv && !draft.csv.header;
    say(positions, "fields have no names: rename the columns c1, c2 and so on".to_owned());
    let unique: Vec<&str> =
        draft.columns.iter().filter(|column| column.is_unique).map(|column| column.name.as_str()).collect();
    say(!unique.is_empty(), format!("different in every record, perhaps a key: {}", unique.join(", ")));
    for column in &draft.columns {
        for reason in &column.reasons {
            say(true, format!("{} {}: {reason}", column.name, column.sql_type));
        }
    }
}

/// Whether headers differ in their order alone.
fn same_names(headers: &[Vec<String>]) -> bool {
    let sorted = |header: &Vec<String>| {
        let mut names = header.clone();
        names.sort();
        names
    };
    headers.iter().all(|header| headers.first().map(sorted) == Some(sorted(header)))
}

/// Whether a field has few values while other fields are not in every record.
fn is_of_kinds(survey: &Survey) -> bool {
    let lacks = survey.fields.iter().any(|seen| {
        let values = &seen.values;
        values.present + values.nulls + values.blanks < survey.records
    });
    let tells = survey.fields.iter().any(|seen| {
        let name = seen.path.last().map(|name| name.to_lowercase()).unwrap_or_default();
        KINDS.contains(&name.as_str()) && seen.values.few().is_some_and(|few| few > 1)
    });
    lacks && tells
}
