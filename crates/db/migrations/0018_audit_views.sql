-- What accounts see of the audit log (crate `api`, `audit_views`): each view has an index of its own, newest last, so that
-- a page costs the same however long the log is. A query must have the condition of its index word for word.
--
-- Calls of the API are those whose action is an IAM action.
CREATE INDEX audit_calls_of_account ON audit (account, at)
    WHERE instr(action, ':apiovh:') > 0;
-- What was asked for on a resource, account by account, and answered by policies.
CREATE INDEX audit_asked_of_resource ON audit (resource, account, at)
    WHERE instr(action, ':apiovh:') > 0 OR action = 'iam.authorization.checked';
-- What became of a project: changes and transitions, without calls of the API and of the object store.
CREATE INDEX audit_of_project ON audit (substr(resource, 9, 32), at)
    WHERE substr(resource, 1, 8) = 'project/' AND instr(action, ':') = 0;
-- Log-ins and new passwords.
CREATE INDEX audit_security_of_account ON audit (account, at)
    WHERE action IN ('account.user.loggedIn', 'account.user.password.changed');
