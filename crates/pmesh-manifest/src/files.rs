//! `!FS`: a folder of static files.

use std::path::Path;

use pmesh_proxy::{FilesSpec, NotFound};

use crate::{
    elsewhere,
    later::written,
    not_served::Feature,
    report::Report,
    value::{KeyedMap, Value},
};

/// The files of a service; `folder` is where they are if nothing is said, and `service_root` what
/// a path is relative to.
pub(crate) fn files(value: &Value, folder: &Path, service_root: &Path, report: &mut Report<'_>) -> FilesSpec {
    let mut spec = FilesSpec::of(folder.to_owned());
    if value.is_scalar() {
        if let Some(folder) = value.path_under(report, service_root) {
            spec.folder = folder;
        }
        return spec;
    }
    let mut table = KeyedMap::of(value, report, "a folder, or a map such as {path: public}");
    if let Some(folder) = table.take("path").and_then(|value| value.path_under(report, service_root)) {
        spec.folder = folder;
    }
    if let Some(index) = table.take("index").and_then(|value| inside(&value, report)) {
        spec.index = index;
    }
    if let Some(value) = table.take_later("fallback") {
        inside(&value, report);
        value.not_served(report, Feature::Fallback);
    }
    if let Some(value) = table.take_later("cache") {
        value.texts(report, "a map of globs to what `Cache-Control` says", |_| Ok(()));
        written(&value, Feature::Cache, report);
    }
    if let Some(value) = table.take("404") {
        match value.text(report, "a file, or `default`") {
            Some("default") => spec.not_found = NotFound::Default,
            Some(_) => {
                if let Some(file) = inside(&value, report) {
                    spec.not_found = NotFound::File(file);
                }
            }
            None => {}
        }
    }
    if let Some(value) = table.take("dynamic")
        && value.flag(report) == Some(false)
    {
        value.not_served(report, Feature::FromMemory);
    }
    if let Some(value) = table.take_later("immutable")
        && value.flag(report) != Some(false)
    {
        value.not_served(report, Feature::Immutable);
    }
    for (key, feature) in [("no_immutable_match", Feature::NoImmutableMatch), ("match", Feature::Match)] {
        if let Some(value) = table.take_later(key) {
            value.regular_expression(report);
            value.not_served(report, feature);
        }
    }
    if let Some(value) = table.take_later("memory") {
        value.size(report);
        value.not_served(report, Feature::Memory);
    }
    table.end_with(elsewhere::FILES, report);
    spec
}

/// A file of the folder; a leading `/` means the folder itself.
fn inside(value: &Value, report: &mut Report<'_>) -> Option<String> {
    let text = value.text(report, "a file of the folder")?;
    let file = text.trim_start_matches('/');
    if file.is_empty() || file.ends_with('/') || file.split('/').any(|part| matches!(part, "" | "." | "..")) {
        value.expected(report, "a file of the folder");
        return None;
    }
    Some(file.to_owned())
}
