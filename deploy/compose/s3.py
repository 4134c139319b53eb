"""Starts moto's S3 and SQS on port 5000 and puts sample objects into the bucket `drop`.

The objects are the same, byte for byte, at every start: keyfall knows an object by its key, ETag and size, so a
restart of this emulator, which forgets everything, brings no row twice.
"""

import signal
import sys
from datetime import datetime, timedelta, timezone

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

DEPARTMENTS = ["Supply Chain", "Maintenance", "Staff", "Engineering", "Legal", "Research"]
JOBS = ["Analyst", "Technician", "Buyer", "Planner", "Engineer", "Clerk", "Auditor"]
HIRES_PER_OBJECT = 50
HIRE_OBJECTS = 40
START = datetime(2024, 1, 1, tzinfo=timezone.utc)


def key(folder, at):
    return f"{folder}/{at:%Y-%m-%d-%H-%M-%S}.csv"


def numbered(names):
    return "".join(f"{number},{name}\n" for number, name in enumerate(names, 1))


def hires(first):
    """One object of hires. Every 29th has no department: blanks must arrive as NULL."""
    lines = []
    for number in range(first, first + HIRES_PER_OBJECT):
        hired = START + timedelta(minutes=97 * number)
        department = "" if number % 29 == 0 else number % len(DEPARTMENTS) + 1
        lines.append(f"{number},Employee {number},{hired:%Y-%m-%dT%H:%M:%SZ},{department},{number % len(JOBS) + 1}\n")
    return "".join(lines)


def seed(s3):
    s3.create_bucket(Bucket="drop")
    s3.put_object(Bucket="drop", Key=key("departments", START), Body=numbered(DEPARTMENTS))
    s3.put_object(Bucket="drop", Key=key("jobs", START), Body=numbered(JOBS))
    for index in range(HIRE_OBJECTS):
        body = hires(1 + index * HIRES_PER_OBJECT)
        s3.put_object(Bucket="drop", Key=key("hired_employees", START + timedelta(hours=index)), Body=body)
    # What the health check asks for.
    s3.create_bucket(Bucket="ready")
    s3.put_object(Bucket="ready", Key="seeded", Body="", ACL="public-read")


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    server = ThreadedMotoServer(ip_address="0.0.0.0", port=port, verbose=False)
    server.start()
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="compose",
        aws_secret_access_key="compose",
        config=Config(s3={"addressing_style": "path"}),
    )
    seed(s3)
    print("the bucket is ready", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop()


if __name__ == "__main__":
    # Blocked in every thread, so that only sigwait above sees them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
