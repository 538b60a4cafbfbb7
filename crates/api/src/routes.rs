//! Every route of the API: one row each, with the IAM action that it needs. The router is built from this table, so a
//! route that names no action cannot exist; tests walk it.

use futures::future::BoxFuture;
use identity::{Method, Part};

use crate::{
    ApiError, audit_views, auth, billing, capabilities, client_files, contacts, containers, explain, iam,
    identity_provider, ip_restrictions, jobs_routes, live, logs, me, oauth2, oidc_provider, people, project, quota,
    request::{Call, Reply},
    roles, s3_keys, schedules, second_factors, security_keys, setup, sso, storage, tokens, used, users, validation,
};

/// Who may come to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a signature.
    Open,
    /// Every valid credential, whatever its access rules: the route is about that credential itself.
    Own,
    /// A valid credential whose access rules grant the call: the route is about the caller alone.
    Personal,
    /// A valid credential whose access rules grant the call, and a decision for the action.
    Granted,
    /// A valid credential whose access rules grant the call. The handler asks for a decision for each thing that it
    /// lists, and shows those that are allowed.
    Filtered,
}

pub(crate) type Handler = fn(Call) -> BoxFuture<'static, Result<Reply, ApiError>>;

/// One route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path after the version; of v2 with it, as access rules name it; of a page under `/console` all of it. Parts in
    /// braces are parameters.
    pub path: &'static str,
    /// The IAM action.
    pub action: &'static str,
    /// Who may come to it.
    pub access: Access,
    pub(crate) handler: Handler,
}

impl Route {
    /// Which part of a project it belongs to, and so which contacts may call it; `None` for what is no project's.
    pub fn part(&self) -> Option<Part> {
        self.path.starts_with("/cloud/project/{serviceName}").then(|| Part::of_action(self.action))
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method.as_str(), self.path)
    }
}

macro_rules! route {
    ($access:ident $method:ident $path:literal, $action:expr, $handler:path) => {
        Route {
            method: Method::$method,
            path: $path,
            action: $action,
            access: Access::$access,
            handler: |call| Box::pin($handler(call)),
        }
    };
}

/// The action of a submit, which a schedule needs at each of its times.
pub const SUBMIT: &str = "publicCloudProject:apiovh:dataProcessing/jobs/create";
/// The action of cancelling a job.
pub const CANCEL: &str = "publicCloudProject:apiovh:dataProcessing/jobs/delete";

