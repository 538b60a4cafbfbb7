//! `/console/sso`: how a browser gets to the provider of an account and back. What comes back is bound to the browser by a
//! cookie; the state that it carries is a random text of ours, never an address.

use http::{HeaderValue, StatusCode, header};
use identity::{
    NewSession, OidcAnswer, Opener, ProviderKind, SSO_TIME, SsoOutcome, SsoStart, SsoVisitor, session_cookie,
    session_cookie_name,
};

use crate::{
    ApiError, pages,
    pages::{escape, field, value},
    request::{Call, Reply, ReplyBody},
};

/// The page on which a person says which account it belongs to.
pub(crate) async fn form(call: Call) -> Result<Reply, ApiError> {
    let given = |name: &str| call.query(name).unwrap_or_default();
    Ok(pages::page(TITLE, &body("", given("account"), given("back"))))
}

/// Sends the browser on to the provider. By a page that goes on by itself, for a browser lets no form of ours end at an
/// address of others.
pub(crate) async fn begin(call: Call) -> Result<Reply, ApiError> {
    let fields = pages::read_form(&call)?;
    // In the old service people typed `ACCOUNT/idp` where the login belongs.
    let typed = value(&fields, "account").trim();
    let account = typed.strip_suffix("/idp").unwrap_or(typed);
    let back = value(&fields, "back");
    let refused = |status, why: &str| {
        let why = format!("<p role=\"alert\">{}</p>\n", escape(why));
        Ok(pages::refusal(status, TITLE, &body(&why, typed, back)))
    };
    let begun = match call.api.identity.begin_sso(account, &call.base_url, back, call.source_ip).await? {
        SsoStart::Begun(begun) => begun,
        SsoStart::NoProvider => {
            return refused(StatusCode::NOT_FOUND, "No such account lets people in by single sign-on.");
        }
        SsoStart::Refused(why) => return refused(StatusCode::SERVICE_UNAVAILABLE, &why),
    };
    let url = escape(&begun.url);
    let page = pages::page(TITLE, &format!("<p><a href=\"{url}\">Go on to the provider of your account</a></p>\n"));
    let onward = HeaderValue::from_str(&format!("0;url={}", begun.url)).map_err(|fault| ApiError::internal(&fault))?;
    let (name, attributes) = cookie(&call.base_url, begun.kind);
    let kept = format!("{name}={}; Max-Age={}{attributes}", *begun.browser, SSO_TIME.as_secs());
    let kept = HeaderValue::from_str(&kept).map_err(|fault| ApiError::internal(&fault))?;
    Ok(page.with_header(header::REFRESH, onward).with_header(header::SET_COOKIE, kept))
}

/// Takes the answer of a provider by OpenID Connect, to which the provider sent the browser on.
pub(crate) async fn oidc_answer(call: Call) -> Result<Reply, ApiError> {
    let (name, attributes) = cookie(&call.base_url, ProviderKind::Oidc);
    let visitor = SsoVisitor {
        browser: cookie_in(&call, name).unwrap_or_default(),
        from: call.source_ip,
        user_agent: call.header("user-agent").unwrap_or_default(),
    };
    let given = |name: &str| call.query(name).unwrap_or_default();
    let answer = OidcAnswer { state: given("state"), code: given("code"), error: given("error"), issuer: given("iss") };
    let outcome = call.api.identity.finish_oidc(&answer, &visitor, call.now).await?;
    let forget = HeaderValue::from_str(&format!("{name}=; Max-Age=0{attributes}"));
    let forget = forget.map_err(|fault| ApiError::internal(&fault))?;
    Ok(end(&call, &visitor, outcome).await?.with_header(header::SET_COOKIE, forget))
}

/// Takes the answer of a provider by SAML, which a page of the provider had the browser send. That page is of another site,
/// so the form is not held against the place from which it came; state and cookie are what binds it.
pub(crate) async fn saml_answer(call: Call) -> Result<Reply, ApiError> {
    let fields = pages::read_foreign_form(&call)?;
    let (name, attributes) = cookie(&call.base_url, ProviderKind::Saml);
    let visitor = SsoVisitor {
        browser: cookie_in(&call, name).unwrap_or_default(),
        from: call.source_ip,
        user_agent: call.header("user-agent").unwrap_or_default(),
    };
    let (state, response) = (value(&fields, "RelayState"), value(&fields, "SAMLResponse"));
    let outcome = call.api.identity.finish_saml(state, response, &call.base_url, &visitor, call.now).await?;
    let forget = HeaderValue::from_str(&format!("{name}=; Max-Age=0{attributes}"));
    let forget = forget.map_err(|fault| ApiError::internal(&fault))?;
    Ok(end(&call, &visitor, outcome).await?.with_header(header::SET_COOKIE, forget))
}

