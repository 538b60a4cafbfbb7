//! What a minute costs, and from when.

use jiff::Timestamp;
use model::{Cores, MiB};
use rust_decimal::Decimal;

use crate::Error;

/// A row of the price list: in force from `since` until the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// From when.
    pub since: Timestamp,
    /// ISO 4217, such as `EUR`. One price list has one.
    pub currency: String,
    /// Of one core for one minute.
    pub core_minute: Decimal,
    /// Of one GiB of memory, overhead included, for one minute.
    pub gib_minute: Decimal,
}

/// A price that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrice {
    /// Not an amount of money that a price can be.
    #[error("{field}: a decimal number from 0 to 999.999999, with at most 6 decimals")]
    Amount {
        /// Which.
        field: &'static str,
    },
    /// Not a currency.
    #[error("currency: three capital letters (ISO 4217), such as EUR")]
    Currency,
    /// Another currency than the price list has.
    #[error("currency: the price list is in {0}, and one price list has one currency")]
    OtherCurrency(String),
    /// It would change what was billed.
    #[error("since: {0} has passed; a price that is in force is not changed, a statement is by a correction")]
    Past(Timestamp),
    /// A later price is there already.
    #[error("since: a price from {0} on is there already")]
    NotLast(Timestamp),
}

impl Price {
    /// A price from what was given for it.
    pub fn parse(since: Timestamp, currency: &str, core_minute: &str, gib_minute: &str) -> Result<Price, InvalidPrice> {
        if currency.len() != 3 || !currency.bytes().all(|letter| letter.is_ascii_uppercase()) {
            return Err(InvalidPrice::Currency);
        }
        Ok(Price {
            since,
            currency: currency.to_owned(),
            core_minute: rate("core_minute", core_minute)?,
            gib_minute: rate("gib_minute", gib_minute)?,
        })
    }

    /// What so many minutes of a job of that size cost: exact, nothing is rounded. With at most 6 decimals a rate, 11 digits
    /// before the point and 16 after it hold any month of any job.
    pub fn amount(&self, minutes: u64, cores: Cores, memory: MiB) -> Result<Decimal, Error> {
        let of_cores = product(&[minutes.into(), cores.0.into(), self.core_minute]);
        let of_memory = product(&[minutes.into(), memory.0.into(), self.gib_minute])
            .and_then(|amount| amount.checked_div(MIB_PER_GIB.into()));
        of_cores.zip(of_memory).and_then(|(cores, memory)| cores.checked_add(memory)).ok_or(Error::Overflow)
    }

    pub(super) fn of_row(row: db::billing::Price) -> Result<Price, Error> {
        Ok(Price {
            since: row.since,
            currency: row.currency,
            core_minute: stored("prices.core_minute", &row.core_minute)?,
            gib_minute: stored("prices.gib_minute", &row.gib_minute)?,
        })
    }

    pub(super) fn row(&self) -> db::billing::Price {
        db::billing::Price {
            since: self.since,
            currency: self.currency.clone(),
            core_minute: self.core_minute.to_string(),
            gib_minute: self.gib_minute.to_string(),
        }
    }
}

fn product(factors: &[Decimal]) -> Option<Decimal> {
    factors.iter().try_fold(Decimal::ONE, |product, factor| product.checked_mul(*factor))
}

fn rate(field: &'static str, text: &str) -> Result<Decimal, InvalidPrice> {
    let rate = Decimal::from_str_exact(text).ok().map(|rate| rate.normalize());
    rate.filter(|rate| rate.scale() <= 6 && !rate.is_sign_negative() && *rate < Decimal::ONE_THOUSAND)
        .ok_or(InvalidPrice::Amount { field })
}

/// An amount as a column has it.
pub(super) fn stored(column: &'static str, text: &str) -> Result<Decimal, Error> {
    Ok(Decimal::from_str_exact(text).map_err(|_| db::Error::Damaged { column })?)
}

const MIB_PER_GIB: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest job there is, for the longest month, at the highest price, against whole numbers.
    #[test]
    fn amounts_are_exact() {
        let dear = Price::parse(Timestamp::UNIX_EPOCH, "EUR", "999.999999", "999.999999").expect("a price");
        let (minutes, cores, memory) = (31 * 24 * 60, Cores(176), MiB(11 * 59 * 1024 - 1));
        let amount = dear.amount(minutes, cores, memory).expect("an amount");
        // In units of 10^-16: 1/1024 has ten decimals.
        let unit = 10_000_000_000_i128;
        let rate = 999_999_999_i128;
        let minutes = i128::from(minutes);
        let expected = minutes * i128::from(cores.0) * rate * unit
            + minutes * i128::from(memory.0) * rate * (unit / 1024)
            + minutes * i128::from(memory.0) * rate * (unit % 1024) / 1024;
        assert_eq!(amount, Decimal::from_i128_with_scale(expected, 16));
    }

    #[test]
    fn a_price_is_refused_by_the_name_of_what_is_wrong() {
        for wrong in ["", "-1", "1000", "0.0000001", "1e3", "NaN", "1,5", "0x10", "99999999999999999999999999999999"] {
            let refused = Price::parse(Timestamp::UNIX_EPOCH, "EUR", wrong, "0");
            assert_eq!(refused, Err(InvalidPrice::Amount { field: "core_minute" }), "{wrong}");
        }
        assert_eq!(Price::parse(Timestamp::UNIX_EPOCH, "eur", "0", "0"), Err(InvalidPrice::Currency));
        assert!(Price::parse(Timestamp::UNIX_EPOCH, "EUR", "0.0100000", "0").is_ok());
    }
}
