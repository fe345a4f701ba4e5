//! What is to be told of services that were stopped.

use std::collections::BTreeMap;

use pmesh_supervisor::{ServiceName, StepState, StopEnd};

use crate::{Failure, Outcome, stop_failure::StopFailure};

/// How the stops of services ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StopReport(pub(crate) BTreeMap<ServiceName, StopEnd>);

impl StopReport {
    /// How many of them were not stopped before.
    fn count(&self) -> usize {
        self.0.values().filter(|end| end.was_up).count()
    }

    /// What an operation was that asked for the stops.
    pub(crate) fn outcome(&self) -> Result<Outcome, Failure> {
        match self.failure() {
            Some(failure) => Err(Failure::Stop(Box::new(failure))),
            None => Ok(Outcome::Stopped { count: self.count() }),
        }
    }

    fn failure(&self) -> Option<StopFailure> {
        let lives = self.0.iter().filter(|(_, end)| !end.end.survivors.is_empty());
        let services: BTreeMap<_, _> = lives.map(|(name, end)| (name.clone(), end.end.clone())).collect();
        (!services.is_empty()).then(|| StopFailure { count: self.count(), services })
    }

    /// The one step that they were.
    pub(crate) fn step_state(&self) -> StepState {
        if let Some(failure) = self.failure() {
            return StepState::Failed(failure.sentence());
        }
        let remarks: Vec<String> =
            self.remarks().map(|(name, remark)| format!("service {name}: {remark}")).collect();
        StepState::Done((!remarks.is_empty()).then(|| remarks.join("; ")))
    }

    /// The steps of the services of which there is something to tell, where nobody has asked for their stops.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (ServiceName, StepState)> {
        self.remarks().flat_map(|(name, remark)| {
            [StepState::Running, StepState::Done(Some(remark))].map(|state| (name.clone(), state))
        })
    }

    fn remarks(&self) -> impl Iterator<Item = (&ServiceName, String)> {
        self.0.iter().filter_map(|(name, end)| Some((name, end.end.remark()?)))
    }
}

#[cfg(test)]
mod tests {
    use pmesh_supervisor::{RunEnd, StepState, StopEnd, Survivor};

    use super::StopReport;
    use crate::{Failure, Outcome};

    fn report(ends: &[(&str, RunEnd)]) -> StopReport {
        let end = |(name, end): &(&str, RunEnd)| {
            (name.parse().unwrap(), StopEnd { was_up: true, end: end.clone() })
        };
        StopReport(ends.iter().map(end).collect())
    }

    fn killed() -> RunEnd {
        RunEnd::default().with(|end| end.notes = vec!["killed".to_owned()])
    }

    #[test]
    fn a_stop_that_needed_sigkill_is_good_and_says_so() {
        let report = report(&[("api", RunEnd::default()), ("web", killed())]);
        assert_eq!(report.outcome().unwrap(), Outcome::Stopped { count: 2 });
        assert_eq!(report.step_state(), StepState::Done(Some("service web: killed".to_owned())));
        assert_eq!(StopReport::default().step_state(), StepState::Done(None));
    }

    #[test]
    fn a_stop_after_which_something_lives_has_failed_and_names_it() {
        let survivor = Survivor { pid: 7, name: "dd".to_owned(), ..Survivor::default() };
        let lives = killed().with(|end| end.survivors = vec![survivor]);
        let report = report(&[("api", killed()), ("web", lives)]);
        let Err(Failure::Stop(failure)) = report.outcome() else { panic!("{report:?}") };
        assert_eq!((failure.count, failure.services.len()), (2, 1));
        let sentence = failure.sentence();
        assert!(
            sentence.starts_with("service web has not ended: still there 5s after SIGKILL: pid 7 `dd`"),
            "{sentence}"
        );
        assert!(sentence.ends_with("until it is gone the service is Down"), "{sentence}");
        assert_eq!(report.step_state(), StepState::Failed(sentence));
    }
}
