//! Kills this process at a named point of its work, for the crash tests. Only in builds with the feature
//! `failpoints`; elsewhere the points are not compiled in.

/// Arms the point that `CASEMATE_KILL_AT` names: the first process that reaches it makes the file
/// `CASEMATE_KILL_MARKER` and gets SIGKILL; once the file exists the point does nothing.
#[cfg(feature = "failpoints")]
pub fn arm() {
    let (Ok(point), Some(marker)) = (std::env::var("CASEMATE_KILL_AT"), std::env::var_os("CASEMATE_KILL_MARKER"))
    else {
        return;
    };
    let act = move || {
        if std::fs::File::create_new(&marker).is_ok() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        }
    };
    if let Err(cause) = fail::cfg_callback(point, act) {
        tracing::error!(%cause, "cannot arm the fault point");
    }
}

/// Nothing: this build has no fault points.
#[cfg(not(feature = "failpoints"))]
pub fn arm() {}
