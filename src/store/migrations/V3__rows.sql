-- Every row accounted for: rejected records, drift, provenance of what was repaired.

CREATE TABLE keyfall.rejections (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object_id     bigint NOT NULL REFERENCES keyfall.objects (id),
    -- Where: number of the record from 1; line from 1 and byte from 0, null where the format has no lines.
    record_no     bigint NOT NULL,
    line          bigint,
    byte_offset   bigint,
    -- The table it was meant for and the column to blame, where they are known.
    table_name    text,
    column_name   text,
    -- Our code, or E-PG- and a SQLSTATE.
    code          text NOT NULL,
    reason        text NOT NULL,
    -- The record as it stood in the object, cut at 64 KiB, and its whole length.
    raw           bytea NOT NULL,
    raw_bytes     bigint NOT NULL,
    rejected_at   timestamptz NOT NULL DEFAULT now(),
    -- When it was loaded after all, or left out; it then counts among the object's loaded or filtered rows.
    replayed_at   timestamptz,
    UNIQUE (object_id, record_no)
);

-- What is still to be looked at.
CREATE INDEX rejections_open ON keyfall.rejections (object_id) WHERE replayed_at IS NULL;

ALTER TABLE keyfall.objects
    -- The header of an object with rejected records: what they need in front of them to be a file again.
    ADD COLUMN header   bytea,
    -- Times it was loaded, undone, and loaded again.
    ADD COLUMN replays  integer NOT NULL DEFAULT 0,
    -- Until when a disposer has it in hand: before, nobody else decides about its bytes.
    ADD COLUMN disposal_taken_until timestamptz,
    -- What is disposed of stays so, whatever becomes of its rows: the bytes lie in the archive, or nowhere.
    DROP CONSTRAINT objects_check3,
    ADD CONSTRAINT objects_disposal CHECK (disposal IN ('none', 'done') OR state IN ('loaded', 'undone'));

-- The fields of a feed's objects, each set of them once, where the format names them.
CREATE TABLE keyfall.layouts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feed        text NOT NULL,
    digest      bigint NOT NULL,
    -- In their order: [{"name": ..., "kind": ...}].
    fields      jsonb NOT NULL,
    -- The first object that had them.
    object_id   bigint NOT NULL REFERENCES keyfall.objects (id),
    found_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (feed, digest)
);

-- How a layout differs from the one before it.
CREATE TABLE keyfall.drift (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feed        text NOT NULL,
    object_id   bigint NOT NULL REFERENCES keyfall.objects (id),
    kind        text NOT NULL CHECK (kind IN ('added', 'removed', 'reordered', 'type')),
    -- Null where it is about the order of all of them.
    field       text,
    was         text,
    became      text,
    found_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX drift_feed ON keyfall.drift (feed, id);

CREATE VIEW keyfall.rejection_status AS
SELECT r.id, o.feed, o.bucket, o.key, o.version, r.object_id, r.record_no, r.line, r.byte_offset, r.table_name,
       r.column_name, r.code, r.reason, r.raw, r.raw_bytes, r.rejected_at, r.replayed_at,
       o.state = 'loaded' AND r.replayed_at IS NULL AS open
FROM keyfall.rejections r JOIN keyfall.objects o ON o.id = r.object_id;

CREATE OR REPLACE VIEW keyfall.object_status AS
SELECT id, feed, bucket, key, version, size, key_time, visible_at, discovered_at, discovered_by, state, reason,
       attempt, suspicions, lease_owner, lease_expires_at, not_before, loaded_at, rows_read, rows_loaded,
       rows_rejected, rows_filtered, encode(sha256, 'hex') AS sha256, error_code, error_detail, error_advice,
       disposal, disposal_attempts, disposal_error, disposed_at, archived_to, superseded_by,
       late_seconds, notification, duplicate_of, replays
FROM keyfall.objects;

CREATE OR REPLACE VIEW keyfall.feed_status AS
SELECT o.feed,
       count(*) FILTER (WHERE o.state = 'pending')      AS pending,
       count(*) FILTER (WHERE o.state = 'leased')       AS leased,
       count(*) FILTER (WHERE o.state = 'loaded')       AS loaded,
       count(*) FILTER (WHERE o.state = 'quarantined')  AS quarantined,
       count(*) FILTER (WHERE o.state = 'skipped')      AS skipped,
       count(*) FILTER (WHERE o.state = 'missing')      AS missing,
       count(*) FILTER (WHERE o.state = 'superseded')   AS superseded,
       count(*) FILTER (WHERE o.state = 'undone')       AS undone,
       count(*) FILTER (WHERE o.disposal = 'pending')   AS disposal_pending,
       coalesce(sum(o.rows_loaded) FILTER (WHERE o.state = 'loaded'), 0)::bigint AS rows_loaded,
       min(o.visible_at) FILTER (WHERE o.state IN ('pending', 'leased')) AS oldest_open_visible_at,
       -- Every known object with an earlier key time is terminal.
       coalesce(min(o.key_time) FILTER (WHERE o.state IN ('pending', 'leased')), max(o.key_time)) AS frontier,
       max(o.loaded_at) AS last_loaded_at,
       f.paused_by, f.paused_until, f.paused_reason, f.paused_advice,
       coalesce(sum(o.rows_read) FILTER (WHERE o.state = 'loaded'), 0)::bigint AS rows_read,
       -- A rejected record that is loaded after all is counted as loaded from then on, so these are the open ones.
       coalesce(sum(o.rows_rejected) FILTER (WHERE o.state = 'loaded'), 0)::bigint AS rows_rejected,
       coalesce(sum(o.rows_filtered) FILTER (WHERE o.state = 'loaded'), 0)::bigint AS rows_filtered
FROM keyfall.objects o LEFT JOIN keyfall.feeds f ON f.feed = o.feed
GROUP BY o.feed, f.feed;

CREATE OR REPLACE VIEW keyfall.load_history AS
SELECT id, feed, bucket, key, version, key_time, visible_at, loaded_at, lease_owner AS loaded_by, rows_loaded,
       bytes_read, encode(sha256, 'hex') AS sha256, config_fingerprint, disposal, archived_to,
       rows_read, rows_rejected, rows_filtered, replays
FROM keyfall.objects
WHERE state = 'loaded';
