//! Objects become rows, exactly once, and are disposed of.

use crate::support::{BUCKET, Lab};

const DEPARTMENTS: &str = r#"
    [feeds.departments]
    bucket = "drop"
    pattern = "departments/{time:%Y-%m-%d-%H-%M-%S}.csv"
    table = "departments"
    [feeds.departments.csv]
    header = false
    [feeds.departments.disposal]
    action = "archive"
    prefix = "archive/"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_land_once_and_are_archived_and_a_second_run_changes_nothing() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE departments (id int PRIMARY KEY, department text)").await;
    for n in 0..100 {
        let key = format!("departments/2024-01-01-00-{:02}-{}.csv", n / 60, n % 60);
        lab.s3.put(BUCKET, &key, format!("{n},Department {n}\n{},\n", n + 1000));
    }
    assert_eq!(lab.once(DEPARTMENTS).await, 0);
    assert_eq!(lab.count("SELECT count(*) FROM departments").await, 200);
    assert_eq!(lab.count("SELECT count(*) FROM departments WHERE department IS NULL").await, 100);
    let states = "SELECT DISTINCT state || ' ' || disposal || ' ' || rows_loaded FROM keyfall.objects";
    assert_eq!(lab.texts(states).await, ["loaded done 2"]);
    let keys = lab.s3.keys(BUCKET);
    assert_eq!(keys.len(), 100);
    assert!(keys.iter().all(|key| key.starts_with("archive/departments/2024-01-01-")), "{keys:?}");

    assert_eq!(lab.once(DEPARTMENTS).await, 0);
    assert_eq!(lab.count("SELECT count(*) FROM departments").await, 200);
}
