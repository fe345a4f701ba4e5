//! How two commits lie to each other.

use gix::ObjectId;

use super::GitRepo;
use crate::{CommitId, Relation, VcsError};

pub(super) fn relation(repo: &GitRepo, head: &CommitId, remote: &CommitId) -> Result<Relation, VcsError> {
    let opened = repo.open()?;
    let (head, remote) = (find(repo, &opened, head)?, find(repo, &opened, remote)?);
    if head == remote {
        return Ok(Relation::Same);
    }
    let only = |of: ObjectId, without: ObjectId| -> gix::Result<usize> {
        let mut count = 0;
        for commit in opened.rev_walk([of]).with_hidden([without]).all()? {
            commit?;
            count += 1;
        }
        Ok(count)
    };
    let damaged = |error| repo.damaged(error);
    Ok(match (only(head, remote).map_err(damaged)?, only(remote, head).map_err(damaged)?) {
        (0, 0) => Relation::Same,
        (0, by) => Relation::Behind { by },
        (by, 0) => Relation::Ahead { by },
        (ahead, behind) => match opened.merge_base(head, remote).map_err(damaged)? {
            Some(_) => Relation::Diverged { ahead, behind },
            None => Relation::Unrelated,
        },
    })
}

/// The id of a commit that is here.
pub(super) fn find(
    repo: &GitRepo,
    opened: &gix::Repository,
    commit: &CommitId,
) -> Result<ObjectId, VcsError> {
    let unknown = || VcsError::UnknownCommit(commit.clone());
    let id = ObjectId::from_hex(commit.as_str().as_bytes()).map_err(|_| unknown())?;
    if id.kind() != opened.object_hash() {
        return Err(unknown());
    }
    match opened.try_find_header(id).map_err(|error| repo.damaged(error))? {
        Some(header) if header.kind() == gix::object::Kind::Commit => Ok(id),
        _ => Err(unknown()),
    }
}
