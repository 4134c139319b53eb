//! What the demo uploads, and where it should land: feeds with their tables, objects with their keys.
//!
//! Pure data; nothing here starts or asks a service.

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;

use crate::demo::s3::EmbeddedS3;

use super::screen::grouped;

/// Where objects are dropped.
pub(super) const BUCKET: &str = "drop";
/// Where they go once they are loaded. Another bucket, so that no name of a feed can clash with a prefix.
pub(super) const ARCHIVE: &str = "drop-archive";
/// The time in every key: as door2door's writers do it, without leading zeros in places.
pub(super) const KEY_TIME: &str = "{time:%Y-%m-%d-%H-%M-%S}";

/// One column of a table that the demo makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// Type and constraint, in SQL.
    pub(super) sql: String,
}

/// One feed and its table, which bears its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FeedPlan {
    pub(super) name: String,
    /// What follows the time in its keys.
    pub(super) key_end: &'static str,
    pub(super) header: bool,
    pub(super) delimiter: u8,
    pub(super) columns: Vec<Column>,
}

impl FeedPlan {
    /// Makes the table. Names are quoted: a file may well be called `order.csv`.
    pub(super) fn ddl(&self) -> String {
        let columns: Vec<String> =
            self.columns.iter().map(|column| format!("{} {}", identifier(&column.name), column.sql)).collect();
        format!("CREATE TABLE {} ({})", identifier(&self.name), columns.join(", "))
    }

    /// Whether it is one of the tables whose shape the demo knows.
    pub(super) fn is_known(&self) -> bool {
        super::made::known_table(&self.name).is_some_and(|known| known.columns == self.columns)
    }

    /// Its table of the configuration.
    pub(super) fn configuration(&self) -> String {
        let Self { name, key_end, header, .. } = self;
        let (table, delimiter) =
            (text(&format!("public.{}", identifier(name))), text(&char::from(self.delimiter).to_string()));
        let mut lines = format!(
            "\n[feeds.{name}]\nbucket = \"{BUCKET}\"\npattern = \"{name}/{KEY_TIME}{key_end}\"\ntable = {table}\n\
             poll_interval = \"250ms\"\n\
             csv = {{ header = {header}, delimiter = {delimiter} }}\n\
             disposal = {{ action = \"archive\", bucket = \"{ARCHIVE}\" }}\n\
             \n[feeds.{name}.columns]\n"
        );
        for (index, column) in self.columns.iter().enumerate() {
            // Writing to a String cannot fail.
            if writeln!(lines, "{} = {}", text(&column.name), index + 1).is_err() {
                break;
            }
        }
        lines
    }
}

/// An SQL identifier in quotes.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A TOML string.
pub(super) fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

/// One object.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) body: Bytes,
}

/// What should come of the made-up objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// Rows by table.
    pub(super) rows: Vec<(&'static str, u64)>,
    /// NULLs in `hired_employees`.
    pub(super) nulls: u64,
    /// Objects that must be quarantined.
    pub(super) quarantined: u64,
    /// How the objects differ from plain ones, for the reader.
    pub(super) remarks: String,
}

/// Everything of one demo.
#[derive(Debug, Clone, Default)]
pub(super) struct Cargo {
    pub(super) feeds: Vec<FeedPlan>,
    pub(super) uploads: Vec<Upload>,
    /// Known only where we made the objects.
    pub(super) expected: Option<Expected>,
    /// The folder they came from, otherwise.
    pub(super) folder: Option<PathBuf>,
}

impl Cargo {
    /// Number of objects.
    pub(super) fn objects(&self) -> u64 {
        self.uploads.len() as u64
    }

    /// Size of all objects.
    pub(super) fn bytes(&self) -> u64 {
        self.uploads.iter().map(|upload| upload.body.len() as u64).sum()
    }

    /// Puts every object into the bucket.
    pub(super) fn upload(&self, s3: &EmbeddedS3) {
        for upload in &self.uploads {
            s3.put(BUCKET, &upload.key, upload.body.clone());
        }
    }

    /// One line for the reader.
    pub(super) fn summary(&self) -> String {
        let size = bytesize::ByteSize(self.bytes()).display().iec();
        let head = format!("{} ({size}) in s3://{BUCKET}/", grouped(self.objects()));
        match (&self.expected, &self.folder) {
            (Some(expected), _) => format!("{head}: {}", expected.remarks),
            (None, Some(folder)) => format!("{head} from {}", folder.display()),
            (None, None) => head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, sql: &str) -> Column {
        Column { name: name.to_owned(), sql: sql.to_owned() }
    }

    #[test]
    fn reserved_words_are_quoted_in_sql_and_in_the_configuration() {
        let plan = FeedPlan {
            name: "order".to_owned(),
            key_end: ".csv",
            header: true,
            delimiter: b'\t',
            columns: vec![column("user", "bigint"), column("a\"b", "text")],
        };
        assert_eq!(plan.ddl(), r#"CREATE TABLE "order" ("user" bigint, "a""b" text)"#);
        let parsed: toml::Table = plan.configuration().parse().unwrap();
        let feed = &parsed["feeds"]["order"];
        assert_eq!(feed["table"].as_str(), Some("public.\"order\""));
        assert_eq!(feed["csv"]["delimiter"].as_str(), Some("\t"));
        assert_eq!(feed["columns"]["a\"b"].as_integer(), Some(2));
    }
}
