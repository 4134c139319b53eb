"""Makes a bucket whose events reach a queue, the way one envelope asks for, and prints the queue's URLs as JSON.

    python infra.py ENDPOINT NAME ENVELOPE

ENVELOPE is raw (S3 -> SQS), sns (S3 -> SNS -> SQS), sns-raw (the same with raw delivery), eventbridge
(S3 -> EventBridge -> SQS) or none (a bucket and a queue that know nothing of each other). NAME is the bucket's and the
queue's. Undeliverable messages go to the queue NAME-dlq after three receives.
"""

import json
import sys

import boto3
from botocore.config import Config

endpoint, name, envelope = sys.argv[1:]


def client(service):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3}),
    )


s3, sqs = client("s3"), client("sqs")


def queue(queue_name, attributes):
    url = sqs.create_queue(QueueName=queue_name, Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return url, arn


def allow(url, arn, service):
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})


def notify(configuration):
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=configuration)


s3.create_bucket(Bucket=name)
dlq_url, dlq_arn = queue(name + "-dlq", {})
redrive = json.dumps({"deadLetterTargetArn": dlq_arn, "maxReceiveCount": 3})
url, arn = queue(name, {"VisibilityTimeout": "2", "RedrivePolicy": redrive})
events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]

if envelope == "raw":
    allow(url, arn, "s3.amazonaws.com")
    notify({"QueueConfigurations": [{"QueueArn": arn, "Events": events}]})
elif envelope in ("sns", "sns-raw"):
    sns = client("sns")
    allow(url, arn, "sns.amazonaws.com")
    topic = sns.create_topic(Name=name)["TopicArn"]
    raw = "true" if envelope == "sns-raw" else "false"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": raw})
    notify({"TopicConfigurations": [{"TopicArn": topic, "Events": events}]})
elif envelope == "eventbridge":
    bridge = client("events")
    allow(url, arn, "events.amazonaws.com")
    pattern = json.dumps({"source": ["aws.s3"], "detail": {"bucket": {"name": [name]}}})
    bridge.put_rule(Name=name, EventPattern=pattern)
    bridge.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    notify({"EventBridgeConfiguration": {}})
elif envelope != "none":
    sys.exit(f"no such envelope: {envelope}")

print(json.dumps({"url": url, "dlq": dlq_url}))
