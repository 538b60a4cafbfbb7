//! Where the parts of a job run.

use serde::{Deserialize, Serialize};

use crate::{NodeSize, Sizing};

/// How a job's work is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// The driver and each executor in a container of its own.
    #[default]
    Cluster,
    /// One container and one JVM with the cores and the memory of all (Spark's `local[N]`): it starts sooner.
    Single,
}

impl Placement {
    /// The word of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Placement::Cluster => "cluster",
            Placement::Single => "single",
        }
    }
}

impl Sizing {
    /// The same cores, heap and overhead in one node, without executors.
    pub fn gathered(&self) -> Sizing {
        let Sizing { driver, executor, executors } = *self;
        let node = NodeSize {
            cores: self.cores(),
            memory: driver.memory + executor.memory * executors,
            overhead: driver.overhead + executor.overhead * executors,
        };
        Sizing { driver: node, executor, executors: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cores, MiB};

    #[test]
    fn one_node_has_all_that_the_nodes_had() {
        let driver = NodeSize { cores: Cores(2), memory: MiB(1024), overhead: MiB(384) };
        let executor = NodeSize { cores: Cores(3), memory: MiB(2048), overhead: MiB(512) };
        let spread = Sizing { driver, executor, executors: 4 };
        let one = spread.gathered();
        assert_eq!((one.cores(), one.memory()), (spread.cores(), spread.memory()));
        assert_eq!((one.executors, one.driver.cores, one.driver.memory), (0, Cores(14), MiB(9216)));
    }
}
