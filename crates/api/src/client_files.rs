//! Configuration files of clients for a user: OpenStack's `clouds.yaml` and `openrc.sh`, rclone's. None has a secret in
//! it: the password and the secret key are for the reader to fill in.

use identity::User;
use serde_json::json;

use crate::{
    ApiError,
    request::{Call, Reply},
    users,
};

/// `GET .../user/{u}/configuration`: `clouds.yaml`, for the region that is named or the first.
pub(crate) async fn configuration(call: Call) -> Result<Reply, ApiError> {
    let user = users::find(&call).await?;
    let region = match given(&call, "region") {
        Some(region) => known_region(&call, region)?,
        None => call.region()?.to_string(),
    };
    Reply::json(&json!({ "content": clouds_yaml(&Client::new(&call, &user), &region) }))
}

/// `GET .../user/{u}/openrc`: a file for a shell, by which OpenStack's clients find Keystone here; it asks for the
/// password. `region` is any name: there are clients that put another in its place themselves.
pub(crate) async fn openrc(call: Call) -> Result<Reply, ApiError> {
    let user = users::find(&call).await?;
    let region = given(&call, "region").ok_or_else(|| ApiError::bad_field("region", "a region"))?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if region.len() > 64 || !region.chars().all(is_name) {
        return Err(ApiError::bad_field("region", "at most 64 letters, digits, '-' and '_'"));
    }
    match given(&call, "version") {
        None | Some("v3") => {}
        Some("v2.0") => return Err(ApiError::bad_field("version", "v3: Keystone's version 2.0 is not served")),
        Some(_) => return Err(ApiError::bad_field("version", "v3")),
    }
    Reply::json(&json!({ "content": shell_file(&Client::new(&call, &user), region) }))
}

/// `GET .../user/{u}/rclone`: a remote of rclone, by Swift or, with `service=storage-s3`, by S3 with the user's first key.
pub(crate) async fn rclone(call: Call) -> Result<Reply, ApiError> {
    let user = users::find(&call).await?;
    let region = given(&call, "region").ok_or_else(|| unknown_region(&call))?;
    let region = known_region(&call, region)?;
    let client = Client::new(&call, &user);
    let content = match given(&call, "service") {
        None | Some("storage") => swift_remote(&client, &region),
        Some("storage-s3") => {
            let keys = call.api.identity.s3_keys(&user.project, Some(user.id)).await?;
            let access = keys.into_iter().find(|key| key.enabled).map(|key| key.access).unwrap_or_default();
            s3_remote(&call.api.config.objects_url, &access, &region)
        }
        Some(_) => return Err(ApiError::bad_field("service", "storage or storage-s3")),
    };
    Reply::json(&json!({ "content": content }))
}

/// What a client of Keystone has to know.
struct Client {
    auth_url: String,
    username: String,
    project: String,
}

impl Client {
    fn new(call: &Call, user: &User) -> Client {
        Client {
            auth_url: objects::keystone_url(&call.api.config.objects_url),
            username: user.username.clone(),
            project: user.project.to_string(),
        }
    }
}

fn clouds_yaml(client: &Client, region: &str) -> String {
    // A text of JSON is one of YAML.
    let quoted = |text: &str| json!(text).to_string();
    format!(
        "# Put the password of the user below `username`, as `password: ...`, or into OS_PASSWORD.\n\
         clouds:\n\
         \x20 casemate:\n\
         \x20   auth_type: v3password\n\
         \x20   auth:\n\
         \x20     auth_url: {}\n\
         \x20     project_id: {}\n\
         \x20     username: {}\n\
         \x20     user_domain_name: {domain}\n\
         \x20     project_domain_name: {domain}\n\
         \x20   region_name: {}\n\
         \x20   identity_api_version: \"3\"\n",
        quoted(&client.auth_url),
        quoted(&client.project),
        quoted(&client.username),
        quoted(region),
        domain = quoted(objects::DOMAIN_NAME),
    )
}

fn shell_file(client: &Client, region: &str) -> String {
    let Client { auth_url, username, project } = client;
    let (auth_url, domain) = (shell_word(auth_url), objects::DOMAIN_NAME);
    format!(
        "#!/bin/bash\n\
         # To be sourced: `source openrc.sh`.\n\
         export OS_AUTH_URL={auth_url}\n\
         export OS_AUTH_TYPE=password\n\
         export OS_IDENTITY_API_VERSION=3\n\
         export OS_USER_DOMAIN_NAME=\"{domain}\"\n\
         export OS_PROJECT_DOMAIN_NAME=\"{domain}\"\n\
         export OS_PROJECT_ID={project}\n\
         export OS_PROJECT_NAME=\"{project}\"\n\
         export OS_TENANT_ID={project}\n\
         export OS_TENANT_NAME=\"{project}\"\n\
         export OS_USERNAME=\"{username}\"\n\
         export OS_REGION_NAME=\"{region}\"\n\
         if [ -z \"$OS_PASSWORD\" ]; then\n\
         \x20   echo \"Please enter the password of {username}: \"\n\
         \x20   read -sr OS_PASSWORD\n\
         fi\n\
         export OS_PASSWORD\n"
    )
}

fn swift_remote(client: &Client, region: &str) -> String {
    let Client { auth_url, username, project } = client;
    let domain = objects::DOMAIN_NAME;
    format!(
        "[casemate]\n\
         type = swift\n\
         env_auth = false\n\
         user = {username}\n\
         # The password of the user.\n\
         key =\n\
         auth = {auth_url}\n\
         auth_version = 3\n\
         domain = {domain}\n\
         tenant_id = {project}\n\
         tenant_domain = {domain}\n\
         region = {region}\n"
    )
}

fn s3_remote(endpoint: &str, access: &str, region: &str) -> String {
    format!(
        "[casemate]\n\
         type = s3\n\
         provider = Other\n\
         env_auth = false\n\
         access_key_id = {access}\n\
         # The secret of the access key.\n\
         secret_access_key =\n\
         endpoint = {endpoint}\n\
         region = {region}\n\
         location_constraint = {region}\n\
         acl = private\n\
         force_path_style = true\n"
    )
}

/// A word of a shell that is this text and nothing else.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/%[]@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn given<'c>(call: &'c Call, name: &str) -> Option<&'c str> {
    call.query(name).filter(|text| !text.is_empty())
}

/// The project's region, if that is what is given.
pub(crate) fn known_region(call: &Call, given: &str) -> Result<String, ApiError> {
    match call.region_named("region", given)? {
        Some(home) => Ok(home.to_string()),
        None => Err(unknown_region(call)),
    }
}

/// Says which region it can be.
fn unknown_region(call: &Call) -> ApiError {
    match call.region() {
        Ok(home) => ApiError::bad_field("region", format!("{home}, the project's region")),
        Err(fault) => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_shell_file_is_one_word() {
        for (text, word) in [
            ("https://s3.example.org:9000/v3", "https://s3.example.org:9000/v3"),
            ("http://a/$(reboot)", "'http://a/$(reboot)'"),
            ("a'b; c", "'a'\\''b; c'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}
