//! Jobs: their life cycle, their logs, and the shim that keeps each alive.

pub mod control;
pub mod shim;
pub mod spool;
