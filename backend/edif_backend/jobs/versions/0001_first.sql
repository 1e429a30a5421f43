-- The first jobs database, as `edif` 0.1 made it in SQLite.
-- A file of this folder is never changed once it is released: what comes later is a new file.
-- SERIAL stands for the database's own way to number rows.

CREATE TABLE jobs (
    number       SERIAL,                             -- order of arrival
    id           TEXT    NOT NULL UNIQUE,
    "user"       TEXT    NOT NULL,
    session_id   TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    model_key    TEXT    NOT NULL,
    compress     BOOLEAN NOT NULL,
    env          TEXT    NOT NULL,                   -- JSON
    payload_bytes BIGINT NOT NULL,
    state        TEXT    NOT NULL,
    description  TEXT    NOT NULL DEFAULT '',
    attempt      INTEGER NOT NULL DEFAULT 0,
    leased_by    TEXT,
    lease_until  DOUBLE PRECISION,
    created_at   DOUBLE PRECISION NOT NULL,
    changed_at   DOUBLE PRECISION NOT NULL,
    result       TEXT,
    result_bytes BIGINT  NOT NULL DEFAULT 0,
    meta         TEXT    NOT NULL DEFAULT '{}'       -- JSON
);
CREATE INDEX jobs_by_state ON jobs (state, model, number);
CREATE INDEX jobs_by_user  ON jobs ("user", number);

CREATE TABLE events (
    id          SERIAL,                              -- monotonic: what a client has missed is what is larger
    job         TEXT    NOT NULL REFERENCES jobs (id),
    session_id  TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    at          DOUBLE PRECISION NOT NULL
);
CREATE INDEX events_by_job ON events (job, id);

CREATE TABLE deployments (
    model       TEXT    PRIMARY KEY,
    state       TEXT    NOT NULL,
    description TEXT    NOT NULL,
    replicas    INTEGER NOT NULL,
    seen_at     DOUBLE PRECISION NOT NULL
);

CREATE TABLE dispatchers (
    name    TEXT PRIMARY KEY,
    seen_at DOUBLE PRECISION NOT NULL
);
