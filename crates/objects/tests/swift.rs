//! Swift, Keystone and STS against the gate: python-swiftclient with its command line, keystoneauth, boto3.

mod support;

use support::Stack;

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
    segments_make_one_object,
    what_is_not_supported_says_so,
    hostile_input_is_refused_with_the_right_status,
    names_of_every_form_are_kept_apart,
    the_command_line_moves_files_and_directories,
    the_command_line_moves_large_files_in_segments,
    temporary_keys_are_had_by_sts,
    sts_refuses_what_it_must,
}
