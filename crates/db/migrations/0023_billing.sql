-- What jobs cost. Amounts are decimal numbers as text: SQLite's own numbers are not exact.

-- The price list: in force from `since` until a later row. Past prices are not changed (statements would).
CREATE TABLE prices (
    since        INTEGER PRIMARY KEY,
    currency     TEXT NOT NULL,
    core_minute  TEXT NOT NULL,
    gib_minute   TEXT NOT NULL,
    created      INTEGER NOT NULL
) STRICT;

-- Amounts that are added to a statement by hand; negative ones are refunds. month: its first day, as `2026-11`.
CREATE TABLE corrections (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    project  TEXT NOT NULL REFERENCES projects (id),
    month    TEXT NOT NULL,
    job      TEXT REFERENCES jobs (id),
    amount   TEXT NOT NULL,
    why      TEXT NOT NULL,
    created  INTEGER NOT NULL
) STRICT;
CREATE INDEX corrections_of_month ON corrections (project, month);
CREATE TRIGGER corrections_are_not_changed BEFORE UPDATE ON corrections
BEGIN
    SELECT RAISE(ABORT, 'a correction is corrected by another one');
END;
CREATE TRIGGER corrections_are_not_removed BEFORE DELETE ON corrections
BEGIN
    SELECT RAISE(ABORT, 'a correction is corrected by another one');
END;

-- The runs of a month are those that started in it, and those of before that still ran.
CREATE INDEX attempts_by_start ON attempts (started) WHERE started IS NOT NULL;
CREATE INDEX attempts_by_end ON attempts (ended) WHERE started IS NOT NULL AND ended IS NOT NULL;
CREATE INDEX attempts_that_run ON attempts (started) WHERE started IS NOT NULL AND ended IS NULL;
