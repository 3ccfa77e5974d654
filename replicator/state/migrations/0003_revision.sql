-- How often the record was changed: a save that was made from an older one is refused.
ALTER TABLE migration ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
