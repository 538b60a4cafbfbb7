//! From where an account is reached: log-ins of its users, and calls of the API by whichever credential of it. Access keys
//! of the object store are not bound by it; policies say from where they are good.

use std::{net::IpAddr, sync::Arc, time::Instant};

use audit::{Actor, Entry};
use ipnet::IpNet;
use model::AccountId;

use crate::{Error, Identity, cache::Known};

/// What is done with who comes from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpRule {
    /// It is let in.
    Accept,
    /// It is refused.
    Deny,
}

impl IpRule {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            IpRule::Accept => "accept",
            IpRule::Deny => "deny",
        }
    }

    /// The rule of that word.
    pub fn parse(word: &str) -> Option<IpRule> {
        [IpRule::Accept, IpRule::Deny].into_iter().find(|rule| rule.as_str() == word)
    }
}

/// A rule for an address block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpRestriction {
    /// Its number.
    pub id: i64,
    /// The block.
    pub block: IpNet,
    /// What is done.
    pub rule: IpRule,
    /// Whether the service's log tells each use of it.
    pub warning: bool,
}

/// All rules of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpRestrictions {
    /// Those for blocks, by number.
    pub blocks: Vec<IpRestriction>,
    /// What is done with who comes from elsewhere.
    pub default: IpRule,
    /// Whether the service's log tells each use of that.
    pub default_warning: bool,
}

impl IpRestrictions {
    /// What is done with who comes from an address, and whether that is told: the smallest block that the address is in
    /// decides, of two that are the same (one was kept in the form of IPv6) the one that denies. An address that is not known is in no block.
    pub fn decide(&self, address: Option<IpAddr>) -> (IpRule, bool) {
        let address = address.map(|address| address.to_canonical());
        let within = |one: &&IpRestriction| address.is_some_and(|address| one.block.contains(&address));
        let nearest =
            self.blocks.iter().filter(within).max_by_key(|one| (one.block.prefix_len(), one.rule == IpRule::Deny));
        nearest.map_or((self.default, self.default_warning), |one| (one.rule, one.warning))
    }

    fn read(rows: Vec<db::ip_restrictions::Restriction>) -> Result<IpRestrictions, Error> {
        let damaged = || Error::Damaged { what: "address rule of an account" };
        let mut all = IpRestrictions { blocks: Vec::new(), default: IpRule::Accept, default_warning: false };
        for row in rows {
            let rule = IpRule::parse(&row.rule).ok_or_else(damaged)?;
            match row.block {
                Some(block) => {
                    let block = model::parse_block(&block).ok_or_else(damaged)?;
                    all.blocks.push(IpRestriction { id: row.id, block, rule, warning: row.warning });
                }
                None => (all.default, all.default_warning) = (rule, row.warning),
            }
        }
        Ok(all)
    }
}

impl Identity {
    /// The rules of an account.
    pub async fn ip_restrictions(&self, account: &AccountId) -> Result<IpRestrictions, Error> {
        IpRestrictions::read(db::ip_restrictions::list(&self.db, account).await?)
    }

    /// Adds a rule for a block. A change that would refuse `from`, the address that it comes from, is
    /// [`Error::LocksOut`]; so of the other changes.
    pub async fn add_ip_restriction(
        &self,
        account: &AccountId,
        block: IpNet,
        rule: IpRule,
        warning: bool,
        from: Option<IpAddr>,
        by: &Actor,
    ) -> Result<i64, Error> {
        let block = block.trunc();
        let mut tx = self.db.begin().await?;
        let rows = db::ip_restrictions::list_in(&mut tx, account).await?;
        if rows.len() >= MOST {
            return Err(Error::TooMany { what: "address rules of an account", limit: MOST });
        }
        if IpRestrictions::read(rows)?.blocks.iter().any(|one| one.block == block) {
            return Err(Error::Exists { kind: "address block", id: block.to_string() });
        }
        let row = db::ip_restrictions::Restriction {
            id: 0,
            block: Some(block.to_string()),
            rule: rule.as_str().to_owned(),
            warning,
        };
        let id = db::ip_restrictions::insert(&mut tx, account, &row)
            .await
            .map_err(|fault| crate::accounts::exists(fault, "address block", &block.to_string()))?;
        self.commit_restrictions(tx, account, "account.ipRestriction.created", &row, from, by).await?;
        Ok(id)
    }

    /// Changes rule and warning of a block.
    pub async fn change_ip_restriction(
        &self,
        account: &AccountId,
        id: i64,
        rule: IpRule,
        warning: bool,
        from: Option<IpAddr>,
        by: &Actor,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let mut row = find(&mut tx, account, id).await?;
        (row.rule, row.warning) = (rule.as_str().to_owned(), warning);
        db::ip_restrictions::update(&mut tx, account, &row).await?;
        self.commit_restrictions(tx, account, "account.ipRestriction.changed", &row, from, by).await
    }

    /// Removes the rule of a block.
    pub async fn delete_ip_restriction(
        &self,
        account: &AccountId,
        id: i64,
        from: Option<IpAddr>,
        by: &Actor,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let row = find(&mut tx, account, id).await?;
        db::ip_restrictions::delete(&mut tx, account, id).await?;
        self.commit_restrictions(tx, account, "account.ipRestriction.deleted", &row, from, by).await
    }

