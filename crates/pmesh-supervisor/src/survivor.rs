//! A process that SIGKILL has not ended, as people need to know it.

use std::{fmt, time::Duration};

use crate::saved::saved;

/// How long after SIGKILL a process is looked at that is still there. The kernel ends one that can be ended within
/// milliseconds.
pub(crate) const AFTER_KILL: Duration = Duration::from_secs(5);

/// More processes than this are counted only.
const NAMED: usize = 3;

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

impl Survivor {
    /// What ends it, if anything does.
    fn remedy(&self) -> String {
        match (self.foreign_user, self.state.starts_with('D')) {
            (Some(_), _) => format!("this server may not signal it; `kill -9 {}` as root ends it", self.pid),
            (None, true) => {
                "it ends when what it waits for answers: a disk, a network file system, a device".to_owned()
            }
            (None, false) => "something holds it: a frozen cgroup, or a debugger".to_owned(),
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

/// Who has outlived SIGKILL, and what ends the first of them; nothing to say of nobody.
pub(crate) fn sentence(survivors: &[Survivor]) -> Option<String> {
    let first = survivors.first()?;
    let named: Vec<String> = survivors.iter().take(NAMED).map(Survivor::to_string).collect();
    let more = match survivors.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = named.join("; ");
    Some(format!("still there {AFTER_KILL:?} after SIGKILL: {named}{more}; {}", first.remedy()))
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
    fn of_many_the_first_are_named_and_the_others_counted() {
        let text = sentence(&[1, 2, 3, 4, 5].map(survivor)).unwrap();
        assert!(text.contains("pid 1") && text.contains("pid 3") && !text.contains("pid 4"), "{text}");
        assert!(text.contains(" and 2 more; "), "{text}");
    }
}
