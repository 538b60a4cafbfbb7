//! `/auth/validate/{token}`: the page on which a person grants a consumer key that an application asked for. It keeps no
//! session: what is decided is decided by the password that comes with it, so no other site can decide in a person's name.

use http::StatusCode;
use identity::{Assertion, Credential, KeyRequest, LogIn, LoggedIn};
use jiff::{SignedDuration, Timestamp};

use crate::{
    ApiError, pages,
    pages::{escape, field, value},
    request::{Call, Reply},
};

/// The page.
pub(crate) async fn page(call: Call) -> Result<Reply, ApiError> {
    let token = call.param("token")?;
    let Some(pending) = call.api.identity.pending(token).await? else { return Ok(gone()) };
    let action = format!("{token}/login");
    Ok(pages::page(TITLE, &body(&call, &pending, &action, "../security-key.js", &Wish::default()).await?).scripted())
}

/// What asks a security key in the browser.
pub(crate) async fn script(_: Call) -> Result<Reply, ApiError> {
    Ok(Reply::script(include_str!("security-key.js")))
}

/// What the form sends: login, password and decision.
pub(crate) async fn submit(call: Call) -> Result<Reply, ApiError> {
    let fields = pages::read_form(&call)?;
    let token = call.param("token")?;
    let Some(pending) = call.api.identity.pending(token).await? else { return Ok(gone()) };
    let (login, enrolment) = (value(&fields, "login").to_owned(), value(&fields, "enrolment").to_owned());
    let mut wish = Wish { login, enrolment, ..Wish::default() };
    let grant = match value(&fields, "decision") {
        "grant" => true,
        "refuse" => false,
        _ => {
            wish.why = "Say whether you grant or refuse it.".to_owned();
            return again(&call, &pending, StatusCode::BAD_REQUEST, &wish).await;
        }
    };
    let Some(days) = DAYS.iter().find(|(days, _)| *days == value(&fields, "days")).map(|(days, _)| *days) else {
        wish.why = "Say until when it is granted.".to_owned();
        return again(&call, &pending, StatusCode::BAD_REQUEST, &wish).await;
    };
    let assertion = match value(&fields, "assertion") {
        "" => None,
        text => match Assertion::parse(text) {
            Ok(assertion) => Some(assertion),
            Err(fault) => {
                wish.why = format!("It did not work: {fault}.");
                return again(&call, &pending, StatusCode::BAD_REQUEST, &wish).await;
            }
        },
    };
    let given = LogIn {
        name: &wish.login,
        password: value(&fields, "password"),
        code: value(&fields, "code"),
        enrolment: value(&fields, "enrolment"),
        assertion: assertion.as_ref(),
        new_password: value(&fields, "new_password"),
        from: call.source_ip,
        user_agent: call.header("user-agent").unwrap_or_default(),
    };
    let identity = &call.api.identity;
    let outcome = match &assertion {
        Some(passkey) if value(&fields, "passkey_used") == "yes" => {
            identity.log_in_by_passkey(passkey, given.from, given.user_agent).await
        }
        _ => identity.log_in(&given).await,
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(identity::Error::TryLater { seconds }) => {
            wish.why = format!("Too many tries. The next one is heard in {seconds} s.");
            return again(&call, &pending, StatusCode::TOO_MANY_REQUESTS, &wish).await;
        }
        Err(cause) => return Err(cause.into()),
    };
    wish.why = outcome.told(!given.code.is_empty() || assertion.is_some());
    match outcome {
        LoggedIn::Done { person, .. } if grant => {
            let expiration = end(call.now, days);
            call.api.identity.validate_as(token, &person, expiration, &call.actor()).await?;
            return Ok(granted(&pending));
        }
        LoggedIn::Done { person, .. } => {
            call.api.identity.refuse_as(token, &person, &call.actor()).await?;
            return Ok(pages::page("Refused", "<p>The application gets no access.</p>\n"));
        }
        LoggedIn::Refused => {}
        LoggedIn::CodeWanted(key) => wish.key = key,
        LoggedIn::NewPasswordWanted(_) => wish.new_password = true,
        LoggedIn::Enrol(shown) => {
            wish.enrol = format!(
                "<p>Your account wants one-time codes. Put this secret into an authenticator app, and give a code of it:\
                 <br><code>{}</code><br><code>{}</code></p>\n",
                escape(&shown.secret),
                escape(&shown.uri)
            );
            wish.enrolment = shown.form;
        }
    }
    again(&call, &pending, StatusCode::FORBIDDEN, &wish).await
}

/// The page once more, because nothing was decided.
async fn again(call: &Call, pending: &Credential, status: StatusCode, wish: &Wish) -> Result<Reply, ApiError> {
    let body = body(call, pending, "login", "../../security-key.js", wish).await?;
    Ok(pages::refusal(status, TITLE, &body).scripted())
}

