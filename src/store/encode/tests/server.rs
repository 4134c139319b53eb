//! The encoder against a real server: the same cell by COPY BINARY, by our COPY TEXT and by the server's own parser
//! must become the same value, bit for bit; where we refuse what the server takes, a table here says so.

use bytes::Bytes;
use futures::SinkExt;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::string::{bytes_regex, string_regex};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tokio_postgres::{Client, NoTls};
use tokio_util::task::TaskTracker;

use crate::demo::postgres::ThrowawayPostgres;
use crate::store::encode::*;

/// Random cells per type. Each type takes one COPY per path, so more would hardly cost more.
const CELLS: usize = 400;

const ZONE: &str = "America/New_York";

struct Server {
    client: Client,
    zone: TimeZone,
}

impl Server {
    async fn start() -> Self {
        let cluster = ThrowawayPostgres::shared().unwrap();
        let database = cluster.create_database(None).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&cluster.url(&database), NoTls).await.unwrap();
        drop(TaskTracker::new().spawn(connection));
        client.batch_execute("CREATE TYPE colour AS ENUM ('red', 'grün', 'it''s \"blue\"')").await.unwrap();
        Self { client, zone: TimeZone::get(ZONE).unwrap() }
    }

    async fn copy(&self, table: &str, format: &str, data: BytesMut) -> Result<u64, tokio_postgres::Error> {
        let sql = format!("COPY {table} FROM STDIN WITH (FORMAT {format})");
        let mut sink = Box::pin(self.client.copy_in::<_, Bytes>(&sql).await?);
        sink.send(data.freeze()).await?;
        sink.as_mut().finish().await
    }

    /// What the server itself makes of one cell; the session's clock is that of the zone.
    async fn accepts(&self, type_name: &str, cell: &[u8]) -> bool {
        let setup = format!("DROP TABLE IF EXISTS one; CREATE TEMP TABLE one (v {type_name}); SET TimeZone = '{ZONE}'");
        self.client.batch_execute(&setup).await.unwrap();
        let mut line = BytesMut::new();
        // Cells that are no text are sent raw: they hold nothing that would have to be escaped.
        if encode_text_cell(&ColumnType::Other, cell, &self.zone, &mut line).is_err() {
            line.extend_from_slice(cell);
        }
        end_text_line(&mut line);
        self.copy("one", "text", line).await.is_ok()
    }

    /// Which of these texts the server takes for a column of the type, one by one; the session's clock is the zone's.
    async fn takes(&self, type_name: &str, cells: &[&str]) -> Vec<bool> {
        let setup = format!(
            "DROP TABLE IF EXISTS probe; CREATE TEMP TABLE probe (v {type_name}); SET TimeZone = '{ZONE}';
             CREATE OR REPLACE FUNCTION pg_temp.takes(cell text) RETURNS boolean LANGUAGE plpgsql AS $$
             BEGIN
                 EXECUTE format('INSERT INTO probe VALUES (%L)', cell);
                 RETURN true;
             EXCEPTION WHEN OTHERS THEN
                 RETURN false;
             END $$"
        );
        self.client.batch_execute(&setup).await.unwrap();
        let sql = "SELECT pg_temp.takes(c.cell) FROM unnest($1::text[]) WITH ORDINALITY AS c (cell, n) ORDER BY n";
        self.client.query(sql, &[&cells]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Sends the cells we accept by all three paths and compares what arrived; answers how many that were.
    async fn compare(&self, kind: &ColumnType, type_name: &str, cells: &[Vec<u8>]) -> usize {
        let (mut binary, mut text, mut reference) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        let mut accepted = 0;
        put_header(&mut binary);
        for (id, cell) in cells.iter().enumerate() {
            let (mut value, mut line) = (BytesMut::new(), BytesMut::new());
            // COPY TEXT alone refuses arrays of timestamps without offset.
            if encode_cell(kind, cell, &self.zone, &mut value).is_err()
                || encode_text_cell(kind, cell, &self.zone, &mut line).is_err()
            {
                continue;
            }
            accepted += 1;
            let id = id.to_string();
            begin_tuple(2, &mut binary);
            encode_cell(&ColumnType::Int4, id.as_bytes(), &self.zone, &mut binary).unwrap();
            binary.extend_from_slice(&value);
            for (line, kind) in [(&mut text, kind), (&mut reference, &ColumnType::Other)] {
                line.extend_from_slice(id.as_bytes());
                put_text_separator(line);
                encode_text_cell(kind, cell, &self.zone, line).unwrap();
                end_text_line(line);
            }
        }
        put_trailer(&mut binary);
        let setup = ["b", "t", "r"]
            .map(|table| format!("DROP TABLE IF EXISTS {table}; CREATE TEMP TABLE {table} (id int, v {type_name});"));
        self.client.batch_execute(&setup.concat()).await.unwrap();
        // Our own two paths must not depend on the session's clock, so it is a foreign one for them.
        for (table, format, clock, data) in
            [("b", "binary", "Asia/Tokyo", binary), ("t", "text", "Asia/Tokyo", text), ("r", "text", ZONE, reference)]
        {
            self.client.batch_execute(&format!("SET TimeZone = '{clock}'")).await.unwrap();
            let copied = self.copy(table, format, data).await;
            let copied = copied.unwrap_or_else(|error| panic!("{type_name} by {table}: {}", cause(&error, cells)));
            assert_eq!(copied, accepted as u64, "{type_name} by {table}");
        }
        for table in ["b", "t"] {
            // *<> compares the stored bytes: 1.0 and 1.00 differ, unlike with <>.
            let differ = format!("SELECT x.id, x.v::text, r.v::text FROM {table} x JOIN r USING (id) WHERE x *<> r");
            if let Some(row) = self.client.query(&differ, &[]).await.unwrap().first() {
                let id: i32 = row.get(0);
                let (ours, servers): (String, String) = (row.get(1), row.get(2));
                let cell = String::from_utf8_lossy(&cells[usize::try_from(id).unwrap()]);
                panic!("{type_name}: {cell:?} is {servers} to the server, but {ours} by {table}");
            }
        }
        accepted
    }
}

fn cause(error: &tokio_postgres::Error, cells: &[Vec<u8>]) -> String {
    let Some(db) = error.as_db_error() else { return error.to_string() };
    let context = db.where_().unwrap_or_default();
    let line = context.split("line ").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    let near = line.and_then(|line| line.parse::<usize>().ok()).and_then(|line| cells.get(line.saturating_sub(1)));
    format!(
        "{} ({context}); if nothing was refused before it: {:?}",
        db.message(),
        near.map(|cell| String::from_utf8_lossy(cell))
    )
}

fn array_of(element: ColumnType, element_oid: u32) -> ColumnType {
    ColumnType::Array { element: Box::new(element), element_oid }
}

fn colour() -> ColumnType {
    ColumnType::Enum { labels: ["red", "grün", "it's \"blue\""].map(str::to_owned).to_vec().into() }
}

type Cells = BoxedStrategy<Vec<u8>>;

fn regex(pattern: &str) -> Cells {
    bytes_regex(pattern).unwrap().boxed()
}

fn shown<T: ToString + std::fmt::Debug>(strategy: impl Strategy<Value = T> + 'static) -> Cells {
    strategy.prop_map(|value| value.to_string().into_bytes()).boxed()
}

fn floats() -> Cells {
    let decimal = any::<f64>().prop_filter("finite", |value| value.is_finite());
    let scientific = decimal.prop_map(|value| format!("{value:e}").into_bytes());
    prop_oneof![scientific, shown(any::<f32>()), regex(r"[+-]?[0-9]{1,20}\.?[0-9]{0,20}(e[+-]?[0-9]{1,2})?")].boxed()
}

fn numerics() -> Cells {
    prop_oneof![
        3 => regex(r"[+-]?[0-9]{1,12}\.[0-9]{1,6}"),
        2 => regex(r"[+-]?[0-9]{0,30}\.?[0-9]{0,30}([eE][+-]?[0-9]{1,3})?"),
        2 => regex(r"[+-]?0{0,5}[0-9]{0,3}0{0,9}\.?0{0,9}[0-9]{0,3}0{0,5}"),
        1 => regex(r"[0-9]{100,900}(\.[0-9]{1,300})?(e[+-]?[0-9]{1,3})?"),
    ]
    .boxed()
}

fn texts() -> Cells {
    prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        regex(r#"[a-zA-Z ,."'\\{}\t\n\r]{0,40}"#),
        string_regex(r"[a-zäöü€😀 ]{0,12}").unwrap().prop_map(String::into_bytes),
    ]
    .boxed()
}

fn dates() -> Cells {
    (1..=9999_i16, 1..=12_i8, 1..=31_i8).prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}").into_bytes()).boxed()
}

