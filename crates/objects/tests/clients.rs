//! Clients that people have, against the gate: boto3 and the AWS CLI.

mod support;

use support::Stack;

macro_rules! laws {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            Stack::start().await.boto(stringify!($name)).await;
        })*
    };
}

laws! {
    buckets_are_made_listed_and_removed_in_a_project_of_their_own,
    objects_of_all_sizes_come_back_byte_for_byte,
    what_is_overwritten_or_removed_is_gone_at_once,
    metadata_and_headers_come_back_as_they_were_given,
    a_range_is_the_same_bytes_as_of_the_whole,
    conditions_of_reads_are_those_of_http,
    conditional_writes_happen_once,
    checksums_of_all_kinds_are_verified_and_given_back,
    bodies_signed_in_every_way_arrive,
    copies_are_of_the_same_bytes,
    uploads_in_parts_make_one_object,
    checksums_of_parts_make_that_of_the_object,
    parts_are_copied_from_objects,
    lists_are_in_order_paged_and_rolled_up,
    keys_of_every_form_are_kept_apart,
    both_styles_of_address_work,
    a_presigned_url_is_good_for_its_purpose_and_time,
    wrong_keys_signatures_and_clocks_are_refused,
    keys_of_jobs_are_good_in_their_sandbox_only_and_never_write_logs,
    what_is_not_supported_says_so,
    versions_are_kept_listed_and_removed,
    locks_keep_versions_from_everyone,
    tags_are_set_counted_copied_and_removed,
    settings_of_buckets_come_back_as_they_were_given,
    policies_decide_who_may,
    callers_without_a_key_get_what_a_policy_opens,
    temporary_keys_are_sent_with_their_token,
    presigned_urls_carry_headers_and_obey_no_others,
    forms_of_browsers_upload_what_their_policy_allows,
    pages_of_other_origins_are_let_by_rules,
    customers_keys_open_what_they_sealed,
    attributes_name_parts_and_versions,
    malformed_requests_are_refused_with_their_code,
    conditions_on_the_target_of_a_copy_hold,
    the_transfer_manager_and_the_command_line_move_large_files,
    readers_see_whole_objects_while_they_are_overwritten,
}
