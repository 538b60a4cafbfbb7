//! The operations of S3, as `s3s` parses them, over the store. What is not here is answered `NotImplemented`.

mod buckets;
mod convert;
mod copies;
mod deletes;
mod errors;
mod given;
mod listing;
mod marks;
mod multipart;
mod objects;
pub mod post;
mod rules;
mod settings;

pub use convert::bucket_name;
use s3s::{S3, S3Request, S3Response, S3Result, dto::*};

use crate::call::Session;

/// Each operation is a function of its own in the module of its subject.
macro_rules! operations {
    ($($module:ident::$name:ident($input:ident) -> $output:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Session {
            $(async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                $module::$name(&self.0, request).await
            })*
        }
    };
}

operations! {
    buckets::list_buckets(ListBucketsInput) -> ListBucketsOutput;
    buckets::create_bucket(CreateBucketInput) -> CreateBucketOutput;
    buckets::delete_bucket(DeleteBucketInput) -> DeleteBucketOutput;
    buckets::head_bucket(HeadBucketInput) -> HeadBucketOutput;
    buckets::get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;
    buckets::get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput;
    buckets::put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput;
    buckets::get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput;
    buckets::put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput;
    buckets::delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput)
        -> DeleteBucketOwnershipControlsOutput;
    settings::get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput;
    settings::put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput;
    settings::get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput;
    settings::put_object_lock_configuration(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput;
    settings::get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput;
    settings::put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput;
    settings::delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput;
    settings::get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput;
    settings::put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput;
    settings::delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput;
    settings::get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput;
    settings::get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput;
    settings::put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput;
    settings::delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput;
    settings::get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput;
    settings::put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput;
    settings::delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput;
    settings::get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput;
    settings::put_bucket_encryption(PutBucketEncryptionInput) -> PutBucketEncryptionOutput;
    settings::delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput;
    settings::get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput)
        -> GetBucketAccelerateConfigurationOutput;
    settings::get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput;
    settings::get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput;
    settings::get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput;
    settings::get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput;
    settings::get_bucket_notification_configuration(GetBucketNotificationConfigurationInput)
        -> GetBucketNotificationConfigurationOutput;
    settings::put_bucket_notification_configuration(PutBucketNotificationConfigurationInput)
        -> PutBucketNotificationConfigurationOutput;
    rules::get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput)
        -> GetBucketLifecycleConfigurationOutput;
    rules::put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput)
        -> PutBucketLifecycleConfigurationOutput;
    rules::delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput;
    objects::put_object(PutObjectInput) -> PutObjectOutput;
    objects::post_object(PostObjectInput) -> PostObjectOutput;
    objects::get_object(GetObjectInput) -> GetObjectOutput;
    objects::head_object(HeadObjectInput) -> HeadObjectOutput;
    objects::get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput;
    copies::copy_object(CopyObjectInput) -> CopyObjectOutput;
    deletes::delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    deletes::delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    deletes::delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput;
    marks::get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput;
    marks::put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput;
    marks::get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput;
    marks::put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput;
    marks::get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput;
    marks::put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput;
    marks::get_object_acl(GetObjectAclInput) -> GetObjectAclOutput;
    marks::put_object_acl(PutObjectAclInput) -> PutObjectAclOutput;
    listing::list_objects(ListObjectsInput) -> ListObjectsOutput;
    listing::list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    listing::list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput;
    multipart::create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    multipart::upload_part(UploadPartInput) -> UploadPartOutput;
    multipart::upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput;
    multipart::complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
    multipart::abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
    multipart::list_parts(ListPartsInput) -> ListPartsOutput;
    multipart::list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput;
}
