//! Faults that tests put into the driver of a service.

/// Where the driver of a service is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The steps of this event panic when they have decided everything: so many of those to come.
    Step {
        /// Its name, as the log calls it: `exited`, `tick`, `stop`…
        event: &'static str,
        /// How many times.
        times: u32,
    },
    /// The driver's task ends, as no fault of a step can end it.
    Task,
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(&'static str, u32)>);

impl Faults {
    /// # Panics
    ///
    /// At [`Fault::Task`], which is that.
    pub(crate) fn add(&mut self, fault: Fault) {
        match fault {
            Fault::Step { event, times } => self.0.push((event, times)),
            Fault::Task => panic!("the test ends the driver's task"),
        }
    }

    /// # Panics
    ///
    /// Where a test wants it.
    pub(crate) fn strike(&mut self, event: &str) {
        let fault = self.0.iter_mut().find(|(name, times)| *name == event && *times > 0);
        if let Some((name, times)) = fault {
            *times -= 1;
            panic!("the test lets {name} fail");
        }
    }
}
