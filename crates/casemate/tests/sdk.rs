//! Other people's clients, unmodified: the OVH SDKs of Python, Node and Go, `ovh-spark-submit`, boto3, the AWS CLI
//! (JOB-1, OBJ-1, CTL-5).

mod support;
