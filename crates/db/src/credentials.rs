//! Applications and consumer credentials.
