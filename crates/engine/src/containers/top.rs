//! The processes of a container, read from the host's procfs. Nothing of the container is executed for it
//! (CVE-2022-1227), and no `ps` of the host either: the columns of `-ef` and those of `-o` are made here.

use crate::engine::Engine;
use crate::error::{Error, Result, blocking};
use std::cmp::Ordering;
use std::fs;
use time::OffsetDateTime;

/// Clock ticks in a second, as the kernel shows them to everybody.
const TICKS: u64 = 100;

/// Size of a page in KiB on the platforms this engine runs on.
const PAGE_KIB: u64 = 4;

/// A table of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// The columns' titles.
    pub titles: Vec<String>,
    /// A row for each process.
    pub processes: Vec<Vec<String>>,
}

/// What procfs says of one process.
struct Process {
    pid: i32,
    parent: i32,
    user: u32,
    group: u32,
    state: String,
    terminal: u32,
    /// Processor time, in ticks.
    ticks: u64,
    /// Since the start of the machine, in ticks.
    started: u64,
    threads: String,
    /// In bytes.
    virtual_size: u64,
    /// In pages.
    resident: u64,
    name: String,
    command: String,
}

type Column = (&'static str, fn(&Process, &Clock) -> String);

/// The columns of `ps -ef`.
const FULL: [Column; 8] = [
    ("UID", |p, _| user_name(p.user)),
    ("PID", |p, _| p.pid.to_string()),
    ("PPID", |p, _| p.parent.to_string()),
    ("C", |p, clock| clock.share(p)),
    ("STIME", |p, clock| clock.start(p)),
    ("TTY", |p, _| terminal(p.terminal)),
    ("TIME", |p, _| duration(p.ticks / TICKS)),
    ("CMD", |p, _| p.command.clone()),
];

/// The columns of `ps aux`.
const USER_ORIENTED: [Column; 11] = [
    ("USER", |p, _| user_name(p.user)),
    ("PID", |p, _| p.pid.to_string()),
    ("%CPU", |p, clock| tenths(clock.permille(p).min(999))),
    ("%MEM", |p, clock| tenths(p.resident * PAGE_KIB * 1000 / clock.memory.max(1))),
    ("VSZ", |p, _| (p.virtual_size / 1024).to_string()),
    ("RSS", |p, _| (p.resident * PAGE_KIB).to_string()),
    ("TTY", |p, _| terminal(p.terminal)),
    ("STAT", |p, _| p.state.clone()),
    ("START", |p, clock| clock.start(p)),
    ("TIME", |p, _| format!("{}:{:02}", p.ticks / TICKS / 60, p.ticks / TICKS % 60)),
    ("COMMAND", |p, _| p.command.clone()),
];

/// The columns that `-o` knows, by the words for them.
const NAMED: [(&str, Column); 18] = [
    ("pid", FULL[1]),
    ("ppid", FULL[2]),
    ("user", ("USER", |p, _| user_name(p.user))),
    ("uid", ("UID", |p, _| p.user.to_string())),
    ("gid", ("GID", |p, _| p.group.to_string())),
    ("c", FULL[3]),
    ("stime", FULL[4]),
    ("tty", FULL[5]),
    ("tt", FULL[5]),
    ("time", FULL[6]),
    ("cmd", FULL[7]),
    ("args", ("COMMAND", |p, _| p.command.clone())),
    ("command", ("COMMAND", |p, _| p.command.clone())),
    ("comm", ("COMMAND", |p, _| p.name.clone())),
    ("stat", ("STAT", |p, _| p.state.clone())),
    ("nlwp", ("NLWP", |p, _| p.threads.clone())),
    ("vsz", ("VSZ", |p, _| (p.virtual_size / 1024).to_string())),
    ("rss", ("RSS", |p, _| (p.resident * PAGE_KIB).to_string())),
];

impl Engine {
    /// The processes of a running container, in the columns that `arguments` of ps(1) ask for.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not run, [`Error::Unsupported`] for other arguments than `-ef`, `aux`, `-o` and `--sort`.
    pub async fn top(&self, name: &str, arguments: &str) -> Result<Top> {
        let Asked { columns, order } = Asked::of(arguments)?;
        let ids = self.processes(name).await?;
        let shown = blocking(move || {
            let clock = Clock::now();
            let mut found: Vec<Process> = ids.iter().filter_map(|id| Process::read(*id)).collect();
            found.sort_by(|one, other| compare(&order, (one, other), &clock));
            let row = |p: &Process| columns.iter().map(|(_, show)| show(p, &clock)).collect();
            Top {
                titles: columns.iter().map(|(title, _)| (*title).to_owned()).collect(),
                processes: found.iter().map(row).collect(),
            }
        })
        .await?;
        let container = self.inspect(name)?;
        self.shared.tell_of(&container, "top", &[]);
        Ok(shown)
    }
}

/// What is asked for: columns, and by which the rows are sorted, each upwards or downwards.
struct Asked {
    columns: Vec<Column>,
    order: Vec<(Direction, Column)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Asked {
    fn of(arguments: &str) -> Result<Self> {
        Self::parse(arguments).ok_or_else(|| {
            Error::Unsupported(format!(
                "ps arguments {arguments:?} are not supported: use -ef, aux, or -o and --sort with {}",
                NAMED.map(|(word, _)| word).join(",")
            ))
        })
    }

    fn parse(arguments: &str) -> Option<Self> {
        let mut words: Vec<&str> = arguments.split_whitespace().collect();
        let mut order = Vec::new();
        if let Some(at) = words.iter().position(|word| word.starts_with("--sort")) {
            let keys = match words.remove(at).strip_prefix("--sort=") {
                Some(keys) => keys,
                None if at < words.len() => words.remove(at),
                None => return None,
            };
            for key in keys.split(',') {
                let (direction, word) = match key.strip_prefix('-') {
                    Some(word) => (Direction::Down, word),
                    None => (Direction::Up, key.strip_prefix('+').unwrap_or(key)),
                };
                order.push((direction, named(word)?));
            }
        }
        let columns = match words[..] {
            [] | ["-ef" | "-e" | "ef"] => FULL.to_vec(),
            ["aux" | "-aux" | "axu" | "au" | "u"] => USER_ORIENTED.to_vec(),
            ["-o" | "-eo" | "-oo", list] | ["-e" | "-a", "-o", list] => {
                list.split(',').map(named).collect::<Option<_>>()?
            }
            _ => return None,
        };
        Some(Self { columns, order })
    }
}

fn named(word: &str) -> Option<Column> {
    NAMED.iter().find(|(name, _)| *name == word).map(|(_, column)| *column)
}

/// Which of two processes comes first: numbers by what they are worth, all else by its letters.
fn compare(order: &[(Direction, Column)], (one, other): (&Process, &Process), clock: &Clock) -> Ordering {
    let keys = order.iter().map(|(direction, (_, show))| {
        let (one, other) = (show(one, clock), show(other, clock));
        let found = match (one.parse::<u64>(), other.parse::<u64>()) {
            (Ok(one), Ok(other)) => one.cmp(&other),
            _ => one.cmp(&other),
        };
        if *direction == Direction::Down { found.reverse() } else { found }
    });
    keys.fold(Ordering::Equal, Ordering::then)
}

impl Process {
    /// Reads a process; nothing if it has ended.
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // The name is in parentheses and may contain anything, parentheses included.
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_whitespace().collect();
        let number =
            |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let id = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        let words: Vec<String> = command
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            user: id("Uid:")?,
            group: id("Gid:")?,
            state: (*fields.first()?).to_owned(),
            terminal: u32::try_from(number(4)).unwrap_or(0),
            ticks: number(11) + number(12),
            started: number(19),
            threads: number(17).to_string(),
            virtual_size: number(20),
            resident: number(21),
            command: if words.is_empty() { format!("[{name}]") } else { words.join(" ") },
            name,
        })
    }
}

