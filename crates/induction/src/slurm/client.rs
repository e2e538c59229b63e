//! Slurm's commands: what is asked, and what its answers mean.

use std::{path::Path, process::Command};

use super::Options;
use crate::Error;

/// Variables of the job that a submission may itself be a part of; what they say is not about the
/// new jobs.
const OF_A_JOB: [&str; 4] =
    ["SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"];

/// Parts of what Slurm says when trying again later helps.
const LATER: [&str; 7] = [
    "Unable to contact",
    "connect failure",
    "timed out",
    "Connection refused",
    "temporarily",
    "standby mode",
    "Zero Bytes were transmitted",
];

/// States of a job that will not run any more.
const ENDED: [&str; 10] = [
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "BOOT_FAIL",
    "DEADLINE",
    "OUT_OF_MEMORY",
    "REVOKED",
];

/// A task as Slurm knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    /// Of the array, or of the job.
    pub(super) id: String,
    pub(super) task: Option<usize>,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) reason: String,
    /// As `wait` has it.
    pub(super) exit: i64,
    pub(super) restarts: u32,
    pub(super) nodes: String,
}

impl Queued {
    pub(super) fn ended(&self) -> bool {
        ENDED.contains(&self.state.as_str())
    }

    pub(super) fn completed(&self) -> bool {
        self.state == "COMPLETED"
    }

    /// A line of `squeue` with these fields, each followed by a bar: [`FIELDS`].
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.trim().split('|').collect();
        let [id, name, state, reason, exit, restarts, nodes, ..] = fields[..] else { return None };
        let (id, task) = match id.split_once('_') {
            Some((id, task)) => (id, Some(task.parse().ok()?)),
            None => (id, None),
        };
        Some(Self {
            id: id.to_string(),
            task,
            name: name.to_string(),
            state: state.to_string(),
            reason: reason.to_string(),
            exit: exit.parse().unwrap_or_default(),
            restarts: restarts.parse().unwrap_or_default(),
            nodes: nodes.to_string(),
        })
    }

    /// A line of `sacct -P`: JobID, JobName, State, ExitCode, NodeList.
    fn of_accounting(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.trim().split('|').collect();
        let [id, name, state, exit, nodes, ..] = fields[..] else { return None };
        // "CANCELLED by 1000"; "1:0" is exit code and signal.
        let state = state.split(' ').next().unwrap_or_default();
        let (code, signal) = exit.split_once(':').unwrap_or((exit, "0"));
        let exit = 256 * code.parse::<i64>().unwrap_or_default()
            + signal.parse::<i64>().unwrap_or_default();
        Self::parse(&format!("{id}|{name}|{state}||{exit}|0|{nodes}|"))
    }

    /// "RUNNING on n1, started again 2 times"
    pub(super) fn describe(&self) -> String {
        let mut text = self.state.clone();
        match (self.state.as_str(), self.reason.as_str()) {
            ("RUNNING" | "COMPLETING", _) => text += &format!(" on {}", self.nodes),
            ("FAILED", _) if self.exit & 0x7f == 53 => {
                text += ": its log could not be opened on the node";
            }
            ("FAILED", _) if self.exit & 0x7f != 0 => {
                text += &format!(", signal {}", self.exit & 0x7f);
            }
            ("FAILED", _) => text += &format!(", exit code {}", self.exit >> 8),
            (_, "" | "None") => {}
            (_, reason) if reason.to_lowercase().contains("held") => {
                text += &format!(" ({reason}; `scontrol release {}` lets it go on)", self.id);
            }
            (_, reason) => text += &format!(" ({reason})"),
        }
        match self.restarts {
            0 => {}
            1 => text += ", started again once",
            times => text += &format!(", started again {times} times"),
        }
        text
    }
}

/// Refuses where there is no Slurm to talk to, before anything is done.
pub(super) fn check() -> Result<(), Error> {
    if let Some(path) = std::env::var_os("SLURM_CONF").filter(|path| !Path::new(path).is_file()) {
        // Slurm's commands would try for a minute.
        return Err(Error::Input(format!(
            "SLURM_CONF = {}: there is no such file; correct it, or unset it to use the system's",
            Path::new(&path).display()
        )));
    }
    ask("sbatch", &["--version".to_string()]).map(|_| ())
}

/// How many tasks an array may have; `None` where Slurm does not say.
pub(super) fn max_array_size() -> Result<Option<usize>, Error> {
    let text = ask("scontrol", &["show".to_string(), "config".to_string()])?;
    let line = text.lines().find(|line| line.trim_start().starts_with("MaxArraySize"));
    Ok(line.and_then(|line| line.split_once('=')?.1.trim().parse().ok()))
}

const FIELDS: &str = "JobArrayID:|,Name:|,State:|,Reason:|,exit_code:|,RestartCnt:|,NodeList:|";

