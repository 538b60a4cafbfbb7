-- When tokens of users of a project and temporary keys were last used, to within the batch of its writing. Unix microseconds.
ALTER TABLE user_tokens ADD COLUMN last_use INTEGER;
ALTER TABLE s3_temporary_keys ADD COLUMN last_use INTEGER;