/// The time of the machine's start, and now; and what else shares are taken of.
struct Clock {
    boot: OffsetDateTime,
    now: OffsetDateTime,
    /// The machine's memory, in KiB.
    memory: u64,
}

impl Clock {
    fn now() -> Self {
        let now = OffsetDateTime::now_utc();
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let information = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = information.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let memory = memory.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        Self { boot: now - time::Duration::seconds_f64(seconds), now, memory }
    }

    fn started(&self, process: &Process) -> OffsetDateTime {
        let milliseconds = i64::try_from(process.started * 1000 / TICKS).unwrap_or(0);
        self.boot + time::Duration::milliseconds(milliseconds)
    }

    /// The clock time of a start today, the day of an earlier one.
    fn start(&self, process: &Process) -> String {
        let started = self.started(process);
        if started.date() == self.now.date() {
            format!("{:02}:{:02}", started.hour(), started.minute())
        } else {
            format!("{}{:02}", &started.month().to_string()[..3], started.day())
        }
    }

    /// Processor time as a percentage of the time since the start.
    fn share(&self, process: &Process) -> String {
        (self.permille(process) / 10).min(99).to_string()
    }

    /// Processor time in thousandths of the time since the start.
    fn permille(&self, process: &Process) -> u64 {
        let milliseconds = (self.now - self.started(process)).whole_milliseconds();
        let ticks = u64::try_from(milliseconds).unwrap_or(0) * TICKS / 1000;
        process.ticks * 1000 / ticks.max(TICKS)
    }
}

