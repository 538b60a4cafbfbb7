-- granted_by: the credential that granted it, where one did and not a person or the operator: it ends with that one. No foreign
-- key: the number stays when the application of that one is gone, and no number is given twice. source: by whom it was asked
-- for, as tries of passwords are counted: an IPv4 address or the /64 of an IPv6 one; not known of those of before this column.
ALTER TABLE credentials ADD COLUMN granted_by INTEGER;
ALTER TABLE credentials ADD COLUMN source TEXT;
CREATE INDEX credentials_of_granter ON credentials (granted_by) WHERE granted_by IS NOT NULL;
CREATE INDEX credentials_that_wait ON credentials (application, source) WHERE status = 'pendingValidation';
