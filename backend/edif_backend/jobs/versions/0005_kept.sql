-- Values that users keep on the server between jobs.

CREATE TABLE kept (
    id      TEXT   PRIMARY KEY,                      -- its object is kept/ID
    "user"  TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    bytes   BIGINT NOT NULL,
    sha256  TEXT   NOT NULL,
    job     TEXT   NOT NULL,                         -- that kept it
    model   TEXT   NOT NULL,
    kept_at DOUBLE PRECISION NOT NULL,
    used_at DOUBLE PRECISION NOT NULL
);
CREATE UNIQUE INDEX kept_by_name ON kept ("user", name);
