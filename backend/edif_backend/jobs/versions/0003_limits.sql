-- What users may use and have used, and who they are.

ALTER TABLE jobs ADD COLUMN time_limit_s DOUBLE PRECISION NOT NULL DEFAULT 600;
CREATE INDEX jobs_of_user ON jobs ("user", state);

ALTER TABLE deployments ADD COLUMN wait_s DOUBLE PRECISION;

-- One row a user: their groups when they last sent a job.  Locked by whoever judges the user's limits.
CREATE TABLE users (
    name        TEXT PRIMARY KEY,
    member_of   TEXT NOT NULL,                       -- JSON: names of groups
    seen_at     DOUBLE PRECISION NOT NULL
);

CREATE TABLE charges (
    "user"      TEXT NOT NULL,
    day         TEXT NOT NULL,                       -- 2026-01-31, UTC
    device_s    DOUBLE PRECISION NOT NULL,
    jobs        INTEGER NOT NULL,
    PRIMARY KEY ("user", day)
);

-- Said by command or by the course service, over what edif.toml says.
CREATE TABLE limits (
    subject     TEXT PRIMARY KEY,                    -- group:NAME or user:NAME
    said        TEXT NOT NULL,                       -- JSON: value by field
    changed_at  DOUBLE PRECISION NOT NULL
);

CREATE TABLE reservations (
    id          TEXT PRIMARY KEY,
    member_of   TEXT NOT NULL,
    weight      DOUBLE PRECISION NOT NULL,
    starts_at   DOUBLE PRECISION NOT NULL,
    ends_at     DOUBLE PRECISION NOT NULL
);
