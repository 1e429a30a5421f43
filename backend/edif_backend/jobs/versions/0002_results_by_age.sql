-- What is kept too long is found by its age, among results alone.

CREATE INDEX jobs_with_result ON jobs (changed_at) WHERE result IS NOT NULL;