fn clocks() -> Cells {
    prop_oneof![
        4 => regex(r"(0[3-9]|1[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"),
        1 => regex(r"(0[3-9]|1[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}5"),
        1 => regex(r"(24:00|24:00:00|23:59:60|12:30:60|00:00:00)"),
    ]
    .boxed()
}

fn timestamps(offset: &str) -> Cells {
    let moment = (dates(), regex("[T ]"), clocks(), regex(offset));
    prop_oneof![6 => moment.prop_map(|(date, t, clock, offset)| [date, t, clock, offset].concat()), 1 => dates()]
        .boxed()
}

fn json() -> Cells {
    let string =
        string_regex(r#"([a-zä€😀 {}\[\],:]|\\["\\/bfnrt]|\\u[0-9a-cA-C][0-9a-fA-F]{3}|\\ud83d\\ude0[0-9a-f]){0,12}"#);
    let string = string.unwrap().prop_map(|inner| format!("\"{inner}\"")).boxed();
    let number = string_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?").unwrap();
    let word = string_regex("true|false|null| \ttrue\n").unwrap();
    let leaf = prop_oneof![string.clone(), number, word];
    let value = leaf.prop_recursive(5, 40, 5, move |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(", ")));
        let member = (string.clone(), inner).prop_map(|(name, value)| format!("{name} :{value}"));
        prop_oneof![list, proptest::collection::vec(member, 0..5).prop_map(|items| format!("{{{}}}", items.join(",")))]
    });
    value.prop_map(String::into_bytes).boxed()
}

