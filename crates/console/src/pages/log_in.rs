//! Log-in and log-out. What is wrong is told to nobody who could learn from it, as by the page of validation.

use http::StatusCode;
use identity::{Assertion, KeyRequest, LogIn, LoggedIn, NewSession, Opener};

use crate::{
    gate::{session_secret, set_cookie},
    view::{Field, Form, Outcome, Part, Stop, View},
    visit::Visit,
};

/// The form.
pub(crate) async fn page(visit: Visit) -> Result<Outcome, Stop> {
    Ok(View::new(TITLE, body(&visit, visit.query("next"), &Wish::default())).into())
}

/// Lets a user in: each log-in makes another session, so that nobody can give a browser one that he knows himself.
pub(crate) async fn submit(visit: Visit) -> Result<Outcome, Stop> {
    let (login, enrolment) = (visit.form("login").to_owned(), visit.form("enrolment").to_owned());
    let mut wish = Wish { login, enrolment, ..Wish::default() };
    let next = visit.form("next");
    let assertion = match visit.form("assertion") {
        "" => None,
        text => match Assertion::parse(text) {
            Ok(assertion) => Some(assertion),
            Err(fault) => {
                wish.why = format!("It did not work: {fault}.");
                return Ok(View::new(TITLE, body(&visit, next, &wish)).with_status(StatusCode::BAD_REQUEST).into());
            }
        },
    };
    let given = LogIn {
        name: visit.form("login"),
        password: visit.form("password"),
        code: visit.form("code"),
        enrolment: visit.form("enrolment"),
        assertion: assertion.as_ref(),
        new_password: visit.form("new_password"),
        from: visit.seen.source_ip,
        user_agent: visit.header("user-agent"),
    };
    let identity = &visit.console.identity;
    let outcome = match &assertion {
        Some(passkey) if visit.form("passkey_used") == "yes" => {
            identity.log_in_by_passkey(passkey, given.from, given.user_agent).await
        }
        _ => identity.log_in(&given).await,
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(identity::Error::TryLater { seconds }) => {
            wish.why = format!("Too many tries. The next one is heard in {seconds} s.");
            return Ok(View::new(TITLE, body(&visit, next, &wish)).with_status(StatusCode::TOO_MANY_REQUESTS).into());
        }
        Err(cause) => return Err(failed(&cause)),
    };
    wish.why = outcome.told(!given.code.is_empty() || assertion.is_some());
    match outcome {
        LoggedIn::Done { person, factor } => {
            let opener =
                Opener::User { id: person.id, login: person.login.clone(), password_set: person.password_updated };
            let new = NewSession {
                account: &person.account,
                who: &opener,
                factor,
                from: visit.seen.source_ip,
                user_agent: visit.header("user-agent"),
            };
            return enter(&visit, &new, next).await;
        }
        LoggedIn::Refused => {}
        LoggedIn::CodeWanted(key) => wish.key = key,
        LoggedIn::NewPasswordWanted(_) => wish.new_password = true,
        LoggedIn::Enrol(shown) => {
            wish.enrol = vec![shown.secret.to_string(), shown.uri.to_string()];
            wish.enrolment = shown.form;
        }
    }
    Ok(View::new(TITLE, body(&visit, next, &wish)).with_status(StatusCode::FORBIDDEN).into())
}

/// Opens a session for one who is logged in, ends the one that the browser had, and goes on to `next`.
pub(crate) async fn enter(visit: &Visit, new: &NewSession<'_>, next: &str) -> Result<Outcome, Stop> {
    let identity = &visit.console.identity;
    let old = session_secret(&visit.parts, &visit.seen);
    identity.end_session_before(old, visit.seen.source_ip, visit.now).await.map_err(|cause| failed(&cause))?;
    let session = match identity.open_session(new).await {
        Ok(session) => session,
        Err(identity::Error::AccessDenied { .. }) => {
            return Err(Stop::new(
                StatusCode::FORBIDDEN,
                "You were disabled meanwhile, or your password was set anew: log in again.",
            ));
        }
        Err(cause) => return Err(failed(&cause)),
    };
    let cookie = set_cookie(&visit.seen, &session.secret);
    Ok(Outcome::Redirect { to: within(next).unwrap_or(HOME).to_owned(), cookie })
}

/// Ends the session.
pub(crate) async fn log_out(visit: Visit) -> Result<Outcome, Stop> {
    // By the API, so that its audit entry is that of each log-out.
    visit.api("POST", "/1.0/auth/logout", &[], None).await?.done()?;
    Ok(Outcome::Redirect { to: PATH.to_owned(), cookie: set_cookie(&visit.seen, "") })
}

