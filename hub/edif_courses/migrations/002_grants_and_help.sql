CREATE TABLE grants (
    course TEXT NOT NULL REFERENCES courses (id),
    member_of TEXT NOT NULL,          -- group of the hub that members are put into while the course runs
    PRIMARY KEY (course, member_of)
) STRICT;

CREATE TABLE leaves (
    id TEXT PRIMARY KEY,
    course TEXT NOT NULL REFERENCES courses (id),
    student TEXT NOT NULL,
    instructor TEXT NOT NULL,
    reason TEXT NOT NULL,
    asked_at REAL NOT NULL,
    given_at REAL,                    -- NULL: asked for, not given
    ends_at REAL,
    ended_at REAL                     -- taken back, refused, or given up; NULL: not
) STRICT;
CREATE INDEX leaves_by_student ON leaves (course, student);
