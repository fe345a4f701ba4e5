//! How two commits lie to each other.

use std::collections::HashSet;

use gix::ObjectId;

use super::GitRepo;
use crate::{CommitId, Relation, VcsError};

pub(super) fn relation(repo: &GitRepo, head: &CommitId, remote: &CommitId) -> Result<Relation, VcsError> {
    let opened = repo.open()?;
    let (head, remote) = (find(repo, &opened, head)?, find(repo, &opened, remote)?);
    if head == remote {
        return Ok(Relation::Same);
    }
    // The quick walks go by date. A commit that they leave out is an ancestor of the other side for certain; with
    // clocks that went wrong they may count an ancestor as a commit of one side only.
    let relate = || -> gix::Result<Relation> {
        Ok(match (only(&opened, head, remote)?, only(&opened, remote, head)?) {
            (0, by) => Relation::Behind { by },
            (by, 0) => Relation::Ahead { by },
            (_, _) => related_exactly(&opened, head, remote)?,
        })
    };
    relate().map_err(|error| repo.damaged(error))
}

/// How many commits `of` has that `without` lacks, or more.
fn only(opened: &gix::Repository, of: ObjectId, without: ObjectId) -> gix::Result<usize> {
    let mut count = 0;
    for commit in opened.rev_walk([of]).with_hidden([without]).all()? {
        commit?;
        count += 1;
    }
    Ok(count)
}

/// The relation by two whole histories, without a look at a date.
fn related_exactly(opened: &gix::Repository, head: ObjectId, remote: ObjectId) -> gix::Result<Relation> {
    let history = |of: ObjectId| -> gix::Result<HashSet<ObjectId>> {
        opened.rev_walk([of]).all()?.map(|commit| Ok(commit?.id)).collect()
    };
    let (here, there) = (history(head)?, history(remote)?);
    Ok(match (here.difference(&there).count(), there.difference(&here).count()) {
        (0, by) => Relation::Behind { by },
        (by, 0) => Relation::Ahead { by },
        (ahead, _) if ahead == here.len() => Relation::Unrelated,
        (ahead, behind) => Relation::Diverged { ahead, behind },
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
