-- The ledger: every object and what became of it.
--
-- It lives in the database that holds the rows, so that rows and their ledger entry commit in one transaction.

CREATE TABLE keyfall.objects (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,

    -- Identity: one version of one key.
    feed                text NOT NULL,
    bucket              text NOT NULL,
    key                 text COLLATE "C" NOT NULL,
    version             text NOT NULL,
    etag                text NOT NULL,
    version_id          text,
    size                bigint NOT NULL CHECK (size >= 0),
    series              text COLLATE "C" NOT NULL DEFAULT '',
    key_time            timestamptz,
    visible_at          timestamptz NOT NULL,
    discovered_at       timestamptz NOT NULL DEFAULT now(),
    discovered_by       text NOT NULL CHECK (discovered_by IN ('poll', 'notification', 'sweep', 'api')),

    state               text NOT NULL CHECK (state IN ('pending', 'leased', 'loaded', 'quarantined', 'skipped',
                                                       'missing', 'superseded', 'undone')),
    reason              text,
    not_before          timestamptz NOT NULL DEFAULT '-infinity',
    attempt             integer NOT NULL DEFAULT 0,
    suspicions          integer NOT NULL DEFAULT 0,

    -- The token stays after the load: it names the lease that loaded the object.
    lease_owner         text,
    lease_token         uuid,
    lease_expires_at    timestamptz,

    loaded_at           timestamptz,
    rows_read           bigint,
    rows_loaded         bigint,
    rows_rejected       bigint,
    rows_filtered       bigint,
    bytes_read          bigint,
    sha256              bytea,
    config_fingerprint  text,

    error_code          text,
    error_detail        text,
    error_advice        text,

    disposal            text NOT NULL DEFAULT 'none' CHECK (disposal IN ('none', 'pending', 'done', 'failed')),
    disposal_attempts   integer NOT NULL DEFAULT 0,
    disposal_not_before timestamptz NOT NULL DEFAULT '-infinity',
    disposal_error      text,
    disposed_at         timestamptz,
    archived_to         text,

    superseded_by       bigint REFERENCES keyfall.objects (id),

    UNIQUE (feed, bucket, key, version),
    CHECK (state <> 'leased' OR (lease_token IS NOT NULL AND lease_owner IS NOT NULL AND lease_expires_at IS NOT NULL)),
    CHECK (state <> 'loaded' OR (loaded_at IS NOT NULL AND rows_loaded IS NOT NULL)),
    CHECK (state <> 'loaded' OR rows_read = rows_loaded + rows_rejected + rows_filtered),
    CHECK (disposal = 'none' OR state IN ('loaded', 'undone'))
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1);

-- Work not finished, oldest key time first: what the dispatcher leases and what holds the frontier back.
CREATE INDEX objects_open ON keyfall.objects (feed, key_time, key) WHERE state IN ('pending', 'leased');
-- Newest key time of a series: where the tip poll begins.
CREATE INDEX objects_series ON keyfall.objects (feed, series, key_time);
-- Leases that may have expired.
CREATE INDEX objects_leased ON keyfall.objects (lease_expires_at) WHERE state = 'leased';
-- The disposal outbox.
CREATE INDEX objects_disposal ON keyfall.objects (feed, disposal_not_before) WHERE disposal = 'pending';

CREATE TABLE keyfall.feeds (
    feed            text PRIMARY KEY,
    paused_by       text CHECK (paused_by IN ('operator', 'halt')),
    paused_at       timestamptz,
    paused_until    timestamptz NOT NULL DEFAULT '-infinity',
    paused_reason   text,
    paused_advice   text,
    halts           integer NOT NULL DEFAULT 0,
    last_poll_at    timestamptz,
    last_sweep_at   timestamptz
);

-- Views: the documented SQL surface.

CREATE VIEW keyfall.object_status AS
SELECT id, feed, bucket, key, version, size, key_time, visible_at, discovered_at, discovered_by, state, reason,
       attempt, suspicions, lease_owner, lease_expires_at, not_before, loaded_at, rows_read, rows_loaded,
       rows_rejected, rows_filtered, encode(sha256, 'hex') AS sha256, error_code, error_detail, error_advice,
       disposal, disposal_attempts, disposal_error, disposed_at, archived_to, superseded_by
FROM keyfall.objects;

CREATE VIEW keyfall.feed_status AS
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
       f.paused_by, f.paused_until, f.paused_reason, f.paused_advice
FROM keyfall.objects o LEFT JOIN keyfall.feeds f ON f.feed = o.feed
GROUP BY o.feed, f.feed;

CREATE VIEW keyfall.load_history AS
SELECT id, feed, bucket, key, version, key_time, visible_at, loaded_at, lease_owner AS loaded_by, rows_loaded,
       bytes_read, encode(sha256, 'hex') AS sha256, config_fingerprint, disposal, archived_to
FROM keyfall.objects
WHERE state = 'loaded';
