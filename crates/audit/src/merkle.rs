//! The Merkle tree of RFC 9162, section 2.1, with SHA-256: roots, proofs of inclusion and of consistency, and their
//! verification. Hashes of complete subtrees of 256 to the power of n leaves come from a [`Hashes`], as the tiles of
//! C2SP tlog-tiles hold them; whatever lies between is computed, so that a root or a proof costs a logarithm of reads.

use std::io;

use crypto::digest::sha256;

/// A hash of the tree.
pub type Hash = [u8; 32];

/// The hash of a leaf.
pub fn leaf(record: &[u8]) -> Hash {
    sha256(&[&[0], record])
}

/// The hash of a node.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// Leaves below one hash of the next level.
pub const TILE: u64 = 256;
/// The logarithm of [`TILE`].
pub const TILE_HEIGHT: u32 = 8;

/// Where hashes of complete subtrees come from.
pub trait Hashes {
    /// `count` hashes from number `first` on, of subtrees of 256 to the power of `level` leaves each.
    fn read(&self, level: u32, first: u64, count: usize) -> io::Result<Vec<Hash>>;
}

/// The root of the first `size` leaves.
pub fn root(hashes: &impl Hashes, size: u64) -> io::Result<Hash> {
    match size {
        0 => Ok(sha256(&[])),
        _ => range(hashes, 0, size),
    }
}

