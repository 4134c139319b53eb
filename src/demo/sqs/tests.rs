//! The server, seen through the SDK.

use std::time::Instant;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry as Entry, MessageSystemAttributeName, QueueAttributeName};

use super::*;
use crate::demo::s3::Gate;

const QUEUE: &str = "uploads";

async fn started(options: QueueOptions) -> (EmbeddedSqs, Client) {
    let server = EmbeddedSqs::start().await.unwrap();
    server.create_queue(QUEUE, options);
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .region(Region::new(REGION))
        .endpoint_url(server.endpoint())
        .retry_config(RetryConfig::disabled())
        .build();
    (server, Client::from_conf(config))
}

fn code<T, E: ProvideErrorMetadata, R>(answer: Result<T, SdkError<E, R>>) -> String {
    answer.err().and_then(|error| error.code().map(str::to_owned)).unwrap_or_default()
}

async fn receive(server: &EmbeddedSqs, client: &Client, wait: i32) -> Vec<aws_sdk_sqs::types::Message> {
    let request = client
        .receive_message()
        .queue_url(server.url(QUEUE))
        .max_number_of_messages(10)
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .wait_time_seconds(wait);
    request.send().await.unwrap().messages.unwrap_or_default()
}

fn entry(id: usize, message: &aws_sdk_sqs::types::Message) -> Entry {
    Entry::builder().id(id.to_string()).receipt_handle(message.receipt_handle().unwrap()).build().unwrap()
}

fn hidden_for(ms: u64) -> QueueOptions {
    QueueOptions { visibility: Duration::from_millis(ms), redrive: None }
}

#[tokio::test]
async fn a_long_poll_answers_as_soon_as_a_message_arrives() {
    let (server, client) = started(QueueOptions::default()).await;
    let begun = Instant::now();
    let (received, id) = tokio::join!(receive(&server, &client, 20), async {
        while server.log().is_empty() {
            tokio::task::yield_now().await;
        }
        server.send(QUEUE, "hello").unwrap()
    });
    assert!(begun.elapsed() < Duration::from_secs(5));
    let [message] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!(message.message_id(), Some(id.as_str()));
    assert_eq!(message.body(), Some("hello"));
    assert_eq!(message.md5_of_body(), Some("5d41402abc4b2a76b9719d911017c592"));
    assert_eq!(server.log()[0].messages, [id]);
}

#[tokio::test]
async fn a_message_comes_back_after_its_visibility_and_only_the_last_receipt_deletes_it() {
    let (server, client) = started(hidden_for(100)).await;
    server.send(QUEUE, "x");
    let first = receive(&server, &client, 0).await.remove(0);
    assert!(receive(&server, &client, 0).await.is_empty());
    let second = receive(&server, &client, 5).await.remove(0);
    let count = second.attributes().unwrap()[&MessageSystemAttributeName::ApproximateReceiveCount].clone();
    assert_eq!(count, "2");
    let url = server.url(QUEUE);
    client.delete_message().queue_url(&url).receipt_handle(first.receipt_handle().unwrap()).send().await.unwrap();
    assert_eq!(server.len(QUEUE), 1);
    // Good for long after its visibility ended, as long as nobody else received the message.
    client.delete_message().queue_url(&url).receipt_handle(second.receipt_handle().unwrap()).send().await.unwrap();
    assert!(server.is_empty(QUEUE));
    assert_eq!(server.counts(QUEUE), Counts { sent: 1, delivered: 2, deleted: 1, dead: 0 });
    let receipt = client.delete_message().queue_url(&url).receipt_handle("nonsense").send().await;
    assert_eq!(code(receipt), "ReceiptHandleIsInvalid");
}

#[tokio::test]
async fn what_is_received_too_often_goes_to_the_dead_letters() {
    let redrive = Some(("dead".to_owned(), 2));
    let (server, client) = started(QueueOptions { visibility: Duration::ZERO, redrive }).await;
    let id = server.send(QUEUE, "poison").unwrap();
    for _ in 0..2 {
        assert_eq!(receive(&server, &client, 0).await.len(), 1);
    }
    assert!(receive(&server, &client, 0).await.is_empty());
    assert!(server.is_empty(QUEUE));
    assert_eq!(server.messages("dead")[0].id, id);
    let attributes =
        client.get_queue_attributes().queue_url(server.url(QUEUE)).attribute_names(QueueAttributeName::All);
    let attributes = attributes.send().await.unwrap().attributes.unwrap();
    assert!(attributes[&QueueAttributeName::RedrivePolicy].contains("\"maxReceiveCount\":2"));
}

