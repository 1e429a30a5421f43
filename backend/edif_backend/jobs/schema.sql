-- The jobs database.  Only edif_backend.jobs.table reads or writes it.

CREATE TABLE IF NOT EXISTS jobs (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival
    id           TEXT    NOT NULL UNIQUE,
    user         TEXT    NOT NULL,
    session_id   TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    model_key    TEXT    NOT NULL,
    compress     INTEGER NOT NULL,
    env          TEXT    NOT NULL,                   -- JSON
    payload_bytes INTEGER NOT NULL,
    state        TEXT    NOT NULL,
    description  TEXT    NOT NULL DEFAULT '',
    attempt      INTEGER NOT NULL DEFAULT 0,
    leased_by    TEXT,
    lease_until  REAL,
    created_at   REAL    NOT NULL,
    changed_at   REAL    NOT NULL,
    result       TEXT,
    result_bytes INTEGER NOT NULL DEFAULT 0,
    meta         TEXT    NOT NULL DEFAULT '{}'       -- JSON
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, model, number);
CREATE INDEX IF NOT EXISTS jobs_by_user  ON jobs (user, number);

CREATE TABLE IF NOT EXISTS events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,   -- monotonic: what a client has missed is what is larger
    job         TEXT    NOT NULL REFERENCES jobs (id),
    session_id  TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    at          REAL    NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_job ON events (job, id);

CREATE TABLE IF NOT EXISTS deployments (
    model       TEXT    PRIMARY KEY,
    state       TEXT    NOT NULL,
    description TEXT    NOT NULL,
    replicas    INTEGER NOT NULL,
    seen_at     REAL    NOT NULL
);

CREATE TABLE IF NOT EXISTS dispatchers (
    name    TEXT PRIMARY KEY,
    seen_at REAL NOT NULL
);
