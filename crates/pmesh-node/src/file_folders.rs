//! Whether the folders of file services are there. The front asks the disk at each request; whoever asks for a
//! service's health is told before somebody's request is answered 404.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, join_all},
};
use parking_lot::Mutex;
use pmesh_manifest::{Manifest, Serves};
use pmesh_supervisor::{HealthReport, ServiceName, Status};
use pmesh_threads::{Threads, Unanswered};
use tokio::time::timeout;

use crate::ServiceView;

/// How long somebody who asks for the health waits for a disk.
const LIMIT: Duration = Duration::from_secs(1);

/// Looks at folders, at each by one thread at a time: a network disk that hangs holds one, whoever asks how often.
#[derive(Debug)]
pub(crate) struct FileFolders {
    threads: Threads,
    looks: Mutex<BTreeMap<PathBuf, FolderLook>>,
}

#[derive(Clone, Debug)]
struct FolderLook {
    answer: Shared<BoxFuture<'static, Option<String>>>,
    /// Whether its thread has come back.
    has_ended: Arc<AtomicBool>,
}

impl FolderLook {
    /// Whether the look is over: no thread is at it any more, and its answer is of some time ago.
    fn is_over(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }
}

impl FileFolders {
    /// Looks on these threads.
    pub(crate) fn on(threads: Threads) -> Self {
        Self { threads, looks: Mutex::default() }
    }

    /// Why files cannot be served, for each of the services of which that is so. Waits for a second at most.
    /// Cancel-safe.
    pub(crate) async fn faults(
        &self,
        manifest: &Manifest,
        services: &[Arc<ServiceView>],
    ) -> BTreeMap<ServiceName, String> {
        let asked: HashSet<&ServiceName> = services.iter().map(|service| &service.name).collect();
        let looks = manifest.services.iter().filter_map(|service| match &service.serves {
            Serves::Files(files) if asked.contains(&service.spec.name) => Some(async {
                let fault = self.fault(&files.folder).await?;
                Some((service.spec.name.clone(), fault))
            }),
            Serves::Files(_) | Serves::Upstreams(_) | Serves::Nothing => None,
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    async fn fault(&self, folder: &Path) -> Option<String> {
        let look = {
            let mut looks = self.looks.lock();
            looks.retain(|_, look| !look.is_over());
            looks.entry(folder.to_owned()).or_insert_with(|| look(&self.threads, folder)).clone()
        };
        match timeout(LIMIT, look.answer).await {
            Ok(fault) => fault,
            Err(_) => Some(silent(folder)),
        }
    }
}

fn look(threads: &Threads, folder: &Path) -> FolderLook {
    let (threads, owned) = (threads.clone(), folder.to_owned());
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Ended(Arc::clone(&has_ended));
    let answer = async move {
        let looked = threads.run(LIMIT, {
            let owned = owned.clone();
            move |_| {
                let _ended = ended;
                describe(&owned)
            }
        });
        match looked.await {
            Ok(fault) => fault,
            // Nobody has looked, which says nothing about the folder.
            Err(unanswered) if unanswered.is_refusal() => None,
            Err(Unanswered::Panicked { message }) => Some(message),
            Err(_) => Some(silent(&owned)),
        }
    };
    FolderLook { answer: answer.boxed().shared(), has_ended }
}

/// Says that a look is over, also one that was not made.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn silent(folder: &Path) -> String {
    format!("the disk of its folder {} does not answer", folder.display())
}

fn describe(folder: &Path) -> Option<String> {
    let shown = folder.display();
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => None,
        Ok(_) => Some(format!("its `path` {shown} is no folder")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("its folder {shown} is not there; make it, or name another with `path`"))
        }
        Err(error) => Some(format!("its folder {shown} cannot be looked at: {error}")),
    }
}

/// The health of a service whose files cannot be served for this reason, if there is one.
pub(crate) fn with_fault(report: HealthReport, fault: Option<&String>) -> HealthReport {
    match fault {
        Some(fault) if report.status != Status::Stopped => {
            // There is nothing to run, also before its start is through.
            HealthReport::down(fault.clone())
        }
        Some(_) | None => report,
    }
}
