//! Segments of sealed data: what was not sealed so does not open, and what was opens to the same bytes.
#![no_main]

use crypto::{
    Key,
    segment::{Cipher, SEGMENT},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, bool, u32, bool, u16, u8, Vec<u8>)| {
    let (number, last, other_number, other_last, at, mask, data) = input;
    let Ok(key) = Key::random() else { return };
    let Ok(cipher) = Cipher::new(&key) else { return };
    // Whatever stands on a disk.
    let mut noise = data.clone();
    assert!(cipher.open(number.into(), last, &mut noise).is_err(), "noise is authentic");

    let plain = &data[..data.len().min(SEGMENT)];
    let mut sealed = plain.to_vec();
    cipher.seal(number.into(), last, &mut sealed).expect("a number of 32 bits");
    assert_eq!(cipher.open(number.into(), last, &mut sealed.clone()).expect("opens"), plain);
    if (number, last) != (other_number, other_last) {
        assert!(cipher.open(other_number.into(), other_last, &mut sealed.clone()).is_err(), "at another place");
    }
    if mask != 0 {
        let at = usize::from(at) % sealed.len();
        sealed[at] ^= mask;
        assert!(cipher.open(number.into(), last, &mut sealed).is_err(), "changed");
    }
});
