//! [`NotificationQueue`] over the AWS SDK.
//!
//! Guarantees: every request has a deadline, and one HTTP request at most is sent for it: the SDK's retries are off, so
//! that an outage costs as few calls as the consumer's back-off allows. Nothing in a message is looked at. TLS alone
//! protects a body on its way: this SDK does not compare the MD5 digests of SQS, and they guard against accidents only.

mod address;
mod classify;

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::operation::receive_message::builders::ReceiveMessageFluentBuilder;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, DeleteMessageBatchRequestEntry, Message as Delivered, MessageSystemAttributeName,
    QueueAttributeName,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use self::address::Address;
use self::classify::{Attempt, classify};
use super::client::{self, Service, shared_config};
use super::renew::Renewable;
use crate::config::queue::Queue;
use crate::config::s3::S3;
use crate::domain::queue::{Attributes, LARGEST_BATCH, Message, NotificationQueue, QueueError};

const RECEIVE: Attempt = Attempt { action: "ReceiveMessage", permission: "sqs:ReceiveMessage" };
const DELETE: Attempt = Attempt { action: "DeleteMessageBatch", permission: "sqs:DeleteMessage" };
const ATTRIBUTES: Attempt = Attempt { action: "GetQueueAttributes", permission: "sqs:GetQueueAttributes" };

/// One queue behind the port.
pub struct SqsQueue {
    client: Renewable<Client>,
    /// Credentials and timeouts are those of S3.
    config: S3,
    queue: Queue,
    /// Deadline of a request that does not wait for messages.
    deadline: Duration,
}

impl SqsQueue {
    /// Connects lazily: this reads configuration, the first request opens a connection.
    pub async fn connect(config: &S3, queue: &Queue) -> Result<Self, QueueError> {
        Ok(Self {
            client: Renewable::new(connect(config, queue).await?, client::keys(config)),
            config: config.clone(),
            queue: queue.clone(),
            deadline: config.connect_timeout + config.read_timeout,
        })
    }

    fn client(&self) -> Client {
        self.client.client()
    }

    /// Awaits a request no longer than the deadline, and sorts its failure.
    async fn within<T, E>(
        &self,
        deadline: Duration,
        attempt: Attempt,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, QueueError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        // On the heap: an SDK request is a future of many kilobytes.
        let answer = match tokio::time::timeout(deadline, Box::pin(request)).await {
            Ok(answer) => answer.map_err(|error| classify(&error, attempt)),
            Err(_elapsed) => {
                let detail = format!("no answer within {} s", deadline.as_secs_f64());
                Err(QueueError::Transient { action: attempt.action, detail })
            }
        };
        if matches!(answer, Err(QueueError::Credentials { .. })) {
            Box::pin(self.client.renew(connect(&self.config, &self.queue))).await;
        }
        answer
    }

    fn receive_request(&self, most: usize, wait: Duration) -> ReceiveMessageFluentBuilder {
        self.client()
            .receive_message()
            .queue_url(&self.queue.url)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .max_number_of_messages(i32::try_from(most.clamp(1, LARGEST_BATCH)).unwrap_or(1))
            .wait_time_seconds(i32::try_from(wait.as_secs()).unwrap_or(0))
    }
}

/// Builds a client for the queue's host. Credentials are read lazily: missing ones show at the first request.
async fn connect(config: &S3, queue: &Queue) -> Result<Client, QueueError> {
    let Some(address) = Address::of(&queue.url) else {
        let detail = format!("queues.{}.url = {:?} has no host that could be asked", queue.name, queue.url);
        return Err(QueueError::Refused { action: "connecting to SQS", detail });
    };
    let region = queue.region.as_deref().or(address.region).or(config.region.as_deref());
    let service = Service {
        region,
        endpoint_url: Some(&address.endpoint),
        // The answer to a long poll may begin only when its wait is over.
        read_timeout: queue.wait + config.read_timeout,
        max_attempts: 1,
    };
    let shared = shared_config(config, &service).await;
    // Here once more: `AWS_ENDPOINT_URL_SQS` would win over the shared setting, and the URL is what was asked for.
    let sqs = aws_sdk_sqs::config::Builder::from(&shared).endpoint_url(&address.endpoint).build();
    Ok(Client::from_conf(sqs))
}

#[async_trait]
impl NotificationQueue for SqsQueue {
    async fn receive(&self, most: usize, wait: Duration) -> Result<Vec<Message>, QueueError> {
        let request = self.receive_request(most, wait);
        let output = self.within(self.deadline + wait, RECEIVE, request.send()).await?;
        Ok(output.messages.unwrap_or_default().into_iter().map(message).collect())
    }

