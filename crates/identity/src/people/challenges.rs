//! Challenges that wait for an authenticator's answer. They are in memory alone: after a restart the browser asks anew.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::Error;

/// What a challenge was made for. It is good for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// To validate this key of this user.
    Register {
        /// The user.
        person: i64,
        /// The key.
        key: i64,
    },
    /// To go beside the password of this user.
    SecondFactor {
        /// The user.
        person: i64,
    },
    /// To log in without a password, whoever it is.
    Passkey,
}

/// The challenges.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    waiting: Mutex<HashMap<Challenge, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    purpose: Purpose,
    owner: Owner,
    until: Instant,
}

/// By whom challenges are counted: nobody can use up those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Person(i64),
    Address(Option<IpAddr>),
}

/// 32 random bytes.
pub(crate) type Challenge = [u8; 32];

impl Challenges {
    /// A new challenge. Where its user or, for nobody known yet, its address has too many, the oldest of those is dropped;
    /// where there are too many of all: [`Error::TryLater`].
    pub(crate) fn issue(&self, purpose: Purpose, from: Option<IpAddr>, now: Instant) -> Result<Challenge, Error> {
        let mut challenge = [0; 32];
        crypto::random(&mut challenge).map_err(|_| Error::NoRandom)?;
        let (owner, most) = match purpose {
            Purpose::Register { person, .. } | Purpose::SecondFactor { person } => {
                (Owner::Person(person), MOST_OF_PERSON)
            }
            Purpose::Passkey => (Owner::Address(source(from)), MOST_OF_ADDRESS),
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MOST {
            waiting.retain(|_, one| one.until > now);
        }
        let of_owner = waiting.iter().filter(|(_, one)| one.owner == owner);
        let (count, oldest) =
            of_owner.fold((0, None), |(count, oldest): (usize, Option<(Instant, Challenge)>), (key, one)| {
                let this = (one.until, *key);
                (count + 1, Some(oldest.map_or(this, |oldest| oldest.min(this))))
            });
        if let Some((_, oldest)) = oldest.filter(|_| count >= most) {
            waiting.remove(&oldest);
        }
        if waiting.len() >= MOST {
            return Err(Error::TryLater { seconds: GOOD_FOR.as_secs() });
        }
        waiting.insert(challenge, Waiting { purpose, owner, until: now + GOOD_FOR });
        Ok(challenge)
    }

    /// What a challenge was made for, if it waits still. It waits no more.
    pub(crate) fn take(&self, challenge: &[u8], now: Instant) -> Option<Purpose> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(challenge).filter(|one| one.until > now).map(|one| one.purpose)
    }
}

pub(crate) const GOOD_FOR: Duration = Duration::from_secs(5 * 60);
/// An IPv4 address, or the first of the /64 of an IPv6 one, which one holder has whole.
fn source(from: Option<IpAddr>) -> Option<IpAddr> {
    match from?.to_canonical() {
        IpAddr::V6(ip) => Some(IpAddr::V6((u128::from(ip) >> 64 << 64).into())),
        v4 @ IpAddr::V4(_) => Some(v4),
    }
}

const MOST: usize = 10_000;
const MOST_OF_PERSON: usize = 10;
const MOST_OF_ADDRESS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_good_once_and_for_five_minutes() {
        let (challenges, now) = (Challenges::default(), Instant::now());
        let purpose = Purpose::Register { person: 1, key: 2 };
        let one = challenges.issue(purpose, None, now).expect("a challenge");
        let other = challenges.issue(purpose, None, now).expect("a challenge");
        assert_ne!(one, other);
        let last = now + GOOD_FOR - Duration::from_secs(1);
        assert_eq!((challenges.take(&one, last), challenges.take(&one, last)), (Some(purpose), None));
        assert_eq!(challenges.take(&other, now + GOOD_FOR), None);
        assert_eq!(challenges.take(&[0; 32], now), None);
        assert_eq!(challenges.take(&[], now), None);
    }

    #[test]
    fn who_asks_for_many_loses_its_own_oldest() {
        let (challenges, now) = (Challenges::default(), Instant::now());
        let address = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let bobs = challenges.issue(Purpose::SecondFactor { person: 2 }, None, now).expect("a challenge");
        let first = challenges.issue(Purpose::SecondFactor { person: 1 }, None, now).expect("a challenge");
        for after in 1..=MOST_OF_PERSON {
            let later = now + Duration::from_secs(after as u64);
            challenges.issue(Purpose::SecondFactor { person: 1 }, None, later).expect("a challenge");
        }
        assert_eq!(challenges.take(&first, now), None);
        assert!(challenges.take(&bobs, now).is_some());
        for n in 0..(MOST - MOST_OF_PERSON) as u32 {
            challenges.issue(Purpose::Passkey, address(n / 100), now).expect("a challenge");
        }
        let refused = challenges.issue(Purpose::Passkey, address(u32::MAX), now);
        assert!(matches!(refused, Err(Error::TryLater { .. })), "{refused:?}");
        assert!(challenges.issue(Purpose::Passkey, address(0), now).is_ok(), "in the place of its own oldest");
        assert!(
            challenges.issue(Purpose::Passkey, address(u32::MAX), now + GOOD_FOR).is_ok(),
            "the old ones have gone"
        );
    }
}
