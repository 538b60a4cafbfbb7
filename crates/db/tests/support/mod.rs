//! What the tests of whole databases have in them.

use db::Db;
use jiff::Timestamp;
use model::{EngineParameter, JobRequest, JobSpec, ProjectId, SpecRules};

/// Adds a project, and the account that it is of.
pub async fn add_project(db: &Db, project: &ProjectId, created: Timestamp) {
    let account: model::AccountId = "ab1234-casemate".parse().expect("an account");
    let mut tx = db.begin().await.expect("a transaction");
    let row = db::accounts::Account { id: account.clone(), email: String::new(), name: String::new(), created };
    db::accounts::insert(&mut tx, &row).await.expect("an account");
    let name = String::new();
    let row = db::accounts::Project { id: project.clone(), account, name, authorized: true, region: None, created };
    db::accounts::insert_project(&mut tx, &row).await.expect("a project");
    tx.commit().await.expect("committed");
}

/// What a job is, as far as a database minds.
pub fn spec() -> JobSpec {
    let rules = SpecRules {
        regions: vec!["GRA".parse().expect("a region")],
        versions: vec!["3.5.9".parse().expect("a version")],
        ..SpecRules::default()
    };
    let parameter = |name: &str, value: &str| EngineParameter { name: name.into(), value: value.into() };
    let request = JobRequest {
        container_name: Some("code".into()),
        parameters: vec![parameter("job_type", "python"), parameter("main_application_code", "main.py")],
        ..JobRequest::default()
    };
    JobSpec::parse(&request, &rules).expect("a specification")
}