/// Our metadata, for the SAML provider of an account.
pub(crate) async fn saml_metadata(call: Call) -> Result<Reply, ApiError> {
    let named = call.param("account")?;
    let not_there = || ApiError::not_found("identity provider", named);
    let account = named.parse().map_err(|_| not_there())?;
    let found = call.api.identity.saml_metadata(&account, &call.base_url).await?;
    let body = ReplyBody::SamlMetadata(found.ok_or_else(not_there)?);
    Ok(Reply { status: StatusCode::OK, body, headers: Vec::new() })
}

/// A provider says who is in which group, that of administrators too: so they alone choose it.
pub(crate) fn may_choose_provider(call: &Call) -> Result<(), ApiError> {
    match call.caller()?.is_admin() {
        true => Ok(()),
        false => {
            Err(ApiError::refused("Only who may do all that the account may can say which provider vouches for people"))
        }
    }
}

/// Opens the session of a person that a provider vouches for and ends the one that the browser had, or says why there is
/// none.
async fn end(call: &Call, visitor: &SsoVisitor<'_>, outcome: SsoOutcome) -> Result<Reply, ApiError> {
    let person = match outcome {
        SsoOutcome::In(person) => person,
        SsoOutcome::Refused(why) => {
            let body = format!(
                "<p role=\"alert\">{}</p>\n<p><a href=\"/console/sso\">Begin again</a></p>\n<p>Who administers the account \
                 finds this in the audit log, as <code>account.user.loginFailed</code>.</p>\n",
                escape(&why)
            );
            return Ok(pages::refusal(StatusCode::FORBIDDEN, "Nobody was logged in", &body));
        }
    };
    let who = Opener::Federated { name: person.name, groups: person.groups, since: person.since, until: person.until };
    let new = NewSession {
        account: &person.account,
        who: &who,
        factor: None,
        from: call.source_ip,
        user_agent: visitor.user_agent,
    };
    // Not there in an answer by SAML: browsers send it along with no form of another site.
    let old = cookie_in(call, session_cookie_name(&call.base_url));
    call.api.identity.end_session_before(old, call.source_ip, call.now).await?;
    let session = call.api.identity.open_session(&new).await?;
    let kept = HeaderValue::from_str(&session_cookie(&call.base_url, &session.secret));
    let mut kept = kept.map_err(|fault| ApiError::internal(&fault))?;
    kept.set_sensitive(true);
    let back = HeaderValue::from_str(&person.back).map_err(|fault| ApiError::internal(&fault))?;
    let reply = pages::page(TITLE, &format!("<p><a href=\"{}\">Go on</a></p>\n", escape(&person.back)));
    let reply = reply.with_status(StatusCode::SEE_OTHER).with_header(header::LOCATION, back);
    Ok(reply.with_header(header::SET_COOKIE, kept))
}

/// The form, after what is said before it as HTML. `back`: where in the console the person wants to go on.
fn body(why: &str, account: &str, back: &str) -> String {
    let back = match back {
        "" => String::new(),
        back => format!("<input type=\"hidden\" name=\"back\" value=\"{}\">\n", escape(back)),
    };
    let account = field("account", "Account", "text", "organization", account, true);
    let fields = format!("{account}{back}<p><button type=\"submit\">Go on</button></p>\n");
    // The address of the page may have a query, to which a form without an address would be sent too.
    format!("{why}{}", pages::form("/console/sso", &fields))
}

/// Name and attributes of the cookie that binds a log-in to its browser. A form of another site sends it along only with
/// `SameSite=None`, which browsers believe with `Secure` alone. Without TLS, which is on a loopback address only, a cookie
/// that says nothing of sites is sent for two minutes (Chromium) or as long as it lives (Firefox).
fn cookie(base_url: &str, kind: ProviderKind) -> (&'static str, &'static str) {
    match (base_url.starts_with("https://"), kind) {
        (true, ProviderKind::Saml) => ("__Host-casemate-sso", "; Path=/; HttpOnly; Secure; SameSite=None"),
        (true, ProviderKind::Oidc) => ("__Host-casemate-sso", "; Path=/; HttpOnly; Secure; SameSite=Lax"),
        (false, ProviderKind::Saml) => ("casemate-sso", "; Path=/; HttpOnly"),
        (false, ProviderKind::Oidc) => ("casemate-sso", "; Path=/; HttpOnly; SameSite=Lax"),
    }
}

fn cookie_in<'c>(call: &'c Call, name: &str) -> Option<&'c str> {
    identity::cookie(call.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes), name)
}

const TITLE: &str = "Log in with your organisation";