/// What the page says beside what the application asks for.
#[derive(Default)]
struct Wish {
    /// The login that was given.
    login: String,
    /// Why nothing was decided yet.
    why: String,
    /// Whether a new password is wanted.
    new_password: bool,
    /// How to begin with one-time codes, as HTML.
    enrol: String,
    /// What the form sends back of the secret that it showed, until another is shown.
    enrolment: String,
    /// What to ask the security keys of the user for.
    key: Option<KeyRequest>,
}

async fn body(call: &Call, pending: &Credential, action: &str, script: &str, wish: &Wish) -> Result<String, ApiError> {
    let applications = call.api.identity.applications(None).await?;
    let name = applications.into_iter().find(|one| one.id == pending.application).map(|one| one.name);
    let mut rules = String::new();
    for rule in &pending.rules {
        rules.push_str(&format!("<li><code>{} {}</code></li>\n", rule.method.as_str(), escape(&rule.path)));
    }
    let blocks = match &pending.allowed_ips {
        None => "every address".to_owned(),
        Some(blocks) => blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let why = match wish.why.as_str() {
        "" => String::new(),
        why => format!("<p role=\"alert\">{}</p>\n", escape(why)),
    };
    let options: String = DAYS.iter().map(|(days, text)| format!("<option value=\"{days}\">{text}</option>")).collect();
    let new_password = match wish.new_password {
        true => field("new_password", "New password, 12 characters at least", "password", "new-password", "", false),
        false => String::new(),
    };
    let enrolment = match wish.enrolment.as_str() {
        "" => String::new(),
        shown => format!("<input type=\"hidden\" name=\"enrolment\" value=\"{}\">\n", escape(shown)),
    };
    let keys = key_buttons(call, wish.key.as_ref());
    let fields = format!(
        "{}{}{}{new_password}{enrolment}{keys}\
         <p><label for=\"days\">Granted for</label><br>\n<select id=\"days\" name=\"days\">{options}</select></p>\n\
         <p><button name=\"decision\" value=\"grant\">Grant</button>\n\
         <button name=\"decision\" value=\"refuse\">Refuse</button></p>\n",
        field("login", "Login (ACCOUNT/USER)", "text", "username", &wish.login, true),
        field("password", "Password", "password", "current-password", "", true),
        field("code", "One-time code or backup code, if you have any", "text", "one-time-code", "", false),
    );
    // Not in a refusal, which many may come to see: it holds the token.
    let console = match wish.why.as_str() {
        "" => format!(
            "<p><a href=\"/console/grant/{}\">Go on in the console</a>, if you are logged in there.</p>\n",
            escape(call.param("token")?)
        ),
        _ => String::new(),
    };
    Ok(format!(
        "<script src=\"{script}\" defer></script>\n{why}{console}\
         <p>The application <strong>{name}</strong> (number {number}) asks to make these calls in your name, from {blocks}:</p>\n\
         <ul>\n{rules}</ul>\n{enrol}{form}<p>Grant it only if you sent the application here yourself.</p>\n",
        name = escape(name.as_deref().unwrap_or_default()),
        number = pending.application,
        blocks = escape(&blocks),
        enrol = wish.enrol,
        form = pages::form(action, &fields),
    ))
}

/// What the script makes of use: a browser without it shows none of it. Where the service has no security keys, there is
/// none.
fn key_buttons(call: &Call, key: Option<&KeyRequest>) -> String {
    let button = |name: &str, request: &KeyRequest, text: &str| {
        let options = escape(&request.options().to_string());
        format!("<button type=\"button\" name=\"{name}\" data-options=\"{options}\" hidden>{text}</button>\n")
    };
    let mut buttons = key.map(|request| button("key", request, "Use a security key and grant")).unwrap_or_default();
    if let Ok(request) = call.api.identity.passkey_request(call.source_ip) {
        buttons.push_str(&button("passkey", &request, "Use a passkey and grant"));
    }
    format!(
        "<p><input type=\"hidden\" name=\"assertion\"><input type=\"hidden\" name=\"passkey_used\">\n\
         {buttons}<span id=\"key-said\" role=\"status\"></span></p>\n"
    )
}

fn granted(pending: &Credential) -> Reply {
    let back = match &pending.redirection {
        Some(url) => format!(
            "<p>The application asks you to go on at <a rel=\"noreferrer\" href=\"{0}\">{0}</a>.</p>\n",
            escape(url)
        ),
        None => String::new(),
    };
    pages::page("Granted", &format!("<p>The application has access now. You can close this page.</p>\n{back}"))
}

/// One answer for a token that never was, was used, or is too old.
fn gone() -> Reply {
    let body = "<p>It was used, or its time is over. The application has to ask again.</p>\n";
    pages::refusal(StatusCode::NOT_FOUND, "This link is not good", body)
}

fn end(now: Timestamp, days: &str) -> Option<Timestamp> {
    let days: i64 = days.parse().ok()?;
    Some(now + SignedDuration::from_hours(24 * days))
}

const TITLE: &str = "An application asks for access";
const DAYS: [(&str, &str); 4] =
    [("1", "1 day"), ("30", "30 days"), ("365", "1 year"), ("unlimited", "as long as it is not revoked")];
