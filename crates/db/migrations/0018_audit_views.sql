-- What accounts see of the audit log (crate `api`, `audit_views`): each view has an index of its own, newest last, so that
-- a page costs the same however long the log is. A query must have the condition of its index word for word. An entry is
-- in as few indexes as can be, since each commit writes a page of each for each account and resource in it.
--
-- Calls of the API are those whose action is an IAM action. These two take the place of an index by account and number.
DROP INDEX audit_of_account;
CREATE INDEX audit_calls_of_account ON audit (account, at)
    WHERE account IS NOT NULL AND instr(action, ':apiovh:') > 0;
CREATE INDEX audit_rest_of_account ON audit (account, at)
    WHERE account IS NOT NULL AND instr(action, ':apiovh:') = 0;
-- What was asked for on a resource, account by account, and answered by policies. The end of a URN tells nearly all apart.
CREATE INDEX audit_asked_of_resource ON audit (substr(resource, -32), account, at)
    WHERE account IS NOT NULL AND (instr(action, ':apiovh:') > 0 OR action = 'iam.authorization.checked');
-- What became of a project: changes and transitions, without calls of the API and of the object store.
CREATE INDEX audit_of_project ON audit (substr(resource, 9, 32), at)
    WHERE substr(resource, 1, 8) = 'project/' AND instr(action, ':') = 0;
-- Log-ins and new passwords.
CREATE INDEX audit_security_of_account ON audit (account, at)
    WHERE action IN ('account.user.loggedIn', 'account.user.password.changed');
