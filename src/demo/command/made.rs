//! Objects the demo makes up: departments, jobs and hired employees, the same at every run.
//!
//! They have what real ones have: blank fields, gzip under a plain name, seconds without leading zeros in keys, which
//! then sort elsewhere than their time, and one object that is broken, on purpose.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};

use super::plan::{Cargo, Column, Expected, FeedPlan, Upload};

/// Tables of this shape are used for files of a folder with these names as well.
const TABLES: [(&str, &[(&str, &str)]); 3] = [
    ("departments", &[("id", "int PRIMARY KEY"), ("department", "text")]),
    ("jobs", &[("id", "int PRIMARY KEY"), ("job", "text")]),
    (
        HIRED,
        &[
            ("id", "int PRIMARY KEY"),
            ("name", "text"),
            ("datetime", "timestamptz"),
            ("department_id", "int"),
            ("job_id", "int"),
        ],
    ),
];

/// The feed that new objects keep arriving for.
pub(super) const HIRED: &str = "hired_employees";

/// Rows of one object of hired employees.
pub(super) const ROWS: u64 = 100;

/// Objects of hired employees that are good.
const HIRED_OBJECTS: u64 = 300;

/// The broken one comes after so many good ones, and is wrong on this line.
const BROKEN_AFTER: u64 = 150;
const BROKEN_LINE: u64 = 42;

/// Every so many-th object is gzip.
const GZIP_EVERY: u64 = 10;

/// 2021-12-31 23:45:00 UTC: the series runs across New Year.
const FIRST_KEY: i64 = 1_640_994_300;

const DEPARTMENTS: [&str; 12] = [
    "Accounting",
    "Customer Care",
    "Design",
    "Facilities",
    "Finance",
    "Legal",
    "Logistics",
    "Marketing",
    "People",
    "Platform",
    "Procurement",
    "Research",
];

const ROLES: [&str; 15] = [
    "Accountant",
    "Analyst",
    "Architect",
    "Biologist",
    "Chemist",
    "Designer",
    "Developer",
    "Editor",
    "Engineer",
    "Geologist",
    "Librarian",
    "Operator",
    "Pharmacist",
    "Planner",
    "Recruiter",
];

const LEVELS: [&str; 4] = ["I", "II", "III", "IV"];

const FIRST_NAMES: [&str; 10] =
    ["Ada", "Björn", "Chioma", "Diego", "Eun-ji", "Farid", "Grażyna", "Hoa", "Inês", "Jomo"];

/// One holds the delimiter: it has to be quoted.
const LAST_NAMES: [&str; 10] =
    ["Abara", "Brandt", "Costa", "Dufour", "Eriksen", "Fonseca, Jr.", "Gupta", "Haddad", "Ito", "Jansen"];

/// The plan of a known table.
pub(super) fn known_table(name: &str) -> Option<FeedPlan> {
    let (name, columns) = TABLES.iter().find(|(known, _)| *known == name)?;
    let column = |(name, sql): &(&str, &str)| Column { name: (*name).to_owned(), sql: (*sql).to_owned() };
    Some(FeedPlan {
        name: (*name).to_owned(),
        key_end: ".csv",
        header: false,
        delimiter: b',',
        columns: columns.iter().map(column).collect(),
    })
}

/// Everything of the demo without arguments.
pub(super) fn cargo() -> Cargo {
    let mut uploads = Vec::new();
    let departments: Vec<String> = DEPARTMENTS.iter().map(|name| (*name).to_owned()).collect();
    let jobs: Vec<String> =
        ROLES.iter().flat_map(|role| LEVELS.iter().map(move |level| format!("{role} {level}"))).collect();
    names("departments", &departments, 3, &mut uploads);
    names("jobs", &jobs, 10, &mut uploads);

    let mut hired = Hired::new();
    for n in 0..=HIRED_OBJECTS {
        let (rows, key) = (hired.object(n == BROKEN_AFTER), key(HIRED, key_time(n)));
        let body = if n % GZIP_EVERY == 3 { gzip(&rows) } else { rows.into() };
        uploads.push(Upload { key, body });
    }
    let gzipped = (0..=HIRED_OBJECTS).filter(|n| n % GZIP_EVERY == 3).count();
    let astray = out_of_order(&uploads);
    let remarks = format!(
        "{gzipped} gzip, {astray} whose keys sort out of\n              time order, 1 broken on purpose (its log line is part of this)"
    );
    let rows =
        vec![("departments", departments.len() as u64), ("jobs", jobs.len() as u64), (HIRED, HIRED_OBJECTS * ROWS)];
    Cargo {
        feeds: TABLES.iter().filter_map(|(name, _)| known_table(name)).collect(),
        uploads,
        expected: Some(Expected { rows, nulls: hired.nulls, quarantined: 1, remarks }),
        folder: None,
    }
}

/// Objects of a table of names, so many rows each.
fn names(feed: &str, names: &[String], rows: usize, uploads: &mut Vec<Upload>) {
    let mut id = 0;
    for (n, chunk) in (0..).zip(names.chunks(rows)) {
        let mut body = String::new();
        for name in chunk {
            id += 1;
            put_line(&mut body, format_args!("{id},{name}"));
        }
        uploads.push(Upload { key: key(feed, key_time(n)), body: body.into() });
    }
}

fn put_line(text: &mut String, line: fmt::Arguments<'_>) {
    // Writing to a String cannot fail; a line too few would show in the comparison at the end.
    if text.write_fmt(line).is_ok() {
        text.push('\n');
    }
}

