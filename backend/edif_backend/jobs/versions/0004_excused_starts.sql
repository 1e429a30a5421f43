-- Starts that were lost with the fabric and not with the job's own executor: they do not count against the job.

ALTER TABLE jobs ADD COLUMN excused INTEGER NOT NULL DEFAULT 0;
