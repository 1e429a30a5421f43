-- The oldest waiting jobs of a user are found without going through all that this user ever ran.

CREATE INDEX jobs_waiting ON jobs ("user", model, number) WHERE state IN ('DEPLOYING', 'PROVISIONING', 'QUEUED');
