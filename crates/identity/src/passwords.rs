//! Passwords of users of projects and accounts: Argon2id, a few at once, and tries that are counted so that nobody can guess for
//! long. Parameters: <https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html>

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::Error;

/// 32 random letters and digits, without those that are taken for others: some 186 bits.
pub(crate) fn generate() -> Result<Zeroizing<String>, Error> {
    let mut password = Zeroizing::new(String::with_capacity(LENGTH));
    let mut bytes = Zeroizing::new([0; 64]);
    while password.len() < LENGTH {
        crypto::random(&mut *bytes).map_err(|_| Error::NoRandom)?;
        // Bytes above the last whole multiple are left out, so that each letter is as likely as another.
        let whole = 256 - 256 % LETTERS.len();
        for byte in bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < whole) {
            if password.len() < LENGTH {
                password.push(char::from(LETTERS[byte % LETTERS.len()]));
            }
        }
    }
    Ok(password)
}

/// Hashes and checks passwords, and counts tries.
#[derive(Debug)]
pub(crate) struct Passwords {
    /// One permit a hash: each takes 19 MiB and a core for some 20 ms. Half of the cores are left to other calls.
    hashing: Arc<Semaphore>,
    tries: Arc<Mutex<Tries>>,
}

impl Passwords {
    pub(crate) fn new() -> Passwords {
        Passwords { hashing: Arc::new(Semaphore::new(at_once())), tries: Arc::default() }
    }

    /// The hash of a password, as a PHC string.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, Error> {
        let mut salt = [0; 16];
        crypto::random(&mut salt).map_err(|_| Error::NoRandom)?;
        self.blocking(move || {
            let hash = argon2()?.hash_password_with_salt(password.as_bytes(), &salt).map_err(|_| damaged())?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether a password has this hash. Without a hash the answer is no, after the same time.
    pub(crate) async fn verify(&self, password: Zeroizing<String>, hash: Option<String>) -> Result<bool, Error> {
        self.blocking(move || {
            let known = hash.is_some();
            let hash = hash.as_deref().unwrap_or(NOBODY);
            let hash = PasswordHash::new(hash).map_err(|_| damaged())?;
            Ok(argon2()?.verify_password(password.as_bytes(), &hash).is_ok() && known)
        })
        .await
    }

    /// Lets a try begin, or says when the next may. What is counted is counted for the address alone and for the user
    /// from that address, so that nobody can lock a user out from elsewhere.
    pub(crate) fn admit(&self, from: Option<IpAddr>, username: &str, now: Instant) -> Result<Try, Error> {
        let user: String = username.chars().take(64).collect();
        let pair = format!("{} {user}", source(from));
        self.begin(from, pair, PAIR_EACH, PAIR_BURST, now)
    }

    /// Lets a try of a second factor begin, for a person who has given the right password: so what is counted for the
    /// person is counted from all addresses together.
    pub(crate) fn admit_code(&self, from: Option<IpAddr>, person: i64, now: Instant) -> Result<Try, Error> {
        self.begin(from, format!("code of {person}"), CODE_EACH, CODE_BURST, now)
    }

    fn begin(
        &self,
        from: Option<IpAddr>,
        name: String,
        each: Duration,
        burst: u32,
        now: Instant,
    ) -> Result<Try, Error> {
        let source = source(from);
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.under_way >= MOST_UNDER_WAY || tries.of_source.get(&source).copied().unwrap_or(0) >= MOST_OF_SOURCE {
            return Err(Error::TryLater { seconds: 1 });
        }
        for (name, each, burst) in [(&source, SOURCE_EACH, SOURCE_BURST), (&name, each, burst)] {
            if let Some(wait) = tries.wait(name, each, burst, now) {
                return Err(Error::TryLater { seconds: wait.as_secs().saturating_add(1) });
            }
        }
        tries.count(&source, SOURCE_EACH, now);
        tries.count(&name, each, now);
        tries.under_way += 1;
        *tries.of_source.entry(source.clone()).or_default() += 1;
        Ok(Try { tries: Arc::clone(&self.tries), source, name, each })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.hashing).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(Error::TryLater { seconds: 1 }) };
        let done = tokio::task::spawn_blocking(move || {
            // Held until the hash is done, even if nobody waits for it any more.
            let _permit = permit;
            work()
        });
        done.await.map_err(|_| damaged())?
    }
}

/// A try that is under way.
#[derive(Debug)]
pub(crate) struct Try {
    tries: Arc<Mutex<Tries>>,
    source: String,
    name: String,
    each: Duration,
}

