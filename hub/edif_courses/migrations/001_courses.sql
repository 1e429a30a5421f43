CREATE TABLE courses (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    starts_at REAL NOT NULL,          -- seconds since the epoch, UTC
    ends_at REAL NOT NULL,
    made_by TEXT NOT NULL,
    made_at REAL NOT NULL,
    join_code TEXT                    -- whoever opens its link becomes a student; NULL: nobody
) STRICT;

CREATE TABLE members (
    course TEXT NOT NULL REFERENCES courses (id),
    account TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('student', 'instructor')),
    name TEXT NOT NULL DEFAULT '',    -- as the roster has it
    source TEXT NOT NULL,             -- page, csv, link, lti, command
    added_by TEXT NOT NULL,
    added_at REAL NOT NULL,
    left_at REAL,                     -- removed people stay in the table, and their work in its place
    PRIMARY KEY (course, account)
) STRICT;
CREATE INDEX members_by_account ON members (account);

CREATE TABLE assignments (
    course TEXT NOT NULL REFERENCES courses (id),
    id TEXT NOT NULL,
    title TEXT NOT NULL,
    due_at REAL,
    late_until REAL,                  -- submissions are taken, and marked late, until then; NULL: until the course ends
    made_at REAL NOT NULL,
    PRIMARY KEY (course, id)
) STRICT;

CREATE TABLE releases (
    course TEXT NOT NULL,
    assignment TEXT NOT NULL,
    number INTEGER NOT NULL,          -- 1, 2, …: a corrected release is another one
    released_by TEXT NOT NULL,
    released_at REAL NOT NULL,
    points REAL NOT NULL,             -- of nbgrader's cells
    PRIMARY KEY (course, assignment, number),
    FOREIGN KEY (course, assignment) REFERENCES assignments (course, id)
) STRICT;

CREATE TABLE submissions (
    course TEXT NOT NULL,
    assignment TEXT NOT NULL,
    account TEXT NOT NULL,
    stamp TEXT NOT NULL,              -- its folder
    submitted_at REAL NOT NULL,
    late_s REAL NOT NULL,             -- 0: in time
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    digest TEXT NOT NULL,             -- of its manifest
    PRIMARY KEY (course, assignment, account, stamp),
    FOREIGN KEY (course, assignment) REFERENCES assignments (course, id)
) STRICT;

CREATE TABLE feedback (
    course TEXT NOT NULL,
    assignment TEXT NOT NULL,
    account TEXT NOT NULL,
    stamp TEXT NOT NULL,              -- its folder
    submission TEXT NOT NULL,         -- stamp of what it answers
    returned_by TEXT NOT NULL,
    returned_at REAL NOT NULL,
    score REAL,
    remark TEXT NOT NULL,
    files INTEGER NOT NULL,
    PRIMARY KEY (course, assignment, account, stamp),
    FOREIGN KEY (course, assignment) REFERENCES assignments (course, id)
) STRICT;
