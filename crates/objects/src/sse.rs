//! How callers want their objects sealed. Each object has a data key of its own; here is by what else than the project's
//! key that is to be wrapped, and under which name.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use crypto::{Key, envelope};
use model::ProjectId;
use s3s::{S3Error, S3ErrorCode, S3Result, crypto::Checksum as _, s3_error};

use crate::{Error, digests::Digested, rows::Sealing, seal::Sealed, store::PURPOSE};

/// A key that the customer keeps, as it came with a request.
pub struct CustomerKey {
    /// The key.
    pub key: Key,
    /// Its MD5, as it was sent, for the answer.
    pub md5: String,
}

/// How a request's data is to be sealed.
#[derive(Default)]
pub struct Wanted {
    /// As a row says it.
    pub sealing: Sealing,
    /// The customer's key, if it is by that.
    pub customer: Option<CustomerKey>,
}

impl Wanted {
    /// By what a request says, else by what its bucket does by itself.
    pub fn new(
        project: &ProjectId,
        algorithm: Option<&str>,
        kms_key: Option<&str>,
        customer: Option<CustomerKey>,
        bucket: &Sealing,
    ) -> S3Result<Wanted> {
        if let Some(customer) = customer {
            if algorithm.is_some() || kms_key.is_some() {
                return Err(s3_error!(
                    InvalidArgument,
                    "Server Side Encryption with Customer provided key is incompatible with the encryption method specified"
                ));
            }
            let sealing = customer.sealing()?;
            return Ok(Wanted { sealing, customer: Some(customer) });
        }
        let sealing = match (algorithm, kms_key) {
            (None, None) => bucket.clone(),
            (algorithm, kms_key) => sealing(project, algorithm, kms_key)?,
        };
        Ok(Wanted { sealing, customer: None })
    }

    /// Wraps the data key of sealed data by the customer's key too, if there is one. The entity tag is then one of
    /// nothing: it would tell what the data may be.
    pub fn wrap(&self, data: (Sealed, Digested)) -> Result<(Sealed, Digested), Error> {
        match &self.customer {
            None => Ok(data),
            Some(customer) => wrap(&customer.key, data),
        }
    }
}

/// What an algorithm and the name of a key say.
pub fn sealing(project: &ProjectId, algorithm: Option<&str>, kms_key: Option<&str>) -> S3Result<Sealing> {
    match (algorithm, kms_key) {
        (Some("AES256"), None) => Ok(Sealing::Project),
        (Some("aws:kms"), key) => {
            let own = kms_key_of(project);
            match key.filter(|key| *key != own && Some(*key) != own.split_once(":key/").map(|(_, name)| name)) {
                None => Ok(Sealing::Kms { key: own }),
                Some(_) => {
                    let code = S3ErrorCode::Custom("KMS.NotFoundException".into());
                    let mut refusal = S3Error::with_message(code, format!("the key of the project is {own}"));
                    refusal.set_status_code(http::StatusCode::BAD_REQUEST);
                    Err(refusal)
                }
            }
        }
        (Some("aws:kms:dsse" | "aws:fsx"), _) => {
            Err(s3_error!(NotImplemented, "that form of encryption is not supported"))
        }
        (Some("AES256") | None, Some(_)) => {
            Err(s3_error!(InvalidArgument, "a key of the key service is used with `aws:kms` only"))
        }
        (Some(_), _) => Err(s3_error!(InvalidArgument, "the encryption is `AES256` or `aws:kms`")),
        (None, None) => Ok(Sealing::Project),
    }
}

/// The name that the project's key has as one of a key service.
pub fn kms_key_of(project: &ProjectId) -> String {
    format!("arn:casemate:kms::{project}:key/project")
}

impl CustomerKey {
    /// Of the three fields that a request has for it, all or none, on a connection that is private or not.
    pub fn new(
        algorithm: Option<&str>,
        key: Option<&str>,
        md5: Option<&str>,
        is_private: bool,
    ) -> S3Result<Option<CustomerKey>> {
        if algorithm.is_none() && key.is_none() && md5.is_none() {
            return Ok(None);
        }
        if !is_private {
            return Err(s3_error!(
                InvalidRequest,
                "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection."
            ));
        }
        let missing = |what: &str| {
            s3_error!(
                InvalidArgument,
                "Requests specifying Server Side Encryption with Customer provided keys must provide {what}."
            )
        };
        match algorithm {
            Some("AES256") => {}
            Some(_) => {
                return Err(s3_error!(
                    InvalidEncryptionAlgorithmError,
                    "The encryption request that you specified is not valid. The valid value is AES256."
                ));
            }
            None => return Err(missing("a valid encryption algorithm")),
        }
        let key = key.ok_or_else(|| missing("an appropriate secret key"))?;
        let md5 = md5.ok_or_else(|| missing("the client calculated MD5 of the secret key"))?;
        let bytes = BASE64.decode(key).map(zeroize::Zeroizing::new).ok();
        let key = bytes.as_ref().and_then(|bytes| Key::from_bytes(bytes).ok());
        let key =
            key.ok_or_else(|| s3_error!(InvalidArgument, "The secret key was invalid for the specified algorithm."))?;
        let digest = s3s::crypto::Md5::checksum(key.as_bytes());
        if BASE64.decode(md5).ok().is_none_or(|sent| sent != digest) {
            return Err(s3_error!(
                InvalidArgument,
                "The calculated MD5 hash of the key did not match the hash that was provided."
            ));
        }
        Ok(Some(CustomerKey { key, md5: md5.to_owned() }))
    }

