//! Users of a project and S3 access keys.
