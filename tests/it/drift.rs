//! Fields that come, go, change places or have no column: what the feed does about them, and what the ledger says.

use crate::support::{BUCKET, Lab};

/// A feed of files with a header, one object after the other.
fn feed(policy: &str) -> String {
    format!(
        "[feeds.people]\nbucket = \"drop\"\npattern = \"people/{{time:%Y-%m-%d}}.csv\"\ntable = \"people\"\n\
         unknown_fields = \"{policy}\"\nmax_workers = 1\nrejects = {{ max_rows = 5 }}\n"
    )
}

async fn lab() -> Lab {
    let lab = Lab::with_items().await;
    lab.execute("CREATE TABLE people (id int, name text)").await;
    lab
}

fn put(lab: &Lab, day: u32, body: &str) {
    lab.s3.put(BUCKET, &format!("people/2024-05-{day:02}.csv"), body.to_owned());
}

const STATES: &str = "SELECT concat_ws(' ', state, error_code, rows_read, rows_loaded, rows_rejected, rows_filtered)
                        FROM keyfall.objects ORDER BY key";
const DRIFT: &str = "SELECT concat_ws(' ', substr(o.key, 8, 10), d.kind, d.field, d.was, '>', d.became)
                       FROM keyfall.drift d JOIN keyfall.objects o ON o.id = d.object_id ORDER BY d.id";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_new_layout_is_told_once_with_what_differs() {
    let lab = lab().await;
    put(&lab, 1, "id,name\n1,a\n");
    assert_eq!(lab.once(&feed("ignore")).await, 0);
    assert!(lab.texts(DRIFT).await.is_empty(), "the first layout differs from nothing");
    for (day, body) in [(2, "name,id\nb,2\n"), (3, "id,name,age\n3,c,7\n"), (4, "id,name\n4,d\n"), (5, "id,age\n5,1\n")]
    {
        put(&lab, day, body);
        assert_eq!(lab.once(&feed("ignore")).await, 0);
    }
    let expected = [
        "2024-05-02 reordered id, name > name, id",
        "2024-05-03 added age >",
        "2024-05-03 reordered name, id > id, name",
        "2024-05-05 removed name >",
    ];
    assert_eq!(lab.texts(DRIFT).await, expected);
    let rows = lab.texts("SELECT concat_ws('|', id, coalesce(name, '-')) FROM people ORDER BY id").await;
    assert_eq!(rows, ["1|a", "2|b", "3|c", "4|d", "5|-"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_without_a_column_is_added_once_it_has_a_value() {
    let lab = lab().await;
    put(&lab, 1, "id,name,Age in years,empty\n1,a,7,\n2,b,,\n");
    put(&lab, 2, "id,name,Age in years\n3,c,9\n");
    assert_eq!(lab.once(&feed("add")).await, 0);
    let rows = lab.texts("SELECT concat_ws('|', id, name, \"Age in years\") FROM people ORDER BY id").await;
    assert_eq!(rows, ["1|a|7", "2|b", "3|c|9"]);
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'people'";
    assert_eq!(lab.count(columns).await, 3, "a field without any value has no type yet");
    assert_eq!(lab.texts(STATES).await, ["loaded 2 2 0 0", "loaded 1 1 0 0"]);

    // No name is cut: two fields would become one column.
    put(&lab, 3, &format!("id,name,{}\n4,d,x\n", "n".repeat(64)));
    assert_eq!(lab.once(&feed("add")).await, 3);
    assert_eq!(lab.texts(STATES).await[2], "quarantined E-SCHEMA");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_with_a_value_in_an_unknown_field_are_rejected_and_the_others_loaded() {
    let lab = lab().await;
    put(&lab, 1, "id,name,age\n1,a,7\n2,b,\n3,c,8\n");
    assert_eq!(lab.once(&feed("reject")).await, 0);
    assert_eq!(lab.texts(STATES).await, ["loaded 3 1 2 0"]);
    let rejected = "SELECT concat_ws(' ', record_no, line, byte_offset, code, reason, convert_from(raw, 'UTF8'))
                      FROM keyfall.rejections ORDER BY record_no";
    let expected = [
        "1 2 12 E-ROW-UNKNOWN field \"age\" has no column 1,a,7\n",
        "3 4 23 E-ROW-UNKNOWN field \"age\" has no column 3,c,8\n",
    ];
    assert_eq!(lab.texts(rejected).await, expected);
    let header = "SELECT convert_from(header, 'UTF8') FROM keyfall.objects";
    assert_eq!(lab.texts(header).await, ["id,name,age\n"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_fields_are_rescued_ignored_or_set_the_object_aside() {
    let lab = lab().await;
    lab.execute("ALTER TABLE people ADD COLUMN _rescued jsonb").await;
    put(&lab, 1, "id,name,age\n1,a,7\n");
    assert_eq!(lab.once(&feed("quarantine")).await, 3);
    assert_eq!(lab.texts(STATES).await, ["quarantined E-CSV-HEADER"]);
    put(&lab, 2, "id,name,age\n2,b,8\n3,c,\n");
    assert_eq!(lab.once(&feed("rescue")).await, 3);
    put(&lab, 3, "id,name,age\n4,d,9\n");
    assert_eq!(lab.once(&feed("ignore")).await, 3);
    let rows = lab.texts("SELECT concat_ws('|', id, name, _rescued) FROM people ORDER BY id").await;
    assert_eq!(rows, ["2|b|{\"age\": \"8\"}", "3|c", "4|d"]);
}
