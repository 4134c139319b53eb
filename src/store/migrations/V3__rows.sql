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
    -- When it was loaded after all; it then counts among the object's loaded rows.
    replayed_at   timestamptz,
    UNIQUE (object_id, record_no)
);

-- What is still to be looked at.
CREATE INDEX rejections_open ON keyfall.rejections (object_id) WHERE replayed_at IS NULL;

ALTER TABLE keyfall.objects
    -- The header of an object with rejected records: what they need in front of them to be a file again.
    ADD COLUMN header   bytea,
    -- Times it was loaded, undone, and loaded again.
    ADD COLUMN replays  integer NOT NULL DEFAULT 0;

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
       r.column_name, r.code, r.reason, r.raw, r.raw_bytes, r.rejected_at, r.replayed_at
FROM keyfall.rejections r JOIN keyfall.objects o ON o.id = r.object_id;