    /// As a row keeps it: enough to find out another key, and nothing to find out this one by.
    fn sealing(&self) -> S3Result<Sealing> {
        let mut salt = [0; 16];
        crypto::random(&mut salt).map_err(Error::from)?;
        let salt = hex::encode(salt);
        Ok(Sealing::Customer { check: self.check(&salt), salt })
    }

    fn check(&self, salt: &str) -> String {
        hex::encode(crypto::digest::hmac_sha256(self.key.as_bytes(), &[b"customer key ", salt.as_bytes()]))
    }
}

/// Wraps the data key of sealed data by a customer's key too.
pub fn wrap(by: &Key, (mut sealed, mut digested): (Sealed, Digested)) -> Result<(Sealed, Digested), Error> {
    sealed.key = envelope::seal(by, PURPOSE.as_bytes(), &sealed.key)?;
    crypto::random(&mut digested.md5)?;
    Ok((sealed, digested))
}

/// The key to read what is sealed so with; says what is wrong with the one that was sent, or why one must be.
pub fn to_read<'k>(sealing: &Sealing, sent: Option<&'k CustomerKey>) -> S3Result<Option<&'k Key>> {
    match (sealing, sent) {
        (Sealing::Customer { salt, check }, Some(sent)) => {
            match crypto::equal(sent.check(salt).as_bytes(), check.as_bytes()) {
                true => Ok(Some(&sent.key)),
                false => {
                    Err(s3_error!(AccessDenied, "the customer's key is not the one that the object was stored with"))
                }
            }
        }
        (Sealing::Customer { .. }, None) => Err(s3_error!(
            InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to \
             retrieve the object."
        )),
        (Sealing::Project | Sealing::Kms { .. }, Some(_)) => {
            Err(s3_error!(InvalidRequest, "The encryption parameters are not applicable to this object."))
        }
        (Sealing::Project | Sealing::Kms { .. }, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> CustomerKey {
        let bytes = [byte; 32];
        let md5 = BASE64.encode(s3s::crypto::Md5::checksum(&bytes));
        let key = CustomerKey::new(Some("AES256"), Some(&BASE64.encode(bytes)), Some(&md5), true);
        key.expect("good").expect("a key")
    }

    fn code<T>(result: S3Result<T>) -> String {
        result.err().map_or("none".to_owned(), |refusal| refusal.code().as_str().to_owned())
    }

    #[test]
    fn a_customer_key_comes_whole_and_in_private() {
        let (key, md5) = (BASE64.encode([1; 32]), BASE64.encode(s3s::crypto::Md5::checksum(&[1; 32])));
        let new = |algorithm, key, md5, is_private| code(CustomerKey::new(algorithm, key, md5, is_private));
        let (aes, key, md5) = (Some("AES256"), Some(key.as_str()), Some(md5.as_str()));
        assert_eq!(new(aes, key, md5, true), "none");
        assert_eq!(new(None, None, None, false), "none");
        assert_eq!(new(aes, key, md5, false), "InvalidRequest");
        assert_eq!(new(Some("DES"), key, md5, true), "InvalidEncryptionAlgorithmError");
        assert_eq!(new(None, key, md5, true), "InvalidArgument");
        assert_eq!(new(aes, None, md5, true), "InvalidArgument");
        assert_eq!(new(aes, key, None, true), "InvalidArgument");
        assert_eq!(new(aes, Some("c2hvcnQ="), md5, true), "InvalidArgument");
        assert_eq!(new(aes, key, key, true), "InvalidArgument");
    }

    #[test]
    fn only_the_same_key_reads_again() {
        let sealing = key(1).sealing().expect("random");
        assert!(to_read(&sealing, Some(&key(1))).expect("the key").is_some());
        assert_eq!(code(to_read(&sealing, Some(&key(2)))), "AccessDenied");
        assert_eq!(code(to_read(&sealing, None)), "InvalidRequest");
        assert_eq!(code(to_read(&Sealing::Project, Some(&key(1)))), "InvalidRequest");
        assert_ne!(sealing, key(1).sealing().expect("random"), "each has a salt of its own");
    }

    #[test]
    fn the_key_service_has_the_key_of_the_project() {
        let project: ProjectId = "a".repeat(32).parse().expect("an id");
        let own = kms_key_of(&project);
        let of = |algorithm, key| sealing(&project, algorithm, key);
        assert_eq!(of(Some("aws:kms"), None).expect("known"), Sealing::Kms { key: own.clone() });
        assert_eq!(of(Some("aws:kms"), Some(&own)).expect("known"), Sealing::Kms { key: own.clone() });
        assert_eq!(of(Some("AES256"), None).expect("known"), Sealing::Project);
        assert_eq!(code(of(Some("aws:kms"), Some("alias/other"))), "KMS.NotFoundException");
        assert_eq!(code(of(Some("aws:kms:dsse"), None)), "NotImplemented");
        assert_eq!(code(of(Some("ROT13"), None)), "InvalidArgument");
        assert_eq!(code(of(Some("AES256"), Some(&own))), "InvalidArgument");
    }
}