#[tokio::test]
async fn a_batch_fails_in_part_and_the_hook_sees_what_is_deleted_first() {
    let (server, client) = started(QueueOptions::default()).await;
    for number in 0..4 {
        server.send(QUEUE, &number.to_string());
    }
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seeing = Arc::clone(&seen);
    server.on_delete(move |deletions| {
        let seeing = Arc::clone(&seeing);
        Box::pin(async move { seeing.lock().unwrap().extend(deletions) })
    });
    let failing = server.inject(FaultRule::on(Operation::DeleteBatch, Action::FailEntry(2)).times(1));
    let forgotten = server.inject(FaultRule::on(Operation::DeleteBatch, Action::ForgetEntry(4)).queue(QUEUE));
    let messages = receive(&server, &client, 0).await;
    let entries = messages.iter().enumerate().map(|(id, message)| entry(id, message)).collect();
    let batch = client.delete_message_batch().queue_url(server.url(QUEUE)).set_entries(Some(entries));
    let answer = batch.send().await.unwrap();
    let done: Vec<_> = answer.successful().iter().map(|entry| entry.id().to_owned()).collect();
    assert_eq!(done, ["0", "2"]);
    assert_eq!(answer.failed()[0].id(), "1");
    let left: Vec<_> = server.messages(QUEUE).into_iter().map(|message| message.body).collect();
    assert_eq!(left, ["1", "3"]);
    assert_eq!((failing.hits(), forgotten.hits(), seen.lock().unwrap().len()), (1, 1, 4));
}

#[tokio::test]
async fn faults_answer_errors_pages_and_nothing() {
    let (server, client) = started(QueueOptions::default()).await;
    server.send(QUEUE, "x");
    let url = server.url(QUEUE);
    let once = |action| server.inject(FaultRule::on(Operation::Receive, action).times(1));
    let ask = || client.receive_message().queue_url(&url).send();
    for (action, expected) in [
        (Action::Status(403, "AccessDenied"), "AccessDenied"),
        (Action::Status(400, "ThrottlingException"), "ThrottlingException"),
        (Action::Status(500, "InternalFailure"), "InternalFailure"),
        (Action::Page(503), ""),
        (Action::Drop, ""),
    ] {
        let injected = once(action);
        let answer = ask().await;
        assert!(answer.is_err(), "{answer:?}");
        assert_eq!((code(answer).as_str(), injected.hits()), (expected, 1));
    }
    // The work is done, and nobody hears of it.
    once(Action::HangUp);
    assert!(ask().await.is_err());
    assert!(server.messages(QUEUE)[0].is_hidden);
    let gate = Gate::new();
    once(Action::Hold(gate.clone()));
    let (answer, ()) = tokio::join!(ask(), async {
        gate.reached().await;
        gate.open();
    });
    assert!(answer.unwrap().messages.is_none());
    server.delete_queue(QUEUE);
    assert_eq!(code(ask().await), "AWS.SimpleQueueService.NonExistentQueue");
    assert!(ask().await.unwrap_err().into_service_error().is_queue_does_not_exist());
}

#[tokio::test]
async fn visibility_is_changed_and_a_queue_is_found_by_name_and_purged() {
    let (server, client) = started(QueueOptions::default()).await;
    let url = client.get_queue_url().queue_name(QUEUE).send().await.unwrap().queue_url.unwrap();
    assert_eq!(url, server.url(QUEUE));
    client.send_message().queue_url(&url).message_body("a").send().await.unwrap();
    let received = receive(&server, &client, 0).await.remove(0);
    let receipt = received.receipt_handle().unwrap();
    let change = || client.change_message_visibility().queue_url(&url).receipt_handle(receipt).visibility_timeout(0);
    change().send().await.unwrap();
    assert_eq!(code(change().send().await), "MessageNotInflight");
    assert_eq!(receive(&server, &client, 0).await.len(), 1);
    client.purge_queue().queue_url(&url).send().await.unwrap();
    assert!(server.is_empty(QUEUE));
}

#[tokio::test]
async fn a_hundred_thousand_messages_are_handed_out_without_delay() {
    let (server, _client) = started(QueueOptions::default()).await;
    let begun = Instant::now();
    for number in 0..100_000_u64 {
        server.send_later(QUEUE, "x", Duration::from_millis(number % 3));
    }
    let mut left = 100_000;
    while left > 0 {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        let deliveries = server.state.receive(QUEUE, 10, None, deadline).await.unwrap();
        for delivery in &deliveries {
            server.state.with(QUEUE, |queue| queue.delete(&delivery.receipt));
        }
        left -= deliveries.len();
    }
    assert!(server.is_empty(QUEUE));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
