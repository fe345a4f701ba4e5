//! The key `repo`: how the work tree follows its remote.

use std::time::Duration;

use crate::{
    elsewhere,
    later::written,
    not_served::Feature,
    report::Report,
    scalar::Span,
    value::{KeyedMap, Value, Zero},
};

/// How the work tree follows its remote.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepoSpec {
    /// Whether the server may move the work tree. `false` is for a manifest in a work tree that somebody else moves.
    pub update: bool,
}

impl Default for RepoSpec {
    fn default() -> Self {
        Self { update: true }
    }
}

pub(crate) fn repo(value: &Value, report: &mut Report<'_>) -> RepoSpec {
    let mut spec = RepoSpec::default();
    let mut table = KeyedMap::of(value, report, "a map such as {update: false}");
    if let Some(update) = table.take("update").and_then(|value| value.flag(report)) {
        spec.update = update;
    }
    if let Some(value) = table.take_later("releases")
        && value.flag(report) == Some(true)
    {
        value.not_served(report, Feature::Releases);
    }
    for (key, feature) in [("keep", Feature::Keep), ("keep_assets", Feature::KeepAssets)] {
        if let Some(value) = table.take_later(key) {
            value.number(report, 0, 100_000);
            value.not_served(report, feature);
        }
    }
    if let Some(value) = table.take_later("persist") {
        value.one_or_many_texts(report, "a path, or a list of them");
        written(&value, Feature::Persist, report);
    }
    if let Some(value) = table.take("rollout") {
        value.word(report, &[("all", Ok(())), ("changed", Err(Feature::RolloutChanged))]);
    }
    if let Some(value) = table.take("bake")
        && value.duration(report, Zero::Allowed).is_some_and(|time| time > Duration::ZERO)
    {
        value.not_served(report, Feature::Bake);
    }
    if let Some(value) = table.take("poll")
        && matches!(value.span(report, Zero::Refused), Some(Span::For(_)))
    {
        value.not_served(report, Feature::Poll);
    }
    if let Some(value) = table.take_later("hooks") {
        for (_, hook) in value.entries(report, "a map of names to hooks").unwrap_or_default() {
            check_hook(&hook, report);
        }
        if !value.is_empty() {
            value.not_served(report, Feature::Hooks);
        }
    }
    table.end_with(elsewhere::REPO, report);
    spec
}

fn check_hook(value: &Value, report: &mut Report<'_>) {
    let mut table = KeyedMap::of(value, report, "a map of kind, secret_file, branch");
    if let Some(kind) = table.take("kind") {
        kind.word(report, &[("github", Ok(())), ("gitlab", Ok(())), ("gitea", Ok(())), ("hmac", Ok(()))]);
    }
    if let Some(file) = table.take("secret_file") {
        file.text(report, "a path");
    }
    if let Some(branch) = table.take("branch") {
        branch.text(report, "a branch");
    }
    table.end(report);
}
