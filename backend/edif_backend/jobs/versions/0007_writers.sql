-- The last change of every process that writes, so that it can ask whether one whose commit was cut off has happened.

CREATE TABLE writers (
    name TEXT NOT NULL PRIMARY KEY,
    change BIGINT NOT NULL,
    seen_at DOUBLE PRECISION NOT NULL
);
