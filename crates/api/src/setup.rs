//! `/auth/setup/{token}`: the page by which a person sets a password, once, by a link that was made for it.

use http::StatusCode;
use zeroize::Zeroizing;

use crate::{
    ApiError, pages,
    request::{Call, Reply},
};

/// The form.
pub(crate) async fn form(call: Call) -> Result<Reply, ApiError> {
    match call.api.identity.find_setup(call.param("token")?).await? {
        Some(setup) => Ok(pages::page(TITLE, &body(&setup, ""))),
        None => Ok(gone()),
    }
}

/// Sets the password.
pub(crate) async fn submit(call: Call) -> Result<Reply, ApiError> {
    let fields = pages::read_form(&call)?;
    let token = call.param("token")?;
    let Some(setup) = call.api.identity.find_setup(token).await? else { return Ok(gone()) };
    let chosen = Zeroizing::new(pages::value(&fields, "password").to_owned());
    let again = |why: &str| Ok(pages::refusal(StatusCode::BAD_REQUEST, TITLE, &body(&setup, why)));
    if *chosen != pages::value(&fields, "again") {
        return again("The two passwords are not the same.");
    }
    match call.api.identity.use_setup(token, chosen, &call.actor()).await {
        Ok(_) => Ok(pages::page("The password is set", "<p>You can log in with it now.</p>\n")),
        Err(identity::Error::Invalid { rule, .. }) => again(&format!("That password is not good enough: {rule}.")),
        Err(identity::Error::NotFound { .. }) => Ok(gone()),
        Err(cause) => Err(cause.into()),
    }
}

fn body(setup: &identity::Setup, why: &str) -> String {
    let why = if why.is_empty() { String::new() } else { format!("<p role=\"alert\">{}</p>\n", pages::escape(why)) };
    let login = pages::escape(&format!("{}/{}", setup.account, setup.login));
    format!(
        "{why}<p>Login: <strong>{login}</strong></p>\n{}",
        pages::form(
            "",
            &format!(
                "{}{}<p><button type=\"submit\">Set the password</button></p>\n",
                pages::field("password", "Password, 12 characters at least", "password", "new-password", "", true),
                pages::field("again", "The same again", "password", "new-password", "", true),
            )
        )
    )
}

/// One answer for a link that never was, was used, or is too old.
fn gone() -> Reply {
    let body = "<p>It was used, or its time is over. The operator makes another by <code>casemate user setup-link</code>.</p>\n";
    pages::refusal(StatusCode::NOT_FOUND, "This link is not good", body)
}

const TITLE: &str = "Choose a password";