    async fn acknowledge(&self, messages: &[&Message]) -> Result<Vec<Result<(), QueueError>>, QueueError> {
        let mut request = self.client().delete_message_batch().queue_url(&self.queue.url);
        for (index, message) in messages.iter().enumerate() {
            let entry =
                DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(&message.receipt);
            let entry = entry.build().map_err(|error| {
                let detail = error.to_string();
                QueueError::Refused { action: DELETE.action, detail }
            })?;
            request = request.entries(entry);
        }
        let output = self.within(self.deadline, DELETE, request.send()).await?;
        let answer = |index: usize| {
            let id = index.to_string();
            if let Some(failed) = output.failed().iter().find(|failed| failed.id() == id) {
                return Err(refused(failed));
            }
            if output.successful().iter().any(|done| done.id() == id) {
                return Ok(());
            }
            Err(QueueError::Transient {
                action: DELETE.action,
                detail: "no answer about one of the messages".to_owned(),
            })
        };
        Ok((0..messages.len()).map(answer).collect())
    }

    async fn attributes(&self) -> Result<Attributes, QueueError> {
        let wanted = [
            QueueAttributeName::RedrivePolicy,
            QueueAttributeName::VisibilityTimeout,
            QueueAttributeName::ApproximateNumberOfMessages,
        ];
        let request =
            self.client().get_queue_attributes().queue_url(&self.queue.url).set_attribute_names(Some(wanted.into()));
        let output = self.within(self.deadline, ATTRIBUTES, request.send()).await?;
        let text = |name: &QueueAttributeName| output.attributes().and_then(|all| all.get(name)).map(String::as_str);
        let number = |name: &QueueAttributeName| text(name).and_then(|number| number.parse::<u64>().ok());
        Ok(Attributes {
            has_redrive: text(&QueueAttributeName::RedrivePolicy).is_some_and(names_a_target),
            visibility: number(&QueueAttributeName::VisibilityTimeout).map(Duration::from_secs),
            waiting: number(&QueueAttributeName::ApproximateNumberOfMessages),
        })
    }

    async fn probe(&self) -> Result<(), QueueError> {
        let request = self.receive_request(1, Duration::ZERO).visibility_timeout(0);
        self.within(self.deadline, RECEIVE, request.send()).await.map(drop)
    }
}

fn message(delivered: Delivered) -> Message {
    let count = delivered.attributes().and_then(|all| all.get(&MessageSystemAttributeName::ApproximateReceiveCount));
    let receive_count = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    Message {
        id: delivered.message_id.unwrap_or_default(),
        receipt: delivered.receipt_handle.unwrap_or_default(),
        body: delivered.body.unwrap_or_default(),
        receive_count,
    }
}

/// Why one message of a batch was not taken out. A receipt that is no longer good will not become so.
fn refused(failed: &BatchResultErrorEntry) -> QueueError {
    let detail = format!("{}: {}", failed.code(), failed.message().unwrap_or_default());
    if failed.sender_fault() {
        QueueError::Refused { action: DELETE.action, detail }
    } else {
        QueueError::Transient { action: DELETE.action, detail }
    }
}

/// Whether a redrive policy moves messages anywhere.
fn names_a_target(policy: &str) -> bool {
    let policy: Option<serde_json::Value> = serde_json::from_str(policy).ok();
    policy.and_then(|policy| policy.get("deadLetterTargetArn")?.as_str().map(|arn| !arn.is_empty())).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_policy_counts_where_it_names_a_target() {
        assert!(names_a_target(r#"{"deadLetterTargetArn":"arn:aws:sqs:x:1:dead","maxReceiveCount":"5"}"#));
        for policy in ["", "{}", "null", r#"{"deadLetterTargetArn":""}"#, r#"{"deadLetterTargetArn":7}"#] {
            assert!(!names_a_target(policy), "{policy}");
        }
    }

    #[test]
    fn a_failed_entry_is_tried_again_unless_it_was_our_fault() {
        let entry = |fault| BatchResultErrorEntry::builder().id("0").code("X").sender_fault(fault).build().unwrap();
        assert!(refused(&entry(false)).may_pass());
        assert!(!refused(&entry(true)).may_pass());
    }

    #[test]
    fn a_delivery_keeps_its_count_and_does_without_what_is_missing() {
        let full = Delivered::builder().message_id("m").receipt_handle("r").body("b");
        let full = full.attributes(MessageSystemAttributeName::ApproximateReceiveCount, "3").build();
        let text = |text: &str| text.to_owned();
        assert_eq!(message(full), Message { id: text("m"), receipt: text("r"), body: text("b"), receive_count: 3 });
        assert_eq!(message(Delivered::builder().build()).receive_count, 0);
    }
}
