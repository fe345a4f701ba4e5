//! A walk over what a repository holds, that ends when it goes too far, takes too long, or is wanted no more.

use std::{cell::RefCell, time::Instant};

use gix::{
    ObjectId,
    objs::{Data, Find, Kind},
};

use super::{
    budget::{WalkBudget, WalkLimits},
    opened::{OBJECT_LIMIT, OpenedRepo},
};
use crate::VcsError;

/// One walk. As a [`Find`] it counts every object that a walk of gix asks for.
pub(super) struct Walk<'a> {
    opened: &'a OpenedRepo,
    budget: RefCell<WalkBudget>,
    /// Why the walk was ended early. It is kept here because gix passes it on as an error of its own.
    ended: RefCell<Option<VcsError>>,
}

/// An object that a walk is in. When this is dropped, its bytes are given back to the budget.
pub(super) struct KeptObject<'a> {
    pub(super) data: Vec<u8>,
    budget: &'a RefCell<WalkBudget>,
}

impl Drop for KeptObject<'_> {
    fn drop(&mut self) {
        self.budget.borrow_mut().give_back(self.data.len() as u64);
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(opened: &'a OpenedRepo) -> Self {
        let budget = WalkBudget::new(WalkLimits::default(), opened.stop.until());
        Self { opened, budget: RefCell::new(budget), ended: RefCell::new(None) }
    }

    /// Goes on to an entry that is `depth` folders below the top.
    pub(super) fn step(&self, depth: usize) -> Result<(), VcsError> {
        if self.opened.stop.is_cancelled() {
            return Err(VcsError::Cancelled);
        }
        let step = self.budget.borrow_mut().entry(depth, Instant::now());
        step.map_err(|exceeded| self.opened.too_large(exceeded.to_string()))
    }

    /// Keeps so many bytes of the answer.
    pub(super) fn keep(&self, bytes: usize) -> Result<(), VcsError> {
        let kept = self.budget.borrow_mut().keep(bytes as u64);
        kept.map_err(|exceeded| self.opened.too_large(exceeded.to_string()))
    }

    /// The content of a tree.
    pub(super) fn tree(&self, id: ObjectId) -> Result<KeptObject<'_>, VcsError> {
        let (opened, damaged) = (self.opened, |error| self.opened.damaged(error));
        let size = opened.size(id, OBJECT_LIMIT)?;
        let kept = self.budget.borrow_mut().keep(size);
        kept.map_err(|exceeded| opened.too_large(exceeded.to_string()))?;
        let tree = opened.repo.find_tree(id).map_err(damaged);
        let data = match tree {
            Ok(mut tree) => std::mem::take(&mut tree.data),
            Err(error) => {
                self.budget.borrow_mut().give_back(size);
                return Err(error);
            }
        };
        Ok(KeptObject { data, budget: &self.budget })
    }

    /// The error of a walk of gix.
    pub(super) fn failed(&self, error: gix::Error) -> VcsError {
        self.ended.borrow_mut().take().unwrap_or_else(|| self.opened.damaged(error))
    }

    /// `result` for gix, its error kept for [`failed`](Self::failed).
    fn noted<T>(&self, result: Result<T, VcsError>) -> gix::Result<T> {
        result.map_err(|error| {
            let shown = gix::Error::from_error(std::io::Error::other(error.to_string()));
            *self.ended.borrow_mut() = Some(error);
            shown
        })
    }
}

impl Find for Walk<'_> {
    fn try_find<'b>(&self, id: &gix::oid, buffer: &'b mut Vec<u8>) -> gix::Result<Option<Data<'b>>> {
        self.noted(self.step(0))?;
        self.noted(self.opened.look_at_object(id))?;
        let found = self.opened.repo.objects.try_find(id, buffer)?;
        debug_assert!(found.as_ref().is_none_or(|data| data.kind != Kind::Blob), "walks read no blobs");
        Ok(found)
    }
}
