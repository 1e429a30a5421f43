CREATE TABLE lti_platforms (
    issuer TEXT NOT NULL,
    client TEXT NOT NULL,             -- the id that the platform has given this tool
    deployments TEXT NOT NULL,        -- separated by spaces
    auth_url TEXT NOT NULL,
    token_url TEXT NOT NULL,
    keys_url TEXT NOT NULL,
    added_at REAL NOT NULL,
    PRIMARY KEY (issuer, client)
) STRICT;

CREATE TABLE lti_contexts (
    issuer TEXT NOT NULL,
    client TEXT NOT NULL,
    context TEXT NOT NULL,            -- the platform's course
    course TEXT NOT NULL REFERENCES courses (id),
    members_url TEXT,                 -- its names and roles
    PRIMARY KEY (issuer, client, context)
) STRICT;

CREATE TABLE lti_people (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    account TEXT NOT NULL,
    linked_at REAL NOT NULL,
    PRIMARY KEY (issuer, subject),
    UNIQUE (issuer, account)
) STRICT;

CREATE TABLE lti_expected (           -- on the platform's roster, not linked with an account here yet
    course TEXT NOT NULL REFERENCES courses (id),
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (course, issuer, subject)
) STRICT;

CREATE TABLE lti_attempts (           -- a launch on its way: begun, come back, or arrived
    id TEXT PRIMARY KEY,              -- the state of its login
    nonce TEXT NOT NULL,
    issuer TEXT NOT NULL,
    client TEXT NOT NULL,
    begun_at REAL NOT NULL,
    launch TEXT,                      -- JSON of what the token said, once it came back
    arrived_at REAL
) STRICT;