fn uuids() -> Cells {
    regex(
        r"([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-fA-F]{32}|\{[0-9a-f]{8}-[0-9a-f]{24}\}|([0-9a-f]{4}-?){7}[0-9A-F]{4})",
    )
}

fn arrays(element: Cells) -> Cells {
    let quoted = element.prop_map(|cell| {
        let inner =
            cell.iter().flat_map(|&byte| if matches!(byte, b'"' | b'\\') { vec![b'\\', byte] } else { vec![byte] });
        [&b"\""[..], &inner.collect::<Vec<_>>(), b"\""].concat()
    });
    let item = prop_oneof![6 => quoted, 1 => regex(" ?(NULL|null) ?")];
    let list = |items: Vec<Vec<u8>>| [&b"{"[..], &items.join(&b","[..]), b"} "].concat();
    let flat = proptest::collection::vec(item.clone(), 0..6).prop_map(list);
    let square = proptest::collection::vec(proptest::collection::vec(item, 2).prop_map(list), 1..4).prop_map(list);
    prop_oneof![flat, square].boxed()
}

fn types() -> Vec<(ColumnType, &'static str, Cells)> {
    let text = || ColumnType::Text { max_chars: None };
    // Whole literals are not rewritten for COPY TEXT, so each element names its offset.
    let stamped =
        regex(r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])[T ](0[0-9]|1[0-9]):[0-5][0-9](Z|[+-]0[0-9])");
    vec![
        (ColumnType::Bool, "bool", regex("(?i)(t|true|f|false|yes|no|y|n|on|off|1|0)")),
        (ColumnType::Int2, "int2", prop_oneof![shown(any::<i16>()), regex(r"[+-]?0{0,30}[0-9]{1,5}")].boxed()),
        (ColumnType::Int4, "int4", prop_oneof![shown(any::<i32>()), regex(r"[+-]?0{0,30}[0-9]{1,10}")].boxed()),
        (ColumnType::Int8, "int8", prop_oneof![shown(any::<i64>()), regex(r"[+-]?0{0,30}[0-9]{1,19}")].boxed()),
        (ColumnType::Float4, "float4", floats()),
        (ColumnType::Float8, "float8", floats()),
        (ColumnType::Numeric, "numeric", numerics()),
        (ColumnType::Numeric, "numeric(12,2)", regex(r"[+-]?[0-9]{1,9}(\.[0-9]{0,9})?")),
        (text(), "text", texts()),
        (
            ColumnType::Text { max_chars: Some(8) },
            "varchar(8)",
            prop_oneof![texts(), shown("[a-zäöü€😀 ]{0,10}")].boxed(),
        ),
        (ColumnType::Char { max_chars: Some(8) }, "char(8)", regex(r"[a-z ]{0,9} {0,5}")),
        (ColumnType::Bytea, "bytea", regex(r"(\\x([0-9a-fA-F]{2} ?){0,20}|([a-z]|\\\\|\\[0-3][0-7]{2}){0,20})")),
        (ColumnType::Date, "date", dates()),
        (ColumnType::Time, "time", clocks()),
        (ColumnType::Time, "time(2)", clocks()),
        (ColumnType::Timestamp, "timestamp", timestamps(r"(Z|\+00(:?00)?)?")),
        (ColumnType::Timestamp, "timestamp(0)", timestamps("")),
        (ColumnType::Timestamptz, "timestamptz", timestamps(r"(Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)?")),
        (ColumnType::Timestamptz, "timestamptz(3)", timestamps("")),
        (ColumnType::Uuid, "uuid", uuids()),
        (ColumnType::Json, "json", json()),
        (ColumnType::Jsonb, "jsonb", json()),
        (colour(), "colour", regex("(red|grün|it's \"blue\")")),
        (array_of(ColumnType::Int4, 23), "int4[]", arrays(shown(any::<i32>()))),
        (array_of(text(), 25), "text[]", arrays(texts())),
        (array_of(ColumnType::Numeric, 1700), "numeric(12,2)[]", arrays(regex(r"-?[0-9]{1,9}(\.[0-9]{0,5})?"))),
        (array_of(ColumnType::Timestamptz, 1184), "timestamptz[]", arrays(stamped)),
    ]
}