impl Try {
    /// The password was right: the try does not count.
    pub(crate) fn succeeded(&self) {
        let mut tries = self.lock();
        tries.give_back(&self.source, SOURCE_EACH);
        tries.give_back(&self.name, self.each);
    }

    fn lock(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        let mut tries = self.lock();
        tries.under_way = tries.under_way.saturating_sub(1);
        let left = tries.of_source.get(&self.source).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            tries.of_source.remove(&self.source);
        } else {
            tries.of_source.insert(self.source.clone(), left);
        }
    }
}

/// For each name the time at which all its tries are forgotten: each adds its share to it (a leaky bucket).
#[derive(Debug, Default)]
struct Tries {
    forgotten: HashMap<String, Instant>,
    under_way: usize,
    of_source: HashMap<String, usize>,
}

impl Tries {
    fn wait(&self, name: &str, each: Duration, burst: u32, now: Instant) -> Option<Duration> {
        let ahead = self.forgotten.get(name)?.saturating_duration_since(now);
        ahead.checked_sub(each * (burst - 1)).filter(|wait| !wait.is_zero())
    }

    fn count(&mut self, name: &str, each: Duration, now: Instant) {
        if self.forgotten.len() >= MOST_NAMES {
            self.forgotten.retain(|_, at| *at > now);
            if self.forgotten.len() >= MOST_NAMES {
                // More addresses at once than are counted: those nearest to be forgotten go first.
                let mut ends: Vec<Instant> = self.forgotten.values().copied().collect();
                let (_, middle, _) = ends.select_nth_unstable(MOST_NAMES / 2);
                let middle = *middle;
                self.forgotten.retain(|_, at| *at > middle);
            }
        }
        let at = self.forgotten.entry(name.to_owned()).or_insert(now);
        *at = (*at).max(now) + each;
    }

    fn give_back(&mut self, name: &str, each: Duration) {
        if let Some(at) = self.forgotten.get_mut(name)
            && let Some(earlier) = at.checked_sub(each)
        {
            *at = earlier;
        }
    }
}

/// An IPv4 address, or the /64 of an IPv6 one, which one holder has whole.
pub(crate) fn source(from: Option<IpAddr>) -> String {
    match from.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => format!("{:x}/64", u128::from(ip) >> 64),
        None => "unknown".to_owned(),
    }
}

/// Hashes at once, the service over.
fn at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, MOST_AT_ONCE)
}

fn argon2() -> Result<Argon2<'static>, Error> {
    let params = Params::new(MEMORY_KIB, 2, 1, None).map_err(|_| damaged())?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn damaged() -> Error {
    Error::Damaged { what: "password of a user" }
}

