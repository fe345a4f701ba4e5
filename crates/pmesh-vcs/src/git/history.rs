//! How two commits lie to each other.

use std::collections::HashSet;

use gix::{
    ObjectId,
    objs::FindExt,
    traverse::commit::{Parents, Simple},
};

use super::{opened::OpenedRepo, walk::Walk};
use crate::{CommitId, Relation, VcsError};

pub(super) fn relation(
    opened: &OpenedRepo,
    head: &CommitId,
    remote: &CommitId,
) -> Result<Relation, VcsError> {
    let (head, remote) = (find(opened, head)?, find(opened, remote)?);
    if head == remote {
        return Ok(Relation::Same);
    }
    let walk = Walk::new(opened);
    // The quick walks go by date. A commit that they leave out is an ancestor of the other side for certain; with
    // clocks that went wrong they may count an ancestor as a commit of one side only.
    let only = |of, without| -> Result<usize, VcsError> {
        let mut count = 0;
        each(opened, &walk, [of], &[without], |_| count += 1)?;
        Ok(count)
    };
    Ok(match (only(head, remote)?, only(remote, head)?) {
        (0, by) => Relation::Behind { by },
        (by, 0) => Relation::Ahead { by },
        (_, _) => related_exactly(opened, &walk, head, remote)?,
    })
}

/// The relation as two whole histories have it, whatever the dates of commits say.
fn related_exactly(
    opened: &OpenedRepo,
    walk: &Walk<'_>,
    head: ObjectId,
    remote: ObjectId,
) -> Result<Relation, VcsError> {
    let history = |of: ObjectId| -> Result<HashSet<ObjectId>, VcsError> {
        let mut found = HashSet::new();
        each(opened, walk, [of], &[], |commit| {
            found.insert(commit);
        })?;
        Ok(found)
    };
    let (here, there) = (history(head)?, history(remote)?);
    let is_shallow = opened.repo.is_shallow().map_err(|error| opened.damaged(error))?;
    Ok(match (here.difference(&there).count(), there.difference(&here).count()) {
        (0, by) => Relation::Behind { by },
        (by, 0) => Relation::Ahead { by },
        (ahead, _) if ahead == here.len() && is_shallow => Relation::Unknown,
        (ahead, _) if ahead == here.len() => Relation::Unrelated,
        (ahead, behind) => Relation::Diverged { ahead, behind },
    })
}

/// How many commits of `head` neither `remote` nor any of `fetched` has in its history.
pub(super) fn local_commits(
    opened: &OpenedRepo,
    head: &CommitId,
    remote: &CommitId,
    fetched: &[CommitId],
) -> Result<usize, VcsError> {
    let (head, mut known) = (find(opened, head)?, vec![find(opened, remote)?]);
    for commit in fetched {
        match find(opened, commit) {
            Ok(id) => known.push(id),
            // A commit that git has thrown away is in no history any more.
            Err(VcsError::UnknownCommit(_)) => {}
            Err(error) => return Err(error),
        }
    }
    known.sort();
    known.dedup();
    let walk = Walk::new(opened);
    let mut count = 0;
    each(opened, &walk, [head], &known, |_| count += 1)?;
    if count == 0 {
        return Ok(0);
    }
    // The quick walk may have counted what is known.
    let mut all_known = HashSet::new();
    each(opened, &walk, known, &[], |commit| {
        all_known.insert(commit);
    })?;
    let mut count = 0;
    each(opened, &walk, [head], &[], |commit| count += usize::from(!all_known.contains(&commit)))?;
    Ok(count)
}

/// Visits the commits in the history of `of`, down to where a shallow clone ends. Those that the quick walk finds in the
/// history of `without` are left out.
fn each(
    opened: &OpenedRepo,
    walk: &Walk<'_>,
    of: impl IntoIterator<Item = ObjectId>,
    without: &[ObjectId],
    mut visit: impl FnMut(ObjectId),
) -> Result<(), VcsError> {
    let repo = &opened.repo;
    let damaged = |error| walk.failed(error);
    let shallow = repo.shallow_commits().map_err(damaged)?;
    let graph = repo.commit_graph_if_enabled().map_err(damaged)?;
    // Parents that a shallow clone does not have. The same commit may be the parent of another one that it has.
    let mut not_here = HashSet::new();
    let mut buffer = Vec::new();
    let is_here = |id: &gix::oid| {
        if not_here.remove(&id.to_owned()) {
            return false;
        }
        let is_last = shallow.as_ref().is_some_and(|last| last.binary_search(&id.to_owned()).is_ok());
        if is_last && let Ok(commit) = repo.objects.find_commit_iter(id, &mut buffer) {
            not_here.extend(commit.parent_ids());
        }
        true
    };
    let commits = Simple::filtered(of, walk, is_here)
        .parents(Parents::All)
        .hide(without.iter().copied())
        .map_err(damaged)?
        .commit_graph(graph);
    for commit in commits {
        // Commits from a commit graph are not read as objects, which would count them.
        walk.step(0)?;
        visit(commit.map_err(damaged)?.id);
    }
    Ok(())
}

/// The id of a commit that is here.
pub(super) fn find(opened: &OpenedRepo, commit: &CommitId) -> Result<ObjectId, VcsError> {
    let unknown = || VcsError::UnknownCommit(commit.clone());
    let id = ObjectId::from_hex(commit.as_str().as_bytes()).map_err(|_| unknown())?;
    if id.kind() != opened.repo.object_hash() {
        return Err(unknown());
    }
    opened.look_at_object(&id)?;
    match opened.repo.try_find_header(id).map_err(|error| opened.damaged(error))? {
        Some(header) if header.kind() == gix::object::Kind::Commit => Ok(id),
        _ => Err(unknown()),
    }
}
