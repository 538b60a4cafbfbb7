//! `/cloud/project/{p}/quota`: what the project may take at once, and what its jobs take now.

use model::{MiB, Quota};
use serde_json::json;

use crate::{
    ApiError,
    request::{Call, Reply},
};

/// The quota in the project's region. What has no bound of its own has the service's. An "instance" is a job with an attempt; RAM
/// is in MiB, volumes are the jobs' local storage.
pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let project = &call.project()?.id;
    let quotas = call.api.jobs.quotas();
    let (own, used) = (quotas.find(project).await?, quotas.used(project).await?);
    let room = call.api.jobs.room();
    let most = Quota {
        jobs: own.jobs.or(room.jobs),
        cores: own.cores.or(room.cores),
        memory: own.memory.or(room.memory),
        storage: own.storage.or(room.storage),
    };
    let gigabytes = |size: MiB| size.0 / 1024;
    Reply::json(&[json!({
            "region": call.region()?,
            "instance": {
                "maxInstances": most.jobs, "usedInstances": used.jobs,
                "maxCores": most.cores, "usedCores": used.cores,
                "maxRam": most.memory, "usedRAM": used.memory,
            },
            "volume": {
                "maxGigabytes": most.storage.map(gigabytes), "usedGigabytes": gigabytes(used.storage),
                "maxVolumeCount": most.jobs, "volumeCount": used.jobs,
                "maxBackupGigabytes": 0, "usedBackupGigabytes": 0, "maxVolumeBackupCount": 0, "volumeBackupCount": 0,
            },
            "keymanager": null, "keypair": null, "loadbalancer": null, "network": null, "share": null,
    })])
}