/// The proof that leaf `index` is in the tree of `size` leaves: PATH of section 2.1.3.1. `index` is below `size`.
pub fn inclusion(hashes: &impl Hashes, index: u64, size: u64) -> io::Result<Vec<Hash>> {
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(range(hashes, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `old` leaves is the beginning of that of `new`: PROOF of section 2.1.4.1. `old` is at
/// least 1 and at most `new`.
pub fn consistency(hashes: &impl Hashes, old: u64, new: u64) -> io::Result<Vec<Hash>> {
    let (mut start, mut end) = (0, new);
    let mut path = Vec::new();
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(range(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(range(hashes, start, middle)?);
            start = middle;
        }
    }
    if start != 0 {
        path.push(range(hashes, start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` proves that the leaf with hash `leaf` is number `index` of the tree of `size` leaves with this root
/// (section 2.1.3.2).
pub fn proves_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for beside in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(beside, &hash);
            skip_missing_levels(&mut at, &mut last);
        } else {
            hash = node(&hash, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `path` proves that the tree of `old` leaves is the beginning of that of `new` (section 2.1.4.2).
pub fn proves_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, path: &[Hash]) -> bool {
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    if old == 0 || old > new {
        return false;
    }
    let mut path = path.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut of_old, mut of_new) = (*first, *first);
    for beside in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            of_old = node(beside, &of_old);
            of_new = node(beside, &of_new);
            skip_missing_levels(&mut at, &mut last);
        } else {
            of_new = node(&of_new, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && of_old == *old_root && of_new == *new_root
}

/// A last node without a sibling is its own parent.
fn skip_missing_levels(at: &mut u64, last: &mut u64) {
    while *at & 1 == 0 && *at != 0 {
        *at >>= 1;
        *last >>= 1;
    }
}

/// The hash over leaves `start..end`; `start` is a multiple of the largest power of two below the length, or of the
/// length if that is one, as everywhere in the recursion of section 2.1.1.
fn range(hashes: &impl Hashes, start: u64, end: u64) -> io::Result<Hash> {
    // Complete subtrees from the left, each smaller than the one before; joined from the right.
    let (mut at, mut parts) = (start, Vec::new());
    while at < end {
        let height = (end - at).ilog2();
        parts.push(subtree(hashes, at, height)?);
        at += 1 << height;
    }
    let joined = parts.into_iter().rev().reduce(|right, left| node(&left, &right));
    joined.ok_or_else(|| io::Error::other("no leaf has no hash"))
}

/// The hash of the complete subtree of `1 << height` leaves from `start` on.
fn subtree(hashes: &impl Hashes, start: u64, height: u32) -> io::Result<Hash> {
    let (level, rest) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
    let parts = hashes.read(level, start >> (level * TILE_HEIGHT), 1 << rest)?;
    Ok(fold(parts))
}

/// The root of complete subtrees side by side; how many is a power of two.
pub fn fold(mut hashes: Vec<Hash>) -> Hash {
    let mut count = hashes.len();
    while count > 1 {
        count /= 2;
        for at in 0..count {
            hashes[at] = node(&hashes[2 * at], &hashes[2 * at + 1]);
        }
    }
    hashes.first().copied().unwrap_or_default()
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All leaves, and every level computed from them.
    struct Leaves(Vec<Hash>);

    impl Hashes for Leaves {
        fn read(&self, level: u32, first: u64, count: usize) -> io::Result<Vec<Hash>> {
            let width = TILE.pow(level);
            let one = |number: u64| naive(&self.0[(number * width) as usize..((number + 1) * width) as usize]);
            Ok((first..first + count as u64).map(one).collect())
        }
    }

    /// MTH of section 2.1.1, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [one] => *one,
            many => {
                let middle = split(many.len() as u64) as usize;
                node(&naive(&many[..middle]), &naive(&many[middle..]))
            }
        }
    }

    /// PATH of section 2.1.3.1, word for word.
    fn naive_inclusion(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let middle = split(leaves.len() as u64) as usize;
        let (left, right) = leaves.split_at(middle);
        let (mut path, beside) = match index < middle {
            true => (naive_inclusion(index, left), naive(right)),
            false => (naive_inclusion(index - middle, right), naive(left)),
        };
        path.push(beside);
        path
    }

    /// SUBPROOF of section 2.1.4.1, word for word.
    fn naive_consistency(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if old == leaves.len() {
            return if whole { Vec::new() } else { vec![naive(leaves)] };
        }
        let middle = split(leaves.len() as u64) as usize;
        let (left, right) = leaves.split_at(middle);
        let (mut path, beside) = match old <= middle {
            true => (naive_consistency(old, left, whole), naive(right)),
            false => (naive_consistency(old - middle, right, false), naive(left)),
        };
        path.push(beside);
        path
    }

    fn leaves(count: usize) -> Leaves {
        Leaves((0..count).map(|number| leaf(format!("entry {number}").as_bytes())).collect())
    }

    fn hash(text: &str) -> Hash {
        hex::decode(text).expect("hexadecimal").try_into().expect("32 bytes")
    }

    #[test]
    fn roots_are_those_of_the_known_answers_of_certificate_transparency() {
        let records =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let leaves = Leaves(records.iter().map(|text| leaf(&hex::decode(text).expect("hexadecimal"))).collect());
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (size, text) in roots.iter().enumerate() {
            assert_eq!(root(&leaves, size as u64).expect("a root"), hash(text), "{size} leaves");
        }
    }

    #[test]
    fn proofs_are_those_of_the_example_of_rfc_9162() {
        // Section 2.1.5, with its names of the nodes over the leaves d0 to d6.
        let tree = leaves(7);
        let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(|number| tree.0[number]);
        let (g, h, i, j) = (node(&a, &b), node(&c, &d), node(&e, &f), tree.0[6]);
        let (k, l) = (node(&g, &h), node(&i, &j));
        assert_eq!(root(&tree, 7).expect("a root"), node(&k, &l));
        let path = |index| inclusion(&tree, index, 7).expect("a proof");
        assert_eq!([path(0), path(3), path(4)], [vec![b, h, l], vec![c, g, l], vec![f, j, k]]);
        assert_eq!(path(6), [i, k]);
        let proof = |old| consistency(&tree, old, 7).expect("a proof");
        assert_eq!([proof(3), proof(4), proof(6)], [vec![c, d, g, l], vec![l], vec![i, j, k]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn proofs_are_those_of_the_recursion_and_hold_for_nothing_else(
            (size, first, second) in (1_usize..700).prop_flat_map(|size| (Just(size), 0..size, 1..=size)),
            change in any::<prop::sample::Index>(),
        ) {
            let tree = leaves(size);
            let roots = |size: usize| naive(&tree.0[..size]);
            let (all, new) = (roots(size), size as u64);
            prop_assert_eq!(root(&tree, new)?, all);

            let path = inclusion(&tree, first as u64, new)?;
            prop_assert_eq!(&path, &naive_inclusion(first, &tree.0));
            let holds = |leaf: &Hash, index: usize, path: &[Hash]| {
                proves_inclusion(leaf, index as u64, new, path, &all)
            };
            prop_assert!(holds(&tree.0[first], first, &path));
            for other in [first ^ 1, first + 1, first.wrapping_sub(1)] {
                prop_assert!(!holds(&tree.0[first], other, &path));
            }
            prop_assert!(!holds(&leaf(b"forged"), first, &path));

            let proof = consistency(&tree, second as u64, new)?;
            prop_assert_eq!(&proof, &naive_consistency(second, &tree.0, true));
            let old = roots(second);
            prop_assert!(proves_consistency(second as u64, &old, new, &all, &proof));
            prop_assert!(!proves_consistency(second as u64, &leaf(b"forged"), new, &all, &proof));
            prop_assert!(!proves_consistency(second as u64, &old, new, &leaf(b"forged"), &proof));

            if !path.is_empty() {
                let mut changed = path.clone();
                change.get_mut(&mut changed)[0] ^= 1;
                prop_assert!(!holds(&tree.0[first], first, &changed));
                prop_assert!(!holds(&tree.0[first], first, &path[1..]));
                changed.push(all);
                prop_assert!(!holds(&tree.0[first], first, &changed));
            }
            if !proof.is_empty() {
                let mut changed = proof.clone();
                change.get_mut(&mut changed)[0] ^= 1;
                prop_assert!(!proves_consistency(second as u64, &old, new, &all, &changed));
                prop_assert!(!proves_consistency(second as u64, &old, new, &all, &proof[1..]));
            }
        }
    }
}
