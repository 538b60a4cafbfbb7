-- 0030 gave attempts that had ended the reason of their job. Of a job that was cancelled, refused or withdrawn while it waited for
-- the next attempt, that is not what its last attempt ended by: such a job has no start, and ended after the attempt. What was
-- written then is in the audit log, as the text of the reason; it is not known where that is not there any more. An attempt that
-- ended after 0030 has a reason of its own, which is never one of these.
UPDATE attempts SET reason = (
    SELECT CASE
        WHEN told LIKE 'lost by the platform: %' THEN json_object('reason', 'platform', 'detail', substr(told, 23))
        WHEN told LIKE 'out of memory: %' THEN json_object('reason', 'out_of_memory', 'detail', substr(told, 16))
        WHEN told LIKE 'out of local storage: %' THEN json_object('reason', 'out_of_disk', 'detail', substr(told, 23))
        WHEN told LIKE 'cannot start: %' THEN json_object('reason', 'cannot_start', 'detail', substr(told, 15))
        WHEN told LIKE 'the driver ended with return code %'
            THEN json_object('reason', 'exited', 'return_code', CAST(substr(told, 35) AS INTEGER))
        WHEN told LIKE 'the driver was killed by signal %'
            THEN json_object('reason', 'signalled', 'signal', CAST(substr(told, 33) AS INTEGER))
    END
    FROM (
        SELECT json_extract(audit.detail, '$.reason') AS told FROM audit
        WHERE substr(audit.resource, 9, 32) = attempts.project
            AND substr(audit.resource, 1, 8) = 'project/' AND instr(audit.action, ':') = 0
            AND audit.resource = 'project/' || attempts.project || '/job/' || attempts.job
            AND audit.action = 'job.pending' AND json_extract(audit.detail, '$.attempt') = attempts.number
        ORDER BY audit.id DESC LIMIT 1
    )
    WHERE attempts.started IS NOT NULL
)
WHERE ended IS NOT NULL AND EXISTS (
    SELECT 1 FROM jobs
    WHERE jobs.id = attempts.job AND jobs.attempt = attempts.number AND jobs.reason = attempts.reason
        AND jobs.started IS NULL AND jobs.ended > attempts.ended AND jobs.ended > jobs.created
);