const LENGTH: usize = 32;
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const MEMORY_KIB: u32 = 19 * 1024;
/// A hash that belongs to nobody's password, with the same parameters.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Most hashes at once, the service over, however many cores there are: 152 MiB.
const MOST_AT_ONCE: usize = 8;
/// How long a try may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_UNDER_WAY: usize = 64;
const MOST_OF_SOURCE: usize = 8;
/// Wrong passwords of one address: thirty at once, then one in two seconds.
const SOURCE_EACH: Duration = Duration::from_secs(2);
const SOURCE_BURST: u32 = 30;
/// Wrong passwords for one user from one address: ten at once, then one in six seconds.
const PAIR_EACH: Duration = Duration::from_secs(6);
const PAIR_BURST: u32 = 10;
/// Wrong codes of one person: ten at once, then one in a minute, of a million that there are.
const CODE_EACH: Duration = Duration::from_secs(60);
const CODE_BURST: u32 = 10;
const MOST_NAMES: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn passwords_are_long_random_and_plain() {
        let (one, other) = (generate().expect("one"), generate().expect("other"));
        assert_eq!((one.len(), other.len()), (LENGTH, LENGTH));
        assert_ne!(one, other);
        assert!(one.bytes().all(|byte| LETTERS.contains(&byte)));
    }

    #[tokio::test]
    async fn a_password_has_its_hash_and_no_other_has() {
        let passwords = Passwords::new();
        let password = |text: &str| Zeroizing::new(text.to_owned());
        let hash = passwords.hash(password("right")).await.expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash(password("right")).await.expect("hashed"), "salted");
        assert!(passwords.verify(password("right"), Some(hash.clone())).await.expect("checked"));
        assert!(!passwords.verify(password("wrong"), Some(hash)).await.expect("checked"));
        assert!(!passwords.verify(password("right"), None).await.expect("checked"));
        assert!(passwords.verify(password("right"), Some("$1$x".to_owned())).await.is_err());
    }

    #[tokio::test]
    async fn nobody_has_no_password_but_the_time_of_one() {
        let passwords = Passwords::new();
        let hash = passwords.hash(Zeroizing::new("right".to_owned())).await.expect("hashed");
        let (ours, nobodys) = (PasswordHash::new(&hash).expect("a hash"), PasswordHash::new(NOBODY).expect("a hash"));
        assert_eq!((ours.algorithm, ours.version, &ours.params), (nobodys.algorithm, nobodys.version, &nobodys.params));
        assert_eq!(
            ours.hash.map(|output| output.len()),
            nobodys.hash.map(|output| output.len()),
            "the output is as long"
        );
    }

    #[test]
    fn wrong_tries_are_bounded_for_a_user_from_one_address_only() {
        let (passwords, now) = (Passwords::new(), Instant::now());
        for _ in 0..PAIR_BURST {
            drop(passwords.admit(ip("192.0.2.1"), "user-a", now).expect("admitted"));
        }
        let refused = passwords.admit(ip("192.0.2.1"), "user-a", now);
        assert!(matches!(refused, Err(Error::TryLater { seconds }) if seconds <= 7), "{refused:?}");
        // The same user from elsewhere, and another from the same address.
        drop(passwords.admit(ip("192.0.2.2"), "user-a", now).expect("admitted"));
        drop(passwords.admit(ip("192.0.2.1"), "user-b", now).expect("admitted"));
        drop(passwords.admit(ip("192.0.2.1"), "user-a", now + PAIR_EACH).expect("admitted later"));
        assert!(passwords.admit(ip("192.0.2.1"), "user-a", now + PAIR_EACH).is_err());
    }

    #[test]
    fn wrong_codes_are_bounded_for_a_person_from_all_addresses_together() {
        let (passwords, now) = (Passwords::new(), Instant::now());
        let from = |number: u32| ip(&format!("192.0.2.{number}"));
        for number in 0..CODE_BURST {
            drop(passwords.admit_code(from(number), 1, now).expect("admitted"));
        }
        let refused = passwords.admit_code(from(99), 1, now);
        assert!(matches!(refused, Err(Error::TryLater { seconds }) if seconds <= 61), "{refused:?}");
        drop(passwords.admit_code(from(99), 2, now).expect("another person"));
        passwords.admit_code(from(98), 1, now + CODE_EACH).expect("admitted later").succeeded();
        drop(passwords.admit_code(from(98), 1, now + CODE_EACH).expect("right ones do not count"));
    }

    #[test]
    fn wrong_tries_are_bounded_for_an_address() {
        let (passwords, now) = (Passwords::new(), Instant::now());
        for number in 0..SOURCE_BURST {
            let from = ip(&format!("2001:db8::{number:x}"));
            drop(passwords.admit(from, &format!("user-{number}"), now).expect("admitted"));
        }
        assert!(passwords.admit(ip("2001:db8::ffff"), "user-x", now).is_err(), "one /64 is one source");
        drop(passwords.admit(ip("2001:db8:0:1::1"), "user-x", now).expect("another is not"));
    }

    #[test]
    fn right_tries_do_not_count_and_a_try_is_over_when_it_is_dropped() {
        let (passwords, now) = (Passwords::new(), Instant::now());
        for _ in 0..10 * SOURCE_BURST {
            passwords.admit(ip("192.0.2.1"), "user-a", now).expect("admitted").succeeded();
        }
        let held: Vec<Try> = (0..MOST_OF_SOURCE)
            .map(|number| passwords.admit(ip("192.0.2.1"), &format!("user-{number}"), now).expect("admitted"))
            .collect();
        assert!(passwords.admit(ip("192.0.2.1"), "user-x", now).is_err());
        drop(passwords.admit(ip("192.0.2.2"), "user-x", now).expect("another address has its own room"));
        drop(held);
        drop(passwords.admit(ip("192.0.2.1"), "user-x", now).expect("room again"));
    }

    #[test]
    fn the_memory_of_tries_is_bounded() {
        let mut tries = Tries::default();
        let now = Instant::now();
        for number in 0..3 * MOST_NAMES {
            tries.count(&number.to_string(), SOURCE_EACH, now);
            assert!(tries.forgotten.len() <= MOST_NAMES);
        }
    }
}
