//! On a real Slurm of two nodes: however a sweep is disturbed, it ends in the bits of an
//! undisturbed one on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use crate::common::{assert_same_run, induction, manifest, succeed, three};

/// Long enough for a task to be met in its middle.
const TOKENS: u32 = 240_000;

/// The cluster's folder, if tests on it are asked for. One test at a time: they break its nodes.
fn cluster(test: impl FnOnce(&Cluster)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if std::env::var("INDUCTION_SLURM").as_deref() != Ok("required") {
        println!("skipped: INDUCTION_SLURM is not `required`");
        return;
    }
    let folder = std::env::var("SLURM_TEST_FOLDER");
    let folder = folder.expect(
        "SLURM_TEST_FOLDER is set: fixtures/slurm.sh up says how, cargo xtask ci --slurm does it",
    );
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Slurm takes a node out where a start failed, as after a controller's crash.
    for node in ["n1", "n2"] {
        let _ = Command::new("scontrol")
            .args(["update", &format!("NodeName={node}"), "State=RESUME"])
            .output();
    }
    test(&Cluster { folder });
}

struct Cluster {
    folder: String,
}

impl Cluster {
    fn fixture(&self, arguments: &[&str]) {
        let script = crate::common::fixtures().join("slurm.sh");
        let mut command = Command::new(script);
        command.arg(arguments[0]).arg(&self.folder).args(&arguments[1..]);
        succeed(&mut command);
    }
}

fn slurm(program: &str, arguments: &[&str]) -> String {
    succeed(Command::new(program).args(arguments))
}

/// A plan, with what this machine alone makes of it.
struct Reference {
    _folder: tempfile::TempDir,
    plan: PathBuf,
    local: PathBuf,
    runs: Vec<&'static str>,
}

impl Reference {
    fn new(runs: &[(&'static str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (plan, local) = (manifest(folder.path(), runs), folder.path().join("local"));
        succeed(induction().args(["reproduce", "--manifest"]).arg(&plan).arg("--out").arg(&local));
        Self { plan, local, runs: runs.iter().map(|run| run.0).collect(), _folder: folder }
    }

    fn three() -> &'static Self {
        static THREE: OnceLock<Reference> = OnceLock::new();
        THREE.get_or_init(|| {
            Self::new(&three(TOKENS).map_each(|spec| spec.replace("every = 20", "every = 500")))
        })
    }

    fn assert_equal(&self, out: &Path) {
        for name in &self.runs {
            let run = |out: &Path| out.join("runs").join(name);
            assert_same_run(&run(&self.local), &run(out));
            let tables = [
                "loss_by_index",
                "icl",
                "random_tokens",
                "heads",
                "composition",
                "ablations",
                "knockouts",
                "text",
                "prompts",
            ];
            for table in tables {
                let read = |out: &Path| {
                    fs::read(run(out).join(format!("measurements/{table}.jsonl"))).unwrap()
                };
                assert!(read(&self.local) == read(out), "{name}: {table} differs");
            }
        }
        let read = |out: &Path| fs::read(out.join("claims.json")).unwrap();
        assert!(read(&self.local) == read(out), "the claims differ");
    }
}

trait MapEach {
    fn map_each(self, change: impl Fn(&str) -> String) -> Self;
}

impl MapEach for Vec<(&'static str, String)> {
    fn map_each(self, change: impl Fn(&str) -> String) -> Self {
        self.into_iter().map(|(name, spec)| (name, change(&spec))).collect()
    }
}

/// A sweep that was submitted.
struct Sweep {
    _folder: tempfile::TempDir,
    out: PathBuf,
    reference: &'static Reference,
    begun: Instant,
}

impl Sweep {
    fn submit(reference: &'static Reference, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("it's 50% out");
        let begun = Instant::now();
        succeed(
            induction()
                .args(["reproduce", "--executor", "slurm", "--manifest"])
                .arg(&reference.plan)
                .arg("--out")
                .arg(&out)
                .args(more),
        );
        Self { out: out.canonicalize().unwrap(), _folder: folder, reference, begun }
    }

    /// State and node of a task of a stage's job.
    fn task(&self, stage: &str, task: &str) -> Option<(String, String)> {
        let name = format!("--name=induction-{}-{stage}", super::token(&self.out));
        let output = Command::new("squeue")
            .args(["-h", "-r", "-t", "all", "-O", "JobArrayID:|,State:|,NodeList:|", &name])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines =
            text.lines().map(|line| line.split('|').map(str::to_string).collect::<Vec<_>>());
        let of_task =
            lines.filter(|line| task.is_empty() || line[0].ends_with(&format!("_{task}")));
        // Of a sweep that was submitted again the newest.
        let number =
            |line: &Vec<String>| line[0].split('_').next().unwrap().parse::<u64>().unwrap();
        of_task.max_by_key(number).map(|line| (line[1].clone(), line[2].clone()))
    }

