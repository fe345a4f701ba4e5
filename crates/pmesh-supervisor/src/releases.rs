//! What was released last.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use pmesh_threads::Threads;
use tracing::warn;

use crate::{ServiceName, causes::with_causes};

/// How long reading or writing what was released last may take.
const FILE_LIMIT: Duration = Duration::from_secs(10);

/// What each service has released last, in the server's state folder; without one, as long as the server runs.
#[derive(Debug)]
pub(crate) struct Releases {
    folder: Option<PathBuf>,
    files: Threads,
    known: Mutex<BTreeMap<ServiceName, String>>,
}

impl Releases {
    /// Those in the folder `released` of the state folder `state`.
    pub(crate) fn new(state: Option<&Path>, files: Threads) -> Self {
        Self { folder: state.map(|state| state.join("released")), files, known: Mutex::default() }
    }

    /// Whether this is what the service has released last.
    pub(crate) async fn is_released(&self, service: &ServiceName, what: &str) -> bool {
        if let Some(known) = self.known.lock().get(service) {
            return known == what;
        }
        let Some(folder) = self.folder.clone() else { return false };
        let file = folder.join(service.as_str());
        let read = self.files.run(FILE_LIMIT, move |_| fs::read_to_string(file)).await;
        match read {
            Ok(Ok(known)) => {
                let is_same = known == what;
                self.known.lock().insert(service.clone(), known);
                is_same
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => false,
            Ok(Err(error)) => {
                warn!(reason = with_causes(&error), "what was released last cannot be read; it runs again");
                false
            }
            Err(error) => {
                warn!(reason = with_causes(&error), "what was released last cannot be read; it runs again");
                false
            }
        }
    }

    /// Notes what the service has released.
    pub(crate) async fn note(&self, service: &ServiceName, what: String) {
        self.known.lock().insert(service.clone(), what.clone());
        let Some(folder) = self.folder.clone() else { return };
        let name = service.to_string();
        let written = self.files.run(FILE_LIMIT, move |_| write(&folder, &name, &what)).await;
        let problem = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => with_causes(&error),
            Err(error) => with_causes(&error),
        };
        warn!(
            reason = problem,
            "what was released cannot be noted; after a new start of the server it runs again"
        );
    }
}

/// Writes it beside, and moves it in its place, so that nobody reads half of it.
fn write(folder: &Path, name: &str, what: &str) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // No name of a service begins with a dot.
    let beside = folder.join(format!(".{name}.new"));
    let mut file = fs::File::create(&beside)?;
    file.write_all(what.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))
}
