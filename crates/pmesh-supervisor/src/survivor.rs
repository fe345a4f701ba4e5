//! A process that SIGKILL has not ended, as people need to know it.

use std::{fmt, time::Duration};

use crate::saved::saved;

/// How long after SIGKILL a process is looked at that is still there. The kernel ends one that can be ended within
/// milliseconds.
pub(crate) const AFTER_KILL: Duration = Duration::from_secs(5);

/// More processes than this are counted only.
const NAMED: usize = 3;

/// As many are in the command that ends them.
const IN_A_COMMAND: usize = 20;

/// A process that SIGKILL has not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survivor {
    /// Its number.
    pub pid: u32,
    /// The name of its program (`comm` of proc(5)).
    pub name: String,
    /// Its state, as `D (disk sleep)`; empty where that is not told.
    pub state: String,
    /// The function of the kernel that it waits in; empty where that is not told.
    pub wait_channel: String,
    /// Whose it is, if it is somebody's whom this server may not signal.
    pub foreign_user: Option<u32>,
}

saved!(struct Survivor { pid, name, state, wait_channel, foreign_user });

/// What ends a process that SIGKILL has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndsBy {
    Root,
    Answer,
    LettingGo,
}

impl EndsBy {
    fn of(survivor: &Survivor) -> Self {
        match (survivor.foreign_user, survivor.state.starts_with('D')) {
            (Some(_), _) => Self::Root,
            (None, true) => Self::Answer,
            (None, false) => Self::LettingGo,
        }
    }

    /// What to do about these processes.
    fn remedy(self, pids: &[u32]) -> String {
        let numbers = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        let one = pids.len() == 1;
        match self {
            Self::Root if one => {
                format!("this server may not signal it; `kill -9 {numbers}` as root ends it")
            }
            Self::Root => format!("this server may not signal them; `kill -9 {numbers}` as root ends them"),
            Self::Answer => {
                let (it, ends, waits) =
                    if one { ("it", "ends", "it waits") } else { ("they", "end", "they wait") };
                format!("{it} {ends} when what {waits} for answers: a disk, a network file system, a device")
            }
            Self::LettingGo => {
                let them = if one { "it" } else { "them" };
                format!("something holds {them}: a frozen cgroup, or a debugger")
            }
        }
    }
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} `{}`", self.pid, self.name)?;
        match self.foreign_user {
            Some(0) => f.write_str(" of root")?,
            Some(user) => write!(f, " of user id {user}")?,
            None => {}
        }
        if !self.state.is_empty() {
            write!(f, ", state {}", self.state)?;
        }
        if !self.wait_channel.is_empty() {
            write!(f, " in {}", self.wait_channel)?;
        }
        Ok(())
    }
}

/// Who has outlived SIGKILL, and what ends them; nothing to say of nobody.
pub(crate) fn sentence(survivors: &[Survivor]) -> Option<String> {
    if survivors.is_empty() {
        return None;
    }
    let named: Vec<String> = survivors.iter().take(NAMED).map(Survivor::to_string).collect();
    let more = match survivors.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = named.join("; ");
    let remedy = |by: EndsBy| {
        let these = survivors.iter().filter(|one| EndsBy::of(one) == by).map(|one| one.pid);
        let pids: Vec<u32> = these.take(IN_A_COMMAND).collect();
        (!pids.is_empty()).then(|| by.remedy(&pids))
    };
    let remedies: Vec<String> =
        [EndsBy::Root, EndsBy::Answer, EndsBy::LettingGo].into_iter().filter_map(remedy).collect();
    Some(format!("still there {AFTER_KILL:?} after SIGKILL: {named}{more}; {}", remedies.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::{Survivor, sentence};

    fn survivor(pid: u32) -> Survivor {
        Survivor { pid, name: "dd".to_owned(), state: "D (disk sleep)".to_owned(), ..Survivor::default() }
    }

    #[test]
    fn a_survivor_is_told_by_number_state_and_place_with_what_ends_it() {
        let stuck = Survivor { wait_channel: "io_schedule".to_owned(), ..survivor(7) };
        assert_eq!(
            sentence(&[stuck]).unwrap(),
            "still there 5s after SIGKILL: pid 7 `dd`, state D (disk sleep) in io_schedule; it ends when what it waits \
             for answers: a disk, a network file system, a device"
        );
        let foreign = Survivor { foreign_user: Some(0), state: "S (sleeping)".to_owned(), ..survivor(8) };
        assert_eq!(
            sentence(&[foreign]).unwrap(),
            "still there 5s after SIGKILL: pid 8 `dd` of root, state S (sleeping); this server may not signal it; \
             `kill -9 8` as root ends it"
        );
        let frozen = Survivor { state: String::new(), ..survivor(9) };
        assert!(
            sentence(&[frozen]).unwrap().ends_with("; something holds it: a frozen cgroup, or a debugger")
        );
        assert_eq!(sentence(&[]), None);
    }

    #[test]
    fn each_of_two_is_in_the_remedy() {
        let foreign = |pid| Survivor { foreign_user: Some(0), ..survivor(pid) };
        let told = |survivors: &[Survivor]| sentence(survivors).unwrap();
        assert!(
            told(&[foreign(7), foreign(8)])
                .ends_with("; this server may not signal them; `kill -9 7 8` as root ends them")
        );
        let both = told(&[survivor(6), foreign(7)]);
        assert!(
            both.ends_with(
                "; this server may not signal it; `kill -9 7` as root ends it; it ends when what it waits for answers: a \
                 disk, a network file system, a device"
            ),
            "{both}"
        );
        assert!(told(&[survivor(6), survivor(7)]).contains("; they end when what they wait for answers: "));
    }

    #[test]
    fn of_many_the_first_are_named_and_the_others_counted() {
        let text = sentence(&[1, 2, 3, 4, 5].map(survivor)).unwrap();
        assert!(text.contains("pid 1") && text.contains("pid 3") && !text.contains("pid 4"), "{text}");
        assert!(text.contains(" and 2 more; "), "{text}");
    }
}
