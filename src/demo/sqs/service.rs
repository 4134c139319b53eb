//! The operations: JSON in, JSON out, and the way of a request through log and faults to its effect.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::faults::Action;
use super::log::Operation;
use super::queue::{Delivery, Queue};
use super::state::{Deletion, State};
use super::{ACCOUNT, REGION, name_of};

/// Most messages of one request.
const MOST: u64 = 10;

/// What is sent back.
pub(super) enum Answer {
    Json(StatusCode, Value),
    Error(Refusal),
    /// Not an answer of SQS.
    Page(StatusCode),
    /// The connection ends.
    Nothing,
}

/// An error as SQS tells it.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

impl Refusal {
    fn bad(code: &'static str, message: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message }
    }

    fn scripted(status: u16, code: &'static str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, message: "a fault rule wants it so" }
    }

    fn no_queue() -> Self {
        Self::bad("QueueDoesNotExist", "The specified queue does not exist.")
    }
}

type Outcome = Result<Value, Refusal>;

/// One request with the faults that struck it.
struct Call<'a> {
    state: &'a State,
    seq: u64,
    queue: String,
    input: Value,
    actions: Vec<Action>,
}

/// Answers one request.
pub(super) async fn answer(state: &State, op: Operation, input: Value) -> Answer {
    let queue = match op {
        Operation::GetUrl => text(&input, "QueueName").to_owned(),
        _ => name_of(text(&input, "QueueUrl")).to_owned(),
    };
    let seq = state.log.arrive(op, &queue);
    let actions = state.faults.strike(op, &queue);
    for action in &actions {
        match action {
            Action::Delay(time) => tokio::time::sleep(*time).await,
            Action::Hold(gate) => gate.pass().await,
            _ => {}
        }
    }
    let call = Call { state, seq, queue, input, actions };
    let answer = match call.instead() {
        Some(answer) => answer,
        None => call.afterwards(call.run(op).await),
    };
    let status = match &answer {
        Answer::Json(status, _) | Answer::Page(status) => status.as_u16(),
        Answer::Error(refusal) => refusal.status.as_u16(),
        Answer::Nothing => 0,
    };
    state.log.answer(seq, status);
    answer
}

