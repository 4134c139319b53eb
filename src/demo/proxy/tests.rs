use std::time::Instant;

use tokio_postgres::{Client, NoTls};

use super::*;
use crate::demo::postgres::ThrowawayPostgres;

/// Long enough for a loaded machine, and a test that needs it fails.
const DEADLINE: Duration = Duration::from_secs(20);

struct Bench {
    proxy: Proxy,
    database: String,
}

impl Bench {
    async fn start() -> Self {
        let cluster = ThrowawayPostgres::shared().unwrap();
        let database = cluster.create_database(None).await.unwrap();
        let proxy = Proxy::start((Ipv4Addr::LOCALHOST, cluster.port()).into()).await.unwrap();
        let bench = Self { proxy, database };
        bench.direct().await.batch_execute("CREATE TABLE t (n int)").await.unwrap();
        bench
    }

    async fn connect(&self, port: u16) -> Client {
        let url = format!("postgres://postgres@127.0.0.1:{port}/{}", self.database);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        drop(TaskTracker::new().spawn(connection));
        client
    }

    async fn through(&self) -> Client {
        self.connect(self.proxy.port()).await
    }

    async fn direct(&self) -> Client {
        self.connect(ThrowawayPostgres::shared().unwrap().port()).await
    }

    /// Rows once the server has no session from the proxy left that might still be committing.
    async fn rows(&self) -> i64 {
        let client = self.direct().await;
        let others = "SELECT count(*) FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'";
        let deadline = Instant::now() + DEADLINE;
        while client.query_one(others, &[]).await.unwrap().get::<_, i64>(0) != 0 {
            assert!(Instant::now() < deadline, "a session of the server did not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("within the deadline")
}

#[tokio::test]
async fn a_cut_before_commit_leaves_no_row_and_one_after_it_leaves_it() {
    let bench = Bench::start().await;
    for (action, rows) in [(Action::CutBefore, 0), (Action::CutAfter, 1)] {
        let cut = bench.proxy.arm(Trigger::new("COMMIT", action));
        let mut client = bench.through().await;
        let transaction = client.transaction().await.unwrap();
        transaction.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        let answer = in_time(transaction.commit()).await;
        assert!(answer.is_err(), "{action:?}");
        in_time(cut.hit()).await;
        assert_eq!((cut.seen(), cut.hits()), (1, 1), "{action:?}");
        assert_eq!(bench.rows().await, rows, "{action:?}");
    }
}

#[tokio::test]
async fn the_nth_occurrence_is_cut_and_those_before_it_pass() {
    let bench = Bench::start().await;
    let cut = bench.proxy.arm(Trigger::new("COMMIT", Action::CutBefore).nth(3));
    for _ in 0..2 {
        bench.through().await.batch_execute("BEGIN; INSERT INTO t VALUES (1); COMMIT").await.unwrap();
    }
    assert_eq!((cut.seen(), cut.hits()), (2, 0));
    let third = bench.through().await;
    in_time(third.batch_execute("BEGIN; INSERT INTO t VALUES (1); COMMIT")).await.unwrap_err();
    assert_eq!((cut.seen(), cut.hits()), (3, 1));
    bench.through().await.batch_execute("BEGIN; INSERT INTO t VALUES (1); COMMIT").await.unwrap();
    assert_eq!(bench.rows().await, 3);
}

#[tokio::test]
async fn dropped_answers_leave_the_work_done_and_the_client_waiting() {
    let bench = Bench::start().await;
    let dropped = bench.proxy.arm(Trigger::new("INSERT", Action::DropAnswers));
    let client = bench.through().await;
    let insert = client.batch_execute("INSERT INTO t VALUES (1)");
    let waited = tokio::time::timeout(Duration::from_millis(300), insert).await;
    assert!(waited.is_err(), "an answer came through");
    in_time(dropped.hit()).await;
    assert_eq!(bench.rows().await, 1);
    in_time(async {
        while bench.proxy.hits(Fault::DropAnswers) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_black_hole_swallows_both_ways_and_resets_what_lost_bytes_when_it_ends() {
    let bench = Bench::start().await;
    let client = bench.through().await;
    bench.proxy.set_flow(Flow::Blackhole);
    let insert = client.batch_execute("INSERT INTO t VALUES (1)");
    assert!(tokio::time::timeout(Duration::from_millis(300), insert).await.is_err());
    assert_eq!(bench.proxy.hits(Fault::Blackhole), 1);
    bench.proxy.set_flow(Flow::Pass);
    in_time(client.batch_execute("INSERT INTO t VALUES (2)")).await.unwrap_err();
    assert_eq!(bench.proxy.hits(Fault::Reset), 1);
    assert_eq!(bench.rows().await, 0);
    bench.through().await.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
    assert_eq!(bench.rows().await, 1);
}

#[tokio::test]
async fn reset_all_ends_the_connections_of_now_and_serves_new_ones() {
    let bench = Bench::start().await;
    let (first, second) = (bench.through().await, bench.through().await);
    bench.proxy.reset_all();
    for client in [first, second] {
        in_time(client.batch_execute("SELECT 1")).await.unwrap_err();
    }
    assert_eq!(bench.proxy.hits(Fault::Reset), 2);
    bench.through().await.batch_execute("SELECT 1").await.unwrap();
    assert_eq!(bench.proxy.accepted(), 3);
}

#[tokio::test]
async fn latency_and_bandwidth_slow_a_query_down_and_are_counted() {
    let bench = Bench::start().await;
    let client = bench.through().await;
    bench.proxy.set_latency(Duration::from_millis(100));
    let begin = Instant::now();
    client.batch_execute("SELECT 1").await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200), "both ways are delayed");
    assert!(bench.proxy.hits(Fault::Latency) >= 2);
    bench.proxy.set_latency(Duration::ZERO);
    bench.proxy.set_bandwidth(NonZeroU64::new(100_000));
    let begin = Instant::now();
    client.query_one("SELECT repeat('x', 50000)", &[]).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(450), "50,000 bytes at 100,000 per second");
    assert!(bench.proxy.hits(Fault::Bandwidth) >= 2);
}

#[test]
fn a_pattern_is_found_across_reads_and_counted_once() {
    let armed = Arc::new(Armed::new(Trigger::new("COMMIT", Action::CutBefore).nth(2)));
    assert!(armed.look(b"", b"..COM").is_none());
    assert!(armed.look(b"..COM", b"MIT;").is_none());
    assert_eq!(armed.seen(), 1);
    let strike = armed.look(b"..COMMIT;", b"xxCOMMIT").expect("the second occurrence strikes");
    assert_eq!((strike.start, armed.seen()), (2, 2));
    assert!(Arc::new(Armed::new(Trigger::new("", Action::CutBefore))).look(b"", b"x").is_none());
}
