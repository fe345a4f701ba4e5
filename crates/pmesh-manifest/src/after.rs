//! The key `after`: which services start before which. A cycle would never start.

use std::collections::{BTreeMap, BTreeSet};

use pmesh_supervisor::ServiceName;

use crate::{mistake::quoted, report::Report, surroundings::Surroundings, value::Value};

/// What every service waits for, by its number in the order of the file.
#[derive(Default)]
pub(crate) struct After {
    services: Vec<WaitingService>,
    numbers: BTreeMap<String, usize>,
}

struct WaitingService {
    name: String,
    /// Where it says so.
    value: Value,
    others: Vec<String>,
}

impl After {
    /// Reads what the service `name` waits for, each once.
    pub(crate) fn read(
        &mut self,
        value: &Value,
        name: &ServiceName,
        around: &Surroundings,
        report: &mut Report<'_>,
    ) -> Vec<ServiceName> {
        if value.is_empty() {
            return Vec::new();
        }
        let mut others = Vec::new();
        for item in value.one_or_many() {
            let Some(other) = item.text(report, "the name of a service") else { continue };
            if other == name.as_str() {
                item.mistake(report, "a service cannot start after itself".to_owned());
            } else if around.names.contains(other) {
                others.push(other.to_owned());
            } else {
                let message = format!("there is no service {}", quoted(other));
                let names = around.names.iter().map(String::as_str);
                report.mistake_near(item.place, &item.path, message, other, names);
            }
        }
        self.numbers.insert(name.to_string(), self.services.len());
        // What is among the names is one.
        let names: BTreeSet<ServiceName> = others.iter().filter_map(|other| other.parse().ok()).collect();
        self.services.push(WaitingService { name: name.to_string(), value: value.clone(), others });
        names.into_iter().collect()
    }

    /// Says which services wait for themselves, each cycle once.
    pub(crate) fn check(&self, report: &mut Report<'_>) {
        let mut seen = vec![false; self.services.len()];
        for first in 0..self.services.len() {
            // A walk in depth without recursion: each step with how many of its others were followed.
            let mut walk = vec![(first, 0)];
            while let Some((number, followed)) = walk.last_mut() {
                let (number, next) = (*number, *followed);
                *followed += 1;
                if next == 0 && std::mem::replace(&mut seen[number], true) {
                    walk.pop();
                    continue;
                }
                let Some(other) = self.services[number].others.get(next) else {
                    walk.pop();
                    continue;
                };
                // A service that waits for none ends no cycle.
                let Some(&other) = self.numbers.get(other) else { continue };
                match walk.iter().position(|(number, _)| *number == other) {
                    Some(begin) => self.tell(&walk[begin..], report),
                    None => walk.push((other, 0)),
                }
            }
        }
    }

    fn tell(&self, cycle: &[(usize, usize)], report: &mut Report<'_>) {
        /// More steps than these make no sentence.
        const SHOWN: usize = 8;
        let name = |step: usize| quoted(&self.services[cycle[step % cycle.len()].0].name);
        let mut steps: Vec<String> = (1..cycle.len().min(SHOWN))
            .map(|step| format!("{} after {}", name(step), name(step + 1)))
            .collect();
        steps.insert(0, format!("{} starts after {}", name(0), name(1)));
        if cycle.len() > SHOWN {
            steps.push("…".to_owned());
        }
        let value = &self.services[cycle[0].0].value;
        value.mistake(report, format!("a cycle: {}", steps.join(", ")));
    }
}
