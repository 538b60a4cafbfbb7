//! MD5 (RFC 1321), which protects nothing: S3 and Swift name an object's content by it. AWS-LC has it in assembly, a
//! quarter faster than compiled code, and it is most of what a large upload costs.

use std::mem::MaybeUninit;

use aws_lc_sys::{MD5_CTX, MD5_Final, MD5_Init, MD5_Update};

/// A digest in the making.
pub struct Md5(MD5_CTX);

impl Default for Md5 {
    fn default() -> Md5 {
        Md5::new()
    }
}

impl Md5 {
    /// Of nothing yet.
    pub fn new() -> Md5 {
        let mut context = MaybeUninit::uninit();
        // SAFETY: the call fills the context that it is given, and cannot fail (`openssl/md5.h`).
        let context = unsafe {
            MD5_Init(context.as_mut_ptr());
            context.assume_init()
        };
        Md5(context)
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        // SAFETY: the context is initialised, and the call reads as many bytes as the slice has.
        unsafe { MD5_Update(&raw mut self.0, bytes.as_ptr().cast(), bytes.len()) };
    }

    /// Of all that was taken.
    pub fn finish(mut self) -> [u8; 16] {
        let mut digest = [0; 16];
        // SAFETY: the context is initialised, and the call writes 16 bytes.
        unsafe { MD5_Final(digest.as_mut_ptr(), &raw mut self.0) };
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test suite of RFC 1321, appendix A.5.
    #[test]
    fn digests_are_those_of_the_standard() {
        for (text, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            let mut whole = Md5::new();
            whole.update(text.as_bytes());
            assert_eq!(hex::encode(whole.finish()), digest, "{text}");
            let mut parts = Md5::new();
            text.as_bytes().chunks(7).for_each(|part| parts.update(part));
            assert_eq!(hex::encode(parts.finish()), digest, "{text}, in parts");
        }
    }
}
