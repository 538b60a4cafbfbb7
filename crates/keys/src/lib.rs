//! The key hierarchy: root key, account keys, project keys, one data key a thing. Keys leave this room unwrapped
//! only to a caller inside the process, and wrapped only to disk. Knows nothing of what they protect.
//! Start at [`Keys::open`].

mod files;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crypto::{Key, SigningKey, envelope};
use model::{AccountId, ProjectId};
use zeroize::Zeroizing;

/// The keys of one data directory. Each account and project key is unwrapped once and kept, as long as there are not
/// very many, until it is destroyed or the process ends; both wipe it.
pub struct Keys {
    dir: PathBuf,
    root: Key,
    unwrapped: Mutex<Unwrapped>,
}

/// Keys in memory.
#[derive(Default)]
struct Unwrapped {
    keys: HashMap<String, Key>,
    /// How many keys were destroyed: what was read from a file before that is not kept.
    destroyed: u64,
}

/// A data key: fresh for each thing that it protects.
#[derive(Debug)]
pub struct DataKey {
    /// The key.
    pub key: Key,
    /// The same, wrapped by the project's key, to be stored beside what it protects.
    pub wrapped: Vec<u8>,
}

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such key: never made, or destroyed.
    #[error("there is no key of {owner}")]
    Missing {
        /// Whose key, such as `project/ID`.
        owner: String,
    },
    /// It is there already.
    #[error("{owner} has a key already")]
    Exists {
        /// Whose key.
        owner: String,
    },
    /// A file could not be read or written.
    #[error("cannot use the key file {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The root key file can be read by others.
    #[error("the root key {path} has mode {mode:o}; it must be 0400")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Sealed bytes did not open.
    #[error("a sealed secret of {owner} does not open")]
    Sealed {
        /// Whose secret.
        owner: String,
        /// Why.
        source: crypto::Error,
    },
}

impl Keys {
    /// Opens the keys in `dir`; makes the root key if there is none.
    pub fn open(dir: &Path) -> Result<Keys, Error> {
        files::make_directory(dir)?;
        let root = files::root_key(&dir.join(ROOT))?;
        Ok(Keys { dir: dir.to_owned(), root, unwrapped: Mutex::default() })
    }

    /// Makes the key of a new account.
    pub fn create_account(&self, account: &AccountId) -> Result<(), Error> {
        self.create(&owner_of_account(account), &self.root)
    }

    /// Makes the key of a new project of an account.
    pub fn create_project(&self, project: &ProjectId, account: &AccountId) -> Result<(), Error> {
        let by = self.account_key(account)?;
        self.create(&owner_of_project(project), &by)?;
        // Which account's key unwraps it; not a secret.
        files::write_whole(&self.file(&owner_of_project(project), "account"), account.as_str().as_bytes(), 0o600)
    }

    /// Seals a small secret for the place that `context` names, under a project's key.
    pub fn seal(&self, project: &ProjectId, context: &str, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let owner = owner_of_project(project);
        let key = self.project_key(project)?;
        envelope::seal(&key, place(&owner, context).as_bytes(), plaintext)
            .map_err(|source| Error::Sealed { owner, source })
    }

    /// Opens what [`Keys::seal`] sealed for the same place.
    pub fn open_sealed(&self, project: &ProjectId, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let owner = owner_of_project(project);
        let key = self.project_key(project)?;
        envelope::open(&key, place(&owner, context).as_bytes(), sealed)
            .map_err(|source| Error::Sealed { owner, source })
    }

    /// Seals a small secret under an account's key.
    pub fn seal_for_account(&self, account: &AccountId, context: &str, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let owner = owner_of_account(account);
        let key = self.account_key(account)?;
        envelope::seal(&key, place(&owner, context).as_bytes(), plaintext)
            .map_err(|source| Error::Sealed { owner, source })
    }

    /// Opens what [`Keys::seal_for_account`] sealed for the same place.
    pub fn open_for_account(
        &self,
        account: &AccountId,
        context: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let owner = owner_of_account(account);
        let key = self.account_key(account)?;
        envelope::open(&key, place(&owner, context).as_bytes(), sealed)
            .map_err(|source| Error::Sealed { owner, source })
    }

    /// A new data key of a project, for a purpose such as `object` or `log`.
    pub fn data_key(&self, project: &ProjectId, purpose: &str) -> Result<DataKey, Error> {
        let owner = owner_of_project(project);
        let sealed = |source| Error::Sealed { owner: owner.clone(), source };
        let by = self.project_key(project)?;
        let key = Key::random().map_err(sealed)?;
        let wrapped = envelope::wrap(&by, place(&owner, purpose).as_bytes(), &key).map_err(sealed)?;
        Ok(DataKey { key, wrapped })
    }

