//! What an end means: from how a container ended, or why it was stopped, to words and return codes. Pure.

use model::{EndReason, NodeName, NodeSize};
use warden::ContainerExit;

use crate::control::StopReason;

/// Why an attempt is stopped before its driver ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A caller cancelled the job.
    Cancelled,
    /// Its time to live passed.
    TtlPassed,
    /// The platform needs it to end.
    Platform,
}

impl From<StopReason> for Why {
    fn from(reason: StopReason) -> Why {
        match reason {
            StopReason::Cancelled => Why::Cancelled,
            StopReason::Platform => Why::Platform,
        }
    }
}

impl Why {
    /// The reason of the attempt's end.
    pub fn reason(self) -> EndReason {
        match self {
            Why::Cancelled => EndReason::Cancelled,
            Why::TtlPassed => EndReason::TtlPassed,
            Why::Platform => EndReason::Platform { detail: "the service ended it".into() },
        }
    }
}

/// What the driver's end makes of the attempt: never 0 unless the driver ended by itself with 0.
pub fn of_driver(exit: &ContainerExit, size: &NodeSize) -> (EndReason, i32) {
    let code = code(exit);
    if code == 0 {
        (EndReason::Exited { return_code: 0 }, 0)
    } else if exit.oom {
        (EndReason::OutOfMemory { detail: memory("the driver", size) }, KILLED)
    } else if exit.storage_full {
        (EndReason::OutOfDisk { detail: storage("the driver", size) }, code)
    } else if let Some(signal) = exit.signal {
        (EndReason::Signalled { signal }, code)
    } else {
        (EndReason::Exited { return_code: code }, code)
    }
}

/// How an executor's end is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorEnd {
    /// The exit code of its pod.
    pub code: i32,
    /// The reason of its pod, in Kubernetes' words.
    pub reason: Option<&'static str>,
    /// A line for the job's log, where there is something to say.
    pub line: Option<String>,
}

/// What an executor's end is for Spark and for the log; `asked`: it was to stop.
pub fn of_executor(node: &NodeName, exit: &ContainerExit, size: &NodeSize, asked: bool) -> ExecutorEnd {
    let code = code(exit);
    if code != 0 && exit.oom {
        let line = Some(format!("out of memory: {}", memory(node.as_str(), size)));
        return ExecutorEnd { code: KILLED, reason: Some("OOMKilled"), line };
    }
    if code != 0 && exit.storage_full {
        let line = Some(format!("out of local storage: {}", storage(node.as_str(), size)));
        return ExecutorEnd { code, reason: Some("Evicted"), line };
    }
    let line = match exit.signal {
        _ if asked || code == 0 => None,
        Some(signal) => Some(format!("{node} was killed by signal {signal}")),
        None => Some(format!("{node} ended with return code {code}")),
    };
    ExecutorEnd { code, reason: None, line }
}

fn code(exit: &ContainerExit) -> i32 {
    match (exit.signal, exit.code) {
        (Some(signal), _) => 128_i32.saturating_add(signal),
        (None, Some(code)) => code,
        (None, None) => KILLED,
    }
}

fn memory(who: &str, size: &NodeSize) -> String {
    let name = if who.starts_with("executor") { "executor" } else { "driver" };
    format!(
        "{who} needed more than its limit of {} MiB ({} MiB of heap, {} MiB of overhead); ask for more {name}_memory, or \
         {name}_memory_overhead if it is used outside of the heap, as by Python",
        size.total_memory().0,
        size.memory.0,
        size.overhead.0
    )
}

fn storage(who: &str, size: &NodeSize) -> String {
    let name = if who.starts_with("executor") { "executor" } else { "driver" };
    format!("{who} filled its {}; each of {name}_cores brings 9 GiB more", size.storage())
}

/// What a shell says of a process that was killed.
const KILLED: i32 = 137;
/// The return code of an attempt that was stopped: that of a process that ended by SIGTERM.
pub const STOPPED: i32 = 143;
/// The return code of an attempt that could not be started, or was lost.
pub const NOT_RUN: i32 = 1;

#[cfg(test)]
mod tests {
    use model::{Cores, MiB};

    use super::*;

    const SIZE: NodeSize = NodeSize { cores: Cores(1), memory: MiB(1024), overhead: MiB(384) };
    const EXIT: ContainerExit = ContainerExit { code: Some(0), signal: None, oom: false, storage_full: false };

    #[test]
    fn only_a_driver_that_exits_with_0_gives_0() {
        for code in [Some(0), Some(7), None] {
            for signal in [None, Some(9), Some(15)] {
                for (oom, storage_full) in [(false, false), (true, false), (false, true), (true, true)] {
                    let exit = ContainerExit { code: code.filter(|_| signal.is_none()), signal, oom, storage_full };
                    let (reason, return_code) = of_driver(&exit, &SIZE);
                    let itself = exit.code == Some(0);
                    assert_eq!(return_code == 0, itself, "{exit:?}");
                    assert_eq!(matches!(reason, EndReason::Exited { return_code: 0 }), itself, "{exit:?}");
                }
            }
        }
    }

    #[test]
    fn the_true_cause_is_said() {
        let (reason, code) = of_driver(&ContainerExit { code: Some(1), oom: true, ..EXIT }, &SIZE);
        assert!(
            reason.to_string().starts_with("out of memory: the driver needed more than its limit of 1408 MiB"),
            "{reason}"
        );
        assert_eq!(code, 137);
        let (reason, code) = of_driver(&ContainerExit { code: Some(1), storage_full: true, ..EXIT }, &SIZE);
        assert!(reason.to_string().starts_with("out of local storage: the driver filled its 8 GiB"), "{reason}");
        assert_eq!(code, 1);
        let (reason, code) = of_driver(&ContainerExit { code: None, signal: Some(11), ..EXIT }, &SIZE);
        assert_eq!((reason, code), (EndReason::Signalled { signal: 11 }, 139));
    }

    #[test]
    fn an_executor_that_was_asked_to_end_is_nothing_to_speak_of() {
        let node = NodeName::executor(2);
        let killed = ContainerExit { code: None, signal: Some(15), ..EXIT };
        assert_eq!(of_executor(&node, &killed, &SIZE, true).line, None);
        assert!(of_executor(&node, &killed, &SIZE, false).line.is_some());
        let end = of_executor(&node, &ContainerExit { code: None, signal: Some(9), oom: true, ..EXIT }, &SIZE, false);
        assert_eq!((end.code, end.reason), (137, Some("OOMKilled")));
        assert!(end.line.is_some_and(|line| line.starts_with("out of memory: executor-2 ")));
    }
}
