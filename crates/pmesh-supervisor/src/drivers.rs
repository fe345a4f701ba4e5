//! The tasks of all drivers, which are run again if they end early.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tracing::{Instrument, error};

use crate::{service_driver::ServiceDriver, spans::service_span};

/// How long a driver whose task ended early rests before it is run again. A driver that fails at once every
/// time then costs one log line per rest and no more.
const REST: Duration = Duration::from_millis(500);

/// Runs the drivers that it receives, until nobody can send another one and all of them have finished. A
/// driver whose task ends early, by a panic or because somebody aborted it, is run again with all that it
/// held.
pub(crate) async fn run_drivers(mut inbox: mpsc::UnboundedReceiver<ServiceDriver>) {
    // Bounded by the number of services: each has one driver.
    let (returning, mut returned) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let mut resting = FuturesUnordered::new();
    let mut is_open = true;
    while is_open || !(tasks.is_empty() && resting.is_empty() && returned.is_empty()) {
        tokio::select! {
            driver = inbox.recv(), if is_open => match driver {
                Some(driver) => drop(tasks.spawn(run(driver, returning.clone()))),
                None => is_open = false,
            },
            Some(mut driver) = returned.recv() => {
                ServiceDriver::on_ended_early(&mut driver);
                resting.push(async move {
                    tokio::time::sleep(REST).await;
                    driver
                });
            }
            Some(mut driver) = resting.next(), if !resting.is_empty() => {
                driver.refuse_starts();
                drop(tasks.spawn(run(driver, returning.clone())));
            }
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => note(ended),
        }
    }
}

/// The task of a driver.
fn run(
    driver: ServiceDriver,
    returning: mpsc::UnboundedSender<ServiceDriver>,
) -> impl Future<Output = ()> + Send {
    let span = service_span(driver.name());
    let mut returned = Returned { driver: Some(driver), returning };
    async move {
        if let Some(driver) = &mut returned.driver {
            driver.run().await;
        }
        drop(returned.driver.take());
    }
    .instrument(span)
}

/// A driver that is sent back if its task is dropped before the driver has finished.
struct Returned {
    driver: Option<ServiceDriver>,
    returning: mpsc::UnboundedSender<ServiceDriver>,
}

impl Drop for Returned {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            // An error means that the supervisor's own task is gone. Then the driver is dropped, which kills
            // all its processes.
            drop(self.returning.send(driver));
        }
    }
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "the task of a driver ended early");
    }
}