    /// Sets what is done with who comes from an address that is in no block.
    pub async fn set_default_ip_rule(
        &self,
        account: &AccountId,
        rule: IpRule,
        warning: bool,
        from: Option<IpAddr>,
        by: &Actor,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let old = db::ip_restrictions::list_in(&mut tx, account).await?.into_iter().find(|row| row.block.is_none());
        let id = old.as_ref().map_or(0, |row| row.id);
        let row = db::ip_restrictions::Restriction { id, block: None, rule: rule.as_str().to_owned(), warning };
        if old.is_some() {
            db::ip_restrictions::update(&mut tx, account, &row).await?;
        } else {
            db::ip_restrictions::insert(&mut tx, account, &row).await?;
        }
        self.commit_restrictions(tx, account, "account.ipRestriction.default.changed", &row, from, by).await
    }

    /// Removes all rules of an account, so that it is reached from everywhere; how many there were.
    pub async fn lift_ip_restrictions(&self, account: &AccountId, by: &Actor) -> Result<u64, Error> {
        let mut tx = self.db.begin().await?;
        let gone = db::ip_restrictions::delete_all(&mut tx, account).await?;
        let mut entry = Entry::new(by.clone(), "account.ipRestriction.lifted", format!("account/{account}"));
        entry.detail = serde_json::json!({ "rules": gone });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        self.restrictions.changed();
        Ok(gone)
    }

    async fn commit_restrictions(
        &self,
        mut tx: db::Tx,
        account: &AccountId,
        action: &str,
        row: &db::ip_restrictions::Restriction,
        from: Option<IpAddr>,
        by: &Actor,
    ) -> Result<(), Error> {
        let after = IpRestrictions::read(db::ip_restrictions::list_in(&mut tx, account).await?)?;
        if after.decide(from).0 == IpRule::Deny {
            return Err(Error::LocksOut { address: from.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string()) });
        }
        let mut entry = Entry::new(by.clone(), action, format!("account/{account}"));
        entry.detail = serde_json::json!({ "ip": row.block, "rule": row.rule, "warning": row.warning });
        self.audit.record_in(&mut tx, &entry).await?;
        tx.commit().await?;
        self.restrictions.changed();
        Ok(())
    }

    /// Whether an account is reached from an address. What another process changed is seen a second later.
    pub(crate) async fn reached_from(&self, account: &AccountId, address: Option<IpAddr>) -> Result<bool, Error> {
        let begun = Instant::now();
        let rules = match self.restrictions.find(account.as_str(), begun) {
            Known::Fresh(rules) => rules,
            Known::Unknown(changes) => {
                let rules = Arc::new(self.ip_restrictions(account).await?);
                self.restrictions.keep(account.as_str(), Some(&rules), begun, changes);
                rules
            }
        };
        let (rule, warning) = rules.decide(address);
        if warning {
            tracing::warn!(%account, ?address, rule = rule.as_str(), "an address rule of an account was used");
        }
        Ok(rule == IpRule::Accept)
    }
}

async fn find(tx: &mut db::Tx, account: &AccountId, id: i64) -> Result<db::ip_restrictions::Restriction, Error> {
    let rows = db::ip_restrictions::list_in(tx, account).await?;
    let found = rows.into_iter().find(|row| row.id == id && row.block.is_some());
    found.ok_or_else(|| Error::NotFound { kind: "id", id: id.to_string() })
}

const MOST: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(default: IpRule, blocks: &[(&str, IpRule)]) -> IpRestrictions {
        let block = |(id, (block, rule)): (usize, &(&str, IpRule))| IpRestriction {
            id: i64::try_from(id).expect("a number"),
            block: block.parse().expect("a block"),
            rule: *rule,
            warning: false,
        };
        IpRestrictions { blocks: blocks.iter().enumerate().map(block).collect(), default, default_warning: true }
    }

    #[test]
    fn a_block_that_is_written_as_ipv4_mapped_is_one_of_ipv4_and_a_wider_one_is_not() {
        let row = |id, block: &str, rule: &str| db::ip_restrictions::Restriction {
            id,
            block: Some(block.to_owned()),
            rule: rule.to_owned(),
            warning: false,
        };
        let rows = vec![row(1, "::ffff:203.0.113.0/120", "deny"), row(2, "::/0", "deny")];
        let all = IpRestrictions::read(rows).expect("rules");
        assert_eq!(all.blocks[0].block.to_string(), "203.0.113.0/24");
        for (address, rule) in [
            ("203.0.113.9", IpRule::Deny),
            ("::ffff:203.0.113.9", IpRule::Deny),
            ("198.51.100.9", IpRule::Accept),
            ("2001:db8::1", IpRule::Deny),
        ] {
            assert_eq!(all.decide(Some(address.parse().expect("an address"))).0, rule, "{address}");
        }
    }

    #[test]
    fn the_smallest_block_decides_and_an_unknown_address_is_in_none() {
        use IpRule::{Accept, Deny};
        let all = rules(
            Deny,
            &[("10.0.0.0/8", Accept), ("10.1.0.0/16", Deny), ("10.1.2.3/32", Accept), ("2001:db8::/32", Accept)],
        );
        for (address, rule) in [
            ("10.2.0.1", Accept),
            ("10.1.0.1", Deny),
            ("10.1.2.3", Accept),
            ("::ffff:10.2.0.1", Accept),
            ("::ffff:192.0.2.1", Deny),
            ("192.0.2.1", Deny),
            ("2001:db8::1", Accept),
            ("2001:db9::1", Deny),
        ] {
            assert_eq!(all.decide(Some(address.parse().expect("an address"))).0, rule, "{address}");
        }
        assert_eq!(all.decide(None), (Deny, true));
        assert_eq!(rules(Accept, &[("0.0.0.0/0", Deny)]).decide(None), (Accept, true));
    }
}
