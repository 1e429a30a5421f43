-- A jobs database as the first version left it: `sqlite3 jobs.sqlite .dump`.
BEGIN TRANSACTION;
CREATE TABLE deployments (
    model       TEXT    PRIMARY KEY,
    state       TEXT    NOT NULL,
    description TEXT    NOT NULL,
    replicas    INTEGER NOT NULL,
    seen_at     REAL    NOT NULL
);
INSERT INTO "deployments" VALUES('edif/tiny-gpt2','RUNNING','',1,1000026.0);
CREATE TABLE dispatchers (
    name    TEXT PRIMARY KEY,
    seen_at REAL NOT NULL
);
INSERT INTO "dispatchers" VALUES('dispatcher',1000027.0);
CREATE TABLE events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,   -- monotonic: what a client has missed is what is larger
    job         TEXT    NOT NULL REFERENCES jobs (id),
    session_id  TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    at          REAL    NOT NULL
);
INSERT INTO "events" VALUES(1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','session-1','RECEIVED','',1000002.0);
INSERT INTO "events" VALUES(2,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','session-1','QUEUED','Waiting for a free slot.',1000003.0);
INSERT INTO "events" VALUES(3,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','session-1','RECEIVED','',1000005.0);
INSERT INTO "events" VALUES(4,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','session-1','QUEUED','Waiting for a free slot.',1000006.0);
INSERT INTO "events" VALUES(5,'cccccccccccccccccccccccccccccccc','session-1','RECEIVED','',1000008.0);
INSERT INTO "events" VALUES(6,'cccccccccccccccccccccccccccccccc','session-1','QUEUED','Waiting for a free slot.',1000009.0);
INSERT INTO "events" VALUES(7,'dddddddddddddddddddddddddddddddd','session-1','RECEIVED','',1000011.0);
INSERT INTO "events" VALUES(8,'dddddddddddddddddddddddddddddddd','session-1','QUEUED','Waiting for a free slot.',1000012.0);
INSERT INTO "events" VALUES(9,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','session-1','DISPATCHED','Sent to a replica.',1000014.0);
INSERT INTO "events" VALUES(10,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','session-1','DISPATCHED','Sent to a replica.',1000015.0);
INSERT INTO "events" VALUES(11,'cccccccccccccccccccccccccccccccc','session-1','DISPATCHED','Sent to a replica.',1000016.0);
INSERT INTO "events" VALUES(12,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','session-1','RUNNING','Running.',1000018.0);
INSERT INTO "events" VALUES(13,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','session-1','LOG','hello ''wörld''',1000019.0);
INSERT INTO "events" VALUES(14,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','session-1','COMPLETED','Done.',1000021.0);
INSERT INTO "events" VALUES(15,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','session-1','ERROR','ZeroDivisionError',1000023.0);
INSERT INTO "events" VALUES(16,'cccccccccccccccccccccccccccccccc','session-1','RUNNING','Running.',1000025.0);
CREATE TABLE jobs (
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
INSERT INTO "jobs" VALUES(1,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','ada','session-1','edif/tiny-gpt2','key',1,'{"attn_implementation": "sdpa"}',7,'COMPLETED','Done.',1,NULL,NULL,1000001.0,1000020.0,'results/a-1',42,'{"seconds": {"run": 0.5}}');
INSERT INTO "jobs" VALUES(2,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','ada','session-1','edif/tiny-gpt2','key',0,'{"attn_implementation": "sdpa"}',7,'ERROR','ZeroDivisionError',1,NULL,NULL,1000004.0,1000022.0,NULL,0,'{"code": "user-code"}');
INSERT INTO "jobs" VALUES(3,'cccccccccccccccccccccccccccccccc','bob','session-1','edif/tiny-gpt2','key',0,'{"attn_implementation": "sdpa"}',7,'RUNNING','',1,'dispatcher',1000042.0,1000007.0,1000024.0,NULL,0,'{}');
INSERT INTO "jobs" VALUES(4,'dddddddddddddddddddddddddddddddd','bob','session-1','edif/tiny-gpt2','key',0,'{"attn_implementation": "sdpa"}',7,'QUEUED','',0,NULL,NULL,1000010.0,1000010.0,NULL,0,'{}');
CREATE INDEX jobs_by_state ON jobs (state, model, number);
CREATE INDEX jobs_by_user  ON jobs (user, number);
CREATE INDEX events_by_job ON events (job, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',4);
INSERT INTO "sqlite_sequence" VALUES('events',16);
COMMIT;
