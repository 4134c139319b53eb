//! A queue: there, open to us, with a redrive policy.
//!
//! Receiving is tried, so a message may be delivered once more than it would have been. Deleting cannot be tried without
//! a message that is ours to delete.

use crate::config::queue::Queue;
use crate::domain::queue::{Attributes, NotificationQueue, QueueError};

use super::{Area, Finding};

pub(super) async fn look(settings: &Queue, queue: &dyn NotificationQueue) -> Vec<Finding> {
    let (attributes, probe) = futures::join!(queue.attributes(), queue.probe());
    // Without a queue, or anything that answers, one finding says it all.
    if let (Err(error), Err(again)) = (&attributes, &probe)
        && error.code() == again.code()
        && !matches!(error, QueueError::Denied { .. })
    {
        return vec![refused(settings, "sqs:GetQueueAttributes and sqs:ReceiveMessage", error)];
    }
    let mut findings = match attributes {
        Ok(attributes) => about(settings, &attributes),
        Err(error) => vec![refused(settings, "sqs:GetQueueAttributes", &error)],
    };
    findings.push(match probe {
        Ok(()) => Finding::ok(
            Area::S3,
            path(settings, "url"),
            "sqs:ReceiveMessage is granted; sqs:DeleteMessage shows at the first message",
        ),
        Err(error) => refused(settings, "sqs:ReceiveMessage", &error),
    });
    findings
}

fn about(settings: &Queue, attributes: &Attributes) -> Vec<Finding> {
    let waiting = attributes.waiting.map_or_else(String::new, |waiting| format!(", about {waiting} messages waiting"));
    let mut findings = vec![Finding::ok(Area::S3, path(settings, "url"), format!("{}{waiting}", settings.url))];
    if !attributes.has_redrive {
        let (error, what) = (QueueError::NoRedrive, path(settings, "strict"));
        findings.push(if settings.strict {
            Finding::fail(Area::S3, what, format!("{error}, and keyfall would not start"), error.advice())
        } else {
            Finding::warn(Area::S3, what, error.to_string(), error.advice())
        });
    }
    findings
}

fn refused(settings: &Queue, right: &str, error: &QueueError) -> Finding {
    Finding::fail(Area::S3, path(settings, "url"), format!("{right}: {error}"), error.advice())
}

/// Key path of one of a queue's settings.
fn path(settings: &Queue, key: &str) -> String {
    format!("queues.{}.{key}", settings.name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::config::queue::ForeignEvents;
    use crate::domain::queue::Message;
    use crate::operate::check::Level;

    struct Answers {
        attributes: Result<Attributes, QueueError>,
        probe: Result<(), QueueError>,
    }

    #[async_trait]
    impl NotificationQueue for Answers {
        async fn receive(&self, _: usize, _: Duration) -> Result<Vec<Message>, QueueError> {
            unreachable!("a check receives nothing")
        }

        async fn acknowledge(&self, _: &[&Message]) -> Result<Vec<Result<(), QueueError>>, QueueError> {
            unreachable!("a check takes nothing out")
        }

        async fn attributes(&self) -> Result<Attributes, QueueError> {
            self.attributes.clone()
        }

        async fn probe(&self) -> Result<(), QueueError> {
            self.probe.clone()
        }
    }

    fn settings(strict: bool) -> Queue {
        Queue {
            name: "uploads".to_owned(),
            url: "https://sqs.eu-central-1.amazonaws.com/1/q".to_owned(),
            region: None,
            receivers: 1,
            wait: Duration::ZERO,
            foreign_events: ForeignEvents::Leave,
            strict,
        }
    }

    fn attributes(has_redrive: bool) -> Attributes {
        Attributes { has_redrive, visibility: None, waiting: Some(3) }
    }

    fn denied(action: &'static str) -> QueueError {
        QueueError::Denied { action, detail: "no".to_owned() }
    }

    /// Levels and key paths of what was found.
    async fn found(strict: bool, answers: Answers) -> Vec<(Level, String)> {
        let findings = look(&settings(strict), &answers).await;
        findings.into_iter().map(|finding| (finding.level, finding.what)).collect()
    }

    #[tokio::test]
    async fn a_queue_without_redrive_is_doubtful_and_under_strict_wrong() {
        let url = || (Level::Ok, "queues.uploads.url".to_owned());
        for (strict, has_redrive, expected) in [
            (false, true, None),
            (true, true, None),
            (false, false, Some(Level::Warn)),
            (true, false, Some(Level::Fail)),
        ] {
            let answers = Answers { attributes: Ok(attributes(has_redrive)), probe: Ok(()) };
            let redrive = expected.map(|level| (level, "queues.uploads.strict".to_owned()));
            let expected: Vec<_> = [url()].into_iter().chain(redrive).chain([url()]).collect();
            assert_eq!(found(strict, answers).await, expected, "{strict} {has_redrive}");
        }
    }

    #[tokio::test]
    async fn each_missing_right_is_named_and_a_missing_queue_once() {
        let both =
            Answers { attributes: Err(denied("sqs:GetQueueAttributes")), probe: Err(denied("sqs:ReceiveMessage")) };
        assert_eq!(found(false, both).await.len(), 2);
        let one = Answers { attributes: Ok(attributes(true)), probe: Err(denied("sqs:ReceiveMessage")) };
        let levels: Vec<_> = found(false, one).await.into_iter().map(|(level, _)| level).collect();
        assert_eq!(levels, [Level::Ok, Level::Fail]);
        let gone = || QueueError::Gone { detail: "no".to_owned() };
        let gone = Answers { attributes: Err(gone()), probe: Err(gone()) };
        assert_eq!(found(false, gone).await, [(Level::Fail, "queues.uploads.url".to_owned())]);
    }
}
