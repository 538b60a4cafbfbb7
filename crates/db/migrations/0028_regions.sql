-- Where a project's data are kept and its jobs run. A project that was made before projects had one gets the first region of
-- the configuration when the service starts; a region that is set never changes.
ALTER TABLE projects ADD COLUMN region TEXT;
