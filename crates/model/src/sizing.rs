//! How large a job is (JOB-3).

use serde::{Deserialize, Serialize};

use crate::{Cores, MiB};

/// The size of a driver or of one executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSize {
    /// Cores, 1 to 16.
    pub cores: Cores,
    /// Heap memory.
    pub memory: MiB,
    /// Memory beside the heap; with the heap 1 to 59 GiB.
    pub overhead: MiB,
}

impl NodeSize {
    /// Heap and overhead: the limit of the node's container.
    pub fn total_memory(&self) -> MiB {
        self.memory + self.overhead
    }

    /// Local storage: 9 GiB a core, less 1 GiB.
    pub fn storage(&self) -> MiB {
        MiB::gib(9 * u64::from(self.cores.0.max(1)) - 1)
    }

    /// The overhead of a node that names none: a tenth of the heap, at least 384 MiB (the old client's default).
    pub fn default_overhead(memory: MiB) -> MiB {
        MiB((memory.0 / 10).max(384))
    }
}

/// The size of a whole job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizing {
    /// The driver.
    pub driver: NodeSize,
    /// Each executor.
    pub executor: NodeSize,
    /// How many executors at the most, 1 to 10.
    pub executors: u32,
}

impl Sizing {
    /// Cores of the whole job.
    pub fn cores(&self) -> Cores {
        self.driver.cores + self.executor.cores * self.executors
    }

    /// Memory of the whole job, overheads included.
    pub fn memory(&self) -> MiB {
        self.driver.total_memory() + self.executor.total_memory() * self.executors
    }

    /// Local storage of the whole job: the sizes of all its volumes.
    pub fn storage(&self) -> MiB {
        self.driver.storage() + self.executor.storage() * self.executors
    }
}
