//! Sweeps through Slurm: what is submitted, what a task does when it is stopped, and, with
//! `INDUCTION_SLURM=required`, on the real one that `fixtures/slurm.sh up` starts (`cargo xtask ci
//! --slurm` does both).

#![allow(clippy::unwrap_used, clippy::print_stdout)]
#![cfg(unix)]

mod common;

#[path = "slurm/real.rs"]
mod real;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{fail, induction, manifest, succeed, three};
use induction_torture::cases;
use serde_json::Value;

/// A folder of commands that stand for Slurm's, and what they were asked.
struct Fake {
    folder: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let fake = Self { folder: tempfile::tempdir().unwrap() };
        let down = "[ ! -e down ] || { echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1; }";
        // Refuses by what the file `refuse` says, after as many jobs as `after` says.
        let sbatch = format!(
            "[ \"$1\" != --version ] || {{ echo slurm-wlm 22.05.8; exit; }}\n{down}\nn=$(cat count 2>/dev/null || echo 0)\n\
             if [ -e refuse ] && [ \"$n\" -ge \"$(cat after 2>/dev/null || echo 0)\" ]; then cat refuse >&2; exit 1; fi\n\
             n=$((n + 1)); echo $n >count; printf '%s\\n' \"$@\" >submit-$n; echo $n"
        );
        let scontrol = format!(
            "{down}\nif [ \"$1\" = show ]; then echo \"MaxArraySize            = $(cat max 2>/dev/null || echo 1001)\"; exit; fi\n\
             if [ -e fail-once ]; then rm fail-once; echo 'Unexpected message received' >&2; exit 1; fi\necho \"$@\" >>asked"
        );
        fake.command("sbatch", &sbatch);
        fake.command("squeue", &format!("{down}\ncat queue 2>/dev/null || true"));
        fake.command("scontrol", &scontrol);
        fake.command("scancel", "echo scancel \"$@\" >>asked");
        fake.command("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1");
        fake
    }

    fn command(&self, name: &str, body: &str) {
        let path = self.path(name);
        fs::write(
            &path,
            format!("#!/bin/bash\ncd '{}' || exit 9\n{body}\n", self.folder.path().display()),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn unset(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn on_path(&self, command: &mut Command) {
        let rest = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{rest}", self.folder.path().display()))
            .env_remove("SLURM_CONF");
    }

    fn induction(&self, arguments: &[&str], out: &Path) -> Command {
        let mut command = induction();
        command.args(arguments).arg(out);
        self.on_path(&mut command);
        command
    }

    fn reproduce(&self, plan: &Path, out: &Path, more: &[&str]) -> Command {
        let mut command = induction();
        command
            .args(["reproduce", "--executor", "slurm", "--manifest"])
            .arg(plan)
            .arg("--out")
            .arg(out)
            .args(more);
        self.on_path(&mut command);
        command
    }
}

fn token(out: &Path) -> String {
    fs::read_to_string(out.join("slurm/token")).unwrap()
}

#[test]
fn what_is_submitted() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let plan = manifest(folder.path(), &three(9600));
    let out = folder.path().join("it's \"50%\" out");
    let options = [
        "--gres",
        "gpu:1",
        "--time",
        "30",
        "--array-limit",
        "2",
        "--account",
        "me",
        "--cpus-per-task",
        "3",
    ];
    let printed = succeed(fake.reproduce(&plan, &out, &options).args([
        "--partition",
        "long",
        "--device",
        "cuda:0",
    ]));
    assert!(printed.contains("train    job 1") && printed.contains("report   job 4"), "{printed}");
    let out = out.canonicalize().unwrap();
    let of = |n: usize| fake.read(&format!("submit-{n}"));
    let logs = out.join("slurm/logs").display().to_string().replace('%', "%%");
    for (n, stage) in ["train", "measure", "ablate"].into_iter().enumerate() {
        let lines = of(n + 1);
        let has = |line: &str| {
            assert!(lines.lines().any(|found| found == line), "{stage}: no {line} in {lines}");
        };
        has(&format!("--job-name=induction-{}-{stage}", token(&out)));
        has(&format!("--output={logs}/{stage}-%a.log"));
        has("--array=0-2%2");
        ["--requeue", "--open-mode=append", "--kill-on-invalid-dep=yes", "--signal=B:USR1@90"]
            .into_iter()
            .for_each(has);
        ["--partition=long", "--time=30", "--account=me", "--cpus-per-task=3"]
            .into_iter()
            .for_each(has);
        assert_eq!(lines.contains("--gres=gpu:1"), stage == "train");
        assert_eq!(lines.contains(&format!("--dependency=aftercorr:{n}\n")), n > 0, "{lines}");
        let script = fs::read_to_string(out.join(format!("slurm/{stage}.sh"))).unwrap();
        assert!(script.contains("--threads 3"), "{script}");
        assert_eq!(script.contains("--device cuda:0"), stage == "train");
    }
    assert!(of(4).contains("--dependency=afterok:3\n") && !of(4).contains("--array"), "{}", of(4));
    let jobs: Value =
        serde_json::from_slice(&fs::read(out.join("slurm/jobs.json")).unwrap()).unwrap();
    assert_eq!((&jobs["runs"][2], &jobs["jobs"][1]["id"]), (&"mlp".into(), &"2".into()));

    // The printed commands are what is submitted.
    let lines =
        succeed(fake.reproduce(&plan, &out, &options).args(["--partition", "long", "--print"]));
    let mut shell = Command::new("bash");
    fake.on_path(shell.args(["-ec", &lines]));
    let before = of(2);
    succeed(&mut shell);
    assert_eq!(fake.read("count").trim(), "8");
    let (printed, mut expected) = (of(6), before.replace("aftercorr:1", "aftercorr:5"));
    expected = expected.replace("--device cuda:0", "");
    assert_eq!(printed, expected);
}

#[test]
fn nothing_is_submitted_twice() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let plan = manifest(folder.path(), &three(9600));
    let out = folder.path().join("out");
    let submit = || fake.reproduce(&plan, &out, &["--json"]);
    let queue = |lines: &[&str]| {
        let lines = lines
            .iter()
            .map(|line| line.replace("NAME", &format!("induction-{}", token(&out))) + "\n");
        fake.set("queue", &lines.collect::<String>());
    };
    // No answer at all.
    fake.set("down", "");
    assert!(fail(&mut submit(), 75).contains("give the same command again later"));
    fake.unset("down");
    // The controller goes after two jobs; one more arrives, whose answer is lost.
    fake.set(
        "refuse",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    );
    fake.set("after", "2");
    let message = fail(&mut submit(), 75);
    assert!(
        message.contains("2 of 4 jobs are submitted") && message.contains("timed out"),
        "{message}"
    );
    fake.unset("refuse");
    queue(&[
        "1_0|NAME-train|RUNNING|None|0|0|n1|",
        "2_0|NAME-measure|PENDING|Dependency|0|0||",
        "9_0|NAME-ablate|PENDING|Dependency|0|0||",
    ]);
    let done: Value = serde_json::from_str(&succeed(&mut submit())).unwrap();
    let ids: Vec<&str> =
        done["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["1", "2", "9", "3"]);
    assert!(
        fake.read("submit-3").contains("--dependency=afterok:9\n"),
        "{}",
        fake.read("submit-3")
    );
    // All there: refused, with what to do.
    let message = fail(&mut submit(), 75);
    assert!(
        message.contains("in the queue already: 1 (1 task of")
            && message.contains("induction cancel"),
        "{message}"
    );
    assert_eq!(fake.read("count").trim(), "3");
    // What Slurm says is shown.
    queue(&[
        "1_0|NAME-train|RUNNING|None|0|2|n1|",
        "1_1|NAME-train|FAILED|NonZeroExitCode|512|0|n2|",
        "2_1|NAME-measure|CANCELLED|DependencyNeverSatisfied|0|0||",
        "1_2|NAME-train|COMPLETED|None|0|0|n2|",
        "2_2|NAME-measure|PENDING|Resources|0|0||",
    ]);
    let shown = succeed(&mut fake.induction(&["status"], &out));
    for line in [
        "train 1_0 RUNNING on n1, started again 2 times",
        "train 1_1 FAILED, exit code 2",
        "measure 2_2 PENDING (Resources)",
    ] {
        assert!(shown.contains(line), "no {line} in {shown}");
    }
    // Of two that submit at once, the second is told what the first does.
    let lease = induction_files::Lease::take(&out.join("slurm"), &mut |_| {}).unwrap();
    let message = fail(&mut submit(), 75);
    assert!(
        message.contains("is working there") && message.contains("it submits this sweep"),
        "{message}"
    );
    drop(lease);
    // Cancelled, and again.
    let shown = succeed(&mut fake.induction(&["cancel"], &out));
    assert!(
        shown.contains("cancelled 1 (1 task of") && fake.read("asked") == "scancel 1 2\n",
        "{shown} {}",
        fake.read("asked")
    );
    queue(&["1_0|NAME-train|CANCELLED|None|0|2|n1|"]);
    assert_eq!(succeed(&mut fake.induction(&["cancel"], &out)).trim(), "nothing to cancel");
    // Then all of it anew; Slurm may be gone while the state is looked at.
    succeed(&mut submit());
    assert_eq!(fake.read("count").trim(), "7");
    fake.set("down", "");
    let shown = succeed(&mut fake.induction(&["status"], &out));
    assert!(shown.contains("0 of 3 done") && !shown.contains("slurm:"), "{shown}");
    assert!(fail(&mut fake.induction(&["cancel"], &out), 75).contains("Unable to contact"));
    fail(&mut fake.induction(&["cancel"], folder.path()), 2);
}

#[test]
fn what_is_done_is_left_out() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let plan = manifest(folder.path(), &three(2400));
    let out = folder.path().join("out");
    succeed(&mut fake.reproduce(&plan, &out, &["--print"]));
    let stage = |name: &str, stage: &str| {
        let mut command = induction();
        command
            .arg("run")
            .arg(out.join(format!("slurm/specs/{name}.toml")))
            .args(["--stage", stage, "--out"]);
        command.arg(out.join("runs").join(name)).arg("--data").arg(out.join("data"));
        command
    };
    assert!(fail(&mut stage("two", "measure"), 2).contains("training is not finished"));
    succeed(&mut stage("two", "train"));
    ["train", "measure", "ablate"]
        .into_iter()
        .for_each(|part| drop(succeed(&mut stage("mlp", part))));
    succeed(&mut fake.reproduce(&plan, &out, &[]));
    let submitted = |n: usize| {
        let text = fake.read(&format!("submit-{n}"));
        let of = |flag: &str| {
            text.lines().find_map(|line| line.strip_prefix(flag)).unwrap_or_default().to_string()
        };
        (
            of("--job-name=").replace(&format!("induction-{}-", token(&out)), ""),
            of("--array="),
            of("--dependency="),
        )
    };
    let expected = [
        ("train", "0", ""),
        ("measure", "0", "aftercorr:1"),
        ("ablate", "0", "aftercorr:2"),
        ("measure-of-measure", "1", ""),
        ("ablate-of-measure", "1", "aftercorr:4"),
        ("report", "", "afterok:3:5"),
    ];
    for (n, (name, array, after)) in expected.into_iter().enumerate() {
        assert_eq!(submitted(n + 1), (name.to_string(), array.to_string(), after.to_string()));
    }
}