    /// Unwraps a data key that [`Keys::data_key`] made for the same project and purpose.
    pub fn unwrap(&self, project: &ProjectId, purpose: &str, wrapped: &[u8]) -> Result<Key, Error> {
        let owner = owner_of_project(project);
        let by = self.project_key(project)?;
        envelope::unwrap(&by, place(&owner, purpose).as_bytes(), wrapped)
            .map_err(|source| Error::Sealed { owner, source })
    }

    /// The key that the service signs with for a purpose such as `audit`; made at the first call. Two processes that
    /// make it at once agree on one.
    pub fn signing_key(&self, purpose: &str) -> Result<SigningKey, Error> {
        let owner = owner_of_signing(purpose);
        if !self.has_signing_key(purpose) {
            match self.create_first(&owner, &self.root) {
                Ok(()) | Err(Error::Exists { .. }) => {}
                Err(cause) => return Err(cause),
            }
        }
        let seed = self.unwrapped_or(&owner, || Ok(self.root.clone()))?;
        SigningKey::from_seed(&seed).map_err(|source| Error::Sealed { owner, source })
    }

    /// Whether [`Keys::signing_key`] was ever called for this purpose.
    pub fn has_signing_key(&self, purpose: &str) -> bool {
        self.file(&owner_of_signing(purpose), "key").exists()
    }

