//! Swift, Keystone and STS against the gate: python-swiftclient with its command line, keystoneauth, boto3.

mod support;

use std::time::{Duration, Instant};

use support::{Stack, project};

macro_rules! laws {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            Stack::start().await.script("swift.py", stringify!($name)).await;
        })*
    };
}

laws! {
    a_password_gets_a_token_and_a_catalogue,
    a_wrong_password_is_refused_like_an_unknown_user,
    a_token_is_described_to_its_user_and_ends_when_asked,
    a_token_is_good_for_the_account_of_its_project_only,
    containers_are_the_buckets_of_s3,
    objects_are_those_of_s3,
    metadata_is_kept_replaced_and_seen_by_s3,
    conditions_and_ranges_are_those_of_http,
    lists_are_paged_and_rolled_up_in_three_forms,
    copies_are_of_the_same_bytes,
    a_copy_of_tags_needs_the_right_to_set_them,
    segments_make_one_object,
    what_is_not_supported_says_so,
    hostile_input_is_refused_with_the_right_status,
    names_of_every_form_are_kept_apart,
    the_command_line_moves_files_and_directories,
    the_command_line_moves_large_files_in_segments,
    temporary_keys_are_had_by_sts,
    sts_refuses_what_it_must,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_leaves_an_audit_entry() {
    let stack = Stack::start().await;
    stack.script("swift.py", "calls_of_each_kind").await;
    let mut expected = vec![
        ("anonymous", "swift:GetInfo", "project/unknown".to_owned(), "allowed", "200"),
        ("anonymous", "keystone:IssueToken", "project/unknown".to_owned(), "refused", "401"),
        ("user/user-a", "keystone:IssueToken", format!("project/{}", project('a')), "allowed", "201"),
        ("user/user-a", "swift:CreateBucket", format!("project/{}/bucket/data", project('a')), "allowed", "201"),
        ("user/user-a", "swift:PutObject", format!("project/{}/bucket/data/key/a b", project('a')), "allowed", "201"),
        ("user/user-b", "swift:PUT", format!("project/{}/bucket/data/key/a b", project('b')), "refused", "403"),
        ("user/user-a", "swift:GetObject", format!("project/{}/bucket/data/key/a b", project('a')), "allowed", "200"),
        (
            "user/user-a",
            "swift:DeleteObject",
            format!("project/{}/bucket/data/key/a b", project('a')),
            "allowed",
            "204",
        ),
        ("s3-key/project-a", "sts:GetSessionToken", format!("project/{}", project('a')), "allowed", "200"),
        ("s3-key/project-a", "sts:AssumeRole", format!("project/{}", project('a')), "refused", "403 AccessDenied"),
    ];
    expected.sort();
    // Reads are written soon, not at once.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let rows = stack.audit.list(&audit::Query { limit: 100, ..audit::Query::default() }).await.expect("audit rows");
        let mut found: Vec<_> = rows
            .iter()
            .map(|row| {
                let (identity, action) = (row.identity.as_str(), row.action.as_str());
                (identity, action, row.resource.clone(), row.decision.as_str(), row.result.as_str())
            })
            .collect();
        found.sort();
        if found == expected {
            break;
        }
        assert!(Instant::now() < deadline, "{found:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