#[test]
fn what_slurm_or_the_user_gets_wrong() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let plan = manifest(folder.path(), &three(2400));
    let out = folder.path().join("out");
    let refused = |says: &str, more: &[&str]| {
        fake.set("refuse", &format!("sbatch: error: {says}\n"));
        let message = fail(&mut fake.reproduce(&plan, &out, more), 2);
        fake.unset("refuse");
        message
    };
    let mut told = 0;
    for (says, more, help) in [
        (
            "Batch job submission failed: Invalid partition name specified",
            ["--partition", "nope"],
            "--partition nope",
        ),
        (
            "Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
            ["--time", "99:00:00"],
            "--time 99:00:00",
        ),
        ("Invalid generic resource (gres) specification", ["--gres", "gpu:9"], "--gres gpu:9"),
        (
            "Batch job submission failed: Invalid account or account/partition combination specified",
            ["--account", "x"],
            "--account x",
        ),
        (
            "Batch job submission failed: More processors requested than permitted",
            ["--cpus-per-task", "99"],
            "--cpus-per-task",
        ),
    ] {
        let message = refused(says, &more);
        assert!(message.contains(says) && message.contains(help), "{message}");
        told += 1;
    }
    fake.set("max", "2");
    let message = fail(&mut fake.reproduce(&plan, &out, &[]), 2);
    assert!(message.contains("3 runs") && message.contains("MaxArraySize"), "{message}");
    fake.unset("max");
    let message =
        fail(fake.reproduce(&plan, &out, &[]).env("SLURM_CONF", "/nowhere/slurm.conf"), 2);
    assert!(message.contains("SLURM_CONF = /nowhere/slurm.conf"), "{message}");
    let message = fail(fake.reproduce(&plan, &out, &[]).env("PATH", "/nowhere"), 2);
    assert!(message.contains("sbatch is not on PATH"), "{message}");
    let mut local = induction();
    local.args(["reproduce", "--time", "3", "--manifest"]).arg(&plan).arg("--out").arg(&out);
    assert!(fail(&mut local, 2).contains("--time: it is for --executor slurm"));
    assert!(fail(&mut fake.reproduce(&plan, &out, &["--jobs", "2"]), 2).contains("--array-limit"));
    println!("{} refusals told", told + 5);
    assert_eq!(fake.read("count"), "", "nothing was submitted");
}

