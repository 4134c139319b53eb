-- Discovery by notification, on several machines; changed and repeated content; missing slots.

ALTER TABLE keyfall.objects
    -- By how much its key time lay before the newest one known of its series when it was found; null where it was on
    -- time or was there before the feed's first sweep ended.
    ADD COLUMN late_seconds   float8 CHECK (late_seconds > 0),
    -- Of an object found by poll or sweep while its feed has a queue: whether its notification came. Null otherwise.
    ADD COLUMN notification   text CHECK (notification IN ('awaited', 'arrived', 'missed')),
    -- The object with the same bytes that was loaded before.
    ADD COLUMN duplicate_of   bigint REFERENCES keyfall.objects (id),
    -- An operator sent back what `on_change` or `duplicate_content` had set aside: until it is loaded, neither is asked
    -- again.
    ADD COLUMN approved       boolean NOT NULL DEFAULT false;

-- Observed lateness: how far the look-back must reach.
CREATE INDEX objects_late ON keyfall.objects (feed, discovered_at) INCLUDE (late_seconds)
    WHERE late_seconds IS NOT NULL;
-- Objects whose notification is still to come.
CREATE INDEX objects_awaited ON keyfall.objects (feed, discovered_at) WHERE notification = 'awaited';
-- Loaded content, to recognise it under another key.
CREATE INDEX objects_content ON keyfall.objects (feed, sha256) WHERE state = 'loaded' AND rows_read > 0;

ALTER TABLE keyfall.feeds
    -- Since when notifications of this feed are received: what is older was never to be notified.
    ADD COLUMN notified_since          timestamptz,
    -- When anybody last found something new: polls come the more seldom the longer ago that is.
    ADD COLUMN last_found_at           timestamptz,
    -- When polls began again after a pause that no look-back covers: a sweep is due that ends after this.
    ADD COLUMN poll_gap_at             timestamptz,
    -- The last `keyfall reconcile` of the whole feed, and how many objects were not as they should be.
    ADD COLUMN reconciled_at           timestamptz,
    ADD COLUMN reconcile_differences   bigint;

-- What one instance at a time does for a feed. Only spares work: everything listed and disposed of may be done twice.
CREATE TABLE keyfall.duties (
    feed        text NOT NULL,
    duty        text NOT NULL CHECK (duty IN ('poll', 'sweep', 'dispose')),
    owner       uuid NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (feed, duty)
);

-- Who works on this ledger. One row per running engine: a process that reloads its configuration has two for a while.
CREATE TABLE keyfall.instances (
    id          uuid PRIMARY KEY,
    name        text NOT NULL,
    version     text NOT NULL,
    -- Its feeds, and those of them whose bucket does not answer it: another instance had better list them.
    feeds       text[] NOT NULL,
    declined    text[] NOT NULL,
    -- Process of the server that carries its notifications: once that is gone, the instance is taken for dead at once.
    session     integer,
    started_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    -- A heartbeat is due before this; afterwards the instance is taken for dead.
    expires_at  timestamptz NOT NULL
);

CREATE OR REPLACE VIEW keyfall.object_status AS
SELECT id, feed, bucket, key, version, size, key_time, visible_at, discovered_at, discovered_by, state, reason,
       attempt, suspicions, lease_owner, lease_expires_at, not_before, loaded_at, rows_read, rows_loaded,
       rows_rejected, rows_filtered, encode(sha256, 'hex') AS sha256, error_code, error_detail, error_advice,
       disposal, disposal_attempts, disposal_error, disposed_at, archived_to, superseded_by,
       late_seconds, notification, duplicate_of
FROM keyfall.objects;

CREATE VIEW keyfall.instance_status AS
SELECT i.name, i.version, i.started_at, i.seen_at, i.expires_at > now() AS alive,
       (SELECT count(*) FROM keyfall.objects o WHERE o.state = 'leased' AND o.lease_owner = i.name) AS leased,
       ARRAY(SELECT d.feed || ':' || d.duty FROM keyfall.duties d
              WHERE d.owner = i.id AND d.expires_at > now() ORDER BY 1) AS duties
FROM keyfall.instances i;
