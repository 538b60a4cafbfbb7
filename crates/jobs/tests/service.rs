//! Jobs as far as they need no sandbox, over a real database, real keys and a real directory of engines. The warden is
//! not there: its socket does not exist, as when it is being started again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use audit::{Actor, Audit};
use db::Db;
use engine::Engines;
use jobs::{
    BoxError, Config, Error, Filter, FilterOp, IdempotencyKey, InvalidWithdrawal, JobField, JobKeys, Jobs, ListQuery,
    LogQuery, Parts, Permission, S3Pair, Surroundings,
};
use keys::Keys;
use model::{
    AccountId, Attempt, AttemptNo, Blame, BucketName, Cores, EndReason, EngineParameter, Fault, Job, JobRequest,
    JobStatus, MiB, Principal, ProjectId, Quota, SandboxId,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// Object storage of a test: a directory, `PROJECT/BUCKET/KEY`; and mailboxes, each a file `ACCOUNT`.
struct Files(PathBuf);

#[async_trait]
impl Surroundings for Files {
    async fn object_size(&self, project: &ProjectId, bucket: &BucketName, key: &str) -> Result<Option<u64>, BoxError> {
        let path = self.0.join(project.as_str()).join(bucket.as_str()).join(key);
        Ok(std::fs::metadata(path).ok().map(|file| file.len()))
    }
    async fn read_object(
        &self,
        project: &ProjectId,
        bucket: &BucketName,
        key: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, BoxError> {
        let path = self.0.join(project.as_str()).join(bucket.as_str()).join(key);
        match std::fs::read(path) {
            Ok(bytes) if bytes.len() as u64 > most => Err("too long".into()),
            Ok(bytes) => Ok(Some(bytes)),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }
    async fn object_sha256(&self, _: &ProjectId, _: &BucketName, _: &str) -> Result<Option<[u8; 32]>, BoxError> {
        Err("no environment is kept here".into())
    }
    async fn keep_object(&self, _: &ProjectId, _: &BucketName, _: &str, _: &Path) -> Result<(), BoxError> {
        Err("no environment is kept here".into())
    }
    async fn ensure_log_bucket(&self, project: &ProjectId) -> Result<(), BoxError> {
        Ok(std::fs::create_dir_all(self.0.join(project.as_str()).join("odp-logs"))?)
    }
    async fn write_log(
        &self,
        project: &ProjectId,
        key: &str,
        size: u64,
        mut pieces: tokio::sync::mpsc::Receiver<std::io::Result<bytes::Bytes>>,
    ) -> Result<(), BoxError> {
        let mut content = Vec::new();
        while let Some(piece) = pieces.recv().await {
            content.extend_from_slice(&piece?);
        }
        if content.len() as u64 != size {
            return Err("another length".into());
        }
        let path = self.0.join(project.as_str()).join("odp-logs").join(key);
        std::fs::create_dir_all(path.parent().expect("a parent"))?;
        Ok(std::fs::write(path, content)?)
    }
    async fn read_log(&self, project: &ProjectId, key: &str, most: u64) -> Result<Option<Vec<u8>>, BoxError> {
        let read = std::fs::read(self.0.join(project.as_str()).join("odp-logs").join(key));
        Ok(read.ok().filter(|bytes| bytes.len() as u64 <= most))
    }
    async fn open_keys(
        &self,
        _project: &ProjectId,
        sandbox: SandboxId,
        _spec: &model::JobSpec,
    ) -> Result<JobKeys, BoxError> {
        let pair = |kind| S3Pair { access: format!("{kind}-{sandbox}"), secret: Zeroizing::new("secret".into()) };
        Ok(JobKeys { job: pair("job"), platform: pair("platform") })
    }
    async fn close_keys(&self, _sandbox: SandboxId) -> Result<(), BoxError> {
        Ok(())
    }
    fn open_gate(&self, _sandbox: SandboxId, _objects: std::net::TcpListener) -> Result<(), BoxError> {
        Ok(())
    }
    fn close_gate(&self, _sandbox: SandboxId) {}
    async fn may_submit(
        &self,
        _: &Principal,
        _: &ProjectId,
        _: bool,
        _: jiff::Timestamp,
    ) -> Result<Permission, BoxError> {
        Ok(Permission::Allowed("everybody may".to_owned()))
    }
    async fn tell(&self, _: &mut db::Tx, account: &AccountId, subject: &str, _: &str) -> Result<(), BoxError> {
        use std::io::Write as _;
        let mailbox = self.0.join(account.as_str());
        Ok(writeln!(std::fs::OpenOptions::new().create(true).append(true).open(mailbox)?, "{subject}")?)
    }
}

struct Service {
    dir: tempfile::TempDir,
    jobs: Jobs,
    audit: Audit,
    ours: ProjectId,
    theirs: ProjectId,
    closed: ProjectId,
}

impl Service {
    async fn start() -> Service {
        let dir = tempfile::tempdir().expect("directory");
        let project = |digit: &str| digit.repeat(32).parse::<ProjectId>().expect("project");
        let (ours, theirs, closed) = (project("a"), project("b"), project("c"));
        let account = "ab1234-casemate".parse().expect("account");
        let db = Db::open(&dir.path().join("casemate.sqlite")).await.expect("database");
        let keys = Keys::open(&dir.path().join("keys")).expect("keys");
        keys.create_account(&account).expect("account key");
        let mut tx = db.begin().await.expect("transaction");
        let created = jiff::Timestamp::now();
        let row = db::accounts::Account { id: account.clone(), email: String::new(), name: String::new(), created };
        db::accounts::insert(&mut tx, &row).await.expect("account");
        for id in [&ours, &theirs, &closed] {
            keys.create_project(id, &account).expect("project key");
            let row = db::accounts::Project {
                id: id.clone(),
                account: account.clone(),
                name: String::new(),
                authorized: *id != closed,
                region: None,
                created,
            };
            db::accounts::insert_project(&mut tx, &row).await.expect("project");
            let code = dir.path().join("objects").join(id.as_str()).join("code");
            std::fs::create_dir_all(&code).expect("bucket");
            std::fs::write(code.join("main.py"), b"print('hello')\n").expect("object");
        }
        tx.commit().await.expect("committed");
        db.close().await;
        engine(dir.path(), "3.5.9");
        let (jobs, audit) = open(dir.path()).await;
        Service { dir, jobs, audit, ours, theirs, closed }
    }

    async fn submit(&self, project: &ProjectId, name: &str) -> Job {
        self.jobs.submit(project, &request(name, &[]), &Actor::system()).await.expect("submitted")
    }

    async fn faults(&self, request: &JobRequest) -> Vec<Fault> {
        match self.jobs.submit(&self.ours, request, &Actor::system()).await {
            Err(Error::Invalid(faults)) => faults.0,
            other => panic!("{other:?}"),
        }
    }

    async fn job(&self, job: &Job) -> Job {
        self.jobs.find(&job.project, job.id).await.expect("read").expect("there")
    }

    async fn wait(&self, job: &Job, status: JobStatus) -> Job {
        for _ in 0..400 {
            let now = self.job(job).await;
            if now.status == status {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("waited for {status}: {:?}", self.job(job).await);
    }

    async fn names(&self, filters: &[Filter]) -> Vec<String> {
        let query =
            ListQuery { filters: filters.to_vec(), sort: JobField::Id, descending: false, offset: 0, limit: 100 };
        let page = self.jobs.list(&self.ours, &query).await.expect("listed");
        assert_eq!(page.total, page.jobs.len() as u64);
        page.jobs.into_iter().map(|job| job.spec.name).collect()
    }
}

/// The room over a data directory, as a process opens it.
async fn open(dir: &Path) -> (Jobs, Audit) {
    open_on(dir, Cores(8)).await
}

/// The same on a machine of so many cores.
async fn open_on(dir: &Path, cores: Cores) -> (Jobs, Audit) {
    let db = Db::open(&dir.join("casemate.sqlite")).await.expect("database");
    let audit = Audit::new(db.clone());
    let jobs = Jobs::new(Parts {
        db,
        audit: audit.clone(),
        keys: Arc::new(Keys::open(&dir.join("keys")).expect("keys")),
        warden: warden::Client::new(&dir.join("no-warden.sock")),
        engines: Arc::new(Engines::open(&dir.join("engines")).expect("engines")),
        surroundings: Arc::new(Files(dir.join("objects"))),
        config: Config {
            regions: vec!["GRA".parse().expect("region")],
            max_running: 1,
            warm: Vec::new(),
            cores,
            memory: MiB::gib(16),
            storage: MiB::gib(1024),
            log_retention: Duration::from_secs(60),
            spool: dir.join("jobs"),
            log_address_base: "http://127.0.0.1:9000".into(),
            environments: jobs::EnvironmentConfig { pypi: None, maven: Vec::new(), place: dir.join("environments") },
        },
    });
    (jobs, audit)
}

/// An installed engine, as far as its manifest.
fn engine(dir: &Path, version: &str) {
    let home = dir.join(format!("engines/spark-{version}"));
    std::fs::create_dir_all(&home).expect("directory");
    let manifest = serde_json::json!({"engine": {
        "version": version, "scala": "2.12", "hadoop": "3.3.4", "description": "Spark", "available": "2025-01-01",
        "end_of_support": "2025-10-01", "end_of_life": "2026-01-01", "java_home": "/usr", "jars": [], "archives": false,
    }});
    std::fs::write(home.join("manifest.json"), manifest.to_string()).expect("manifest");
}

fn request(name: &str, parameters: &[(&str, &str)]) -> JobRequest {
    let given = [("job_type", "python"), ("main_application_code", "main.py")];
    let known: Vec<&str> = parameters.iter().map(|(name, _)| *name).collect();
    let all = given.iter().filter(|(name, _)| !known.contains(name)).chain(parameters);
    JobRequest {
        name: Some(name.into()),
        container_name: Some("code".into()),
        parameters: all.map(|(name, value)| EngineParameter { name: (*name).into(), value: (*value).into() }).collect(),
        ..JobRequest::default()
    }
}

fn filter(field: JobField, op: FilterOp, values: &[&str]) -> Filter {
    Filter { field, op, values: values.iter().map(|value| (*value).to_owned()).collect() }
}

fn all_lines() -> LogQuery {
    LogQuery { from: None, after: None, node: None, max_lines: 100, max_bytes: 1 << 20, newest: false }
}

#[tokio::test]
async fn all_that_is_wrong_with_a_submit_is_told_at_once_and_nothing_is_left_of_it() {
    let service = Service::start().await;
    let classes = |faults: &[Fault]| -> Vec<(String, String)> {
        faults.iter().map(|fault| (fault.field.clone(), fault.class.clone())).collect()
    };
    let large = [
        ("main_application_code", "absent.py"),
        ("executor_num", "10"),
        ("executor_memory", "8192"),
        ("properties_file", "no.conf"),
    ];
    assert_eq!(
        classes(&service.faults(&request("large", &large)).await),
        [
            ("main_application_code", "odp.mainApplicationCode.notFound"),
            ("properties_file", "odp.propertiesFile.notFound"),
            ("cores", "odp.project.notEnoughQuotas"),
            ("memory", "odp.project.notEnoughQuotas"),
        ]
        .map(|(field, class)| (field.to_owned(), class.to_owned()))
    );
    let faults = service.faults(&request("wrong", &[("driver_cores", "17"), ("executor_num", "0")])).await;
    assert_eq!(faults.len(), 2, "{faults:?}");
    let old = JobRequest { engine_version: Some("2.4.3".into()), ..request("old", &[]) };
    assert!(service.faults(&old).await[0].message.contains("3.5.9"), "versions offered are named");
    let refused = service.jobs.submit(&service.closed, &request("closed", &[]), &Actor::system()).await;
    assert!(matches!(refused, Err(Error::NotAuthorized)), "{refused:?}");
    assert_eq!(service.names(&[]).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_job_reads_back_as_submitted_and_only_by_its_project() {
    let service = Service::start().await;
    let job = service.submit(&service.ours, "one").await;
    assert_eq!(service.job(&job).await, job);
    assert_eq!((job.status, job.attempt, job.return_code), (JobStatus::Pending, 0, None));
    assert_eq!(service.jobs.find(&service.theirs, job.id).await.expect("read"), None);
    assert!(service.jobs.ids(&service.theirs, &[]).await.expect("ids").is_empty());
    let logs = service.jobs.logs(&service.ours, job.id, &all_lines()).await.expect("logs");
    assert_eq!((logs.lines.len(), logs.address, logs.started), (0, None, job.created));
    assert!(matches!(service.jobs.logs(&service.theirs, job.id, &all_lines()).await, Err(Error::NotFound)));
    assert!(matches!(service.jobs.cancel(&service.theirs, job.id, &Actor::system()).await, Err(Error::NotFound)));
}

#[tokio::test]
async fn jobs_are_listed_by_filters_in_order_and_in_pages() {
    let service = Service::start().await;
    let mut all = Vec::new();
    for name in ["apple", "100%", "pear_tree", "peach"] {
        all.push(service.submit(&service.ours, name).await);
    }
    service.submit(&service.theirs, "apple").await;
    service.jobs.cancel(&service.ours, all[1].id, &Actor::system()).await.expect("cancelled");

    let newest_first: Vec<_> = all.iter().rev().map(|job| job.id).collect();
    assert_eq!(service.jobs.ids(&service.ours, &[]).await.expect("ids"), newest_first);
    use {FilterOp as Op, JobField as Field};
    let at = all[2].created.to_string();
    let id = all[3].id.to_string().to_uppercase();
    for (filters, expected) in [
        (vec![filter(Field::Name, Op::Eq, &["apple"])], &["apple"][..]),
        (vec![filter(Field::Name, Op::Neq, &["apple"])], &["100%", "pear_tree", "peach"]),
        (vec![filter(Field::Name, Op::Like, &["PEA*"])], &["pear_tree", "peach"]),
        (vec![filter(Field::Name, Op::Like, &["100%"])], &["100%"]),
        (vec![filter(Field::Name, Op::Like, &["pear%tree"])], &[]),
        (vec![filter(Field::Name, Op::Like, &["p_ach"])], &[]),
        (vec![filter(Field::Name, Op::NotLike, &["*p*"])], &["100%"]),
        (vec![filter(Field::Name, Op::Eq, &["' OR 1=1 --"])], &[]),
        (vec![filter(Field::Status, Op::Eq, &["TERMINATED"])], &["100%"]),
        (vec![filter(Field::Status, Op::In, &["TERMINATED", "RUNNING"])], &["100%"]),
        (vec![filter(Field::Status, Op::Eq, &["UNKNOWN"])], &[]),
        (vec![filter(Field::Created, Op::Lt, &[&at])], &["apple", "100%"]),
        (vec![filter(Field::Created, Op::Ge, &[&at]), filter(Field::Name, Op::Le, &["peach"])], &["peach"]),
        (vec![filter(Field::Ended, Op::Gt, &["2020-01-01T00:00:00Z"])], &["100%"]),
        (vec![filter(Field::Id, Op::Eq, &[&id])], &["peach"]),
        (vec![filter(Field::Version, Op::Eq, &["3.5.9"]), filter(Field::Region, Op::Neq, &["GRA"])], &[]),
    ] {
        assert_eq!(service.names(&filters).await, expected, "{filters:?}");
    }
    for wrong in [
        filter(Field::Created, Op::Eq, &["yesterday"]),
        filter(Field::Created, Op::Like, &["2026*"]),
        filter(Field::Status, Op::Eq, &["SLEEPING"]),
        filter(Field::Name, Op::Eq, &[]),
        filter(Field::Name, Op::Eq, &["a", "b"]),
        filter(Field::Name, Op::In, &["a"; 101]),
    ] {
        let refused = service.jobs.ids(&service.ours, std::slice::from_ref(&wrong)).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{wrong:?}: {refused:?}");
    }

    let page = |sort, descending, offset, limit| ListQuery { filters: Vec::new(), sort, descending, offset, limit };
    for (query, expected) in [
        (page(Field::Name, false, 0, 2), &["100%", "apple"][..]),
        (page(Field::Name, false, 2, 2), &["peach", "pear_tree"]),
        (page(Field::Name, true, 3, 2), &["100%"]),
        (page(Field::Created, true, 0, 1), &["peach"]),
        (page(Field::Id, false, 9, 9), &[]),
        (page(Field::Id, false, u64::MAX, u32::MAX), &[]),
    ] {
        let found = service.jobs.list(&service.ours, &query).await.expect("listed");
        assert_eq!(found.total, 4);
        assert_eq!(found.jobs.iter().map(|job| job.spec.name.as_str()).collect::<Vec<_>>(), expected, "{query:?}");
    }
}

#[tokio::test]
async fn a_waiting_job_that_is_cancelled_has_ended_at_once() {
    let service = Service::start().await;
    let job = service.submit(&service.ours, "one").await;
    let before = service.job(&job).await;
    for _ in 0..2 {
        service.jobs.cancel(&service.ours, job.id, &Actor::operator()).await.expect("cancel is idempotent");
    }
    let after = service.job(&job).await;
    assert_eq!((after.status, after.return_code), (JobStatus::Terminated, Some(143)));
    assert_eq!((after.reason, after.started), (Some(EndReason::Cancelled), None));
    assert_eq!(after.logs_address, Some(format!("http://127.0.0.1:9000/odp-logs/{}/", job.id)));
    assert_eq!(after.created, before.created);
    let query = audit::Query { limit: 10, ..audit::Query::default() };
    let entries = service.audit.list(&query).await.expect("entries");
    let told: Vec<_> = entries.iter().map(|entry| (entry.action.as_str(), entry.identity.as_str())).collect();
    assert_eq!(
        told,
        [("job.terminated", "operator"), ("job.pending", "system")],
        "one entry a transition, newest first"
    );
    assert_eq!(entries[0].resource, format!("project/{}/job/{}", service.ours, job.id));
}

#[tokio::test]
async fn a_job_that_is_cancelled_before_it_is_tried_again_has_the_start_of_what_ran() {
    let service = Service::start().await;
    let began = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 60).expect("a time");
    let db = Db::open(&service.dir.path().join("casemate.sqlite")).await.expect("database");
    for (name, starts) in [("ran", [Some(began), None]), ("never ran", [None, None])] {
        let job = service.submit(&service.ours, name).await;
        let mut tx = db.begin().await.expect("transaction");
        for (number, started) in (1..).zip(starts) {
            let id = SandboxId { job: job.id, attempt: AttemptNo(number) };
            let attempt = Attempt { job: job.id, number: id.attempt, created: job.created, started: None, ended: None };
            db::jobs::insert_attempt(&mut tx, &attempt, b"key").await.expect("an attempt");
            if let Some(started) = started {
                db::jobs::attempt_started(&mut tx, id, started).await.expect("started");
            }
            db::jobs::attempt_ended(&mut tx, id, began, None).await.expect("ended");
        }
        db::jobs::update(&mut tx, &Job { attempt: 2, ..job.clone() }).await.expect("written");
        tx.commit().await.expect("committed");
        service.jobs.cancel(&service.ours, job.id, &Actor::operator()).await.expect("cancelled");
        let ended = service.job(&job).await;
        assert_eq!((ended.status, ended.started), (JobStatus::Terminated, starts[0]), "{name}");
    }
}

#[tokio::test]
async fn a_submit_sent_twice_by_one_key_is_one_job() {
    let service = Service::start().await;
    let key: IdempotencyKey = "8e03978e-40d5-43dd-bc93-6894a57f9324".parse().expect("a key");
    let (asked, by) = (request("one", &[]), Actor::system());
    let once = || service.jobs.submit_once(&service.ours, &asked, &key, &by);
    let (first, second) = tokio::join!(once(), once());
    let first = first.expect("submitted");
    assert_eq!(second.expect("submitted").id, first.id, "also where both come at once");
    service.jobs.cancel(&service.ours, first.id, &by).await.expect("cancelled");
    std::fs::remove_file(service.dir.path().join("objects").join(service.ours.as_str()).join("code/main.py"))
        .expect("removed");
    let again = once().await.expect("its file is not looked for again");
    assert_eq!((again.id, again.status), (first.id, JobStatus::Terminated), "as it is now");
    assert_eq!(service.names(&[]).await, ["one"]);
    let (reopened, _) = open(service.dir.path()).await;
    assert_eq!(reopened.submit_once(&service.ours, &asked, &key, &by).await.expect("kept").id, first.id);

    let other = service.jobs.submit_once(&service.ours, &request("two", &[]), &key, &by).await;
    assert!(matches!(other, Err(Error::KeyReused)), "{other:?}");
    let theirs = service.jobs.submit_once(&service.theirs, &asked, &key, &by).await.expect("their own key");
    assert_ne!(theirs.id, first.id);
    assert_eq!(service.names(&[]).await, ["one"]);
    let query = audit::Query { limit: 10, ..audit::Query::default() };
    let entries = service.audit.list(&query).await.expect("entries");
    let submits = entries.iter().filter(|entry| entry.action == "job.pending").count();
    assert_eq!(submits, 2, "one entry a job");
}

#[tokio::test]
async fn a_quota_refuses_what_can_never_fit_and_says_why_the_rest_waits() {
    let service = Service::start().await;
    let (quotas, by) = (service.jobs.quotas(), Actor::operator());
    let large = request("waiting", &[("executor_cores", "2")]);
    let waiting = service.jobs.submit(&service.ours, &large, &by).await.expect("submitted");
    let next = service.submit(&service.ours, "next").await;
    let standing = service.jobs.standing(&waiting).await.expect("standing");
    assert_eq!((standing.place, standing.deadline.is_some()), (Some(1), true));
    assert_eq!(standing.reason.as_deref(), Some("it starts when it is its project's turn"));
    let standing = service.jobs.standing(&next).await.expect("standing");
    assert_eq!((standing.place, standing.reason.as_deref()), (Some(2), Some("1 job of the project comes first")));

    let none = quotas.change(&service.ours, |quota| Quota { jobs: Some(0), ..quota }, &by).await.expect("changed");
    assert_eq!((none.jobs, none.cores), (Some(0), None));
    let standing = service.jobs.standing(&waiting).await.expect("standing");
    assert_eq!(
        standing.reason.as_deref(),
        Some("the project's quota has no room for it now (jobs: 0 of 0 in use, 1 needed)")
    );
    let small = quotas.change(&service.ours, |quota| Quota { cores: Some(Cores(1)), ..quota }, &by).await;
    assert_eq!(small.expect("changed"), Quota { jobs: Some(0), cores: Some(Cores(1)), memory: None, storage: None });
    let faults = service.faults(&request("large", &[])).await;
    let told: Vec<_> = faults.iter().map(|fault| (fault.field.as_str(), fault.class.as_str())).collect();
    assert_eq!(told, [("cores", "odp.project.notEnoughQuotas")]);
    assert!(faults[0].message.contains("at most 1 cores"), "{}", faults[0].message);
    let theirs = service.submit(&service.theirs, "another project's").await;
    let absent = "f".repeat(32).parse().expect("project");
    let refused = quotas.change(&absent, |quota| quota, &by).await;
    assert!(matches!(refused, Err(Error::NoProject)), "{refused:?}");
    let query = audit::Query { limit: 10, ..audit::Query::default() };
    let entries = service.audit.list(&query).await.expect("entries");
    let changes: Vec<_> = entries.iter().filter(|entry| entry.action == "quota.set").collect();
    assert_eq!(changes.len(), 2);
    let detail: serde_json::Value = serde_json::from_str(&changes[0].detail).expect("JSON");
    assert_eq!((&detail["before"]["cores"], &detail["after"]["cores"]), (&serde_json::Value::Null, &1.into()));

    // What waits and is larger than the whole new quota waits on, and keeps nobody behind it.
    let db = Db::open(&service.dir.path().join("casemate.sqlite")).await.expect("database");
    let heads = async || {
        let heads = db::jobs::heads(&db, jiff::Timestamp::now()).await.expect("heads");
        heads.iter().map(|head| head.id).collect::<Vec<_>>()
    };
    assert_eq!(heads().await, [theirs.id]);
    for (cores, first) in [(Some(Cores(2)), &next), (None, &waiting)] {
        quotas.change(&service.ours, |quota| Quota { cores, ..quota }, &by).await.expect("changed");
        assert_eq!(heads().await, [first.id, theirs.id]);
    }
}

#[tokio::test]
async fn so_many_jobs_wait_for_another_one_that_its_end_can_settle_them_at_once() {
    let service = Service::start().await;
    let by = Actor::system();
    let first = service.submit(&service.ours, "first").await;
    let mut before = first.id.to_string();
    for number in 0..1000 {
        let after = [("run_after", before.as_str())];
        let next = service.jobs.submit(&service.ours, &request("next", &after), &by).await.expect("submitted");
        // Half of them in a chain, the others beside it.
        before = if number % 2 == 0 { next.id.to_string() } else { before };
    }
    let faults = service.faults(&request("last", &[("run_after", before.as_str())])).await;
    assert_eq!(faults.iter().map(|fault| fault.class.as_str()).collect::<Vec<_>>(), ["odp.job.runAfter.tooMany"]);
    // One that ended while it waited waits no more.
    let last = before.parse().expect("an id");
    service.jobs.cancel(&service.ours, last, &by).await.expect("cancelled");
    let id = first.id.to_string();
    let next = request("next", &[("run_after", id.as_str())]);
    service.jobs.submit(&service.ours, &next, &by).await.expect("submitted");
    service.jobs.cancel(&service.ours, first.id, &by).await.expect("cancelled");
    let failed = filter(JobField::Status, FilterOp::Eq, &["FAILED"]);
    let query = ListQuery { filters: vec![failed], sort: JobField::Id, descending: false, offset: 0, limit: 1 };
    assert_eq!(service.jobs.list(&service.ours, &query).await.expect("listed").total, 1000);
}

#[tokio::test]
async fn a_withdrawn_version_takes_no_new_job_and_ends_what_waits_for_it() {
    let service = Service::start().await;
    engine(service.dir.path(), "4.3.0");
    let (by, newest) = (Actor::operator(), "4.3.0".parse().expect("a version"));
    let on = |version: &str| JobRequest { engine_version: Some(version.into()), ..request("on", &[]) };
    let told = async |version: &str| {
        let fault = service.faults(&on(version)).await.swap_remove(0);
        (fault.field, fault.class, fault.message)
    };
    let field = || "engineVersion".to_owned();
    let ended = ("odp.job.engineVersion.endOfLife".to_owned(), "its life ended on 2026-01-01; use 4.3.0".to_owned());
    assert_eq!(told("3.5.9").await, (field(), ended.0, ended.1));

    let waiting = service.submit(&service.ours, "waits").await;
    assert_eq!(waiting.spec.version, newest);
    let versions = service.jobs.versions();
    for reason in ["", " ", "a\nb", &"x".repeat(301)] {
        assert!(versions.withdraw(&newest, reason, &by).await.is_err(), "{reason}");
    }
    let withdrawal = versions.withdraw(&newest, "CVE-2026-1", &by).await.expect("withdrawn");
    assert_eq!(versions.withdrawn().await.expect("read"), [withdrawal]);
    let again = versions.withdraw(&newest, "CVE-2026-1", &by).await;
    assert!(matches!(again, Err(Error::Withdrawal(InvalidWithdrawal::Already))), "{again:?}");
    let (_, class, message) = told("4.3.0").await;
    assert_eq!(class, "odp.job.engineVersion.withdrawn");
    assert!(message.ends_with(": CVE-2026-1; use 3.5.9"), "{message}");
    let other = service.submit(&service.ours, "other").await;
    assert_eq!(other.spec.version.as_str(), "3.5.9", "the newest that is left has no end");

    let stop = CancellationToken::new();
    let runner = tokio::spawn({
        let (jobs, stop) = (service.jobs.clone(), stop.clone());
        async move { jobs.run(stop).await }
    });
    let ended = service.wait(&waiting, JobStatus::Failed).await;
    let reason = EndReason::Withdrawn { detail: "Spark 4.3.0: CVE-2026-1".to_owned() };
    assert_eq!(reason.blame(), Blame::Platform);
    assert_eq!((ended.reason, ended.attempt), (Some(reason), 0));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), runner).await.expect("in time").expect("ended");
    assert!(!service.job(&other).await.status.is_final());

    versions.restore(&newest, &by).await.expect("restored");
    assert!(matches!(versions.restore(&newest, &by).await, Err(Error::Withdrawal(InvalidWithdrawal::Not))));
    assert_eq!(service.submit(&service.ours, "again").await.spec.version, newest);
    let query = audit::Query { limit: 30, ..audit::Query::default() };
    let entries = service.audit.list(&query).await.expect("entries");
    let actions: Vec<_> =
        entries.iter().map(|entry| entry.action.as_str()).filter(|action| action.starts_with("engine.")).collect();
    assert_eq!(actions, ["engine.restored", "engine.withdrawn"]);
}

#[tokio::test]
async fn each_owner_of_a_schedule_is_told_a_later_one_too_and_whatever_becomes_of_the_others() {
    let service = Service::start().await;
    engine(service.dir.path(), "4.3.0");
    let (by, now) = (Actor::system(), jiff::Timestamp::now());
    let accounts: [AccountId; 3] =
        ["ab1234-casemate", "cd1234-casemate", "ef1234-casemate"].map(|id| id.parse().expect("an account"));
    let db = Db::open(&service.dir.path().join("casemate.sqlite")).await.expect("database");
    let mut tx = db.begin().await.expect("transaction");
    for id in &accounts[1..] {
        let row = db::accounts::Account { id: id.clone(), email: String::new(), name: String::new(), created: now };
        db::accounts::insert(&mut tx, &row).await.expect("account");
    }
    tx.commit().await.expect("committed");
    db.close().await;
    let owner =
        |account: &AccountId| Principal { account: account.clone(), urn: format!("of {account}"), person: None };
    let schedules = service.jobs.schedules();
    let mut made = Vec::new();
    for account in &accounts[..2] {
        let request = jobs::ScheduleRequest {
            name: Some(account.to_string()),
            cron: Some("@daily".to_owned()),
            job: Some(JobRequest { engine_version: Some("4.3.0".to_owned()), ..request("on", &[]) }),
            ..jobs::ScheduleRequest::default()
        };
        let schedule = schedules.create(&service.ours, &request, &owner(account), None, &by, now).await;
        made.push(schedule.expect("a schedule").id);
    }
    service.jobs.versions().withdraw(&"4.3.0".parse().expect("a version"), "CVE-2026-1", &by).await.expect("withdrawn");
    let mailbox = |account: &AccountId| service.dir.path().join("objects").join(account.as_str());
    let mails =
        |account: &AccountId| std::fs::read_to_string(mailbox(account)).map_or(0, |mails| mails.lines().count());
    // What is no file takes no mail.
    std::fs::create_dir(mailbox(&accounts[0])).expect("a directory");
    for _ in 0..2 {
        assert!(matches!(schedules.tell_owners(now).await, Err(Error::Beside { .. })));
        assert_eq!(mails(&accounts[1]), 1);
    }
    std::fs::remove_dir(mailbox(&accounts[0])).expect("removed");
    for _ in 0..2 {
        schedules.tell_owners(now).await.expect("told");
        assert_eq!(accounts.each_ref().map(mails), [1, 1, 0]);
    }
    // A change in the name of another account, then one in the name of the same again.
    for (end, account) in [("2100-01-01T00:00:00Z", &accounts[2]), ("2100-01-02T00:00:00Z", &accounts[2])] {
        let change = jobs::ScheduleRequest { ends: Some(end.to_owned()), ..jobs::ScheduleRequest::default() };
        let owner = owner(account);
        schedules.change(&service.ours, made[1], &change, Some(&owner), &by, now).await.expect("changed");
        schedules.tell_owners(now).await.expect("told");
        assert_eq!(accounts.each_ref().map(mails), [1, 1, 1]);
    }
}

#[tokio::test]
async fn operators_see_how_many_jobs_wait_and_for_what_and_no_names() {
    let service = Service::start().await;
    let by = Actor::operator();
    let mut registry = prometheus_client::registry::Registry::default();
    service.jobs.metrics().register(&mut registry);
    let seen = async || {
        service.jobs.measure().await.expect("measured");
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).expect("text");
        text
    };
    let has = |text: &str, lines: &[&str]| {
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{line}\n{text}");
        }
    };
    has(&seen().await, &["jobs{status=\"PENDING\"} 0", "room_cores{part=\"total\"} 8", "job_queue_age_seconds 0"]);
    let first = service.submit(&service.ours, "a name").await;
    service.submit(&service.ours, "second").await;
    let held = request("held", &[("run_after", first.id.to_string().as_str())]);
    service.jobs.submit(&service.ours, &held, &by).await.expect("submitted");
    service.submit(&service.theirs, "theirs").await;
    let none = |quota| Quota { jobs: Some(0), ..quota };
    service.jobs.quotas().change(&service.theirs, none, &by).await.expect("changed");
    let text = seen().await;
    has(
        &text,
        &[
            "jobs_submitted_total 4",
            "jobs{status=\"PENDING\"} 4",
            "jobs_waiting{reason=\"quota\"} 1",
            "jobs_waiting{reason=\"run_after\"} 1",
            "jobs_waiting{reason=\"machine\"} 0",
            "jobs_waiting{reason=\"turn\"} 2",
            "room_memory_bytes{part=\"total\"} 17179869184",
            "room_jobs{part=\"used\"} 0",
        ],
    );
    let names = [service.ours.to_string(), first.id.to_string(), "a name".to_owned()];
    assert!(names.iter().all(|name| !text.contains(name)), "{text}");
    service.jobs.cancel(&service.ours, first.id, &by).await.expect("cancelled");
    has(&seen().await, &["jobs{status=\"PENDING\"} 2", "jobs_waiting{reason=\"run_after\"} 0"]);
    // Larger than its project's whole quota: for that it waits too.
    let small = |quota| Quota { cores: Some(Cores(1)), ..quota };
    service.jobs.quotas().change(&service.ours, small, &by).await.expect("changed");
    has(&seen().await, &["jobs_waiting{reason=\"quota\"} 2", "jobs_waiting{reason=\"turn\"} 0"]);
}

#[tokio::test]
async fn a_job_runs_after_another_one_or_ends_with_the_reason() {
    let service = Service::start().await;
    let by = Actor::system();
    let first = service.submit(&service.ours, "first").await;
    let id = first.id.to_string();
    let after = |name, condition| request(name, &[("run_after", id.as_str()), ("run_after_condition", condition)]);
    let submit = async |request: &JobRequest| service.jobs.submit(&service.ours, request, &by).await;
    let completed = submit(&after("completed", "completed")).await.expect("submitted");
    let failed = submit(&after("failed", "failed")).await.expect("submitted");
    let ended = submit(&after("ended", "ended")).await.expect("submitted");
    let chained = completed.id.to_string();
    let last = submit(&request("last", &[("run_after", chained.as_str())])).await.expect("submitted");
    let standing = service.jobs.standing(&completed).await.expect("standing");
    assert_eq!(standing.reason, Some(format!("it waits for job {id} to be completed")));

    service.jobs.cancel(&service.ours, first.id, &by).await.expect("cancelled");
    let refused = service.job(&completed).await;
    let detail = format!("job {id} is TERMINATED, and was to be completed before this one");
    assert_eq!((refused.status, refused.reason), (JobStatus::Failed, Some(EndReason::CannotStart { detail })));
    assert_eq!(service.job(&last).await.status, JobStatus::Failed, "and what was to run after that");
    for job in [failed, ended] {
        let released = service.job(&job).await;
        assert_eq!(released.status, JobStatus::Pending);
        assert!(released.since > job.since, "its own wait begins now");
        let reason = service.jobs.standing(&job).await.expect("standing").reason.expect("a reason");
        assert!(!reason.contains("waits for job"), "{reason}");
    }

    // What has ended already is looked at once.
    assert_eq!(submit(&after("late", "ended")).await.expect("submitted").status, JobStatus::Pending);
    let foreign = service.submit(&service.theirs, "theirs").await.id.to_string();
    for (job, condition) in
        [(id.as_str(), "completed"), (foreign.as_str(), "ended"), ("x", "ended"), (id.as_str(), "never")]
    {
        let faults = service.faults(&request("n", &[("run_after", job), ("run_after_condition", condition)])).await;
        assert!(faults[0].field.starts_with("run_after"), "{faults:?}");
    }
}

#[tokio::test]
async fn a_job_waits_while_its_projects_key_cannot_be_opened_and_the_others_start() {
    let service = Service::start().await;
    let held = service.submit(&service.ours, "held").await;
    let free = service.submit(&service.theirs, "free").await;
    let key = service.dir.path().join("keys").join(format!("project-{}.key", service.ours));
    let mut bytes = std::fs::read(&key).expect("a key");
    bytes[20] ^= 1;
    std::fs::write(&key, &bytes).expect("damaged");
    // As a service that is started later: nothing of the key is in its memory.
    let (jobs, _) = open(service.dir.path()).await;
    let stop = CancellationToken::new();
    let runner = tokio::spawn({
        let (jobs, stop) = (jobs.clone(), stop.clone());
        async move { jobs.run(stop).await }
    });
    service.wait(&free, JobStatus::Submitted).await;
    let found = service.job(&held).await;
    assert_eq!((found.status, found.attempt), (JobStatus::Pending, 0));
    let standing = jobs.standing(&found).await.expect("standing");
    let reason = "the key of its project cannot be opened; the operator is told why";
    assert_eq!((standing.place, standing.reason.as_deref()), (Some(1), Some(reason)));
    stop.cancel();
    runner.await.expect("ended");
}

#[tokio::test]
async fn what_was_accepted_and_is_not_started_is_the_platforms_fault_unless_its_own_project_held_it_back() {
    let service = Service::start().await;
    let (by, now) = (Actor::system(), jiff::Timestamp::now());
    let submit =
        async |request: JobRequest| service.jobs.submit(&service.ours, &request, &by).await.expect("submitted");
    let large = submit(request("large", &[("executor_cores", "2")])).await;
    let waited = service.submit(&service.theirs, "waited").await;
    let keyless = submit(request("keyless", &[])).await;
    let paused = submit(request("paused", &[])).await;
    let held = submit(request("held", &[("run_after", paused.id.to_string().as_str())])).await;
    let db = Db::open(&service.dir.path().join("casemate.sqlite")).await.expect("database");
    let (long_ago, later) =
        (now - jiff::SignedDuration::from_hours(31 * 24), now + jiff::SignedDuration::from_hours(1));
    let mut tx = db.begin().await.expect("transaction");
    for job in [&waited, &held] {
        let job = Job { since: long_ago, not_before: long_ago, ..job.clone() };
        db::jobs::update(&mut tx, &job).await.expect("written");
    }
    db::jobs::update(&mut tx, &Job { not_before: later, ..paused.clone() }).await.expect("written");
    tx.commit().await.expect("committed");
    let key = service.dir.path().join("keys").join(format!("project-{}.key", service.ours));
    std::fs::remove_file(key).expect("removed");
    let small = |quota| Quota { cores: Some(Cores(1)), ..quota };
    service.jobs.quotas().change(&service.theirs, small, &by).await.expect("changed");

    // The operator gave the service less of the machine.
    let (jobs, _) = open_on(service.dir.path(), Cores(2)).await;
    let stop = CancellationToken::new();
    let runner = tokio::spawn({
        let stop = stop.clone();
        async move { jobs.run(stop).await }
    });
    for (job, detail, blame) in [
        (&large, "it asks for 3 cores, and may have at most 2 cores", Blame::Platform),
        (&waited, "it has waited for 30 days: ", Blame::Platform),
        (&held, "it has waited for 30 days: it waits for job", Blame::Job),
        (&keyless, "the key of its project is not there", Blame::Platform),
    ] {
        let ended = service.wait(job, JobStatus::Failed).await;
        let reason = ended.reason.expect("a reason");
        assert_eq!((reason.blame(), ended.attempt, ended.return_code), (blame, 0, Some(1)), "{reason}");
        assert!(reason.to_string().contains(detail), "{reason}");
    }
    stop.cancel();
    runner.await.expect("ended");
}

#[tokio::test]
async fn an_attempt_whose_engine_is_not_there_any_more_is_not_said_to_be_lost_while_its_shim_may_start_it() {
    let service = Service::start().await;
    let job = service.submit(&service.ours, "on").await;
    std::fs::remove_dir_all(service.dir.path().join("engines/spark-3.5.9")).expect("removed");
    let stop = CancellationToken::new();
    let runner = tokio::spawn({
        let (jobs, stop) = (service.jobs.clone(), stop.clone());
        async move { jobs.run(stop).await }
    });
    // The warden, which is not there, knows.
    service.wait(&job, JobStatus::Submitted).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(service.job(&job).await.status, JobStatus::Submitted);
    stop.cancel();
    runner.await.expect("ended");
}

#[tokio::test]
async fn a_job_of_a_schedule_that_waits_starts_once_no_job_of_an_earlier_time_is_left() {
    let service = Service::start().await;
    let (by, now) = (Actor::system(), jiff::Timestamp::now());
    let account = "ab1234-casemate".parse().expect("an account");
    let owner = Principal { account, urn: "the account".to_owned(), person: None };
    let schedules = service.jobs.schedules();
    let minute = jiff::SignedDuration::from_mins(1);
    let db = Db::open(&service.dir.path().join("casemate.sqlite")).await.expect("database");
    // The policy of the first two times, and of the third.
    for (before, then) in [("queue", "queue"), ("allow", "queue")] {
        let asked = jobs::ScheduleRequest {
            name: Some(format!("{before}, then {then}")),
            cron: Some("* * * * *".to_owned()),
            overlap: Some(before.to_owned()),
            job: Some(request("each", &[])),
            ..jobs::ScheduleRequest::default()
        };
        let made = schedules.create(&service.ours, &asked, &owner, None, &by, now).await.expect("a schedule");
        let first = made.next_run.expect("a time");
        let comes = async |time| {
            schedules.come_due(time).await.expect("done");
            service.jobs.ids(&service.ours, &[]).await.expect("ids")[0]
        };
        let (one, two) = (comes(first).await, comes(first + minute).await);
        let change = jobs::ScheduleRequest { overlap: Some(then.to_owned()), ..jobs::ScheduleRequest::default() };
        schedules.change(&service.ours, made.id, &change, Some(&owner), &by, now).await.expect("changed");
        let last = comes(first + minute * 2).await;
        assert_eq!(db::jobs::holder(&db, last).await.expect("read"), Some(two), "{before}, then {then}");
        service.jobs.cancel(&service.ours, two, &by).await.expect("cancelled");
        assert_eq!(db::jobs::holder(&db, last).await.expect("read"), Some(one), "{before}, then {then}");
        let waits = service.jobs.find(&service.ours, last).await.expect("read").expect("there");
        let reason = service.jobs.standing(&waits).await.expect("standing").reason;
        assert_eq!(reason, Some(format!("it waits for job {one} to be ended")));
        service.jobs.cancel(&service.ours, one, &by).await.expect("cancelled");
        assert_eq!(db::jobs::holder(&db, last).await.expect("read"), None, "{before}, then {then}");
        assert_eq!(service.job(&waits).await.status, JobStatus::Pending);
    }
}

#[tokio::test]
async fn a_restart_keeps_every_job() {
    let service = Service::start().await;
    let waiting = service.submit(&service.ours, "waiting").await;
    let ended = service.submit(&service.ours, "ended").await;
    service.jobs.cancel(&service.ours, ended.id, &Actor::system()).await.expect("cancelled");
    let (waiting, ended) = (service.job(&waiting).await, service.job(&ended).await);
    let (again, _) = open(service.dir.path()).await;
    for job in [waiting, ended] {
        assert_eq!(again.find(&service.ours, job.id).await.expect("read"), Some(job));
    }
}

#[tokio::test]
async fn without_a_warden_no_job_is_lost_and_none_is_said_to_have_ended() {
    let service = Service::start().await;
    let stop = CancellationToken::new();
    let runner = tokio::spawn({
        let (jobs, stop) = (service.jobs.clone(), stop.clone());
        async move { jobs.run(stop).await }
    });
    let first = service.submit(&service.ours, "first").await;
    let second = service.submit(&service.ours, "second").await;
    service.wait(&first, JobStatus::Submitted).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let held = service.job(&first).await;
    assert_eq!((held.status, held.attempt), (JobStatus::Submitted, 1), "it is not given up, and not made twice");
    assert_eq!(service.job(&second).await.status, JobStatus::Pending, "one may run");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), runner).await.expect("in time").expect("ended");

    // The next process takes the attempt up where it was.
    let (jobs, _) = open(service.dir.path()).await;
    let stop = CancellationToken::new();
    let runner = tokio::spawn({
        let (jobs, stop) = (jobs.clone(), stop.clone());
        async move { jobs.run(stop).await }
    });
    jobs.cancel(&service.ours, first.id, &Actor::system()).await.expect("cancelled");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let first = service.job(&first).await;
    assert_eq!((first.status, first.attempt), (JobStatus::Cancelling, 1), "a shim that may still stand may start it");
    let second = service.job(&second).await;
    assert_eq!(second.status, JobStatus::Pending, "a sandbox that may still stand takes its room");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), runner).await.expect("in time").expect("ended");
}

#[test]
fn every_fault_point_is_in_the_code_once() {
    let mut code = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut code);
    let all = || jobs::FAULT_POINTS.iter().chain(jobs::SCHEDULE_FAULT_POINTS).chain(jobs::WARM_FAULT_POINTS);
    for point in all() {
        let call = format!("fail_point!(\"{point}\"");
        assert_eq!(code.matches(&call).count(), 1, "{point}");
    }
    assert_eq!(code.matches("fail_point!(\"").count(), all().count(), "every point is in the list");
    assert!(jobs::FAULT_POINTS.iter().filter(|point| !point.starts_with("shim.")).count() >= 10);
}

fn read(dir: &Path, code: &mut String) {
    for entry in std::fs::read_dir(dir).expect("sources").flatten() {
        match entry.path() {
            path if path.is_dir() => read(&path, code),
            path => code.push_str(&std::fs::read_to_string(path).expect("source")),
        }
    }
}
