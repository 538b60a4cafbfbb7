//! Units of sizes. A bare number never crosses a border between rooms.

use serde::{Deserialize, Serialize};

/// An amount of memory or disk in mebibytes (2^20 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct MiB(pub u64);

impl MiB {
    /// `n` gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n * 1024)
    }

    /// The same amount in bytes; saturates instead of wrapping.
    pub const fn bytes(self) -> u64 {
        self.0.saturating_mul(1024 * 1024)
    }
}

impl std::ops::Add for MiB {
    type Output = MiB;
    fn add(self, other: MiB) -> MiB {
        MiB(self.0.saturating_add(other.0))
    }
}

impl std::ops::Mul<u32> for MiB {
    type Output = MiB;
    fn mul(self, n: u32) -> MiB {
        MiB(self.0.saturating_mul(u64::from(n)))
    }
}

impl std::iter::Sum for MiB {
    fn sum<I: Iterator<Item = MiB>>(parts: I) -> MiB {
        parts.fold(MiB(0), |total, part| total + part)
    }
}

impl std::fmt::Display for MiB {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 >= 1024 && self.0.is_multiple_of(1024) {
            write!(f, "{} GiB", self.0 / 1024)
        } else {
            write!(f, "{} MiB", self.0)
        }
    }
}

/// A number of processor cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Cores(pub u32);

impl std::ops::Add for Cores {
    type Output = Cores;
    fn add(self, other: Cores) -> Cores {
        Cores(self.0.saturating_add(other.0))
    }
}

impl std::ops::Mul<u32> for Cores {
    type Output = Cores;
    fn mul(self, n: u32) -> Cores {
        Cores(self.0.saturating_mul(n))
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
