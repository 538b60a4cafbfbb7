//! Installing engines.