#[tokio::test]
async fn values_of_every_type_mean_the_same_by_binary_by_text_and_to_the_server() {
    let server = Server::start().await;
    let seed = fastrand::u64(..);
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_be_bytes(); 4].concat()),
    );
    for (kind, type_name, strategy) in types() {
        let cells: Vec<Vec<u8>> = (0..CELLS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
        let accepted = server.compare(&kind, type_name, &cells).await;
        assert!(accepted >= CELLS / 3, "{type_name}: only {accepted} of {CELLS} cells tested anything (seed {seed})");
    }
}

/// The name of a kind of type. No wildcard: a new type does not compile before it has a place here.
const fn kind_name(kind: &ColumnType) -> &'static str {
    match kind {
        ColumnType::Bool => "bool",
        ColumnType::Int2 => "int2",
        ColumnType::Int4 => "int4",
        ColumnType::Int8 => "int8",
        ColumnType::Float4 => "float4",
        ColumnType::Float8 => "float8",
        ColumnType::Numeric => "numeric",
        ColumnType::Text { max_chars: None } => "text",
        ColumnType::Text { max_chars: Some(_) } => "varchar",
        ColumnType::Char { .. } => "char",
        ColumnType::Bytea => "bytea",
        ColumnType::Date => "date",
        ColumnType::Time => "time",
        ColumnType::Timestamp => "timestamp",
        ColumnType::Timestamptz => "timestamptz",
        ColumnType::Uuid => "uuid",
        ColumnType::Json => "json",
        ColumnType::Jsonb => "jsonb",
        ColumnType::Enum { .. } => "enum",
        ColumnType::Array { .. } => "array",
        ColumnType::Other => "other",
    }
}

