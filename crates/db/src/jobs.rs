//! Jobs and attempts.