/// A program's end, what comes before it, how often the job was started again; the task's exit
/// code, and whether it is requeued.
const ENDS: [(&str, &[&str], u32, i32, bool); 17] = [
    ("exit 0", &[], 0, 0, false),
    ("exit 1", &[], 0, 1, false),
    ("exit 2", &[], 0, 2, false),
    ("exit 3", &[], 0, 3, false),
    ("exit 75", &[], 0, 75, true),
    ("exit 75", &[], 19, 75, true),
    ("exit 75", &[], 20, 75, false),
    ("kill -9 $$", &[], 0, 75, true),
    ("kill -9 $$", &[], 4, 75, true),
    ("kill -9 $$", &[], 5, 137, false),
    ("wait_for_term 75", &["USR1"], 300, 75, true),
    ("wait_for_term 0", &["USR1"], 0, 0, false),
    ("wait_for_term 3", &["USR1"], 0, 3, false),
    ("wait_for_term 75", &["TERM"], 0, 75, false),
    ("wait_for_term 0", &["TERM"], 0, 0, false),
    ("wait_for_term 75", &["USR1", "TERM"], 0, 75, false),
    ("wait_for_term 75", &["TERM", "USR1"], 0, 75, false),
];

#[test]
fn a_task_starts_again_when_it_should() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let plan = manifest(folder.path(), &three(2400));
    let out = folder.path().join("o'ut $HOME");
    succeed(&mut fake.reproduce(&plan, &out, &["--print"]));
    let out = out.canonicalize().unwrap();
    let program = folder.path().join("it's \"a\" program");
    let script = |stage: &str| {
        let text = fs::read_to_string(out.join(format!("slurm/{stage}.sh"))).unwrap();
        let quoted = format!("program='{}'", program.display().to_string().replace('\'', r"'\''"));
        let lines = text
            .lines()
            .map(|line| if line.starts_with("program=") { quoted.as_str() } else { line });
        let path = folder.path().join(format!("{stage}.sh"));
        fs::write(&path, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let mut command = Command::new("bash");
        command
            .arg(path)
            .env("SLURM_JOB_ID", "9")
            .env("SLURM_ARRAY_JOB_ID", "7")
            .env("SLURM_ARRAY_TASK_ID", "1");
        fake.on_path(&mut command);
        command
    };
    let set_program = |end: &str| {
        let text = format!(
            "#!/bin/bash\nwait_for_term() {{ trap 'sleep 0.3; exit '$1 TERM; echo >'{0}/ready'; for _ in {{1..100}}; do sleep 0.1; done; }}\n\
             printf '%s\\n' \"$@\" >'{0}/arguments'\n{end}\n",
            fake.folder.path().display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let ended = cases("ends of a Slurm task", ENDS.len() as u64, |seed| {
        let (end, signals, restarts, code, again) = ENDS[seed as usize % ENDS.len()];
        ["asked", "ready"].into_iter().for_each(|file| fake.unset(file));
        set_program(end);
        let mut child = script("train")
            .env("SLURM_RESTART_COUNT", restarts.to_string())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        for signal in signals {
            while !fake.path("ready").exists() && begun.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(
                Command::new("kill")
                    .args([&format!("-{signal}"), &child.id().to_string()])
                    .status()
                    .unwrap()
                    .success()
            );
            std::thread::sleep(Duration::from_millis(60));
        }
        assert_eq!(child.wait().unwrap().code(), Some(code), "{end} {signals:?} {restarts}");
        let expected = if again { "requeue 7_1\n" } else { "" };
        assert_eq!(fake.read("asked"), expected, "{end} {signals:?} {restarts}");
    });
    println!("{ended} ends of a task");

    // What the program is called with.
    let spec = out.join("slurm/specs/two.toml");
    let hash = blake3::hash(&fs::read(&spec).unwrap()).to_hex().to_string();
    let (run, data) = (out.join("runs/two"), out.join("data"));
    let [spec, run, data] = [spec, run, data].map(|path| path.display().to_string());
    let expected = [
        "--threads",
        "1",
        "--device",
        "cpu",
        "run",
        &spec,
        "--blake3",
        &hash,
        "--out",
        &run,
        "--data",
        &data,
        "--stage",
        "train",
        "",
    ];
    set_program("exit 0");
    succeed(&mut script("train"));
    assert_eq!(fake.read("arguments"), expected.join("\n"));
    succeed(&mut script("report"));
    assert_eq!(
        fake.read("arguments"),
        ["--threads", "1", "report", &out.display().to_string(), ""].join("\n")
    );

    // A controller that is away for a moment.
    set_program("exit 75");
    fake.unset("asked");
    fake.set("fail-once", "");
    fail(&mut script("train"), 75);
    assert_eq!(fake.read("asked"), "requeue 7_1\n");

    // A node with another folder of that name.
    let there = token(&out);
    fs::write(out.join("slurm/token"), "0123").unwrap();
    let message = fail(&mut script("measure"), 2);
    assert!(
        message.contains("two, measure") && message.contains("file system that all nodes share"),
        "{message}"
    );
    fs::write(out.join("slurm/token"), there).unwrap();
    fs::remove_file(&program).unwrap();
    assert!(fail(&mut script("measure"), 2).contains("file system that all nodes share"));
    let mut other = induction();
    other.arg("run").arg(&spec).args(["--blake3", "00", "--out"]).arg(&run);
    assert!(fail(&mut other, 2).contains("not the spec that was submitted"));
}