/// Every type that the catalogue can name, and the three that are no single OID.
fn catalogued() -> std::collections::BTreeSet<&'static str> {
    let oids =
        (0..20_000).flat_map(|oid| [ColumnType::from_catalog(oid, -1, None), ColumnType::from_catalog(oid, 12, None)]);
    let composed = [colour(), array_of(ColumnType::Int4, 23), ColumnType::Other];
    oids.chain(composed).map(|kind| kind_name(&kind)).collect()
}

#[test]
fn every_type_of_the_catalogue_has_cells_here() {
    let mut tested: std::collections::BTreeSet<_> = types().iter().map(|(kind, ..)| kind_name(kind)).collect();
    assert!(!tested.contains("other") && !others().is_empty());
    tested.insert("other");
    assert_eq!(tested, catalogued());
}

/// Types that only the server reads.
fn others() -> Vec<(&'static str, Cells)> {
    vec![
        (
            "interval",
            regex(
                r"(-?[0-9]{1,3} (days?|mons|years) ?)?-?[0-9]{1,2}:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?|P1Y2M3DT4H5M6S",
            ),
        ),
        (
            "inet",
            regex(
                r"[12]?[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2}(/(3[0-2]|[12][0-9]))?|[0-9a-f]{1,4}::[0-9a-f]{1,4}",
            ),
        ),
        ("timetz", regex(r"(0[0-9]|1[0-9]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-5]))")),
        ("macaddr", regex(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")),
        ("int4range", regex(r"[\[(]-?[0-9]{1,6},[1-9][0-9]{7}[\])]|empty")),
        ("point", regex(r"\(-?[0-9]{1,5}\.?[0-9]{0,3}, ?-?[0-9]{1,5}\)")),
        ("varbit", regex("[01]{0,70}")),
        ("oid", shown(any::<u32>())),
        ("tsvector", regex(r"[a-z' \\:0-9]{0,30}")),
        ("xid8", shown(any::<u64>())),
        ("interval[]", arrays(regex(r"[0-9]{1,3} days"))),
        ("pair", regex(r#"\([0-9]{0,4},("[a-z ,\t\n()]{0,9}"|[a-z]{0,5})\)"#)),
    ]
}

#[tokio::test]
async fn what_only_the_server_reads_arrives_as_it_was_written() {
    let server = Server::start().await;
    server.client.batch_execute("CREATE TYPE pair AS (a int, b text)").await.unwrap();
    let mut runner = TestRunner::default();
    for (type_name, strategy) in others() {
        let cells: Vec<Vec<u8>> = (0..CELLS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
        let cells: Vec<&str> = cells.iter().map(|cell| std::str::from_utf8(cell).unwrap()).collect();
        let taken = server.takes(type_name, &cells).await;
        let cells: Vec<&str> = cells.into_iter().zip(taken).filter(|(_, taken)| *taken).map(|(cell, _)| cell).collect();
        assert!(cells.len() >= CELLS / 4, "{type_name}: only {} of {CELLS} cells test anything", cells.len());
        let mut text = BytesMut::new();
        for cell in &cells {
            encode_text_cell(&ColumnType::Other, cell.as_bytes(), &server.zone, &mut text).unwrap();
            end_text_line(&mut text);
        }
        let setup =
            format!("DROP TABLE IF EXISTS t; CREATE TEMP TABLE t (id int GENERATED ALWAYS AS IDENTITY, v {type_name})");
        server.client.batch_execute(&setup).await.unwrap();
        assert_eq!(server.copy("t (v)", "text", text).await.unwrap(), cells.len() as u64);
        let differ = format!(
            "SELECT t.v::text, c.cell FROM t JOIN unnest($1::text[]) WITH ORDINALITY AS c (cell, id) USING (id)
              WHERE t.v::text IS DISTINCT FROM c.cell::{type_name}::text"
        );
        let rows = server.client.query(&differ, &[&cells]).await.unwrap();
        let first = rows.first().map(|row| (row.get::<_, String>(0), row.get::<_, String>(1)));
        assert_eq!(first, None, "{type_name}: what arrived, and what was written");
    }
}

#[tokio::test]
async fn elements_of_every_type_mean_the_same_in_arrays() {
    let server = Server::start().await;
    let mut runner = TestRunner::default();
    for (kind, type_name, strategy) in
        types().into_iter().filter(|(kind, ..)| !matches!(kind, ColumnType::Array { .. }))
    {
        let oid = server.client.query_one(&format!("SELECT '{type_name}'::regtype::oid"), &[]).await.unwrap().get(0);
        // Literals are not rewritten for COPY TEXT, so each element names its offset.
        let strategy = if kind == ColumnType::Timestamptz { timestamps(r"(Z|[+-]0[0-9]:30)") } else { strategy };
        let strategy = arrays(strategy);
        let cells: Vec<Vec<u8>> = (0..CELLS / 2).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
        let accepted = server.compare(&array_of(kind, oid), &format!("{type_name}[]"), &cells).await;
        assert!(accepted >= CELLS / 20, "{type_name}[]: only {accepted} cells tested anything");
    }
}

/// Whether we refuse on purpose what the server takes: see [`STRICTER`].
fn is_stricter(type_name: &str, cell: &str) -> bool {
    let limit = 8;
    match type_name {
        // Blanks beyond the limit are cut by the server.
        "varchar(8)" => cell.chars().count() > limit && cell.chars().skip(limit).all(|c| c == ' '),
        _ => false,
    }
}

#[tokio::test]
async fn what_we_refuse_of_plausible_cells_the_server_refuses_too() {
    let server = Server::start().await;
    let mut runner = TestRunner::default();
    let mut surprises = Vec::new();
    for (kind, type_name, strategy) in types() {
        let cells: Vec<Vec<u8>> = (0..CELLS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
        let refused = |cell: &&Vec<u8>| encode_cell(&kind, cell, &server.zone, &mut BytesMut::new()).is_err();
        // The server's encoding has no such text at all.
        let texts: Vec<&str> = cells
            .iter()
            .filter(refused)
            .filter_map(|cell| std::str::from_utf8(cell).ok().filter(|text| !text.contains('\0')))
            .collect();
        let taken = server.takes(type_name, &texts).await;
        let wrong = texts.iter().zip(taken).filter(|(cell, taken)| *taken && !is_stricter(type_name, cell));
        surprises.extend(wrong.map(|(cell, _)| format!("{type_name}: the server takes {cell:?}")));
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

#[tokio::test]
async fn whatever_we_accept_of_near_misses_the_server_accepts_too() {
    let server = Server::start().await;
    let mut runner = TestRunner::default();
    // A point lost makes numbers too large for numeric(12,2), which is the server's to say.
    for (kind, type_name, strategy) in types().into_iter().filter(|(_, name, _)| !name.contains("12,2")) {
        let mut cells = Vec::new();
        for _ in 0..CELLS {
            let mut cell = strategy.new_tree(&mut runner).unwrap().current();
            // One byte replaced by one that means something to some type.
            let place = fastrand::usize(..=cell.len().saturating_sub(1));
            if let Some(byte) = cell.get_mut(place) {
                *byte = *fastrand::choice(b" 019+-.:eETZxN{}\"\\,/_\t\x7f").unwrap();
            }
            cells.push(cell);
        }
        server.compare(&kind, type_name, &cells).await;
    }
}

#[tokio::test]
async fn numbers_at_the_edges_of_numeric_are_kept_or_refused_like_the_server_does() {
    let server = Server::start().await;
    let cells = [
        "1e131071",
        "9e131071",
        "1e131072",
        "1e-16383",
        "1e-16384",
        "0e-16383",
        "0e-16384",
        "0e200000",
        "1e-200000",
        "123456789e131063",
        "123456789e131064",
    ];
    let mut cells: Vec<String> = cells.map(str::to_owned).to_vec();
    cells.push(format!("{}.{}", "9".repeat(131_072), "9".repeat(16_383)));
    cells.push("9".repeat(131_073));
    cells.push(format!("1.{}", "0".repeat(16_384)));
    cells.push(format!("{}1.5", "0".repeat(140_000)));
    for cell in &cells {
        let ours = encode_cell(&ColumnType::Numeric, cell.as_bytes(), &server.zone, &mut BytesMut::new());
        let name = cell.get(..20).unwrap_or(cell);
        assert_eq!(ours.is_ok(), server.accepts("numeric", cell.as_bytes()).await, "{name}… ({ours:?})");
    }
    let cells: Vec<Vec<u8>> = cells.into_iter().map(String::into_bytes).collect();
    assert!(server.compare(&ColumnType::Numeric, "numeric", &cells).await >= 5);
}

/// What the server takes and we refuse, each for the reason at its end.
#[rustfmt::skip]
const STRICTER: &[(&str, &str)] = &[
    // Trimming is a rule of the feed, not of the type.
    ("int4", " 42"), ("int4", "42 "), ("float8", " 1"), ("numeric", " 1"), ("bool", " true "), ("date", " 2024-01-01"),
    // Abbreviations that nobody writes on purpose.
    ("bool", "tru"), ("bool", "fa"),
    // Words instead of numbers would make aggregates useless.
    ("numeric", "NaN"), ("float8", "NaN"), ("float8", "Infinity"), ("float4", "-inf"), ("float8", "0x1p3"),
    ("numeric", "1e 3"), ("numeric", "0e1000000"),
    // The meaning would depend on the clock or on DateStyle.
    ("date", "now"), ("date", "today"), ("date", "infinity"), ("date", "epoch"), ("date", "01/02/2024"), ("date", "20240102"),
    ("date", "2024-1-2"), ("date", "January 2, 2024"), ("date", "2024-01-02 12:00"), ("date", "0044-03-15 BC"), ("date", "12024-01-01"),
    ("timestamptz", "now"), ("timestamp", "infinity"), ("timestamp", "2024-01-02 12:00 PM"), ("timestamptz", "2024-01-02 12:00 UTC"),
    ("timestamptz", "2024-01-02 12:00 Europe/Berlin"), ("timestamptz", "2024-01-02 12:00+5"), ("timestamptz", "2024-01-02 1:00"),
    ("timestamptz", "2024-01-02  12:00"), ("time", "1:00"), ("time", "12:00 PM"), ("time", "040506"), ("time", "12:00+02"),
    ("time", "12:00:00.1234567891"),
    // The server drops the offset and stores another moment.
    ("timestamp", "2024-01-02 12:00+02"),
    // The server cuts the blanks.
    ("varchar(3)", "abc "),
    // Bounds other than one surprise every reader.
    ("int4[]", "[0:1]={1,2}"),
    // Nested deeper than anything sensible.
    ("json", DEEP), ("jsonb", DEEP),
];

/// What the server refuses and so do we.
#[rustfmt::skip]
const BOTH: &[(&str, &str)] = &[
    ("int4", ""), ("int4", "1e3"), ("int4", "8.0"), ("int4", "٤٢"), ("int2", "32768"), ("int8", "9223372036854775808"),
    ("int8", "-9223372036854775809"), ("int4", "0x10"), ("int4", "1_000"), ("numeric", "."), ("numeric", "1e"), ("numeric", "1.2.3"),
    ("numeric", "e5"), ("numeric", "0e2000000000"), ("float8", "1e400"), ("float8", "1e-400"), ("float4", "1e39"), ("float4", "1e-50"), ("float8", ""),
    ("bool", "maybe"), ("bool", "o"), ("bool", ""), ("date", "2024-02-30"), ("date", "2023-02-29"), ("date", "0000-01-01"), ("date", "2024-13-01"),
    ("time", "24:00:01"), ("time", "25:00"), ("time", "12:60"), ("time", "23:59:60.5"), ("timestamp", "2024-02-30 00:00"),
    ("timestamptz", "2024-01-02 12:00+16"), ("timestamptz", "2024-01-02 12:00+01:60"), ("timestamp", "2024-01-02 25:00"),
    ("uuid", ""), ("uuid", "{123e4567-e89b-12d3-a456-426614174000"), ("uuid", "123e4567--e89b-12d3-a456-426614174000"),
    ("uuid", "123e4567-e89b-12d3-a456-426614174000-"), ("uuid", "1-23e4567e89b12d3a456426614174000"),
    ("json", ""), ("json", "{'a': 1}"), ("json", "[1,]"), ("json", "01"), ("jsonb", r#""\u0000""#), ("jsonb", r#""\ud800""#),
    ("jsonb", r#""\udc00""#), ("jsonb", r#""\ud800\u0041""#), ("jsonb", "[1e200000]"), ("jsonb", "1e-20000"), ("json", "\"\t\""),
    ("bytea", r"\xabc"), ("bytea", r"\xzz"), ("bytea", r"a\b"), ("bytea", r"\400"), ("bytea", r"\xa b"), ("varchar(3)", "abcd"), ("char(3)", "abcd"),
    ("colour", "Red"), ("colour", ""), ("int4[]", "{1,}"), ("int4[]", "{1"), ("int4[]", "{1}x"), ("int4[]", "{{1},2}"), ("int4[]", "{{1,2},{3}}"),
    ("int4[]", "{1,{2}}"), ("int4[]", "{\"null\"}"), ("int4[]", "{{{{{{{1}}}}}}}"), ("text[]", "{a\"b\"}"), ("text[]", "{a{b}"), ("text[]", "{\"a\"b}"),
];

/// What must never be refused.
#[rustfmt::skip]
const NEITHER: &[(&str, &str)] = &[
    ("json", r#"{"a": "\u0000", "b": "\ud800", "c": 1e999999}"#), ("jsonb", r#"{"a": 1, "a": 2}"#), ("numeric", "5."), ("numeric", ".5e-3"),
    ("char(3)", "abc     "), ("text[]", r#"{"a\"b",\{,NULL,"NULL", x y }"#), ("uuid", "{123e4567e89b12d3a456426614174000}"),
    ("timestamptz", "2024-03-10 02:30"), ("timestamptz", "9999-12-31 23:59:59.999999"), ("timestamptz", "0001-01-01 00:00+15"), ("time", "24:00:00"),
    ("text", ""), ("bytea", ""), ("json", DEEPEST), ("jsonb", DEEPEST), ("timestamptz", "2024-01-02t12:00z"),
];

const DEEP: &str = "1001 levels";
const DEEPEST: &str = "1000 levels";

fn kind_of(type_name: &str) -> ColumnType {
    let known = types().into_iter().find(|(_, name, _)| *name == type_name).map(|(kind, _, _)| kind);
    match type_name {
        "varchar(3)" => ColumnType::Text { max_chars: Some(3) },
        "char(3)" => ColumnType::Char { max_chars: Some(3) },
        _ => known.unwrap(),
    }
}

fn cell_of(cell: &str) -> Vec<u8> {
    match cell {
        DEEP => [[b'['; 1001], [b']'; 1001]].concat(),
        DEEPEST => [[b'['; 1000], [b']'; 1000]].concat(),
        _ => cell.as_bytes().to_vec(),
    }
}

#[tokio::test]
async fn every_difference_from_the_server_is_one_we_chose() {
    let server = Server::start().await;
    let mut surprises = Vec::new();
    for (cases, ours, servers) in [(STRICTER, false, true), (BOTH, false, false), (NEITHER, true, true)] {
        for (type_name, cell) in cases {
            let bytes = cell_of(cell);
            let outcome = encode_cell(&kind_of(type_name), &bytes, &server.zone, &mut BytesMut::new());
            let taken = server.accepts(type_name, &bytes).await;
            if (outcome.is_ok(), taken) != (ours, servers) {
                surprises.push(format!(
                    "{type_name} {cell:?}: server {taken}, we {outcome:?}, expected {servers} and {ours}"
                ));
            }
        }
    }
    for bytes in [&b"a\0b"[..], b"\xff", b"\xed\xa0\x80", b"\xc0\x80"] {
        let outcome = encode_cell(&ColumnType::Text { max_chars: None }, bytes, &server.zone, &mut BytesMut::new());
        if outcome.is_ok() || server.accepts("text", bytes).await {
            surprises.push(format!("text {bytes:?}"));
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}
