//! That the documents say the limits that hold.

use pmesh_threads::PoolLimits;

use super::{GitLimits, budget::WalkLimits, opened, plain, readers};
use crate::FILE_LIMIT;

#[test]
fn the_guide_says_the_limits_of_reads_and_check_outs() {
    let guide = include_str!("../../../../docs/operations.md");
    let GitLimits { read, check_out, put_back, .. } = GitLimits::default();
    let WalkLimits { entries, depth, .. } = WalkLimits::default();
    let PoolLimits { threads, queue, replacements, .. } = readers::LIMITS;
    let mib = |bytes: u64| bytes >> 20;
    for row in [
        format!(
            "| a read of the repository | {} s; {} million entries, {depth} levels; {threads} threads, {replacements} more in \
             the place of such that stand still, {queue} that wait |",
            read.as_secs(),
            entries / 1_000_000,
        ),
        format!(
            "| a check-out | {} min, then all is put back (at most {} s) and the answer is 504 `repository_timeout` |",
            check_out.as_secs() / 60,
            put_back.as_secs(),
        ),
        format!(
            "a file for the manifest {} MiB; a commit or a tree {} MiB; a configuration {} MiB, 1,000 includes; packed \
             references {} MiB |",
            mib(FILE_LIMIT),
            mib(opened::OBJECT_LIMIT),
            mib(plain::LIST_LIMIT),
            mib(plain::PACKED_LIMIT),
        ),
    ] {
        assert!(guide.contains(&row), "the guide lacks: {row}");
    }
}

#[test]
fn the_document_of_the_api_says_how_long_tidying_up_may_take() {
    let document = include_str!("../../../../docs/api.md");
    let minutes = GitLimits::default().maintenance.as_secs() / 60;
    let sentence = format!("tidies up in the background, for at most {minutes} minutes;");
    assert!(document.contains(&sentence), "docs/api.md lacks: {sentence}");
}
