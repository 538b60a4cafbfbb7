-- Keys that were granted by another key before 0039: the audit log tells by which, in the entry of the call that granted. One that
-- outlived its granter stays: it ended with nothing then, and its user may have kept it.
UPDATE credentials SET granted_by = told.granter
FROM (
    SELECT CAST(substr(made.resource, 12) AS INTEGER) AS id,
        CAST(substr(json_extract(call.detail, '$.proof'), 12) AS INTEGER) AS granter
    FROM audit AS made JOIN audit AS call ON call.request_id = made.request_id
    WHERE made.action = 'credential.validated' AND call.action = 'account:apiovh:auth/validate/create'
        AND json_extract(call.detail, '$.proof') LIKE 'credential/%'
) AS told
WHERE credentials.id = told.id
    AND EXISTS (SELECT 1 FROM credentials AS granter WHERE granter.id = told.granter AND granter.status = 'validated');
