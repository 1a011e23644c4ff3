//! What an exec has started: found in the container's cgroup by parents and sessions, and killed with it.
//!
//! A process that has both begun a session of its own and lost its parent cannot be told from the container's others, and
//! lives on.

use crate::cgroup::Group;
use crate::error::Result;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

/// How often those are looked for that were started meanwhile. The rest forks faster than anybody kills.
const ROUNDS: usize = 16;

/// A process of the container.
struct Process {
    id: i32,
    parent: i32,
    session: i32,
    handle: OwnedFd,
}

/// Kills what `leader` has started, which leads a session, and not itself: while it is there, its children are known
/// as such.
///
/// # Errors
/// When the group is gone.
pub(super) fn kill(group: &Group, leader: i32) -> Result<()> {
    for _ in 0..ROUNDS {
        let processes: Vec<Process> = group.processes()?.into_iter().filter_map(process).collect();
        let rows: Vec<_> = processes.iter().map(|p| (p.id, p.parent, p.session)).collect();
        let found = started_by(leader, &rows);
        if found.is_empty() {
            break;
        }
        for process in processes.iter().filter(|process| found.contains(&process.id)) {
            // One that is gone by now is what was asked for.
            let _ = pidfd_send_signal(&process.handle, Signal::KILL);
        }
    }
    Ok(())
}

/// Ids of those that `leader` has started, among processes with their parents and sessions.
fn started_by(leader: i32, processes: &[(i32, i32, i32)]) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([leader]);
    loop {
        let more = processes
            .iter()
            .filter(|(id, parent, session)| {
                !found.contains(id) && (*session == leader || found.contains(parent))
            })
            .map(|(id, ..)| *id)
            .collect::<Vec<_>>();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found.remove(&leader);
    found
}

/// A process that lives, by a handle that was taken before anything was read of it: whoever gets its number later is
/// not meant.
fn process(id: i32) -> Option<Process> {
    let handle = pidfd_open(Pid::from_raw(id)?, PidfdFlags::empty()).ok()?;
    let stat = std::fs::read(format!("/proc/{id}/stat")).ok()?;
    let (parent, session) = parse(&String::from_utf8_lossy(&stat))?;
    Some(Process { id, parent, session, handle })
}

/// Parent and session of a process that lives (`proc_pid_stat(5)`); its name may hold anything.
fn parse(stat: &str) -> Option<(i32, i32)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().take(4).collect();
    match fields[..] {
        ["Z" | "X", ..] => None,
        [_, parent, _, session] => Some((parent.parse().ok()?, session.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_and_the_session_are_what_was_started() {
        // id, parent, session: 10 leads; 11 is a child, 12 its child in a session of its own, 13 has lost its parent.
        let all =
            [(1, 0, 1), (10, 0, 10), (11, 10, 10), (12, 11, 12), (13, 1, 10), (14, 12, 12), (20, 1, 20)];
        assert_eq!(started_by(10, &all), BTreeSet::from([11, 12, 13, 14]));
        assert_eq!(started_by(20, &all), BTreeSet::new());
    }

    #[test]
    fn a_name_hides_nothing_and_the_dead_are_none() {
        assert_eq!(parse("7 (a) b) 1 2) S 3 4 5 6 7"), Some((3, 5)));
        assert_eq!(parse("7 (a) Z 3 4 5 6"), None);
        assert_eq!(parse("7 (a"), None);
    }
}