/// A path of the console, as it was given; `None` for whatever a browser could take for another place. Browsers read `\` as
/// `/`, skip tabs and line ends, and resolve `..` (<https://url.spec.whatwg.org/#url-parsing>).
pub(crate) fn within(next: &str) -> Option<&str> {
    let rest = next.strip_prefix(HOME)?;
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') && next.len() <= 4096;
    let path = next.split(['?', '#']).next().unwrap_or_default();
    let inside =
        !path.split('/').any(|part| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."));
    (plain && inside && (rest.is_empty() || rest.starts_with(['/', '?']))).then_some(next)
}

/// What the form says beside its fields.
#[derive(Default)]
struct Wish {
    /// The login that was given.
    login: String,
    /// Why nobody is logged in yet.
    why: String,
    /// Whether a new password is wanted.
    new_password: bool,
    /// How to begin with one-time codes: the secret, and the same for an app.
    enrol: Vec<String>,
    /// What the form sends back of the secret that it showed, until another is shown.
    enrolment: String,
    /// What to ask the security keys of the user for.
    key: Option<KeyRequest>,
}

fn body(visit: &Visit, next: &str, wish: &Wish) -> Vec<Part> {
    let mut parts = Vec::new();
    if !wish.why.is_empty() {
        parts.push(Part::Alert(wish.why.clone()));
    }
    if !wish.enrol.is_empty() {
        parts.push(Part::Text(
            "Your account wants one-time codes. Put this secret into an authenticator app, and give a code of it:"
                .to_owned(),
        ));
        parts.push(Part::List(wish.enrol.clone()));
    }
    let next = within(next).unwrap_or_default();
    let password =
        |name, label: &str, autocomplete| Field { kind: "password", autocomplete, ..Field::text(name, label) };
    let mut fields = vec![
        Field {
            autocomplete: "username",
            value: wish.login.clone(),
            required: true,
            ..Field::text("login", "Login (ACCOUNT/USER)")
        },
        Field { required: true, ..password("password", "Password", "current-password") },
        Field { autocomplete: "one-time-code", ..Field::text("code", "One-time code or backup code, if you have any") },
    ];
    if wish.new_password {
        fields.push(password("new_password", "New password, 12 characters at least", "new-password"));
    }
    let options = |request: &KeyRequest| request.options().to_string();
    let mut keys: Vec<_> = wish.key.iter().map(|key| ("key", options(key), "Use a security key")).collect();
    // Where the service has no address by which keys could know it, there are none.
    if let Ok(request) = visit.console.identity.passkey_request(visit.seen.source_ip) {
        keys.push(("passkey", options(&request), "Log in with a passkey"));
    }
    let mut hidden = vec![("next".to_owned(), next.to_owned())];
    let form = |action: &str, hidden, fields, keys, button: &str| Form {
        method: "post",
        action: action.to_owned(),
        hidden,
        fields,
        keys,
        buttons: vec![("", "", button.to_owned())],
    };
    let for_sso = hidden.clone();
    if !wish.enrolment.is_empty() {
        hidden.push(("enrolment".to_owned(), wish.enrolment.clone()));
    }
    parts.push(Part::Form(form(PATH, hidden, fields, keys, "Log in")));
    let field = Field { required: true, ..Field::text("account", "Account") };
    parts.push(Part::Heading("Single sign-on".to_owned()));
    parts.push(Part::Form(form(SSO, for_sso, vec![field], Vec::new(), "Log in with your organisation")));
    parts
}

fn failed(cause: &identity::Error) -> Stop {
    tracing::error!(cause = model::chain(cause), "a log-in failed");
    Stop::new(StatusCode::INTERNAL_SERVER_ERROR, "The service failed; the operator finds the cause in its log.")
}

/// Where people log in.
pub(crate) const PATH: &str = "/console/login";
const HOME: &str = "/console";
/// Where single sign-on begins: a page of the API's.
const SSO: &str = "/console/sso";
const TITLE: &str = "Log in";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_console_are_gone_on_to() {
        for good in
            ["/console", "/console?page=2", "/console/iam/explain?action=a%2Fb&x=//y", "/console/projects/a%20b"]
        {
            assert_eq!(within(good), Some(good));
        }
        let long = format!("/console/{}", "a".repeat(5000));
        for wrong in [
            "",
            "/",
            "//evil.example",
            "https://evil.example",
            "https://evil.example/console",
            "/console.evil.example",
            "/consolex",
            "/console\\evil",
            "/\\evil.example",
            "/console/../auth",
            "/console/%2e%2E/auth",
            "/console/..",
            "/console/./x",
            "/console/\tx",
            "/console\n",
            "/console/x y",
            "javascript:alert(1)",
            "console",
            " /console",
            "/console@evil.example",
            "/console:80",
            "/console/\u{e9}",
            &long,
        ] {
            assert_eq!(within(wrong), None, "{wrong}");
        }
    }
}
