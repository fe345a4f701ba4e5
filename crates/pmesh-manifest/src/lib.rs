//! The manifest of a project, `pm3.yml`: parsed, validated, and turned into the specs of the crates
//! that do the work.
//!
//! [`parse`] takes text and never touches the disk, so a manifest can be read out of a commit;
//! [`find`] and [`read`] are for files. What comes out is a [`Manifest`] of plain values:
//! [`pmesh_supervisor::ServiceSpec`]s, [`pmesh_proxy::Site`]s and a [`RepoSpec`]. Their defaults are
//! those of the crates that own them; none is stated here but that of [`RepoSpec`].
//!
//! Every mistake is reported, not only the first, each with its place, what was found and what was
//! expected. What the format has and this server does not serve yet is a mistake that says so – where
//! somebody wrote it, and only there.
//!
//! ```
//! use std::path::Path;
//! use pmesh_manifest::{ManifestText, Unsupported, parse};
//!
//! let text = b"services:\n  web: !App\n    run: python3 app.py\n    stop_timeuot: 5s\n    cluster: -4\n";
//! let source = ManifestText::new(text, Path::new("pm3.yml"), Path::new("/srv/shop"));
//! let mistakes = parse(&source, Unsupported::Refuse).unwrap_err();
//! let shown: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
//! let near = "pm3.yml:4:5: services.web: unknown key \"stop_timeuot\"; did you mean \"stop_timeout\"?";
//! assert!(shown[0].starts_with(near));
//! assert_eq!(
//!     shown[1],
//!     "pm3.yml:5:14: services.web.cluster: expected a whole number from 1 to 10000, found \"-4\""
//! );
//! ```
//!
//! # Limits
//!
//! A manifest has at most 1 MiB of text, 100,000 values with what aliases stand for, 64 levels of
//! lists and maps, 1000 services, 16 MiB of environment for all of them, and regular expressions of
//! at most 1 KiB of text that take 12 MiB together. The first 256 mistakes are kept. No process is started, no
//! name is looked up and no file is looked at: a manifest may be one of a commit. What this machine lacks of
//! what it needs, folders and programs, [`Manifest::absent`] tells.

mod absent;
mod after;
mod app;
mod balancing;
mod command;
mod directive;
#[cfg(test)]
mod documented;
mod elsewhere;
mod external;
mod file;
mod files;
mod host;
mod later;
mod manifest;
mod mistake;
mod monitor;
mod needs;
mod not_served;
mod path;
mod place;
mod repo;
mod report;
mod routes;
mod scalar;
mod service;
mod summary;
mod surroundings;
mod tree;
mod value;
#[cfg(test)]
mod whole_format;
mod words;

pub use file::{FILE_NAMES, ReadError, find, read, read_as};
pub use manifest::{Manifest, ManifestText, parse};
pub use mistake::{Mistake, Mistakes};
pub use repo::RepoSpec;
pub use report::Unsupported;
pub use scalar::parse_duration;
pub use service::{DeclaredService, Serves};
pub use summary::Summary;