    /// Destroys a project's key: nothing that it wraps can be read after. There is no way back.
    pub fn destroy(&self, project: &ProjectId) -> Result<(), Error> {
        let owner = owner_of_project(project);
        let destroyed = files::destroy(&self.file(&owner, "key"));
        // After the file, and counted, so that nobody who read it just before keeps it.
        let mut unwrapped = self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner);
        unwrapped.keys.remove(&owner);
        unwrapped.destroyed += 1;
        destroyed
    }

    fn account_key(&self, account: &AccountId) -> Result<Key, Error> {
        self.unwrapped_or(&owner_of_account(account), || Ok(self.root.clone()))
    }

    fn project_key(&self, project: &ProjectId) -> Result<Key, Error> {
        let owner = owner_of_project(project);
        self.unwrapped_or(&owner, || {
            let text = files::read(&self.file(&owner, "account"), &owner)?;
            let account = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<AccountId>().ok());
            self.account_key(&account.ok_or_else(|| Error::Missing { owner: owner.clone() })?)
        })
    }

    /// The key of `owner` from memory, else from its file by the key that wraps it.
    fn unwrapped_or(&self, owner: &str, by: impl FnOnce() -> Result<Key, Error>) -> Result<Key, Error> {
        let destroyed = {
            let unwrapped = self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(key) = unwrapped.keys.get(owner) {
                return Ok(key.clone());
            }
            unwrapped.destroyed
        };
        let wrapped = files::read(&self.file(owner, "key"), owner)?;
        let key = envelope::unwrap(&by()?, owner.as_bytes(), &wrapped)
            .map_err(|source| Error::Sealed { owner: owner.to_owned(), source })?;
        let mut unwrapped = self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner);
        if unwrapped.destroyed == destroyed {
            if unwrapped.keys.len() >= MOST_KEPT
                && let Some(any) = unwrapped.keys.keys().next().cloned()
            {
                unwrapped.keys.remove(&any);
            }
            unwrapped.keys.insert(owner.to_owned(), key.clone());
        }
        Ok(key)
    }

    fn create(&self, owner: &str, by: &Key) -> Result<(), Error> {
        let sealed = |source| Error::Sealed { owner: owner.to_owned(), source };
        let path = self.file(owner, "key");
        if path.exists() {
            return Err(Error::Exists { owner: owner.to_owned() });
        }
        let key = Key::random().map_err(sealed)?;
        let wrapped = envelope::wrap(by, owner.as_bytes(), &key).map_err(sealed)?;
        files::write_whole(&path, &wrapped, 0o600)
    }

    /// As `create`, but never replaces what another process made meanwhile.
    fn create_first(&self, owner: &str, by: &Key) -> Result<(), Error> {
        let sealed = |source| Error::Sealed { owner: owner.to_owned(), source };
        let key = Key::random().map_err(sealed)?;
        let wrapped = envelope::wrap(by, owner.as_bytes(), &key).map_err(sealed)?;
        match files::write_new(&self.file(owner, "key"), &wrapped, 0o600) {
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::Exists { owner: owner.to_owned() })
            }
            other => other,
        }
    }

    /// The file of an owner such as `project/ID`; ids hold no separators, so that it stays in the directory.
    fn file(&self, owner: &str, kind: &str) -> PathBuf {
        self.dir.join(format!("{}.{kind}", owner.replace('/', "-")))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn owner_of_account(account: &AccountId) -> String {
    format!("account/{account}")
}

fn owner_of_project(project: &ProjectId) -> String {
    format!("project/{project}")
}

fn owner_of_signing(purpose: &str) -> String {
    format!("signing/{purpose}")
}

/// What an envelope is bound to: whose it is and what for.
fn place(owner: &str, context: &str) -> String {
    format!("{owner}/{context}")
}

const ROOT: &str = "root.key";
/// The most keys that are kept in memory.
const MOST_KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (AccountId, ProjectId, ProjectId) {
        let project = |digit: &str| digit.repeat(32).parse().expect("project");
        ("ab1234-casemate".parse().expect("account"), project("a"), project("b"))
    }

    #[test]
    fn what_one_project_sealed_no_other_opens_and_nobody_after_its_end() {
        let dir = tempfile::tempdir().expect("directory");
        let (account, ours, theirs) = ids();
        let keys = Keys::open(dir.path()).expect("keys");
        keys.create_account(&account).expect("account key");
        keys.create_project(&ours, &account).expect("project key");
        keys.create_project(&theirs, &account).expect("project key");
        let sealed = keys.seal(&ours, "s3-key/1", b"secret").expect("sealed");
        let data = keys.data_key(&ours, "object").expect("data key");

        // Another process reads the same from the files.
        let again = Keys::open(dir.path()).expect("keys");
        assert_eq!(again.open_sealed(&ours, "s3-key/1", &sealed).expect("opens").as_slice(), b"secret");
        assert_eq!(again.unwrap(&ours, "object", &data.wrapped).expect("unwraps"), data.key);
        assert!(again.open_sealed(&theirs, "s3-key/1", &sealed).is_err());
        assert!(again.open_sealed(&ours, "s3-key/2", &sealed).is_err());
        assert!(again.unwrap(&ours, "log", &data.wrapped).is_err());

        again.destroy(&ours).expect("destroyed");
        assert!(matches!(again.unwrap(&ours, "object", &data.wrapped), Err(Error::Missing { .. })));
        assert!(again.data_key(&theirs, "object").is_ok());
    }

    #[test]
    fn a_key_is_destroyed_for_good_however_many_use_it() {
        let dir = tempfile::tempdir().expect("directory");
        let (account, ours, _) = ids();
        let keys = Keys::open(dir.path()).expect("keys");
        keys.create_account(&account).expect("account key");
        for _ in 0..50 {
            keys.create_project(&ours, &account).expect("project key");
            std::thread::scope(|scope| {
                let user = || while keys.data_key(&ours, "object").is_ok() {};
                let users = [scope.spawn(user), scope.spawn(user)];
                std::thread::sleep(std::time::Duration::from_millis(1));
                keys.destroy(&ours).expect("destroyed");
                users.into_iter().for_each(|user| user.join().expect("a user"));
            });
            assert!(matches!(keys.data_key(&ours, "object"), Err(Error::Missing { .. })));
        }
    }

    #[test]
    fn a_signing_key_is_made_once_and_never_replaced() {
        let dir = tempfile::tempdir().expect("directory");
        drop(Keys::open(dir.path()).expect("keys"));
        let public = || Keys::open(dir.path()).expect("keys").signing_key("audit").expect("a key").public();
        assert!(!Keys::open(dir.path()).expect("keys").has_signing_key("audit"));
        let first = public();
        assert_eq!(public(), first);
        let keys = Keys::open(dir.path()).expect("keys");
        assert!(keys.has_signing_key("audit"));
        assert!(matches!(keys.create_first("signing/audit", &keys.root), Err(Error::Exists { .. })));
        assert_eq!(public(), first);
        assert_ne!(keys.signing_key("other").expect("a key").public(), first);
    }

    #[test]
    fn a_root_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("directory");
        drop(Keys::open(dir.path()).expect("keys"));
        let file = dir.path().join(ROOT);
        assert_eq!(std::fs::metadata(&file).expect("file").permissions().mode() & 0o777, 0o400);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o440)).expect("mode");
        assert!(matches!(Keys::open(dir.path()), Err(Error::Exposed { .. })));
    }
}