/// The table.
pub static ROUTES: &[Route] = &[
    route!(Open Get "/auth/time", "account:apiovh:auth/time/get", auth::time),
    route!(Open Post "/auth/credential", "account:apiovh:auth/credential/create", auth::request_credential),
    route!(Own Get "/auth/currentCredential", "account:apiovh:auth/currentCredential/get", auth::current_credential),
    route!(Own Get "/auth/details", "account:apiovh:auth/details/get", auth::details),
    route!(Own Post "/auth/logout", "account:apiovh:auth/logout/create", auth::logout),
    route!(Open Get "/auth/validate/{token}", "account:apiovh:auth/validate/get", validation::page),
    route!(Open Post "/auth/validate/{token}/login", "account:apiovh:auth/validate/login", validation::submit),
    route!(Open Get "/auth/security-key.js", "account:apiovh:auth/script/get", validation::script),
    route!(Granted Post "/auth/validate/{token}", "account:apiovh:auth/validate/create", auth::validate),
    route!(Personal Get "/auth/validate/{token}/request", "account:apiovh:auth/validate/request/get", auth::asked_for),
    route!(Personal Post "/auth/validate/{token}/grant", "account:apiovh:auth/validate/grant", auth::grant),
    route!(Personal Post "/auth/validate/{token}/refuse", "account:apiovh:auth/validate/refuse", auth::refuse),
    route!(Open Post "/auth/oauth2/token", "account:apiovh:auth/oauth2/token/create", oauth2::token),
    route!(Open Get "/auth/setup/{token}", "account:apiovh:auth/setup/get", setup::form),
    route!(Open Post "/auth/setup/{token}", "account:apiovh:auth/setup/create", setup::submit),
    route!(Granted Get "/me", "account:apiovh:me/get", me::show),
    route!(Personal Get "/me/accessRestriction/backupCode", "account:apiovh:me/accessRestriction/backupCode/get", second_factors::backup_codes),
    route!(Personal Post "/me/accessRestriction/backupCode", "account:apiovh:me/accessRestriction/backupCode/create", second_factors::create_backup_codes),
    route!(Personal Delete "/me/accessRestriction/backupCode", "account:apiovh:me/accessRestriction/backupCode/delete", second_factors::delete_backup_codes),
    route!(Personal Post "/me/accessRestriction/backupCode/disable", "account:apiovh:me/accessRestriction/backupCode/disable", second_factors::disable_backup_codes),
    route!(Personal Post "/me/accessRestriction/backupCode/enable", "account:apiovh:me/accessRestriction/backupCode/enable", second_factors::enable_backup_codes),
    route!(Personal Post "/me/accessRestriction/backupCode/validate", "account:apiovh:me/accessRestriction/backupCode/validate", second_factors::validate_backup_codes),
    route!(Granted Get "/me/accessRestriction/ip", "account:apiovh:me/accessRestriction/ip/get", ip_restrictions::list),
    route!(Granted Post "/me/accessRestriction/ip", "account:apiovh:me/accessRestriction/ip/create", ip_restrictions::create),
    route!(Granted Get "/me/accessRestriction/ip/{id}", "account:apiovh:me/accessRestriction/ip/get", ip_restrictions::show),
    route!(Granted Put "/me/accessRestriction/ip/{id}", "account:apiovh:me/accessRestriction/ip/edit", ip_restrictions::edit),
    route!(Granted Delete "/me/accessRestriction/ip/{id}", "account:apiovh:me/accessRestriction/ip/delete", ip_restrictions::delete),
    route!(Granted Get "/me/accessRestriction/ipDefaultRule", "account:apiovh:me/accessRestriction/ipDefaultRule/get", ip_restrictions::default_rule),
    route!(Granted Put "/me/accessRestriction/ipDefaultRule", "account:apiovh:me/accessRestriction/ipDefaultRule/edit", ip_restrictions::set_default_rule),
    route!(Personal Get "/me/accessRestriction/totp", "account:apiovh:me/accessRestriction/totp/get", second_factors::totps),
    route!(Personal Post "/me/accessRestriction/totp", "account:apiovh:me/accessRestriction/totp/create", second_factors::create_totp),
    route!(Personal Get "/me/accessRestriction/totp/{id}", "account:apiovh:me/accessRestriction/totp/get", second_factors::totp),
    route!(Personal Put "/me/accessRestriction/totp/{id}", "account:apiovh:me/accessRestriction/totp/edit", second_factors::edit_totp),
    route!(Personal Delete "/me/accessRestriction/totp/{id}", "account:apiovh:me/accessRestriction/totp/delete", second_factors::delete_totp),
    route!(Personal Post "/me/accessRestriction/totp/{id}/disable", "account:apiovh:me/accessRestriction/totp/disable", second_factors::disable_totp),
    route!(Personal Post "/me/accessRestriction/totp/{id}/enable", "account:apiovh:me/accessRestriction/totp/enable", second_factors::enable_totp),
    route!(Personal Post "/me/accessRestriction/totp/{id}/validate", "account:apiovh:me/accessRestriction/totp/validate", second_factors::validate_totp),
    route!(Personal Get "/me/accessRestriction/u2f", "account:apiovh:me/accessRestriction/u2f/get", security_keys::list),
    route!(Personal Post "/me/accessRestriction/u2f", "account:apiovh:me/accessRestriction/u2f/create", security_keys::create),
    route!(Personal Get "/me/accessRestriction/u2f/{id}", "account:apiovh:me/accessRestriction/u2f/get", security_keys::show),
    route!(Personal Put "/me/accessRestriction/u2f/{id}", "account:apiovh:me/accessRestriction/u2f/edit", security_keys::edit),
    route!(Personal Delete "/me/accessRestriction/u2f/{id}", "account:apiovh:me/accessRestriction/u2f/delete", security_keys::delete),
    route!(Personal Post "/me/accessRestriction/u2f/{id}/disable", "account:apiovh:me/accessRestriction/u2f/disable", security_keys::disable),
    route!(Personal Post "/me/accessRestriction/u2f/{id}/enable", "account:apiovh:me/accessRestriction/u2f/enable", security_keys::enable),
    route!(Personal Post "/me/accessRestriction/u2f/{id}/validate", "account:apiovh:me/accessRestriction/u2f/validate", security_keys::validate),
    route!(Granted Get "/me/api/application", "account:apiovh:me/api/application/get", me::applications),
    route!(Granted Get "/me/api/application/{applicationId}", "account:apiovh:me/api/application/get", me::application),
    route!(Granted Delete "/me/api/application/{applicationId}", "account:apiovh:me/api/application/delete", me::delete_application),
    route!(Granted Get "/me/api/credential", "account:apiovh:me/api/credential/get", me::credentials),
    route!(Granted Get "/me/api/credential/{credentialId}", "account:apiovh:me/api/credential/get", me::credential),
    route!(Granted Delete "/me/api/credential/{credentialId}", "account:apiovh:me/api/credential/delete", me::expire_credential),
    route!(Granted Get "/me/api/live", "account:apiovh:me/api/live/get", live::list),
    route!(Granted Delete "/me/api/live/{kind}/{id}", "account:apiovh:me/api/live/delete", live::revoke),
    route!(Granted Get "/me/api/logs/self", "account:apiovh:me/api/logs/self/get", audit_views::calls),
    route!(Granted Get "/me/api/logs/self/{logId}", "account:apiovh:me/api/logs/self/get", audit_views::one_call),
    route!(Granted Get "/me/api/logs/services", "account:apiovh:me/api/logs/services/get", audit_views::service_calls),
    route!(Granted Get "/me/api/logs/services/{logId}", "account:apiovh:me/api/logs/services/get", audit_views::one_service_call),
    route!(Granted Put "/me/api/credential/{credentialId}", "account:apiovh:me/api/credential/edit", me::edit_credential),
    route!(Granted Get "/me/api/credential/{credentialId}/application", "account:apiovh:me/api/credential/application/get", me::credential_application),
    route!(Granted Get "/me/api/oauth2/client", "account:apiovh:me/api/oauth2/client/get", oauth2::list),
    route!(Granted Post "/me/api/oauth2/client", "account:apiovh:me/api/oauth2/client/create", oauth2::create),
    route!(Granted Get "/me/api/oauth2/client/{clientId}", "account:apiovh:me/api/oauth2/client/get", oauth2::show),
    route!(Granted Put "/me/api/oauth2/client/{clientId}", "account:apiovh:me/api/oauth2/client/edit", oauth2::edit),
    route!(Granted Delete "/me/api/oauth2/client/{clientId}", "account:apiovh:me/api/oauth2/client/delete", oauth2::delete),
    route!(Personal Get "/me/api/session", "account:apiovh:me/api/session/get", live::sessions),
    route!(Personal Delete "/me/api/session/{sessionId}", "account:apiovh:me/api/session/delete", live::end_session),
    route!(Personal Post "/me/changePassword", "account:apiovh:me/changePassword", me::change_password),
    route!(Granted Get "/me/identity/group", "account:apiovh:me/identity/group/get", people::groups),
    route!(Granted Post "/me/identity/group", "account:apiovh:me/identity/group/create", people::create_group),
    route!(Granted Get "/me/identity/group/{group}", "account:apiovh:me/identity/group/get", people::group),
    route!(Granted Put "/me/identity/group/{group}", "account:apiovh:me/identity/group/edit", people::edit_group),
    route!(Granted Delete "/me/identity/group/{group}", "account:apiovh:me/identity/group/delete", people::delete_group),
    route!(Granted Get "/me/identity/provider", "account:apiovh:me/identity/provider/get", identity_provider::show),
    route!(Granted Post "/me/identity/provider", "account:apiovh:me/identity/provider/create", identity_provider::create),
    route!(Granted Put "/me/identity/provider", "account:apiovh:me/identity/provider/edit", identity_provider::edit),
    route!(Granted Delete "/me/identity/provider", "account:apiovh:me/identity/provider/delete", identity_provider::delete),
    route!(Granted Get "/me/identity/provider/oidc", "account:apiovh:me/identity/provider/oidc/get", oidc_provider::show),
    route!(Granted Post "/me/identity/provider/oidc", "account:apiovh:me/identity/provider/oidc/create", oidc_provider::create),
    route!(Granted Put "/me/identity/provider/oidc", "account:apiovh:me/identity/provider/oidc/edit", oidc_provider::edit),
    route!(Granted Delete "/me/identity/provider/oidc", "account:apiovh:me/identity/provider/oidc/delete", oidc_provider::delete),
    route!(Granted Get "/me/identity/user", "account:apiovh:me/identity/user/get", people::users),
    route!(Granted Post "/me/identity/user", "account:apiovh:me/identity/user/create", people::create_user),
    route!(Granted Get "/me/identity/user/{user}", "account:apiovh:me/identity/user/get", people::user),
    route!(Granted Put "/me/identity/user/{user}", "account:apiovh:me/identity/user/edit", people::edit_user),
    route!(Granted Delete "/me/identity/user/{user}", "account:apiovh:me/identity/user/delete", people::delete_user),
    route!(Granted Post "/me/identity/user/{user}/disable", "account:apiovh:me/identity/user/disable", people::disable_user),
    route!(Granted Post "/me/identity/user/{user}/enable", "account:apiovh:me/identity/user/enable", people::enable_user),
    route!(Granted Get "/me/logs/audit", "account:apiovh:me/logs/audit/get", audit_views::security),
    route!(Open Get "/console/sso", "account:apiovh:console/sso/get", sso::form),
    route!(Open Post "/console/sso", "account:apiovh:console/sso/create", sso::begin),
    route!(Open Post "/console/sso/saml/acs", "account:apiovh:console/sso/saml/acs/create", sso::saml_answer),
    route!(Open Get "/console/sso/saml/metadata/{account}", "account:apiovh:console/sso/saml/metadata/get", sso::saml_metadata),
    route!(Open Get "/console/sso/oidc/callback", "account:apiovh:console/sso/oidc/callback/get", sso::oidc_answer),
    route!(Filtered Get "/cloud/project", "publicCloudProject:apiovh:get", project::list),
    route!(Granted Get "/cloud/project/{serviceName}", "publicCloudProject:apiovh:get", project::show),
    route!(Granted Get "/cloud/project/{serviceName}/logs", "publicCloudProject:apiovh:logs/get", audit_views::of_project),
    route!(Granted Get "/cloud/project/{serviceName}/quota", "publicCloudProject:apiovh:quota/get", quota::list),
    route!(Granted Get "/me/notification/email/history", "account:apiovh:me/notification/email/history/get", contacts::mails),
    route!(Granted Get "/me/notification/email/history/{id}", "account:apiovh:me/notification/email/history/get", contacts::mail),
    route!(Granted Get "/me/task/contactChange", "account:apiovh:me/task/contactChange/get", contacts::changes),
    route!(Granted Get "/me/task/contactChange/{id}", "account:apiovh:me/task/contactChange/get", contacts::change_shown),
    route!(Granted Post "/me/task/contactChange/{id}/accept", "account:apiovh:me/task/contactChange/accept", contacts::accept),
    route!(Granted Post "/me/task/contactChange/{id}/refuse", "account:apiovh:me/task/contactChange/refuse", contacts::refuse),
    route!(Granted Post "/me/task/contactChange/{id}/resendEmail", "account:apiovh:me/task/contactChange/resendEmail", contacts::resend),
    route!(Granted Post "/cloud/project/{serviceName}/changeContact", "publicCloudProject:apiovh:changeContact", contacts::change),
    route!(Granted Get "/cloud/project/{serviceName}/serviceInfos", "publicCloudProject:apiovh:serviceInfos/get", contacts::service),
    route!(Granted Get "/cloud/project/{serviceName}/region", "publicCloudProject:apiovh:region/get", project::regions),
    route!(Granted Get "/cloud/project/{serviceName}/region/{regionName}", "publicCloudProject:apiovh:region/get", project::region),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/authorization", "publicCloudProject:apiovh:dataProcessing/authorization/get", project::authorization),
    route!(Granted Post "/cloud/project/{serviceName}/dataProcessing/authorization", "publicCloudProject:apiovh:dataProcessing/authorization/create", project::authorize),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/capabilities", "publicCloudProject:apiovh:dataProcessing/capabilities/get", capabilities::list),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/jobs", "publicCloudProject:apiovh:dataProcessing/jobs/get", jobs_routes::list),
    route!(Granted Post "/cloud/project/{serviceName}/dataProcessing/jobs", SUBMIT, jobs_routes::submit),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/jobs/{jobId}", "publicCloudProject:apiovh:dataProcessing/jobs/get", jobs_routes::show),
    route!(Granted Delete "/cloud/project/{serviceName}/dataProcessing/jobs/{jobId}", CANCEL, jobs_routes::cancel),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/jobs/{jobId}/logs", "publicCloudProject:apiovh:dataProcessing/jobs/logs/get", logs::read),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/jobs/{jobId}/metrics", "publicCloudProject:apiovh:dataProcessing/jobs/metrics/get", used::read),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/notebooks", "publicCloudProject:apiovh:dataProcessing/notebooks/get", capabilities::no_notebooks),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/notebooks/capabilities", "publicCloudProject:apiovh:dataProcessing/notebooks/capabilities/get", capabilities::no_notebooks),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/schedules", "publicCloudProject:apiovh:dataProcessing/schedules/get", schedules::list),
    route!(Granted Post "/cloud/project/{serviceName}/dataProcessing/schedules", "publicCloudProject:apiovh:dataProcessing/schedules/create", schedules::create),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/schedules/{scheduleId}", "publicCloudProject:apiovh:dataProcessing/schedules/get", schedules::show),
    route!(Granted Put "/cloud/project/{serviceName}/dataProcessing/schedules/{scheduleId}", "publicCloudProject:apiovh:dataProcessing/schedules/edit", schedules::edit),
    route!(Granted Delete "/cloud/project/{serviceName}/dataProcessing/schedules/{scheduleId}", "publicCloudProject:apiovh:dataProcessing/schedules/delete", schedules::delete),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/schedules/{scheduleId}/runs", "publicCloudProject:apiovh:dataProcessing/schedules/runs/get", schedules::runs),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/statements", "publicCloudProject:apiovh:dataProcessing/statements/get", billing::statements),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/statements/{month}", "publicCloudProject:apiovh:dataProcessing/statements/get", billing::statement),
    route!(Granted Get "/cloud/project/{serviceName}/dataProcessing/statements/{month}/lines", "publicCloudProject:apiovh:dataProcessing/statements/lines/get", billing::lines),
    route!(Granted Get "/cloud/project/{serviceName}/usage/current", "publicCloudProject:apiovh:usage/current/get", billing::current),
    route!(Granted Get "/cloud/project/{serviceName}/usage/history", "publicCloudProject:apiovh:usage/history/get", billing::history),
    route!(Granted Get "/cloud/project/{serviceName}/usage/history/{usageId}", "publicCloudProject:apiovh:usage/history/get", billing::history_detail),
    route!(Granted Get "/cloud/project/{serviceName}/region/{regionName}/storage", "publicCloudProject:apiovh:region/storage/get", storage::list),
    route!(Granted Post "/cloud/project/{serviceName}/region/{regionName}/storage", "publicCloudProject:apiovh:region/storage/create", storage::create),
    route!(Granted Get "/cloud/project/{serviceName}/region/{regionName}/storage/{name}", "publicCloudProject:apiovh:region/storage/get", storage::show),
    route!(Granted Put "/cloud/project/{serviceName}/region/{regionName}/storage/{name}", "publicCloudProject:apiovh:region/storage/edit", storage::edit),
    route!(Granted Delete "/cloud/project/{serviceName}/region/{regionName}/storage/{name}", "publicCloudProject:apiovh:region/storage/delete", storage::delete),
    route!(Granted Delete "/cloud/project/{serviceName}/region/{regionName}/storage/{name}/object/{objectKey}", "publicCloudProject:apiovh:region/storage/object/delete", storage::delete_object),
    route!(Granted Post "/cloud/project/{serviceName}/region/{regionName}/storage/{name}/policy/{userId}", "publicCloudProject:apiovh:region/storage/policy/create", storage::add_policy),
    route!(Granted Post "/cloud/project/{serviceName}/region/{regionName}/storage/{name}/presign", "publicCloudProject:apiovh:region/storage/presign", storage::presign),
    route!(Granted Get "/cloud/project/{serviceName}/role", "publicCloudProject:apiovh:role/get", roles::catalogue),
    route!(Granted Get "/cloud/project/{serviceName}/storage", "publicCloudProject:apiovh:storage/get", containers::list),
    route!(Granted Post "/cloud/project/{serviceName}/storage", "publicCloudProject:apiovh:storage/create", containers::create),
    route!(Granted Post "/cloud/project/{serviceName}/storage/access", "publicCloudProject:apiovh:storage/access/create", tokens::storage_access),
    route!(Granted Get "/cloud/project/{serviceName}/storage/quota", "publicCloudProject:apiovh:storage/quota/get", containers::quota),
    route!(Granted Get "/cloud/project/{serviceName}/storage/{containerId}", "publicCloudProject:apiovh:storage/get", containers::show),
    route!(Granted Put "/cloud/project/{serviceName}/storage/{containerId}", "publicCloudProject:apiovh:storage/edit", containers::edit),
    route!(Granted Delete "/cloud/project/{serviceName}/storage/{containerId}", "publicCloudProject:apiovh:storage/delete", containers::delete),
    route!(Granted Post "/cloud/project/{serviceName}/storage/{containerId}/cors", "publicCloudProject:apiovh:storage/cors/create", containers::allow_origin),
    route!(Granted Delete "/cloud/project/{serviceName}/storage/{containerId}/cors", "publicCloudProject:apiovh:storage/cors/delete", containers::disallow_origin),
    route!(Granted Post "/cloud/project/{serviceName}/storage/{containerId}/publicUrl", "publicCloudProject:apiovh:storage/publicUrl/create", containers::public_url),
    route!(Granted Post "/cloud/project/{serviceName}/storage/{containerId}/static", "publicCloudProject:apiovh:storage/static/create", containers::make_static),
    route!(Granted Post "/cloud/project/{serviceName}/storage/{containerId}/user", "publicCloudProject:apiovh:storage/user/create", containers::create_user),
    route!(Granted Get "/cloud/project/{serviceName}/user", "publicCloudProject:apiovh:user/get", users::list),
    route!(Granted Post "/cloud/project/{serviceName}/user", "publicCloudProject:apiovh:user/create", users::create),
    route!(Granted Get "/cloud/project/{serviceName}/user/{userId}", "publicCloudProject:apiovh:user/get", users::show),
    route!(Granted Delete "/cloud/project/{serviceName}/user/{userId}", "publicCloudProject:apiovh:user/delete", users::delete),
    route!(Granted Get "/cloud/project/{serviceName}/user/{userId}/configuration", "publicCloudProject:apiovh:user/configuration/get", client_files::configuration),
    route!(Granted Get "/cloud/project/{serviceName}/user/{userId}/openrc", "publicCloudProject:apiovh:user/openrc/get", client_files::openrc),
    route!(Granted Get "/cloud/project/{serviceName}/user/{userId}/policy", "publicCloudProject:apiovh:user/policy/get", users::policy),
    route!(Granted Post "/cloud/project/{serviceName}/user/{userId}/policy", "publicCloudProject:apiovh:user/policy/create", users::set_policy),
    route!(Granted Get "/cloud/project/{serviceName}/user/{userId}/rclone", "publicCloudProject:apiovh:user/rclone/get", client_files::rclone),
    route!(Granted Post "/cloud/project/{serviceName}/user/{userId}/regeneratePassword", "publicCloudProject:apiovh:user/regeneratePassword", users::regenerate_password),
    route!(Granted Get "/cloud/project/{serviceName}/user/{userId}/role", "publicCloudProject:apiovh:user/role/get", roles::list),
    route!(Granted Post "/cloud/project/{serviceName}/user/{userId}/role", "publicCloudProject:apiovh:user/role/create", roles::add),
    route!(Granted Put "/cloud/project/{serviceName}/user/{userId}/role", "publicCloudProject:apiovh:user/role/edit", roles::replace),
    route!(Granted Get "/cloud/project/{serviceName}/user/{userId}/role/{roleId}", "publicCloudProject:apiovh:user/role/get", roles::show),
    route!(Granted Delete "/cloud/project/{serviceName}/user/{userId}/role/{roleId}", "publicCloudProject:apiovh:user/role/delete", roles::remove),
    route!(Granted Get "/cloud/project/{serviceName}/user/{userId}/s3Credentials", "publicCloudProject:apiovh:user/s3Credentials/get", s3_keys::list),
    route!(Granted Post "/cloud/project/{serviceName}/user/{userId}/s3Credentials", "publicCloudProject:apiovh:user/s3Credentials/create", s3_keys::create),
    route!(Granted Get "/cloud/project/{serviceName}/user/{userId}/s3Credentials/{access}", "publicCloudProject:apiovh:user/s3Credentials/get", s3_keys::show),
    route!(Granted Delete "/cloud/project/{serviceName}/user/{userId}/s3Credentials/{access}", "publicCloudProject:apiovh:user/s3Credentials/delete", s3_keys::delete),
    route!(Granted Post "/cloud/project/{serviceName}/user/{userId}/s3Credentials/{access}/disable", "publicCloudProject:apiovh:user/s3Credentials/disable", s3_keys::disable),
    route!(Granted Post "/cloud/project/{serviceName}/user/{userId}/s3Credentials/{access}/enable", "publicCloudProject:apiovh:user/s3Credentials/enable", s3_keys::enable),
    route!(Granted Post "/cloud/project/{serviceName}/user/{userId}/s3Credentials/{access}/rotate", "publicCloudProject:apiovh:user/s3Credentials/rotate", s3_keys::rotate),
    route!(Granted Post "/cloud/project/{serviceName}/user/{userId}/s3Credentials/{access}/secret", "publicCloudProject:apiovh:user/s3Credentials/secret/display", s3_keys::secret),
    route!(Granted Post "/cloud/project/{serviceName}/user/{userId}/token", "publicCloudProject:apiovh:user/token/create", tokens::create),
    route!(Granted Get "/v2/iam/log", "account:apiovh:iam/log/get", audit_views::evaluations),
    route!(Granted Get "/v2/iam/policy", "account:apiovh:iam/policy/get", iam::policies),
    route!(Granted Post "/v2/iam/policy", "account:apiovh:iam/policy/create", iam::create_policy),
    route!(Granted Get "/v2/iam/policy/{policyId}", "account:apiovh:iam/policy/get", iam::policy),
    route!(Granted Put "/v2/iam/policy/{policyId}", "account:apiovh:iam/policy/edit", iam::edit_policy),
    route!(Granted Delete "/v2/iam/policy/{policyId}", "account:apiovh:iam/policy/delete", iam::delete_policy),
    route!(Granted Get "/v2/iam/resourceGroup", "account:apiovh:iam/resourceGroup/get", iam::resource_groups),
    route!(Granted Post "/v2/iam/resourceGroup", "account:apiovh:iam/resourceGroup/create", iam::create_resource_group),
    route!(Granted Get "/v2/iam/resourceGroup/{groupId}", "account:apiovh:iam/resourceGroup/get", iam::resource_group),
    route!(Granted Put "/v2/iam/resourceGroup/{groupId}", "account:apiovh:iam/resourceGroup/edit", iam::edit_resource_group),
    route!(Granted Delete "/v2/iam/resourceGroup/{groupId}", "account:apiovh:iam/resourceGroup/delete", iam::delete_resource_group),
    route!(Granted Post "/v2/iam/resourceGroup/{groupId}/changeContact", "account:apiovh:iam/resourceGroup/changeContact", contacts::change_of_group),
    route!(Granted Get "/v2/iam/permissionsGroup", "account:apiovh:iam/permissionsGroup/get", iam::permissions_groups),
    route!(Granted Post "/v2/iam/permissionsGroup", "account:apiovh:iam/permissionsGroup/create", iam::create_permissions_group),
    route!(Granted Get "/v2/iam/permissionsGroup/{permissionsGroupURN}", "account:apiovh:iam/permissionsGroup/get", iam::permissions_group),
    route!(Granted Put "/v2/iam/permissionsGroup/{permissionsGroupURN}", "account:apiovh:iam/permissionsGroup/edit", iam::edit_permissions_group),
    route!(Granted Delete "/v2/iam/permissionsGroup/{permissionsGroupURN}", "account:apiovh:iam/permissionsGroup/delete", iam::delete_permissions_group),
    route!(Granted Get "/v2/iam/resource", "account:apiovh:iam/resource/get", iam::resources),
    route!(Granted Get "/v2/iam/resource/{resourceURN}", "account:apiovh:iam/resource/get", iam::resource),
    route!(Granted Put "/v2/iam/resource/{resourceURN}", "account:apiovh:iam/resource/edit", iam::edit_resource),
    route!(Granted Post "/v2/iam/resource/{resourceURN}/tag", "account:apiovh:iam/resource/tag/create", iam::add_tag),
    route!(Granted Delete "/v2/iam/resource/{resourceURN}/tag/{key}", "account:apiovh:iam/resource/tag/delete", iam::delete_tag),
    route!(Personal Post "/v2/iam/resource/{resourceURN}/authorization/check", "account:apiovh:iam/resource/authorization/check", iam::check_resource),
    route!(Personal Post "/v2/iam/authorization/check", "account:apiovh:iam/authorization/check", iam::check),
    route!(Granted Post "/v2/iam/explain", "account:apiovh:iam/explain", explain::explain),
    route!(Granted Get "/v2/iam/reference/action", "account:apiovh:iam/reference/action/get", iam::reference_actions),
    route!(Granted Get "/v2/iam/reference/resource/type", "account:apiovh:iam/reference/resource/type/get", iam::reference_types),
];
