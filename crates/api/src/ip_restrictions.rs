//! `/me/accessRestriction/ip` and `/ipDefaultRule`: from where the account is reached.

use identity::{IpRestriction, IpRule};
use serde::Deserialize;
use serde_json::json;

use crate::{
    ApiError,
    auth::parse_block,
    request::{Call, Reply},
};

#[derive(Deserialize)]
struct Change {
    rule: Option<String>,
    warning: Option<bool>,
}

impl Change {
    /// Rule and warning as they are to be, where they were these.
    fn over(self, rule: IpRule, warning: bool) -> Result<(IpRule, bool), ApiError> {
        let rule = self.rule.as_deref().map_or(Ok(rule), rule_of)?;
        Ok((rule, self.warning.unwrap_or(warning)))
    }
}

/// Numbers of the rules.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let all = call.api.identity.ip_restrictions(&call.caller()?.account).await?;
    Reply::json(&all.blocks.iter().map(|one| one.id).collect::<Vec<_>>())
}

/// Adds a rule for a block.
pub(crate) async fn create(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        ip: String,
        rule: String,
        warning: Option<bool>,
    }
    let body: Body = call.json()?;
    let (block, rule) = (parse_block("ip", &body.ip)?, rule_of(&body.rule)?);
    let (account, warning) = (&call.caller()?.account, body.warning.unwrap_or(false));
    call.api.identity.add_ip_restriction(account, block, rule, warning, call.source_ip, &call.actor()).await?;
    Reply::void()
}

/// One rule.
pub(crate) async fn show(call: Call) -> Result<Reply, ApiError> {
    let one = find(&call).await?;
    Reply::json(&json!({ "id": one.id, "ip": one.block, "rule": one.rule.as_str(), "warning": one.warning }))
}

/// Changes a rule.
pub(crate) async fn edit(call: Call) -> Result<Reply, ApiError> {
    let one = find(&call).await?;
    let (rule, warning) = call.json::<Change>()?.over(one.rule, one.warning)?;
    let account = &call.caller()?.account;
    call.api.identity.change_ip_restriction(account, one.id, rule, warning, call.source_ip, &call.actor()).await?;
    Reply::void()
}

/// Removes a rule.
pub(crate) async fn delete(call: Call) -> Result<Reply, ApiError> {
    let one = find(&call).await?;
    let account = &call.caller()?.account;
    call.api.identity.delete_ip_restriction(account, one.id, call.source_ip, &call.actor()).await?;
    Reply::void()
}

/// The rule for the addresses that are in no block.
pub(crate) async fn default_rule(call: Call) -> Result<Reply, ApiError> {
    let all = call.api.identity.ip_restrictions(&call.caller()?.account).await?;
    Reply::json(&json!({ "rule": all.default.as_str(), "warning": all.default_warning }))
}

/// Sets that rule.
pub(crate) async fn set_default_rule(call: Call) -> Result<Reply, ApiError> {
    let account = &call.caller()?.account;
    let old = call.api.identity.ip_restrictions(account).await?;
    let (rule, warning) = call.json::<Change>()?.over(old.default, old.default_warning)?;
    call.api.identity.set_default_ip_rule(account, rule, warning, call.source_ip, &call.actor()).await?;
    Reply::void()
}

async fn find(call: &Call) -> Result<IpRestriction, ApiError> {
    let given = call.param("id")?;
    let all = call.api.identity.ip_restrictions(&call.caller()?.account).await?;
    let found = all.blocks.into_iter().find(|one| one.id.to_string() == given);
    found.ok_or_else(|| ApiError::not_found("id", given))
}

fn rule_of(word: &str) -> Result<IpRule, ApiError> {
    IpRule::parse(word).ok_or_else(|| ApiError::bad_field("rule", "accept or deny"))
}