impl Call<'_> {
    /// What a rule wants instead of any work.
    fn instead(&self) -> Option<Answer> {
        self.actions.iter().find_map(|action| match action {
            Action::Status(status, code) => Some(Answer::Error(Refusal::scripted(*status, code))),
            Action::Page(status) => {
                Some(Answer::Page(StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)))
            }
            Action::Drop => Some(Answer::Nothing),
            _ => None,
        })
    }

    /// The outcome, unless a rule wants something else after the work.
    fn afterwards(&self, outcome: Outcome) -> Answer {
        for action in &self.actions {
            match action {
                Action::FailAfter(status, code) => return Answer::Error(Refusal::scripted(*status, code)),
                Action::HangUp => return Answer::Nothing,
                _ => {}
            }
        }
        match outcome {
            Ok(value) => Answer::Json(StatusCode::OK, value),
            Err(refusal) => Answer::Error(refusal),
        }
    }

    fn has(&self, wanted: impl Fn(&Action) -> bool) -> bool {
        self.actions.iter().any(wanted)
    }

    async fn run(&self, op: Operation) -> Outcome {
        match op {
            Operation::Receive => self.receive().await,
            Operation::Delete => self.delete().await,
            Operation::DeleteBatch => self.delete_batch().await,
            Operation::ChangeVisibility => self.change_visibility(),
            Operation::GetAttributes => self.attributes(),
            Operation::GetUrl => self.state.with(&self.queue, |_| self.url()).ok_or_else(Refusal::no_queue),
            Operation::Send => self.send(),
            Operation::Purge => {
                self.state.with(&self.queue, Queue::purge).ok_or_else(Refusal::no_queue)?;
                Ok(json!({}))
            }
        }
    }

    fn url(&self) -> Value {
        json!({ "QueueUrl": format!("{}/{}", ACCOUNT, self.queue) })
    }

    fn seconds(&self, field: &str) -> Option<Duration> {
        self.input.get(field).and_then(Value::as_u64).map(Duration::from_secs)
    }

    async fn receive(&self) -> Outcome {
        let max = self.input.get("MaxNumberOfMessages").and_then(Value::as_u64).unwrap_or(1);
        let wait = self.seconds("WaitTimeSeconds").unwrap_or_default();
        if !(1..=MOST).contains(&max) || wait > Duration::from_secs(20) {
            return Err(Refusal::bad("InvalidParameterValue", "A parameter is out of its range."));
        }
        let (max, deadline) = (usize::try_from(max).unwrap_or(1), Instant::now() + wait);
        let visibility = self.seconds("VisibilityTimeout");
        let received = self.state.receive(&self.queue, max, visibility, deadline).await;
        let deliveries = received.ok_or_else(Refusal::no_queue)?;
        self.state.log.about(self.seq, deliveries.iter().map(|delivery| delivery.id.clone()).collect());
        if deliveries.is_empty() {
            return Ok(json!({}));
        }
        let messages: Vec<Value> = deliveries.iter().map(message).collect();
        Ok(json!({ "Messages": messages }))
    }

    async fn delete(&self) -> Outcome {
        let receipt = text(&self.input, "ReceiptHandle").to_owned();
        self.announce(&[receipt.as_str()]).await?;
        self.delete_one(&receipt)?;
        Ok(json!({}))
    }

    /// Deletes by one receipt.
    fn delete_one(&self, receipt: &str) -> Result<(), Refusal> {
        if self.has(|action| matches!(action, Action::Pretend)) {
            return Ok(());
        }
        self.check_receipt(receipt)?;
        self.state.with(&self.queue, |queue| queue.delete(receipt)).ok_or_else(Refusal::no_queue)
    }

    fn check_receipt(&self, receipt: &str) -> Result<(), Refusal> {
        let invalid = || Refusal::bad("ReceiptHandleIsInvalid", "The input receipt handle is invalid.");
        let expires = self.has(|action| matches!(action, Action::ExpireReceipts));
        let knows = self.state.with(&self.queue, |queue| queue.knows_receipt(receipt)).ok_or_else(Refusal::no_queue)?;
        (knows && !expires).then_some(()).ok_or_else(invalid)
    }

    /// Logs what these receipts would delete, and lets the hook see it before it happens.
    async fn announce(&self, receipts: &[&str]) -> Result<(), Refusal> {
        self.state.log.wants(self.seq, receipts.len());
        let there = |receipt: &&str| self.state.with(&self.queue, |queue| queue.receipt(receipt)).flatten();
        self.state.with(&self.queue, |_| ()).ok_or_else(Refusal::no_queue)?;
        let found: Vec<_> = receipts.iter().filter_map(there).collect();
        self.state.log.about(self.seq, found.iter().map(|(id, _)| id.clone()).collect());
        let deletion = |(message, body)| Deletion { queue: self.queue.clone(), message, body };
        self.state.announce(found.into_iter().map(deletion).collect()).await;
        Ok(())
    }

    async fn delete_batch(&self) -> Outcome {
        let entries = self.input.get("Entries").and_then(Value::as_array).cloned().unwrap_or_default();
        if entries.is_empty() {
            return Err(Refusal::bad("EmptyBatchRequest", "There should be at least one entry."));
        }
        if entries.len() > usize::try_from(MOST).unwrap_or(usize::MAX) {
            return Err(Refusal::bad("TooManyEntriesInBatchRequest", "There should be at most ten entries."));
        }
        let mut ids: Vec<&str> = entries.iter().map(|entry| text(entry, "Id")).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() < entries.len() {
            return Err(Refusal::bad("BatchEntryIdsNotDistinct", "Two entries have the same id."));
        }
        let receipts: Vec<&str> = entries.iter().map(|entry| text(entry, "ReceiptHandle")).collect();
        self.announce(&receipts).await?;
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for (place, (entry, receipt)) in entries.iter().zip(receipts).enumerate() {
            let is_this = |k: &usize| *k == place + 1;
            if self.has(|action| matches!(action, Action::ForgetEntry(k) if is_this(k))) {
                continue;
            }
            let id = text(entry, "Id");
            if self.has(|action| matches!(action, Action::FailEntry(k) if is_this(k))) {
                failed.push(json!({ "Id": id, "SenderFault": false, "Code": "InternalError", "Message": "try again" }));
                continue;
            }
            match self.delete_one(receipt) {
                Ok(()) => successful.push(json!({ "Id": id })),
                Err(refusal) => failed
                    .push(json!({ "Id": id, "SenderFault": true, "Code": refusal.code, "Message": refusal.message })),
            }
        }
        Ok(json!({ "Successful": successful, "Failed": failed }))
    }

    fn change_visibility(&self) -> Outcome {
        let receipt = text(&self.input, "ReceiptHandle");
        self.check_receipt(receipt)?;
        let visibility = self.seconds("VisibilityTimeout").unwrap_or_default();
        let changed = self.state.with(&self.queue, |queue| queue.change_visibility(receipt, visibility));
        if changed.ok_or_else(Refusal::no_queue)? {
            return Ok(json!({}));
        }
        Err(Refusal::bad("MessageNotInflight", "The message is not in flight."))
    }

    fn send(&self) -> Outcome {
        let body = text(&self.input, "MessageBody");
        let delay = self.seconds("DelaySeconds").unwrap_or_default();
        let id = self.state.send(&self.queue, body, delay).ok_or_else(Refusal::no_queue)?;
        Ok(json!({ "MessageId": id, "MD5OfMessageBody": super::queue::md5(body) }))
    }

    fn attributes(&self) -> Outcome {
        let all = self.state.with(&self.queue, |queue| {
            let (all, hidden) = queue.len();
            let mut attributes = Map::new();
            let mut set = |name: &str, value: String| attributes.insert(name.to_owned(), Value::String(value));
            set("QueueArn", arn(&self.queue));
            set("VisibilityTimeout", queue.options.visibility.as_secs().to_string());
            set("ApproximateNumberOfMessages", (all - hidden).to_string());
            set("ApproximateNumberOfMessagesNotVisible", hidden.to_string());
            if let Some((dead_letters, times)) = &queue.options.redrive {
                let policy = json!({ "deadLetterTargetArn": arn(dead_letters), "maxReceiveCount": times });
                set("RedrivePolicy", policy.to_string());
            }
            attributes
        });
        let mut attributes = all.ok_or_else(Refusal::no_queue)?;
        let wanted = self.input.get("AttributeNames").and_then(Value::as_array).cloned().unwrap_or_default();
        attributes.retain(|name, _| wanted.iter().any(|wanted| wanted == name || wanted == "All"));
        Ok(if attributes.is_empty() { json!({}) } else { json!({ "Attributes": attributes }) })
    }
}

fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}")
}

fn message(delivery: &Delivery) -> Value {
    json!({
        "MessageId": delivery.id,
        "ReceiptHandle": delivery.receipt,
        "MD5OfBody": delivery.md5,
        "Body": delivery.body.as_ref(),
        "Attributes": {
            "ApproximateReceiveCount": delivery.receives.to_string(),
            "SentTimestamp": delivery.sent.as_millisecond().to_string(),
        },
    })
}

/// A text field; empty where it is missing.
fn text<'a>(input: &'a Value, field: &str) -> &'a str {
    input.get(field).and_then(Value::as_str).unwrap_or_default()
}
