//! Kills this process at a named point of its work, for the crash tests. Only in builds with the feature
//! `failpoints`; elsewhere the points are not compiled in.

/// Arms the points that `CASEMATE_KILL_AT` names, separated by commas: the first process that reaches one makes the file
/// `CASEMATE_KILL_MARKER.POINT` and gets SIGKILL; once the file exists the point does nothing.
#[cfg(feature = "failpoints")]
pub fn arm() {
    let (Ok(points), Ok(marker)) = (std::env::var("CASEMATE_KILL_AT"), std::env::var("CASEMATE_KILL_MARKER")) else {
        return;
    };
    for point in points.split(',') {
        let marker = format!("{marker}.{point}");
        let act = move || {
            if std::fs::File::create_new(&marker).is_ok() {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
            }
        };
        if let Err(cause) = fail::cfg_callback(point, act) {
            tracing::error!(%cause, point, "cannot arm the fault point");
        }
    }
}

/// Nothing: this build has no fault points.
#[cfg(not(feature = "failpoints"))]
pub fn arm() {}
