//! Accounts and projects.
