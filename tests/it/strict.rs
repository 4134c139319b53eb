//! What a strict queue must have before the daemon starts, against an SQS server in the test process.

use keyfall::demo::sqs::{EmbeddedSqs, QueueOptions};

use crate::support::{Lab, items};

const QUEUE: &str = "uploads";

fn feeds(sqs: &EmbeddedSqs, strict: bool) -> String {
    let fed = items("action = \"keep\"").replacen("[feeds.items]\n", "[feeds.items]\nqueue = \"uploads\"\n", 1);
    format!("[queues.uploads]\nurl = \"{}\"\nstrict = {strict}\n{fed}", sqs.url(QUEUE))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_daemon_does_not_start_on_a_queue_without_redrive_and_says_what_to_do() {
    let lab = Lab::with_items().await;
    let sqs = EmbeddedSqs::start().await.expect("an SQS server");
    sqs.create_queue(QUEUE, QueueOptions::default());
    let mut daemon = lab.daemon(&feeds(&sqs, true), &[]);
    assert_eq!(daemon.ended().await, 10, "{}", daemon.log());
    assert!(daemon.log().contains("queues.uploads is strict"), "{}", daemon.log());
    assert!(daemon.log().contains("redrive"), "{}", daemon.log());

    // The same queue is only warned about where nobody insists.
    let mut daemon = lab.daemon(&feeds(&sqs, false), &[]);
    daemon.says("E-SQS-REDRIVE").await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, 0, "{}", daemon.log());

    sqs.create_queue("dead", QueueOptions::default());
    sqs.create_queue("safe", QueueOptions { redrive: Some(("dead".to_owned(), 5)), ..QueueOptions::default() });
    let safe = feeds(&sqs, true).replace(&sqs.url(QUEUE), &sqs.url("safe"));
    let mut daemon = lab.daemon(&safe, &[]);
    daemon.says("notifications are received").await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, 0, "{}", daemon.log());
}
