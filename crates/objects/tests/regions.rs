//! Regions at the gate, by boto3: a project's data stay in its own.

mod support;

use std::sync::Arc;

use objects::Homes;
use support::{Stack, project};

/// A gate that serves GRA and SBG; project `b` is in `theirs`, project `a` in the gate's own.
async fn law(name: &str, theirs: &'static str) {
    let stack = Stack::start().await;
    let homes = Homes(Arc::new(move |asked| {
        Box::pin(async move { Ok((asked == project('b')).then(|| theirs.parse().expect("a region"))) })
    }));
    stack.store.know_homes(homes).expect("told once");
    stack.boto(name).await;
}

macro_rules! laws {
    ($($name:ident in $region:literal),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            law(stringify!($name), $region).await;
        })*
    };
}

laws! {
    a_call_that_is_signed_for_another_region_is_refused_and_names_the_right_one in "SBG",
    a_bucket_is_made_in_the_region_of_its_project_or_not_at_all in "SBG",
    a_project_of_a_region_that_is_not_served_is_sent_on in "BHS",
}