    fn logs(&self) -> String {
        let mut paths: Vec<PathBuf> = fs::read_dir(self.out.join("slurm/logs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
            .iter()
            .map(|path| format!("{}:\n{}\n", path.display(), fs::read_to_string(path).unwrap()))
            .collect()
    }

    fn wait_until(&self, what: &str, seconds: u64, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            let late = begun.elapsed() > Duration::from_secs(seconds);
            assert!(
                !late,
                "no {what} within {seconds} s\n{}\n{}",
                slurm("squeue", &["-r", "-t", "all"]),
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until training of a run has passed some steps and has not ended.
    fn wait_for_training(&self, run: &str) {
        let step = self.out.join("runs").join(run).join("snapshots/step-00000256");
        self.wait_until("training under way", 60, || step.exists());
    }

    /// Waits for the report, compares, and says what it took. `again`: how many starts after the
    /// first there must have been.
    fn end(self, what: &str, again: usize) {
        self.wait_until("report", 150, || {
            let state = self.task("report", "").map(|(state, _)| state);
            assert!(
                !matches!(state.as_deref(), Some("CANCELLED" | "FAILED")),
                "{state:?}\n{}",
                self.logs()
            );
            state.as_deref() == Some("COMPLETED")
        });
        self.reference.assert_equal(&self.out);
        let starts = self
            .logs()
            .lines()
            .filter(|line| line.contains(", start ") && !line.ends_with("start 1"))
            .count();
        assert!(starts >= again, "{starts} starts again, expected {again}\n{}", self.logs());
        println!(
            "slurm | {what} | {} runs equal to the last bit | {starts} starts again | {:.0} s",
            self.reference.runs.len(),
            self.begun.elapsed().as_secs_f64()
        );
    }

    /// The program that works on a run.
    fn program(&self, run: &str) -> Option<u32> {
        let folder = self.out.join("runs").join(run).display().to_string();
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let mut words = line.split(|byte| *byte == 0);
            let program = words.next()? == env!("CARGO_BIN_EXE_induction").as_bytes();
            (program && words.any(|word| word == folder.as_bytes())).then_some(pid)
        })
    }
}

#[test]
fn an_undisturbed_sweep() {
    cluster(|_| Sweep::submit(Reference::three(), &[]).end("undisturbed", 0));
}

#[test]
fn a_node_that_dies() {
    cluster(|cluster| {
        let sweep = Sweep::submit(Reference::three(), &[]);
        sweep.wait_for_training("two");
        let (state, node) = sweep.task("train", "1").unwrap();
        assert_eq!(state, "RUNNING");
        cluster.fixture(&["kill-node", &node]);
        slurm("scontrol", &["update", &format!("NodeName={node}"), "State=DOWN", "Reason=test"]);
        cluster.fixture(&["start-node", &node]);
        sweep.end("a node dies", 1);
    });
}

#[test]
fn a_program_that_is_killed() {
    cluster(|_| {
        let sweep = Sweep::submit(Reference::three(), &[]);
        sweep.wait_for_training("one");
        let pid = sweep.program("one").expect("the run is being trained");
        signal("KILL", pid);
        sweep.end("kill -9 of a task's program", 1);
    });
}

/// The old program goes on while Slurm starts the task again: two processes want one run.
#[test]
fn a_program_that_slurm_lost() {
    cluster(|_| {
        let sweep = Sweep::submit(Reference::three(), &[]);
        sweep.wait_for_training("two");
        let program = sweep.program("two").expect("the run is being trained");
        // It is to hold the run for longer than Slurm needs to start the task again.
        signal("STOP", program);
        let step = parent(parent(program));
        assert_eq!(fs::read_to_string(format!("/proc/{step}/comm")).unwrap().trim(), "slurmstepd");
        signal("KILL", step);
        let refused = format!("another process (process {program} on ");
        let is_refused = || {
            let logs = sweep.logs();
            logs.contains(&refused)
                && logs.contains("another process holds the run: to be started again")
        };
        // A task that comes back to the same node may find that Slurm has ended the old program.
        let is_gone = || !Path::new(&format!("/proc/{program}")).exists();
        sweep.wait_until("second process that is refused", 60, || is_refused() || is_gone());
        let what = if is_refused() { "the second is refused" } else { "Slurm ended the program" };
        if !is_gone() {
            signal("CONT", program);
        }
        sweep.end(&format!("kill -9 of slurmstepd, {what}"), 1);
    });
}

fn signal(name: &str, pid: u32) {
    slurm("kill", &[&format!("-{name}"), &pid.to_string()]);
}

fn status_of(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_string()
}

fn parent(pid: u32) -> u32 {
    status_of(pid, "PPid").parse().unwrap()
}

#[test]
fn a_time_limit_that_comes_near() {
    cluster(|_| {
        let sweep = Sweep::submit(Reference::three(), &["--time", "1", "--notice", "60"]);
        sweep.wait_for_training("two");
        let program = sweep.program("two").expect("the run is being trained");
        // Slurm looks at the time twice a minute: the run is to be there still.
        signal("STOP", program);
        sweep.wait_until("notice", 50, || {
            u64::from_str_radix(&status_of(program, "ShdPnd"), 16)
                .is_ok_and(|pending| pending >> 14 & 1 == 1)
        });
        signal("CONT", program);
        sweep.wait_until("requeue", 20, || {
            sweep.logs().contains("the time limit is near: to be started again")
        });
        sweep.end("a time limit comes near", 1);
    });
}

#[test]
fn a_sweep_that_is_preempted() {
    cluster(|_| {
        let sweep = Sweep::submit(Reference::three(), &[]);
        sweep.wait_for_training("two");
        for _ in 0..2 {
            slurm(
                "sbatch",
                &["--parsable", "-p", "urgent", "--output=/dev/null", "--wrap=sleep 2"],
            );
        }
        sweep.end("pre-emption", 1);
    });
}

#[test]
fn a_controller_that_dies() {
    cluster(|cluster| {
        let sweep = Sweep::submit(Reference::three(), &[]);
        sweep.wait_for_training("two");
        // What came less than 5 s before a crash the controller forgets: nothing is to change
        // meanwhile.
        let begun = Instant::now();
        let mut stopped = Vec::new();
        while begun.elapsed() < Duration::from_secs(9) {
            for program in ["one", "two", "mlp"].into_iter().filter_map(|run| sweep.program(run)) {
                if !stopped.contains(&program) {
                    signal("STOP", program);
                    stopped.push(program);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        cluster.fixture(&["kill-controller"]);
        stopped.into_iter().for_each(|program| signal("CONT", program));
        std::thread::sleep(Duration::from_secs(2));
        cluster.fixture(&["start-controller"]);
        sweep.end("the controller dies", 0);
    });
}

#[test]
fn a_sweep_that_is_cancelled() {
    cluster(|_| {
        let sweep = Sweep::submit(Reference::three(), &[]);
        sweep.wait_for_training("two");
        let said = succeed(induction().arg("cancel").arg(&sweep.out));
        assert!(said.contains("cancelled"), "{said}");
        let submit = || {
            let mut command = induction();
            command
                .args(["reproduce", "--executor", "slurm", "--manifest"])
                .arg(&sweep.reference.plan)
                .arg("--out");
            command.arg(&sweep.out).output().unwrap().status.code()
        };
        // Until the last task has stopped, the sweep is in the queue still.
        sweep.wait_until("room in the queue", 60, || submit() == Some(0));
        sweep.end("cancelled and submitted again", 0);
    });
}

#[test]
fn a_run_that_fails_stops_no_other() {
    cluster(|_| {
        let mut runs = three(9600);
        runs[0].1 = runs[0]
            .1
            .replace("lr = 0.01", "lr = 900.0\nwarmup_steps = 0\npos_gain_lr_scale = 10.0")
            .replace("n_ctx = 24", "n_ctx = 24\nnormalization = \"none\"");
        let folder = tempfile::tempdir().unwrap();
        let (plan, out) = (manifest(folder.path(), &runs), folder.path().join("out"));
        succeed(
            induction()
                .args(["reproduce", "--executor", "slurm", "--manifest"])
                .arg(&plan)
                .arg("--out")
                .arg(&out),
        );
        let begun = Instant::now();
        let shown = loop {
            let shown = succeed(induction().arg("status").arg(&out));
            if shown.contains("2 of 3 done, 1 failed") {
                break shown;
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "{shown}");
            std::thread::sleep(Duration::from_millis(200));
        };
        assert!(shown.contains("slurm: train") && shown.contains("FAILED, exit code 3"), "{shown}");
        let log = fs::read_to_string(out.join("slurm/logs/train-0.log")).unwrap();
        assert!(
            log.contains("failed with exit code 3") && log.contains("induction report"),
            "{log}"
        );
        // As the log says.
        fs::rename(out.join("runs/one"), folder.path().join("aside")).unwrap();
        succeed(induction().arg("report").arg(&out));
        println!("slurm | a run fails | 2 others done | {:.0} s", begun.elapsed().as_secs_f64());
    });
}
