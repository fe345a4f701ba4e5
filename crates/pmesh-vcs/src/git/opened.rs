//! A repository that is open, on a thread that may read it.

use std::{
    cell::Cell,
    io,
    path::{Path, PathBuf},
};

use gix::{
    ObjectId,
    bstr::BStr,
    open::{Permissions, permissions},
    sec::{Permission, Trust},
};
use pmesh_threads::Stop;

use super::{plain, special_files};
use crate::VcsError;

/// The most that gix may take of memory at once for what is in a repository (an object, the index, a step of a chain of
/// deltas), in bytes: what a repository says of its sizes is not believed beyond it.
const ALLOCATION_LIMIT: usize = 256 << 20;

/// The longest chain of deltas that is followed for an object: as long as git itself makes them at most
/// (git-pack-objects(1), `--depth`).
const DELTA_LIMIT: u32 = 4095;

/// The largest commit, tag or tree that is read, in bytes. A tree of that size has about a million entries.
pub(super) const OBJECT_LIMIT: u64 = 64 << 20;

/// With whose rights a thread opens files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// The server's.
    Servers,
    /// The repository owner's, who is another user.
    Owners {
        /// That user's own configuration of git.
        config: Option<PathBuf>,
    },
}

impl Rights {
    /// The user's own configurations of git (git-config(1), "FILES").
    fn configs(&self) -> Vec<PathBuf> {
        match self {
            Self::Servers => {
                let folder =
                    |name| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
                let home = folder("HOME");
                let elsewhere = folder("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
                let own = home.iter().map(|home| home.join(".gitconfig"));
                own.chain(elsewhere.map(|folder| folder.join("git/config"))).collect()
            }
            Self::Owners { config } => config.iter().cloned().collect(),
        }
    }
}

/// A repository as it is now.
pub(super) struct OpenedRepo {
    pub(super) repo: gix::Repository,
    /// The top of the work tree.
    pub(super) root: PathBuf,
    /// The folders with its objects.
    pub(super) objects: Vec<PathBuf>,
    /// Whether anybody still waits.
    pub(super) stop: Stop,
    /// An object that was asked for, and that a partial clone has left on its remote.
    on_remote: Cell<Option<ObjectId>>,
}

impl OpenedRepo {
    /// Opens the repository whose work tree begins at `root`.
    pub(super) fn at(root: &Path, rights: &Rights, stop: &Stop) -> Result<Self, VcsError> {
        let dot_git = root.join(".git");
        if dot_git.symlink_metadata().is_err_and(|error| error.kind() != io::ErrorKind::PermissionDenied) {
            return Err(VcsError::NotFound(root.to_owned()));
        }
        let objects = plain::look(root, &rights.configs())?;
        let repo = options(rights)
            // The operator named this folder, and its manifest says which programs run: its owner is trusted. With
            // less trust gix hides the remotes of a repository that another user owns.
            .with(Trust::Full)
            .open_path_as_is(true)
            .config_overrides([format!("gitoxide.objects.allocLimit={ALLOCATION_LIMIT}")])
            .open(dot_git)
            .map_err(|error| damaged(root, error))?;
        Ok(Self {
            repo: repo.into(),
            root: root.to_owned(),
            objects,
            stop: stop.clone(),
            on_remote: Cell::new(None),
        })
    }

    /// Whether objects may be missing because a remote has them (git-config(1), "remote.<name>.promisor").
    pub(super) fn is_partial(&self) -> bool {
        let config = self.repo.config_snapshot();
        let remotes = config.plumbing().sections_by_name("remote");
        remotes.into_iter().flatten().any(|section| {
            section.value("promisor").is_some() || section.value("partialclonefilter").is_some()
        })
    }

    /// Looks at the file of an object, which is read next.
    pub(super) fn look_at_object(&self, id: &gix::oid) -> Result<(), VcsError> {
        special_files::look_at_object(&self.root, &self.objects, id)
    }

    /// Looks at the file of a reference, which is read next.
    pub(super) fn look_at_reference(&self, name: &BStr) -> Result<(), VcsError> {
        plain::look_at_reference(&self.root, self.repo.common_dir(), name)
    }

    /// The error for what gix cannot read.
    pub(super) fn damaged(&self, source: gix::Error) -> VcsError {
        damaged(&self.root, source)
    }

    /// The error for what is more than a server should read.
    pub(super) fn too_large(&self, what: String) -> VcsError {
        VcsError::RepositoryTooLarge { root: self.root.clone(), what }
    }

    /// What an object is and how large, without a byte of it being unpacked. One that is on the remote is noted.
    pub(super) fn header(&self, id: ObjectId) -> Result<gix::odb::find::Header, VcsError> {
        self.look_at_object(&id)?;
        self.repo.find_header(id).map_err(|error| {
            if !self.repo.has_object(id) && self.is_partial() {
                self.on_remote.set(Some(id));
            }
            self.damaged(error)
        })
    }

    /// The object that is not here and on the remote, for whose want a question could not be answered.
    pub(super) fn wanted_of_remote(&self) -> Option<ObjectId> {
        self.on_remote.take()
    }

    /// The size of an object, if it is at most `limit`. It is known before a byte of the object is unpacked.
    pub(super) fn size(&self, id: ObjectId, limit: u64) -> Result<u64, VcsError> {
        let header = self.header(id)?;
        if header.size() > limit {
            let size = header.size();
            return Err(self.too_large(format!("object {id} has {size} bytes; at most {limit} are read")));
        }
        match header.num_deltas() {
            Some(deltas) if deltas > DELTA_LIMIT => Err(self.too_large(format!(
                "object {id} is at the end of {deltas} deltas; at most {DELTA_LIMIT} are followed"
            ))),
            _ => Ok(header.size()),
        }
    }
}

/// What gix may read. No program is ever started, whoever asks: on a thread of another user it would be root's.
fn options(rights: &Rights) -> gix::open::Options {
    let options = gix::open::Options::default();
    match rights {
        Rights::Servers => {
            let mut all = Permissions::all();
            all.config.git_binary = false;
            all.attributes.git_binary = false;
            // Variables such as GIT_DIR and GIT_INDEX_FILE mean another repository than ours.
            all.env.git_prefix = Permission::Deny;
            all.env.objects = Permission::Deny;
            options.permissions(all)
        }
        // The server's home and environment are not the owner's. The owner's file is read in the place of the system's.
        Rights::Owners { config } => {
            let system = config.is_some();
            let options = options.permissions(Permissions {
                config: permissions::Config { includes: true, system, ..permissions::Config::isolated() },
                ..Permissions::isolated()
            });
            match config {
                Some(config) => options.system_config_path(config),
                None => options,
            }
        }
    }
}

fn damaged(root: &Path, source: gix::Error) -> VcsError {
    if source.is_resource_exhausted() {
        let what = format!("an object or a file of it needs more than {} MiB", ALLOCATION_LIMIT >> 20);
        return VcsError::RepositoryTooLarge { root: root.to_owned(), what };
    }
    if source.is_permission_denied() {
        return VcsError::Unreadable { root: root.to_owned(), source: source.into() };
    }
    VcsError::damaged(root, source)
}