/// A number of tenths, with its point.
fn tenths(number: u64) -> String {
    format!("{}.{}", number / 10, number % 10)
}

fn duration(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The name of a terminal's device number, proc(5).
fn terminal(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

/// The host's name of a user: these are ids of the host.
fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_asked_for_or_refused() {
        let titles = |arguments: &str| {
            Asked::of(arguments).map(|c| c.columns.iter().map(|(title, _)| *title).collect::<Vec<_>>())
        };
        assert_eq!(titles("").unwrap().len(), 8);
        assert_eq!(titles("-ef").unwrap()[7], "CMD");
        assert_eq!(titles("aux").unwrap()[2..4], ["%CPU", "%MEM"]);
        assert_eq!(titles("-o pid,comm").unwrap(), ["PID", "COMMAND"]);
        assert_eq!(titles("aux --sort=comm").unwrap().len(), 11);
        assert_eq!(titles("--sort -pid,+comm -o pid").unwrap(), ["PID"]);
        for wrong in ["-o pid,nothing", "--sort=nothing", "--sort", "aux --sort="] {
            assert!(titles(wrong).is_err(), "{wrong}");
        }
        assert!(titles("--version; reboot").is_err());
    }

    #[test]
    fn rows_are_sorted_by_number_and_by_text() {
        let own = i32::try_from(std::process::id()).unwrap();
        let process = |pid, name: &str| Process { pid, name: name.into(), ..Process::read(own).unwrap() };
        let found = [process(9, "b"), process(10, "a"), process(8, "a")];
        let sorted = |arguments: &str| {
            let (order, clock) = (Asked::of(arguments).unwrap().order, Clock::now());
            let mut found: Vec<&Process> = found.iter().collect();
            found.sort_by(|one, other| compare(&order, (one, other), &clock));
            found.iter().map(|process| process.pid).collect::<Vec<_>>()
        };
        assert_eq!(sorted(""), [9, 10, 8]);
        assert_eq!(sorted("--sort=pid"), [8, 9, 10]);
        assert_eq!(sorted("--sort=-pid"), [10, 9, 8]);
        assert_eq!(sorted("--sort=comm,-pid"), [10, 8, 9]);
    }

    #[test]
    fn this_process_is_read_as_it_is() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let process = Process::read(pid).unwrap();
        assert_eq!((process.pid, process.user), (pid, rustix::process::getuid().as_raw()));
        assert!(process.command.contains("coracle"));
        assert_eq!(terminal(0x8800), "pts/0");
        assert_eq!(duration(3_725), "01:02:05");
        assert_eq!(tenths(125), "12.5");
    }
}