/// Every task of jobs of these names that Slurm still remembers.
pub(super) fn queue(names: &[String]) -> Result<Vec<Queued>, Error> {
    let mut arguments: Vec<String> =
        ["-h", "-r", "-t", "all", "-O", FIELDS].map(str::to_string).into();
    arguments.push(format!("--name={}", names.join(",")));
    Ok(ask("squeue", &arguments)?.lines().filter_map(Queued::parse).collect())
}

/// Tasks of these jobs as accounting knows them; none where there is no accounting.
pub(super) fn accounted(ids: &[String]) -> Vec<Queued> {
    let mut arguments: Vec<String> =
        ["-n", "-X", "-P", "-o", "JobID,JobName,State,ExitCode,NodeList", "-j"]
            .map(str::to_string)
            .into();
    arguments.push(ids.join(","));
    ask("sacct", &arguments).map_or_else(
        |_| Vec::new(),
        |text| text.lines().filter_map(Queued::of_accounting).collect(),
    )
}

/// Submits; the new job's id.
pub(super) fn submit(arguments: &[String], options: &Options) -> Result<String, Error> {
    let text = ask("sbatch", arguments).map_err(|error| match error {
        Error::Input(reason) => Error::Input(explained(&reason, options)),
        other => other,
    })?;
    // With several clusters the cluster's name follows.
    let id = text.trim().split(';').next().unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Input(format!(
            "sbatch: expected a job's number, found {:?}",
            text.trim()
        )));
    }
    Ok(id.to_string())
}

/// Cancels jobs.
pub(super) fn cancel(ids: &[String]) -> Result<(), Error> {
    ask("scancel", ids).map(|_| ())
}

/// What a command prints, if it ends well.
fn ask(program: &str, arguments: &[String]) -> Result<String, Error> {
    let mut command = Command::new(program);
    command.args(arguments);
    OF_A_JOB.iter().for_each(|name| {
        command.env_remove(name);
    });
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Input(format!(
            "{program} is not on PATH: run this where Slurm jobs are submitted from, or leave out --executor slurm"
        )),
        _ => Error::io(program)(error),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said =
        said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let said =
        if said.is_empty() { format!("{program} ended with {}", output.status) } else { said };
    if LATER.iter().any(|part| said.contains(part)) {
        return Err(Error::Later(format!(
            "Slurm does not answer ({said}): give the same command again later"
        )));
    }
    Err(Error::Input(said))
}

/// A refusal with what helps.
fn explained(reason: &str, options: &Options) -> String {
    let given = |flag: &str, value: &Option<String>| match value {
        Some(value) => format!("{flag} {value}"),
        None => format!("{flag}, which was not given,"),
    };
    let lower = reason.to_lowercase();
    let help = if lower.contains("partition") && !lower.contains("account/partition") {
        format!("{}: `sinfo -s` lists the partitions", given("--partition", &options.partition))
    } else if lower.contains("time") {
        format!(
            "{}: `sinfo -o '%P %l'` shows each partition's limit",
            given("--time", &options.time)
        )
    } else if lower.contains("gres") {
        format!("{}: `sinfo -o '%P %G'` shows what nodes have", given("--gres", &options.gres))
    } else if lower.contains("account") {
        format!(
            "{}: `sacctmgr show associations user=$USER` lists yours",
            given("--account", &options.account)
        )
    } else if lower.contains("array") {
        "the array is larger than MaxArraySize allows: split the manifest into several folders"
            .to_string()
    } else {
        "the options are --partition, --gres, --time, --account and --cpus-per-task".to_string()
    };
    format!("{reason}. {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_squeue_and_sacct() {
        let running = Queued::parse("9_2|induction-x-train|RUNNING|None|0|1|n1|").unwrap();
        assert_eq!((running.id.as_str(), running.task, running.ended()), ("9", Some(2), false));
        assert_eq!(running.describe(), "RUNNING on n1, started again once");
        let of = |line| Queued::parse(line).unwrap().describe();
        assert_eq!(of("11|r|PENDING|Dependency|0|0||"), "PENDING (Dependency)");
        let held = "9_2|t|PENDING|launch failed requeued held|0|1||";
        assert!(of(held).contains("`scontrol release 9` lets it go on"), "{}", of(held));
        assert_eq!(of("9_1|t|FAILED|NonZeroExitCode|512|0|n2|"), "FAILED, exit code 2");
        assert_eq!(
            of("9_1|t|FAILED|JobLaunchFailure|4021|0|n2|"),
            "FAILED: its log could not be opened on the node"
        );
        assert!(Queued::parse("squeue: something else").is_none());
        let past = Queued::of_accounting("9_1|t|CANCELLED by 0|0:15|n2").unwrap();
        assert_eq!((past.state.as_str(), past.exit, past.ended()), ("CANCELLED", 15, true));
    }
}
