//! Whether the folders of file services are there. The front asks the disk at each request; whoever asks for a
//! service's health is told before somebody's request is answered 404.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, join_all},
};
use parking_lot::Mutex;
use pmesh_manifest::{Manifest, Serves};
use pmesh_supervisor::{HealthReport, ServiceName, Status};
use tokio::time::timeout;

use crate::ServiceView;

/// How long somebody who asks for the health waits for a disk.
const LIMIT: Duration = Duration::from_secs(1);

type SharedLook = Shared<BoxFuture<'static, Option<String>>>;

/// Looks at folders, at each by one thread at a time: a network disk that hangs holds one, whoever asks how often.
#[derive(Debug, Default)]
pub(crate) struct FileFolders(Mutex<BTreeMap<PathBuf, SharedLook>>);

impl FileFolders {
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
        let look = self.0.lock().entry(folder.to_owned()).or_insert_with(|| look(folder)).clone();
        match timeout(LIMIT, look.clone()).await {
            Ok(fault) => {
                let mut looks = self.0.lock();
                // Somebody may have begun another meanwhile.
                if looks.get(folder).is_some_and(|other| other.ptr_eq(&look)) {
                    looks.remove(folder);
                }
                fault
            }
            Err(_) => Some(format!("the disk of its folder {} does not answer", folder.display())),
        }
    }
}

fn look(folder: &Path) -> SharedLook {
    let owned = folder.to_owned();
    let looking = tokio::task::spawn_blocking(move || describe(&owned));
    looking.map(|looked| looked.unwrap_or_else(|error| Some(error.to_string()))).boxed().shared()
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
