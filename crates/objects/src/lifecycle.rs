//! Removes what a bucket's rules say is no longer wanted: objects, older versions, delete markers, unfinished uploads.