fn key_time(n: u64) -> Timestamp {
    // Seven seconds apart: many in a minute, so that unpadded seconds show.
    let offset = i64::try_from(n).unwrap_or(0) * 7;
    Timestamp::from_second(FIRST_KEY + offset).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A key that carries its time the way careless writers do: seconds without leading zero.
pub(super) fn key(feed: &str, time: Timestamp) -> String {
    let second = time.as_second().rem_euclid(60);
    format!("{feed}/{}-{second}.csv", time.strftime("%Y-%m-%d-%H-%M"))
}

/// How many keys stand elsewhere in byte order than in the order of their times, in which they were made.
fn out_of_order(uploads: &[Upload]) -> usize {
    let made: Vec<&str> =
        uploads.iter().map(|upload| upload.key.as_str()).filter(|key| key.starts_with(HIRED)).collect();
    let mut sorted = made.clone();
    sorted.sort_unstable();
    made.iter().zip(&sorted).filter(|(made, sorted)| made != sorted).count()
}

fn gzip(text: &str) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory cannot fail; if it did, the plain text would serve as well.
    match encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()) {
        Ok(packed) => packed.into(),
        Err(_impossible) => Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// Makes employees one after the other.
pub(super) struct Hired {
    random: fastrand::Rng,
    next_id: u64,
    /// Blank fields so far, in good objects.
    pub(super) nulls: u64,
}

impl Hired {
    /// From the first one; the seed is fixed, so every run makes the same.
    fn new() -> Self {
        Self { random: fastrand::Rng::with_seed(2021), next_id: 1, nulls: 0 }
    }

    /// From the first one that the demo has not uploaded.
    pub(super) fn following() -> Self {
        Self { next_id: (HIRED_OBJECTS + 1) * ROWS + 1, ..Self::new() }
    }

    /// The rows of a good object.
    pub(super) fn good(&mut self) -> String {
        self.object(false)
    }

    fn object(&mut self, broken: bool) -> String {
        let mut text = String::new();
        let nulls = self.nulls;
        for line in 1..=ROWS {
            let datetime =
                if broken && line == BROKEN_LINE { "2021-02-30T25:61:00Z".to_owned() } else { self.datetime() };
            let (name, department, job) = (self.name(), self.number(DEPARTMENTS.len()), self.number(60));
            let fields = [name, datetime, department, job].map(|field| self.sometimes_blank(field));
            put_line(&mut text, format_args!("{},{}", self.next_id, fields.join(",")));
            self.next_id += 1;
        }
        if broken {
            self.nulls = nulls;
        }
        text
    }

    fn sometimes_blank(&mut self, field: String) -> String {
        if self.random.u8(..100) == 0 && !field.starts_with("2021-02-30") {
            self.nulls += 1;
            return String::new();
        }
        field
    }

    /// Some time from 2020 to 2022.
    fn datetime(&mut self) -> String {
        let day = SignedDuration::from_hours(24 * self.random.i64(0..1096));
        let start = Timestamp::from_second(1_577_836_800).unwrap_or(Timestamp::UNIX_EPOCH);
        let time = start + day + SignedDuration::from_secs(self.random.i64(0..86_400));
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn name(&mut self) -> String {
        let first = FIRST_NAMES.get(self.random.usize(..FIRST_NAMES.len())).copied().unwrap_or_default();
        let last = LAST_NAMES.get(self.random.usize(..LAST_NAMES.len())).copied().unwrap_or_default();
        let quote = if last.contains(',') { "\"" } else { "" };
        format!("{quote}{first} {last}{quote}")
    }

    fn number(&mut self, below: usize) -> String {
        (self.random.usize(..below) + 1).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn every_run_makes_the_same_objects() {
        let (first, second) = (cargo(), cargo());
        assert_eq!(first.expected, second.expected);
        let same = first.uploads.iter().zip(&second.uploads).all(|(a, b)| a.key == b.key && a.body == b.body);
        assert!(same && first.uploads.len() == 311, "{}", first.uploads.len());
    }

    fn text(upload: &Upload) -> String {
        let mut text = String::new();
        if upload.body.starts_with(b"\x1f\x8b") {
            flate2::read::GzDecoder::new(&*upload.body).read_to_string(&mut text).unwrap();
        } else {
            text.push_str(std::str::from_utf8(&upload.body).unwrap());
        }
        text
    }

    #[test]
    fn blank_fields_are_counted_and_ids_never_repeat() {
        let cargo = cargo();
        let hired = cargo.uploads.iter().filter(|upload| upload.key.starts_with(HIRED)).map(text);
        let good: Vec<String> = hired.filter(|text| !text.contains("2021-02-30")).collect();
        let lines: Vec<String> =
            good.iter().flat_map(|text| text.lines()).map(|line| line.replace(", Jr.", "")).collect();
        let blanks = lines.iter().flat_map(|line| line.split(',')).filter(|field| field.is_empty()).count();
        assert_eq!(cargo.expected.unwrap().nulls, blanks as u64);
        let ids: std::collections::BTreeSet<_> = lines.iter().filter_map(|line| line.split(',').next()).collect();
        assert_eq!((ids.len(), lines.len()), (30_000, 30_000));
    }

    #[test]
    fn exactly_one_object_has_a_day_that_does_not_exist_on_the_line_named() {
        let cargo = cargo();
        let broken: Vec<_> =
            cargo.uploads.iter().filter(|upload| memchr::memmem::find(&upload.body, b"2021-02-30").is_some()).collect();
        assert_eq!(broken.len(), 1);
        let text = String::from_utf8(broken[0].body.to_vec()).unwrap();
        assert!(text.lines().nth(41).unwrap().contains("2021-02-30"));
    }

    #[test]
    fn seconds_in_keys_have_no_leading_zero() {
        let time = "2022-01-01T00:00:07Z".parse().unwrap();
        assert_eq!(key("jobs", time), "jobs/2022-01-01-00-00-7.csv");
    }
}
