//! The hashes of the tree on disk, so that roots and proofs need not read the log. `tree/N` holds, one behind the other,
//! the hashes of all complete subtrees of 256 to the power of N leaves: every 8192 bytes of it are a tile of C2SP
//! tlog-tiles. All of it follows from the log; a check computes it anew.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::merkle::{self, Hash, Hashes, TILE, TILE_HEIGHT};

/// The tree's files.
#[derive(Debug)]
pub struct Tree {
    directory: PathBuf,
    levels: Vec<File>,
    size: u64,
    write: bool,
}

impl Tree {
    /// Opens the tree of `size` leaves to append to it; cuts off what is beyond.
    pub fn open(directory: &Path, size: u64) -> io::Result<Tree> {
        let mut tree = Tree { directory: directory.to_owned(), levels: Vec::new(), size, write: true };
        for level in 0..=HIGHEST {
            let wanted = count(size, level) * HASH;
            if wanted == 0 && !tree.path(level).exists() {
                break;
            }
            let file = tree.file(level)?;
            let length = file.metadata()?.len();
            if length < wanted {
                let path = tree.path(level);
                return Err(io::Error::other(format!("{} is shorter than it was", path.display())));
            }
            if length > wanted {
                file.set_len(wanted)?;
            }
        }
        Ok(tree)
    }

    /// Opens the tree of `size` leaves, or more, to read it. What is not there is an error when it is read.
    pub fn read_only(directory: &Path, size: u64) -> Tree {
        let mut tree = Tree { directory: directory.to_owned(), levels: Vec::new(), size, write: false };
        for level in 0..=HIGHEST {
            if count(size, level) == 0 || tree.file(level).is_err() {
                break;
            }
        }
        tree
    }

    /// Leaves that it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its root.
    pub fn root(&self) -> io::Result<Hash> {
        merkle::root(self, self.size)
    }

    /// Appends leaves; durable after [`Tree::sync`].
    pub fn append(&mut self, leaves: &[Hash]) -> io::Result<()> {
        let (mut level, mut added) = (0, leaves.to_vec());
        while !added.is_empty() {
            let before = count(self.size, level);
            let after = before + added.len() as u64;
            self.file(level)?.write_all_at(added.as_flattened(), before * HASH)?;
            let tiles = before / TILE..after / TILE;
            // Their first hashes may be of before.
            added = tiles
                .map(|tile| Ok(merkle::fold(self.read(level, tile * TILE, TILE as usize)?)))
                .collect::<io::Result<_>>()?;
            level += 1;
        }
        self.size += leaves.len() as u64;
        Ok(())
    }

    /// Makes it durable.
    pub fn sync(&self) -> io::Result<()> {
        self.levels.iter().try_for_each(File::sync_data)
    }

    /// Gives the room of the leaves' own hashes below `leaf` back, but for those that proofs of later ones need.
    pub fn forget(&self, leaf: u64) -> io::Result<()> {
        let end = first_kept(leaf) * HASH;
        let Some(file) = self.levels.first().filter(|_| end > 0) else { return Ok(()) };
        let mode = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match nix::fcntl::fallocate(file.as_fd(), mode, 0, i64::try_from(end).unwrap_or(i64::MAX)) {
            // A file system that has no holes keeps them.
            Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn path(&self, level: u32) -> PathBuf {
        self.directory.join(level.to_string())
    }

    /// The file of a level; all below it are open already.
    fn file(&mut self, level: u32) -> io::Result<&File> {
        let at = level as usize;
        if self.levels.len() <= at {
            let (path, write) = (self.path(level), self.write);
            let file =
                OpenOptions::new().read(true).write(write).create(write).truncate(false).mode(0o600).open(path)?;
            if write {
                File::open(&self.directory)?.sync_all()?;
            }
            self.levels.push(file);
        }
        self.levels.get(at).ok_or_else(|| io::Error::other("a level of the tree is missing"))
    }
}

impl Hashes for Tree {
    fn read(&self, level: u32, first: u64, count: usize) -> io::Result<Vec<Hash>> {
        let mut hashes = vec![[0; 32]; count];
        let file = self.levels.get(level as usize);
        let file = file.ok_or_else(|| io::Error::other(format!("{} is missing", self.path(level).display())))?;
        file.read_exact_at(hashes.as_flattened_mut(), first.saturating_mul(HASH))?;
        Ok(hashes)
    }
}

/// How many complete subtrees of a level there are below `size` leaves.
pub fn count(size: u64, level: u32) -> u64 {
    size.checked_shr(level * TILE_HEIGHT).unwrap_or(0)
}

/// The first leaf whose hash stays when those below `leaf` are forgotten: the last before it, which the record of
/// `leaf` names, and its tile.
pub fn first_kept(leaf: u64) -> u64 {
    leaf.saturating_sub(1) / TILE * TILE
}

const HASH: u64 = 32;
/// The level of subtrees that 2^64 leaves do not fill.
const HIGHEST: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(range: std::ops::Range<u64>) -> Vec<Hash> {
        range.map(|number| merkle::leaf(&number.to_le_bytes())).collect()
    }

    #[test]
    fn a_tree_is_the_same_however_it_grew_and_goes_on_where_it_was_cut() {
        let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let mut at_once = Tree::open(dir.path(), 0).expect("a tree");
        at_once.append(&leaves(0..66_000)).expect("appended");
        let mut grown = Tree::open(other.path(), 0).expect("a tree");
        let mut at = 0;
        for step in [1, 255, 1, 300, 0, 7000, 58_000, 443].iter().cycle().take(16) {
            grown.append(&leaves(at..at + step)).expect("appended");
            at += step;
            if at > 66_000 {
                break;
            }
        }
        assert!(at > 66_000);
        let grown = Tree::open(other.path(), 66_000).expect("a tree");
        assert_eq!(grown.root().expect("a root"), at_once.root().expect("a root"));
        for level in 0..3 {
            let read = |dir: &tempfile::TempDir| std::fs::read(dir.path().join(level.to_string())).expect("a file");
            assert_eq!(read(&dir), read(&other));
        }
        assert!(Tree::open(dir.path(), 66_001).is_err());
    }

    #[test]
    fn proofs_of_what_is_left_do_not_need_what_was_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut tree = Tree::open(dir.path(), 0).expect("a tree");
        tree.append(&leaves(0..2000)).expect("appended");
        let root = tree.root().expect("a root");
        for cut in [1, 256, 257, 1000] {
            tree.forget(cut).expect("forgotten");
            assert_eq!(tree.root().expect("a root"), root);
            for leaf in [cut, cut + 1, 1999] {
                let path = merkle::inclusion(&tree, leaf, 2000).expect("a proof");
                assert!(merkle::proves_inclusion(&leaves(leaf..leaf + 1)[0], leaf, 2000, &path, &root));
                let proof = merkle::consistency(&tree, leaf, 2000).expect("a proof");
                let old = merkle::root(&tree, leaf).expect("a root");
                assert!(merkle::proves_consistency(leaf, &old, 2000, &root, &proof));
            }
        }
        assert_eq!(tree.read(0, 0, 1).expect("a hole"), [[0; 32]]);
    }
}
